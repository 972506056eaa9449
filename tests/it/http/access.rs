//! Who may speak to the bridge, and how: addresses, tokens, TLS, origins.

use std::path::PathBuf;

use rabbitry::bridge::{Bridge, Tokens};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::{Ask, Connection, until_closed};
use super::{Site, is_small_solution, options, small};
use crate::pool::{Place, solve_handler, soon};

const TOKEN: &str = "0123456789abcdef-the-token";

fn tokens(folder: &TempDir) -> Tokens {
    let path = folder.path().join("tokens");
    std::fs::write(&path, format!("# ours\nanother-token-of-theirs\n{TOKEN}\n")).expect("written");
    Tokens::read(&path).expect("tokens")
}

#[tokio::test]
async fn beyond_loopback_it_wants_a_token_or_insecure() {
    let folder = TempDir::new().expect("a folder");
    let refused = Bridge::bind("0.0.0.0:0", options(&folder)).await.err().expect("refused");
    assert!(refused.contains("--token-file") && refused.contains("--insecure"), "{refused}");
    let insecure = rabbitry::bridge::Options { insecure: true, ..options(&folder) };
    assert!(Bridge::bind("0.0.0.0:0", insecure).await.is_ok());
    let guarded = rabbitry::bridge::Options { tokens: Some(tokens(&folder)), ..options(&folder) };
    assert!(
        Bridge::bind("[::]:0", guarded).await.is_ok() || Bridge::bind("0.0.0.0:0", options(&folder)).await.is_err()
    );
    for loopback in ["127.0.0.1:0", "localhost:0"] {
        assert!(Bridge::bind(loopback, options(&folder)).await.is_ok(), "{loopback}");
    }
}

#[tokio::test]
async fn what_can_not_be_listened_on_is_said() {
    let folder = TempDir::new().expect("a folder");
    let bridge = Bridge::bind("127.0.0.1:0", options(&folder)).await.expect("a bridge");
    let taken = bridge.url().replace("http://", "");
    let other = TempDir::new().expect("a folder");
    let in_use = Bridge::bind(&taken, options(&other)).await.err().expect("refused");
    assert!(in_use.contains("--listen"), "{in_use}");
    let spool = Bridge::bind("127.0.0.1:0", options(&folder)).await.err().expect("refused");
    assert!(spool.contains("in use by process"), "{spool}");
    let nonsense = Bridge::bind("nonsense", options(&other)).await.err().expect("refused");
    assert!(nonsense.contains("HOST:PORT"), "{nonsense}");
}

#[tokio::test]
async fn without_its_token_nobody_gets_anything_but_health_and_the_document() {
    let folder = TempDir::new().expect("a folder");
    let change = |options: &mut rabbitry::bridge::Options| options.tokens = Some(tokens(&folder));
    let site = Site::with(Place::embedded(), vec![solve_handler()], change).await;
    let asks = [
        Ask::json("/v1/solve", &small()),
        Ask::json("/v1/tasks?kind=solve", &small()),
        Ask::post("/v1/render", "text/plain", "sphere 0 0 0 1"),
        Ask::get("/v1/tasks"),
        Ask::get("/v1/tasks/00112233445566778899aabbccddeeff"),
        Ask::get("/v1/tasks/00112233445566778899aabbccddeeff/events"),
        Ask::delete("/v1/tasks/00112233445566778899aabbccddeeff"),
        Ask::get("/v1/workers"),
        Ask::get("/v1/queues"),
        Ask::get("/metrics"),
        Ask::json("/v1/leases", &serde_json::json!({})),
    ];
    for ask in asks {
        for wrong in ["Bearer", "Bearer ", "Bearer wrong", &format!("Basic {TOKEN}"), &format!("Bearer {TOKEN}x")] {
            let reply = site.ask(ask.clone().with("authorization", wrong)).await;
            reply.problem_at(401, "unauthorized", "Authorization");
            assert_eq!(reply.header("www-authenticate"), "Bearer", "{ask:?}");
        }
        site.ask(ask).await.problem(401, "unauthorized");
    }
    for open in ["/healthz", "/readyz", "/openapi.json"] {
        site.get(open).await.is(200);
    }
    for scheme in ["Bearer", "bearer"] {
        let ask = Ask::json("/v1/solve", &small()).with("authorization", &format!("{scheme} {TOKEN}"));
        is_small_solution(&site.ask(ask).await.is(200)["x"]);
    }
    let metrics = site.ask(Ask::get("/metrics").with("authorization", &format!("Bearer {TOKEN}"))).await;
    assert!(metrics.text().contains("rabbitry_memory_bytes 0\n"), "what was refused took no memory");
}

/// A certificate of this machine's, written where a bridge reads it.
fn certificate(folder: &TempDir) -> (CertificateDer<'static>, (PathBuf, PathBuf)) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let files = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&files.0, made.cert.pem()).expect("written");
    std::fs::write(&files.1, made.signing_key.serialize_pem()).expect("written");
    (made.cert.der().clone(), files)
}

#[tokio::test]
async fn tls_carries_both_versions_of_http() {
    let folder = TempDir::new().expect("a folder");
    let (trusted, files) = certificate(&folder);
    let mut site = Site::with(Place::embedded(), vec![solve_handler()], |options| options.tls = Some(files)).await;
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let mut connection = Connection::tls(site.address(), trusted.clone(), protocols).await;
        assert_eq!(matches!(connection, Connection::Two(_)), protocols.contains(&"h2"), "{protocols:?}");
        let reply = soon("a reply", connection.ask(Ask::json("/v1/solve", &small()))).await.expect("a reply");
        is_small_solution(&reply.is(200)["x"]);
    }
    // Who speaks no TLS hears no HTTP, and holds up nothing.
    let mut plain = TcpStream::connect(site.address()).await.expect("connected");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    assert!(!until_closed(&mut plain).await.contains("HTTP/1.1"));
    site.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_none_is_said() {
    let folder = TempDir::new().expect("a folder");
    let (_, (certificate, key)) = certificate(&folder);
    let other = TempDir::new().expect("a folder");
    let (_, (_, other_key)) = self::certificate(&other);
    let bind = async |certificate: &PathBuf, key: &PathBuf| {
        let tls = Some((certificate.clone(), key.clone()));
        let options = rabbitry::bridge::Options { tls, ..options(&folder) };
        Bridge::bind("127.0.0.1:0", options).await.map(drop)
    };
    assert_eq!(bind(&certificate, &key).await, Ok(()));
    for (certificate, key) in [(&key, &key), (&certificate, &certificate), (&certificate, &other_key)] {
        let wrong = bind(certificate, key).await.expect_err("refused");
        assert!(wrong.contains(".pem"), "{wrong}");
    }
    let missing = folder.path().join("nothing.pem");
    assert!(bind(&missing, &key).await.expect_err("refused").contains("nothing.pem"));
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_left() {
    let folder = TempDir::new().expect("a folder");
    let (_, files) = certificate(&folder);
    let change = |options: &mut rabbitry::bridge::Options| {
        options.tls = Some(files);
        options.patience = std::time::Duration::from_millis(200);
    };
    let site = Site::with(Place::embedded(), vec![], change).await;
    let mut silent = TcpStream::connect(site.address()).await.expect("connected");
    assert_eq!(until_closed(&mut silent).await, "");
}

/// A page of `origin` asks whether it may.
fn preflight(origin: &str) -> Ask {
    Ask::new("OPTIONS", "/v1/tasks?kind=solve")
        .with("origin", origin)
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", "content-type,idempotency-key,rabbitry-params,authorization")
}

#[tokio::test]
async fn pages_of_other_origins_may_not_unless_it_was_said() {
    let site = Site::embedded().await;
    let page = "https://page.example";
    let reply = site.ask(Ask::get("/healthz").with("origin", page)).await;
    assert_eq!(reply.header("access-control-allow-origin"), "");
    assert_eq!(site.ask(preflight(page)).await.header("access-control-allow-origin"), "");

    let change = |options: &mut rabbitry::bridge::Options| options.cors_origins = vec![page.parse().expect("a value")];
    let site = Site::with(Place::embedded(), vec![solve_handler()], change).await;
    let reply = site.ask(Ask::json("/v1/solve", &small()).with("origin", page)).await;
    assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (200, page));
    let exposed = reply.header("access-control-expose-headers").to_ascii_lowercase();
    for name in ["location", "retry-after", "rabbitry-certificate", "rabbitry-shape", "rabbitry-order", "rabbitry-task"]
    {
        assert!(exposed.split(',').any(|exposed| exposed == name), "{name} is not in {exposed}");
    }
    let asked = site.ask(preflight(page)).await;
    assert_eq!((asked.status.as_u16(), asked.header("access-control-allow-origin")), (200, page));
    let allowed = asked.header("access-control-allow-headers").to_ascii_lowercase();
    for name in ["content-type", "idempotency-key", "rabbitry-params", "authorization"] {
        assert!(allowed.split(',').any(|allowed| allowed == name), "{name} is not in {allowed}");
    }
    let other = site.ask(Ask::get("/healthz").with("origin", "https://other.example")).await;
    assert_eq!(other.header("access-control-allow-origin"), "");

    let change = |options: &mut rabbitry::bridge::Options| options.cors_origins = vec!["*".parse().expect("a value")];
    let site = Site::with(Place::embedded(), vec![], change).await;
    let reply = site.ask(Ask::get("/healthz").with("origin", "https://other.example")).await;
    assert_eq!(reply.header("access-control-allow-origin"), "*");
}
