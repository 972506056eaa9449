//! `POST /v1/solve`: every form in, every form out.

use rabbitry::tasks::solve::{Matrix, Order};
use serde_json::{Value, json};

use super::client::{Ask, Connection, Reply};
use super::{Site, gated, is_small_solution, large, multipart, npy, numbers, small, small_raw};
use crate::pool::{Place, on_both, soon};

on_both!(
    a_system_in_json_is_solved,
    parts_in_npy_are_solved_and_come_back_as_npy,
    a_slow_system_becomes_a_detached_task,
);

async fn solve(site: &Site, system: &Value) -> Value {
    site.ask(Ask::json("/v1/solve", system)).await.is(200)
}

async fn a_system_in_json_is_solved(on: Place) {
    let site = Site::on(on).await;
    let solution = solve(&site, &small()).await;
    is_small_solution(&solution["x"]);
    assert!(solution["certificate"]["backward_error"].as_f64().is_some_and(|error| error < 1e-15), "{solution}");
    assert!(solution["worker"].as_str().is_some_and(|worker| !worker.is_empty()), "{solution}");
    assert_eq!(solution["task"].as_str().map(str::len), Some(32));
    site.until_idle().await;
}

async fn parts_in_npy_are_solved_and_come_back_as_npy(on: Place) {
    let site = Site::on(on).await;
    let (a, b) = (npy(&[2, 2], &[4.0, 1.0, 2.0, 3.0]), npy(&[2, 1], &[1.0, 2.0]));
    let (content_type, body) = multipart(&[("a", &a), ("b", &b), ("method", b"lu"), ("reproducible", b"true")]);
    let reply = site.ask(Ask::post("/v1/solve", &content_type, body).accept("application/x-npy")).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/x-npy"));
    let header = npy(&[2, 1], &[]);
    assert_eq!(reply.body[header.len()..].len(), 16);
    assert_eq!(&reply.body[..8], b"\x93NUMPY\x01\x00");
    assert!(reply.text().contains("'shape': (2, 1)"), "{}", reply.text());
    is_small_solution(&json!(numbers(&reply.body[header.len()..])));
    certificate_is_in_the_headers(&reply, "2,1");
    site.until_idle().await;
}

async fn a_slow_system_becomes_a_detached_task(on: Place) {
    let (site, mut gate) = gated(on).await;
    let url = site.ask(Ask::json("/v1/solve?wait=0", &small())).await.accepted();
    gate.begins().await;
    let view = site.get(&url).await.is(200);
    assert_eq!((&view["state"], &view["detached"], &view["kind"]), (&"queued".into(), &true.into(), &"solve".into()));
    gate.open();
    is_small_solution(&site.ended(&url).await["result"]["x"]);
}

#[track_caller]
fn certificate_is_in_the_headers(reply: &Reply, shape: &str) {
    let certificate: Value = serde_json::from_str(reply.header("rabbitry-certificate")).expect("JSON");
    assert!(certificate["backward_error"].as_f64().is_some_and(|error| error < 1e-15), "{certificate}");
    assert_eq!((reply.header("rabbitry-shape"), reply.header("rabbitry-order")), (shape, "C"));
    assert_eq!(reply.header("rabbitry-task").len(), 32);
    assert!(!reply.header("rabbitry-worker").is_empty());
}

#[tokio::test]
async fn raw_numbers_are_solved_and_come_back_raw() {
    let site = Site::embedded().await;
    let (params, body) = small_raw();
    let ask = Ask::post("/v1/solve", "application/x-rabbitry", body).with("rabbitry-params", &params);
    let reply = site.ask(ask.accept("application/octet-stream")).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/octet-stream"));
    is_small_solution(&json!(numbers(&reply.body)));
    certificate_is_in_the_headers(&reply, "2");
    site.until_idle().await;
}

#[tokio::test]
async fn base64_rows_and_columns_are_solved() {
    let site = Site::embedded().await;
    let encode = |bytes: Vec<u8>| base64_simd::STANDARD.encode_to_string(bytes);
    let f8 = |values: &[f64]| encode(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    let f4 = |values: &[f32]| encode(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    for a in [
        json!({"shape": [2, 2], "dtype": "<f8", "data": f8(&[4.0, 1.0, 2.0, 3.0])}),
        json!({"shape": [2, 2], "dtype": "<f8", "order": "F", "data": f8(&[4.0, 2.0, 1.0, 3.0])}),
        json!({"shape": [2, 2], "dtype": "<f4", "data": f4(&[4.0, 1.0, 2.0, 3.0])}),
    ] {
        is_small_solution(&solve(&site, &json!({"a": a, "b": [1, 2]})).await["x"]);
        let b = json!({"shape": [2], "dtype": "<f8", "data": f8(&[1.0, 2.0])});
        is_small_solution(&solve(&site, &json!({"a": a, "b": b})).await["x"]);
    }
}

#[tokio::test]
async fn x_has_the_shape_of_b() {
    let site = Site::embedded().await;
    let a = json!([[2.0, 0.0], [0.0, 4.0]]);
    for (b, x) in [
        (json!([2.0, 4.0]), json!([1.0, 1.0])),
        (json!([[2.0], [4.0]]), json!([[1.0], [1.0]])),
        (json!([[2.0, 4.0, 6.0], [4.0, 8.0, 16.0]]), json!([[1.0, 2.0, 3.0], [1.0, 2.0, 4.0]])),
    ] {
        assert_eq!(solve(&site, &json!({"a": a, "b": b})).await["x"], x);
    }
    // More unknowns than equations, and fewer.
    let wide = json!({"a": [[3.0, 4.0]], "b": [25.0], "method": "lstsq"});
    assert_eq!(solve(&site, &wide).await["x"].as_array().map(Vec::len), Some(2));
    let tall = json!({"a": [[1.0], [1.0]], "b": [1.0, 3.0], "method": "lstsq"});
    assert_eq!(solve(&site, &tall).await["x"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn columns_stay_columns_in_a_binary_answer() {
    let site = Site::embedded().await;
    let a = Matrix::new(2, 2, Order::ColMajor, vec![2.0, 0.0, 0.0, 4.0]).expect("a matrix");
    let b = Matrix::new(2, 2, Order::ColMajor, vec![2.0, 4.0, 6.0, 8.0]).expect("a matrix");
    let (params, body) = super::raw_system(a, b);
    let ask = Ask::post("/v1/solve", "application/x-rabbitry", body).with("rabbitry-params", &params);
    let reply = site.ask(ask.clone().accept("application/octet-stream")).await;
    assert_eq!((reply.header("rabbitry-shape"), reply.header("rabbitry-order")), ("2,2", "F"));
    assert_eq!(numbers(&reply.body), [1.0, 1.0, 3.0, 2.0]);
    assert_eq!(site.ask(ask).await.is(200)["x"], json!([[1.0, 3.0], [1.0, 2.0]]), "JSON has rows");
}

#[track_caller]
fn is_ones(x: &Value) {
    let x: Vec<f64> = serde_json::from_value(x.clone()).expect("a vector");
    assert!(x.len() == 2 && x.iter().all(|x| (x - 1.0).abs() < 1e-15), "{x:?}");
}

#[tokio::test]
async fn every_option_is_taken_in_json_and_in_parts() {
    let site = Site::embedded().await;
    for (name, values) in [
        (
            "method",
            vec![json!("auto"), json!("lu"), json!("mixed"), json!("cholesky"), json!("triangular"), json!("lstsq")],
        ),
        ("reproducible", vec![json!(true), json!(false)]),
        ("priority", vec![json!("low"), json!("normal"), json!("high")]),
        ("deadline_ms", vec![json!(60000), json!(1u64 << 53)]),
    ] {
        for value in values {
            // Right for every method.
            let mut system = json!({"a": [[2.0, 0.0], [0.0, 4.0]], "b": [2.0, 4.0]});
            system[name] = value.clone();
            is_ones(&solve(&site, &system).await["x"]);
            let (a, b) = (npy(&[2, 2], &[2.0, 0.0, 0.0, 4.0]), npy(&[2], &[2.0, 4.0]));
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let (content_type, body) = multipart(&[("a", &a), (name, text.as_bytes()), ("b", &b)]);
            let reply = site.ask(Ask::post("/v1/solve", &content_type, body)).await;
            is_ones(&reply.is(200)["x"]);
        }
    }
    let method = json!({"a": [[2.0, 0.0], [0.0, 4.0]], "b": [2.0, 4.0], "method": "cholesky"});
    assert_eq!(solve(&site, &method).await["certificate"]["method"], "cholesky");
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let site = Site::embedded().await;
    for mut connection in [Connection::one(site.address()).await, Connection::two(site.address()).await] {
        for _ in 0..20 {
            let reply = soon("a reply", connection.ask(Ask::json("/v1/solve", &small()))).await.expect("a reply");
            is_small_solution(&reply.is(200)["x"]);
        }
    }
    site.until_idle().await;
}

#[tokio::test]
async fn a_large_system_in_parts_is_solved_and_its_memory_given_back() {
    let site = Site::embedded().await;
    let (content_type, body) = large(1000);
    for form in ["application/json", "application/x-npy", "application/octet-stream"] {
        let reply = site.ask(Ask::post("/v1/solve", &content_type, body.clone()).accept(form)).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, form));
        assert!(reply.body.len() >= 8000);
    }
    site.until_idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_task_along() {
    let (site, mut gate) = gated(Place::embedded()).await;
    let mut connection = Connection::one(site.address()).await;
    let waiting = tokio::spawn(async move { connection.ask(Ask::json("/v1/solve", &small())).await });
    gate.begins().await;
    waiting.abort();
    site.until_idle().await;
    assert_eq!(site.figure("rabbitry_tasks_ended_total{kind=\"solve\",outcome=\"cancelled\"}").await, 1.0);
}

/// On one thread: what it does, it does instead of everything else.
#[tokio::test]
async fn others_are_served_while_a_large_body_is_read() {
    let site = Site::embedded().await;
    // Right in form up to its last number, so all of it is read.
    let row = format!("[{}1]", "0.12345678901234567,".repeat(999));
    let text = format!("{{\"a\":[{}{row}],\"b\":[x]}}", format!("{row},").repeat(1999));
    let mut stream = tokio::net::TcpStream::connect(site.address()).await.expect("connected");
    let (length, bytes) = (text.len(), text.into_bytes());
    let head = format!(
        "POST /v1/solve HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut other = Connection::one(site.address()).await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.expect("sent");
    tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.expect("sent");
    let mut reply = std::pin::pin!(super::client::until_closed(&mut stream));
    let mut served = 0;
    let reply = loop {
        tokio::select! {
            biased;
            reply = &mut reply => break reply,
            health = other.ask(Ask::get("/healthz")) => served += usize::from(health.expect("a reply").status == 200),
        }
    };
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    assert!(served > 100, "{served} others were served meanwhile");
}
