//! Bytes on the wire that no honest client sends.

use std::time::Duration;

use futures_util::future::join_all;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Ask, Connection, raw, said, until_closed};
use super::{Site, is_small_solution, multipart, npy, small};
use crate::pool::{Place, solve_handler, soon};

const JSON: &str = r#"{"a":[[4,1],[2,3]],"b":[1,2]}"#;

/// A request with this body that says it has `length` bytes.
fn request(content_type: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/solve HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn impatient(patience: Duration) -> Site {
    Site::with(Place::embedded(), vec![solve_handler()], |options| options.patience = patience).await
}

#[tokio::test]
async fn a_request_cut_at_any_byte_harms_nothing() {
    let site = Site::embedded().await;
    let (content_type, parts) =
        multipart(&[("a", &npy(&[2, 2], &[4.0, 1.0, 2.0, 3.0])), ("b", &npy(&[2], &[1.0, 2.0]))]);
    for whole in [request("application/json", JSON.len(), JSON.as_bytes()), request(&content_type, parts.len(), &parts)]
    {
        let cuts: Vec<usize> = (0..whole.len()).step_by(if whole.len() < 300 { 1 } else { 13 }).collect();
        for chunk in cuts.chunks(32) {
            let replies = join_all(chunk.iter().map(|cut| raw(site.address(), &whole[..*cut]))).await;
            for reply in replies {
                assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400"), "{reply}");
            }
        }
        // Cut off without a word, too.
        for cut in &cuts {
            let mut stream = TcpStream::connect(site.address()).await.expect("connected");
            stream.write_all(&whole[..*cut]).await.expect("sent");
        }
        assert!(said(site.address(), &whole).await.contains("\"x\":["), "the whole one is fine");
    }
    site.until_idle().await;
}

#[tokio::test]
async fn a_body_of_another_length_than_said_is_no_body() {
    let site = impatient(Duration::from_millis(300)).await;
    let shorter = raw(site.address(), &request("application/json", JSON.len() + 10, JSON.as_bytes())).await;
    assert!(shorter.is_empty() || shorter.contains("the body ended after"), "{shorter}");
    // It stays open and says no more.
    let mut silent = TcpStream::connect(site.address()).await.expect("connected");
    silent.write_all(&request("application/json", JSON.len() + 10, JSON.as_bytes())).await.expect("sent");
    let reply = until_closed(&mut silent).await;
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("urn:rabbitry:problem:too_slow"), "{reply}");
    let longer =
        said(site.address(), &request("application/json", JSON.len(), format!("{JSON}{JSON}").as_bytes())).await;
    assert!(longer.starts_with("HTTP/1.1 200") && longer.matches("HTTP/1.1").count() == 1, "{longer}");
    for wrong in
        ["-1", "1, 2", "x", "99999999999999999999999", "1\r\ncontent-length: 2", "5\r\ntransfer-encoding: chunked"]
    {
        let head = format!(
            "POST /v1/solve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {wrong}\r\n\r\n{JSON}"
        );
        let reply = said(site.address(), head.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 4"), "{wrong}: {reply}");
    }
    site.until_idle().await;
}

#[tokio::test]
async fn chunks_without_end_are_stopped_at_the_longest_body() {
    let site = Site::with(Place::embedded(), vec![], |options| options.max_body_bytes = 1 << 20).await;
    let mut stream = TcpStream::connect(site.address()).await.expect("connected");
    let head =
        "POST /v1/solve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let (mut read, mut write) = stream.split();
    let endless = async {
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        while write.write_all(&chunk).await.is_ok() {}
    };
    let mut said = vec![0; 4096];
    let reply = tokio::select! {
        () = endless => read.read(&mut said).await.unwrap_or(0),
        bytes = soon("an answer", read.read(&mut said)) => bytes.expect("an answer"),
    };
    let said = String::from_utf8_lossy(&said[..reply]);
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("--max-body"), "{said}");
    drop(stream);
    for wrong in ["zz\r\n", "-5\r\nabcde\r\n", "ffffffffffffffffff\r\n", "5\r\nabcdefgh\r\n0\r\n\r\n"] {
        let reply = raw(site.address(), format!("{head}{wrong}").as_bytes()).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400"), "{wrong}: {reply}");
    }
    site.until_idle().await;
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_are_ended() {
    let site = impatient(Duration::from_millis(200)).await;
    let mut silent = TcpStream::connect(site.address()).await.expect("connected");
    assert!(!until_closed(&mut silent).await.contains(" 200 "), "nothing is said");
    let mut head = TcpStream::connect(site.address()).await.expect("connected");
    head.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ").await.expect("sent");
    let trickle = |stream: TcpStream, bytes: &'static [u8]| async move {
        let (mut read, mut write) = stream.into_split();
        let writing = tokio::spawn(async move {
            while write.write_all(bytes).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut said = Vec::new();
        let _ = soon("the end", read.read_to_end(&mut said)).await;
        writing.abort();
        String::from_utf8_lossy(&said).into_owned()
    };
    assert!(!trickle(head, b"x").await.contains(" 200 "));
    // One that is never silent, and yet too slow.
    let mut body = TcpStream::connect(site.address()).await.expect("connected");
    body.write_all(&request("application/json", 1 << 20, b"{")).await.expect("sent");
    let reply = trickle(body, b"          ").await;
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("16 KiB/s"), "{reply}");
    site.until_idle().await;
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_sends_all_before_it_reads() {
    let site = Site::embedded().await;
    let body = vec![b' '; 8 << 20];
    let head = |target: &str, content_type: &str| {
        let length = body.len();
        format!(
            "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    for (target, content_type, status) in [
        ("/v1/solve?wait=x", "application/json", 400),
        ("/v1/solve", "text/plain", 415),
        ("/v1/tasks?kind=magic", "application/json", 400),
        ("/v1/tasks", "application/json", 400),
        ("/v1/workers", "application/json", 405),
        ("/nothing", "application/json", 404),
    ] {
        let mut stream = TcpStream::connect(site.address()).await.expect("connected");
        stream.write_all(head(target, content_type).as_bytes()).await.expect("sent");
        soon("all to be sent", stream.write_all(&body)).await.unwrap_or_else(|error| panic!("{target}: {error}"));
        let reply = until_closed(&mut stream).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {reply}");
    }
    site.until_idle().await;
}

#[tokio::test]
async fn who_asks_before_it_sends_is_refused_without_sending() {
    let site = Site::embedded().await;
    let mut stream = TcpStream::connect(site.address()).await.expect("connected");
    let head = "POST /v1/solve HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let reply = until_closed(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 415"), "{reply}");
    let mut stream = TcpStream::connect(site.address()).await.expect("connected");
    let head = request("application/json\r\nexpect: 100-continue", JSON.len(), b"");
    stream.write_all(&head).await.expect("sent");
    let mut asked = [0; 25];
    soon("to be asked", stream.read_exact(&mut asked)).await.expect("asked");
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(JSON.as_bytes()).await.expect("sent");
    assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn heads_without_bound_are_refused() {
    let site = Site::embedded().await;
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let reply = raw(site.address(), format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
    let long = "y".repeat(2 << 20);
    let reply = raw(site.address(), format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n").as_bytes()).await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431"), "{reply:.200}");
    let reply = raw(site.address(), format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{reply:.200}");
    for nonsense in
        ["\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0", "GET / HTTP/1.1\r\nhost x\r\n\r\n"]
    {
        let reply = raw(site.address(), nonsense.as_bytes()).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400"), "{nonsense:?}: {reply}");
    }
    let mut two = Connection::two(site.address()).await;
    let mut ask = Ask::get("/healthz");
    for number in 0..40 {
        ask = ask.with(&format!("x-{number}"), &"y".repeat(1000));
    }
    match soon("an answer", two.ask(ask)).await {
        Ok(reply) => assert_eq!(reply.status, 431),
        Err(error) => assert!(error.to_string().contains("http2"), "{error}"),
    }
    site.get("/healthz").await.is(200);
}

#[tokio::test]
async fn http_2_that_is_cut_short_or_nonsense_harms_nothing() {
    let site = impatient(Duration::from_millis(500)).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for bytes in [
        preface.to_vec(),
        preface[..10].to_vec(),
        [preface.as_slice(), &settings].concat(),
        [preface.as_slice(), &[0xff; 100]].concat(),
        // A head that says it ends never, and data for nobody.
        [preface.as_slice(), &settings, &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]].concat(),
        [preface.as_slice(), &settings, &[0, 0, 5, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 5]].concat(),
    ] {
        raw(site.address(), &bytes).await;
    }
    // Streams that are begun and left.
    for _ in 0..50 {
        let mut two = Connection::two(site.address()).await;
        let leaving = two.ask(Ask::json("/v1/solve", &small()));
        let _ = tokio::time::timeout(Duration::from_millis(1), leaving).await;
    }
    let mut two = Connection::two(site.address()).await;
    is_small_solution(&soon("a reply", two.ask(Ask::json("/v1/solve", &small()))).await.expect("a reply").is(200)["x"]);
    site.until_idle().await;
}

#[tokio::test]
async fn a_slow_body_over_http_2_is_ended_and_the_connection_stays() {
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    let site = impatient(Duration::from_millis(300)).await;
    let stream = TcpStream::connect(site.address()).await.expect("connected");
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(Frame::data(bytes::Bytes::from("{")))]);
    let never = futures_util::StreamExt::chain(first, futures_util::stream::pending());
    let request = hyper::Request::post("http://x/v1/solve").header("content-type", "application/json");
    let request = request.body(StreamBody::new(never).boxed()).expect("legal");
    let response = soon("an answer", sender.send_request(request)).await.expect("an answer");
    assert_eq!(response.status(), 408);
    let request =
        hyper::Request::get("http://x/healthz").body(http_body_util::Empty::new().map_err(|e| match e {}).boxed());
    let response = soon("an answer", sender.send_request(request.expect("legal"))).await.expect("an answer");
    assert_eq!(response.status(), 200);
    site.until_idle().await;
}

#[tokio::test]
async fn beyond_the_bound_connections_wait_and_are_served_when_there_is_room() {
    let site = Site::with(Place::embedded(), vec![], |options| options.connections_max = 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::one(site.address()).await;
        soon("a reply", connection.ask(Ask::get("/healthz"))).await.expect("a reply").is(200);
        held.push(connection);
    }
    let mut fourth = Connection::one(site.address()).await;
    let fourth = fourth.ask(Ask::get("/healthz"));
    let mut fourth = std::pin::pin!(fourth);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut fourth).await.is_err(), "there is no room");
    held.pop();
    soon("a reply", fourth).await.expect("a reply").is(200);
}

#[tokio::test]
async fn who_does_not_take_its_answer_is_left_and_its_memory_given_back() {
    let site = impatient(Duration::from_millis(500)).await;
    let (n, columns) = (400, 6000);
    let b = vec![1.0; n * columns];
    let a: Vec<f64> = (0..n * n).map(|at| if at % (n + 1) == 0 { 2.0 } else { 0.0 }).collect();
    let (content_type, parts) = multipart(&[("a", &npy(&[n, n], &a)), ("b", &npy(&[n, columns], &b))]);
    let accept = format!("{content_type}\r\naccept: application/octet-stream");
    let mut stream = TcpStream::connect(site.address()).await.expect("connected");
    stream.write_all(&request(&accept, parts.len(), &parts)).await.expect("sent");
    soon("the answer to begin", stream.readable()).await.expect("readable");
    assert!(site.figure("rabbitry_memory_bytes").await > 0.0, "19 MB are more than the system takes for it");
    // It is held by this test, and read by nobody.
    site.until_idle().await;
    drop(stream);
}
