//! Wrong requests: each gets its status, its reason and its place, and leaves nothing behind.

use serde_json::{Value, json};

use super::client::Ask;
use super::{Site, multipart, npy, small, small_raw};
use crate::pool::{Place, endless, soon};

#[tokio::test]
async fn json_that_is_no_system_is_refused_with_its_place() {
    let site = Site::embedded().await;
    for (text, status, code, field) in [
        ("", 400, "bad_request", None),
        ("{", 400, "bad_request", None),
        ("[]", 400, "bad_request", None),
        ("nonsense", 400, "bad_request", None),
        (r#"{"a":[[1]]}"#, 400, "bad_request", Some("/b")),
        (r#"{"b":[1]}"#, 400, "bad_request", Some("/a")),
        (r#"{"a":[[1]],"b":[1],"c":1}"#, 400, "bad_request", Some("/c")),
        (r#"{"a":[[1]],"b":[1],"b":[1]}"#, 400, "bad_request", Some("/b")),
        (r#"{"a":[[1,2],[3]],"b":[1,2]}"#, 400, "bad_request", Some("/a/1")),
        (r#"{"a":[[1,2],[3,"4"]],"b":[1,2]}"#, 400, "bad_request", Some("/a/1/1")),
        (r#"{"a":[[1]],"b":[1],"method":"magic"}"#, 400, "bad_request", Some("/method")),
        (r#"{"a":[[1]],"b":[1],"priority":"now"}"#, 400, "bad_request", Some("/priority")),
        (r#"{"a":[[1]],"b":[1],"deadline_ms":0}"#, 400, "bad_request", Some("/deadline_ms")),
        (r#"{"a":[[1]],"b":[1],"deadline_ms":-1}"#, 400, "bad_request", Some("/deadline_ms")),
        (r#"{"a":[[1]],"b":[1],"reproducible":"yes"}"#, 400, "bad_request", Some("/reproducible")),
        (r#"{"a":[[1]],"b":[NaN]}"#, 400, "bad_request", Some("/b/0")),
        (r#"{"a":[[1,2],[3,Infinity]],"b":[1,2]}"#, 400, "bad_request", Some("/a/1/1")),
        (r#"{"a":[[1,2],[3,1e999]],"b":[1,2]}"#, 400, "bad_request", Some("/a/1/1")),
        (r#"{"a":{"shape":[1,1],"dtype":"<f8","data":"AAAA"},"b":[1]}"#, 400, "bad_request", Some("/a/data")),
        (r#"{"a":{"shape":[1,1],"dtype":">f8","data":"AAAAAAAA8D8="},"b":[1]}"#, 400, "bad_request", Some("/a/dtype")),
        (r#"{"a":[[1,2],[3,4]],"b":[1,2,3]}"#, 422, "invalid", None),
        (r#"{"a":[[1,2,3],[4,5,6]],"b":[1,2]}"#, 422, "invalid", None),
        (r#"{"a":[],"b":[]}"#, 422, "invalid", None),
    ] {
        for target in ["/v1/solve", "/v1/tasks?kind=solve"] {
            let reply = site.ask(Ask::post(target, "application/json", text)).await;
            let problem = reply.problem(status, code);
            assert_eq!(problem["field"], field.map_or(Value::Null, Into::into), "{text}: {problem}");
        }
    }
    site.until_idle().await;
}

#[tokio::test]
async fn not_a_number_is_refused_with_line_and_column() {
    let site = Site::embedded().await;
    let reply = site.ask(Ask::post("/v1/solve", "application/json", "{\"a\":[[1]],\n \"b\":[NaN]}")).await;
    let problem = reply.problem_at(400, "bad_request", "/b/0");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("line 2, column 7")), "{problem}");
    // In binary forms it is the task that is wrong.
    let (content_type, body) = multipart(&[("a", &npy(&[1, 1], &[1.0])), ("b", &npy(&[1], &[f64::NAN]))]);
    let problem = site.ask(Ask::post("/v1/solve", &content_type, body)).await.problem(422, "invalid");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("B[0")), "{problem}");
}

#[tokio::test]
async fn parts_that_are_wrong_are_named() {
    let site = Site::embedded().await;
    let (a, b) = (npy(&[1, 1], &[1.0]), npy(&[1], &[1.0]));
    let short = npy(&[1000, 1000], &[1.0]);
    let huge = npy(&[1 << 40, 1 << 40], &[1.0]);
    type Parts<'a> = &'a [(&'a str, &'a [u8])];
    let cases: &[(Parts<'_>, u16, &str)] = &[
        (&[("a", &a)], 400, "b"),
        (&[("b", &b)], 400, "a"),
        (&[("a", &a), ("b", &b), ("c", b"1")], 400, "c"),
        (&[("a", &a), ("a", &a), ("b", &b)], 400, "a"),
        (&[("a", &a), ("b", &b), ("method", b"magic")], 400, "method"),
        (&[("a", &a), ("b", &b), ("priority", b"")], 400, "priority"),
        (&[("a", &a), ("b", &b), ("reproducible", b"1")], 400, "reproducible"),
        (&[("a", &a), ("b", &b), ("deadline_ms", b"0")], 400, "deadline_ms"),
        (&[("a", &a), ("b", &b), ("deadline_ms", b"99999999999999999999")], 400, "deadline_ms"),
        (&[("a", &a), ("b", &b), ("method", &[b'x'; 1000])], 400, "method"),
        (&[("a", &a), ("b", &b), ("method", b"\xff")], 400, "method"),
        (&[("a", &short), ("b", &b)], 422, "a"),
        (&[("a", &huge), ("b", &b)], 422, "a"),
        (&[("a", b"nonsense"), ("b", &b)], 422, "a"),
        (&[("a", b""), ("b", &b)], 422, "a"),
        (&[("a", &a), ("b", b"\x93NUMPY\x01\x00\xff\xff")], 422, "b"),
    ];
    for (parts, status, field) in cases {
        let (content_type, body) = multipart(parts);
        let reply = site.ask(Ask::post("/v1/solve", &content_type, body)).await;
        reply.problem_at(*status, if *status == 400 { "bad_request" } else { "invalid" }, field);
    }
    let many: Vec<(String, &[u8])> = (0..20).map(|number| (format!("p{number}"), &b""[..])).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let (content_type, body) = multipart(&many);
    site.ask(Ask::post("/v1/solve", &content_type, body)).await.problem(400, "bad_request");
    let (_, body) = multipart(&[("a", &a), ("b", &b)]);
    for wrong in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=other"] {
        site.ask(Ask::post("/v1/solve", wrong, body.clone())).await.problem(400, "bad_request");
    }
    site.until_idle().await;
}

#[tokio::test]
async fn raw_numbers_need_right_parameters() {
    let site = Site::embedded().await;
    let (params, body) = small_raw();
    let raw = |body: &[u8]| Ask::post("/v1/solve", "application/x-rabbitry", body.to_vec());
    site.ask(raw(&body)).await.problem_at(400, "bad_request", "rabbitry-params");
    for wrong in ["", "!", "AAA", &"A".repeat(2000)] {
        let reply = site.ask(raw(&body).with("rabbitry-params", wrong)).await;
        assert!(matches!(reply.status.as_u16(), 400 | 422), "{wrong}: {}", reply.text());
    }
    for wrong in [&body[..8], &[], &body.repeat(2)] {
        site.ask(raw(wrong).with("rabbitry-params", &params)).await.problem(422, "invalid");
    }
    let mut huge = base64_simd::STANDARD.decode_to_vec(params.as_bytes()).expect("base64");
    huge[..16].fill(0x7f);
    let huge = base64_simd::STANDARD.encode_to_string(huge);
    site.ask(raw(&body).with("rabbitry-params", &huge)).await.problem(422, "invalid");
    site.until_idle().await;
}

#[tokio::test]
async fn bodies_of_other_forms_are_refused() {
    let site = Site::embedded().await;
    let text = small().to_string();
    for other in ["text/plain", "application/octet-stream", "application/jsonx", "nonsense", "application/x-npy"] {
        let reply = site.ask(Ask::post("/v1/solve", other, text.clone())).await;
        reply.problem_at(415, "unsupported_media_type", "Content-Type");
    }
    site.ask(Ask::new("POST", "/v1/solve")).await.problem_at(415, "unsupported_media_type", "Content-Type");
    for fine in ["application/json; charset=utf-8", "Application/JSON"] {
        site.ask(Ask::post("/v1/solve", fine, text.clone())).await.is(200);
    }
    for coding in ["gzip", "br", "deflate, gzip", "GZIP", "x"] {
        let reply = site.ask(Ask::json("/v1/solve", &small()).with("content-encoding", coding)).await;
        reply.problem_at(415, "unsupported_media_type", "Content-Encoding");
    }
    site.ask(Ask::json("/v1/solve", &small()).with("content-encoding", "identity")).await.is(200);
    for accept in ["text/html", "application/json;q=0", "image/*"] {
        let problem = site.ask(Ask::json("/v1/solve", &small()).accept(accept)).await;
        problem.problem_at(406, "not_acceptable", "Accept");
    }
    site.until_idle().await;
}

#[tokio::test]
async fn queries_that_are_wrong_name_their_parameter() {
    let site = Site::embedded().await;
    for (target, field) in [
        ("/v1/solve?wait=x", "wait"),
        ("/v1/solve?wait=-1", "wait"),
        ("/v1/solve?wait=601", "wait"),
        ("/v1/solve?wait=600.0000000000001", "wait"),
        ("/v1/solve?wait=-1e-12", "wait"),
        ("/v1/solve?wait=NaN", "wait"),
        ("/v1/solve?wait=inf", "wait"),
        ("/v1/solve?wait=1&wait=2", "wait"),
        ("/v1/solve?patience=1", "patience"),
        ("/v1/tasks", "kind"),
        ("/v1/tasks?kind=magic", "kind"),
        ("/v1/tasks?kind=solve&priority=high", "priority"),
    ] {
        let problem = site.ask(Ask::json(target, &small())).await.problem_at(400, "bad_request", field);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(field)), "{problem}");
    }
    for (target, field) in [
        ("/v1/workers?available=maybe", "available"),
        ("/v1/workers?free=true", "free"),
        ("/v1/tasks/00112233445566778899aabbccddeeff?wait=x", "wait"),
        ("/v1/tasks/nonsense", "id"),
        ("/v1/tasks/%FF", "id"),
        ("/v1/tasks/00112233445566778899aabbccddeeff0", "id"),
    ] {
        site.get(target).await.problem_at(400, "bad_request", field);
    }
    let unknown = site.get("/v1/tasks/00112233445566778899aabbccddeeff").await.problem(404, "not_found");
    assert_eq!(unknown["task"], "00112233445566778899aabbccddeeff");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let site = Site::embedded().await;
    for target in ["/nothing", "/v1", "/v1/solve/x", "/v1/tasks/x/y", "//", "/v1/../etc/passwd"] {
        site.get(target).await.problem(404, "not_found");
    }
    for (method, target, allow) in [
        ("GET", "/v1/solve", "POST"),
        ("PUT", "/v1/tasks", "GET,HEAD,POST"),
        ("POST", "/v1/workers", "GET,HEAD"),
        ("PATCH", "/v1/tasks/00112233445566778899aabbccddeeff", "GET,HEAD,DELETE"),
        ("TRACE", "/metrics", "GET,HEAD"),
        ("BREW", "/healthz", "GET,HEAD"),
    ] {
        let reply = site.ask(Ask::new(method, target)).await;
        reply.problem(405, "method_not_allowed");
        let sorted = |list: &str| {
            let mut methods: Vec<String> = list.split(',').map(|method| method.trim().to_owned()).collect();
            methods.sort();
            methods
        };
        assert_eq!(sorted(reply.header("allow")), sorted(allow), "{method} {target}");
    }
    assert_eq!(site.get("/").await.header("location"), "/docs/");
    assert!(site.get("/docs/").await.text().contains("<html"));
    let head = site.ask(Ask::new("HEAD", "/healthz")).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn methods_that_nobody_knows_are_one_label() {
    let site = Site::embedded().await;
    for number in 0..20 {
        site.ask(Ask::new(&format!("BREW{number}"), "/healthz")).await.problem(405, "method_not_allowed");
    }
    let metrics = site.get("/metrics").await.text();
    assert!(!metrics.contains("BREW"), "{metrics}");
    assert_eq!(
        site.figure("rabbitry_http_requests_total{method=\"other\",route=\"/healthz\",status=\"405\"}").await,
        20.0
    );
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_has_no_room_may_come_again() {
    let change = |options: &mut rabbitry::bridge::Options| {
        options.max_body_bytes = 100_000;
        options.memory_bytes = 150_000;
    };
    let mut waiting = endless(rabbitry::task::Kind::from_static("solve"));
    let site = Site::with(Place::embedded(), vec![waiting.handler.clone()], change).await;
    let body = |bytes: usize| Ask::post("/v1/solve?wait=0", "application/json", vec![b' '; bytes]);
    let problem = site.ask(body(100_001)).await.problem(413, "too_large");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("--max-body")), "{problem}");
    let problem = site.ask(body(100_000)).await.problem(413, "too_large");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("--memory")), "{problem}");
    // 60 kB of 100 kB are taken by this one.
    let n = 85;
    let (content_type, parts) = multipart(&[("a", &npy(&[n, n], &vec![1.0; n * n])), ("b", &npy(&[n], &vec![1.0; n]))]);
    let ask = Ask::post("/v1/solve", &content_type, parts);
    let mut connection = super::Connection::one(site.address()).await;
    let first = ask.clone();
    let solving = tokio::spawn(async move { connection.ask(first).await });
    waiting.next().await;
    let reply = site.ask(ask).await;
    let problem = reply.problem(503, "busy");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("--memory")), "{problem}");
    assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    solving.abort();
    site.until_idle().await;
}

#[tokio::test]
async fn the_directory_and_the_queues_tell_of_the_pool() {
    let (site, mut gate) = super::gated(Place::embedded()).await;
    soon("the worker in the directory", async {
        while site.get("/v1/workers").await.is(200) == json!([]) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let workers = site.get("/v1/workers?available=true&kind=solve").await.is(200);
    assert_eq!((&workers[0]["slots"], &workers[0]["busy"]), (&1.into(), &0.into()), "{workers}");
    assert_eq!(site.get("/v1/workers?available=false").await.is(200), json!([]));
    assert_eq!(site.get("/v1/workers?kind=magic").await.is(200), json!([]));
    let url = super::submit(&site, &small()).await;
    gate.begins().await;
    soon("a busy worker", async {
        while site.get("/v1/workers?available=false").await.is(200) == json!([]) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(site.get("/v1/workers?available=true").await.is(200), json!([]));
    let queues = site.get("/v1/queues").await.is(200);
    assert_eq!((&queues["queues"][0]["kind"], &queues["dead"]), (&"solve".into(), &0.into()), "{queues}");
    assert!(queues["queues"][0]["consumers"] == 1 && queues["submitted_per_second"].as_f64() > Some(0.0), "{queues}");
    gate.open();
    site.ended(&url).await;
    assert_eq!(site.figure("rabbitry_tasks_ended_total{kind=\"solve\",outcome=\"ok\"}").await, 1.0);
    assert_eq!(site.figure("rabbitry_tasks_submitted_total{kind=\"solve\"}").await, 1.0);
    assert_eq!(site.figure("rabbitry_broker_connected").await, 1.0);
    let metrics = site.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"));
    assert_eq!(site.get("/healthz").await.is(200)["status"], "ok");
}
