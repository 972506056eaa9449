//! Contents that no honest client sends: bombs, depths, shapes that are not there.

use serde_json::json;

use super::Site;
use super::client::Ask;

/// A gzip file that unpacks to a lot, made of stored zeros; nobody should unpack it.
fn gzip_bomb() -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    // Deflate blocks of one long run: 258 zeros for some bits.
    bytes.extend_from_slice(&[0xec, 0xc1, 0x01, 0x01]);
    bytes.resize(100_000, 0);
    bytes
}

#[tokio::test]
async fn bombs_are_not_unpacked() {
    let site = Site::embedded().await;
    for target in ["/v1/solve", "/v1/tasks?kind=solve"] {
        let bomb = Ask::post(target, "application/json", gzip_bomb());
        site.ask(bomb.clone().with("content-encoding", "gzip")).await.problem(415, "unsupported_media_type");
        site.ask(bomb.clone().with("content-encoding", "identity").with("content-encoding", "gzip"))
            .await
            .problem(415, "unsupported_media_type");
        site.ask(bomb).await.problem(400, "bad_request");
        for part in [gzip_bomb(), b"PK\x03\x04".repeat(1000)] {
            let (content_type, body) = super::multipart(&[("a", &part), ("b", &part)]);
            site.ask(Ask::post(target, &content_type, body)).await.problem(422, "invalid");
        }
    }
    site.until_idle().await;
}

#[tokio::test]
async fn json_of_any_depth_is_refused_and_not_followed() {
    let site = Site::embedded().await;
    for depth in [10, 1000, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for text in [
                open.repeat(depth),
                open.repeat(depth) + &close.repeat(depth),
                format!("{{\"a\":{}1{},\"b\":[1]}}", open.repeat(depth), close.repeat(depth)),
                format!("{{\"a\":[[1]],\"b\":[1],\"x\":{}", open.repeat(depth)),
            ] {
                let reply = site.ask(Ask::post("/v1/solve", "application/json", text)).await;
                reply.problem(400, "bad_request");
            }
        }
    }
    let deep = "[".repeat(10_000);
    site.ask(Ask::post("/v1/leases", "application/json", deep)).await.problem(400, "bad_request");
    site.until_idle().await;
}

#[tokio::test]
async fn shapes_without_their_numbers_take_no_memory() {
    let site = Site::embedded().await;
    for shape in [
        json!([1_000_000, 1_000_000]),
        json!([u64::MAX, u64::MAX]),
        json!([1u64 << 32, 1u64 << 32]),
        json!([1u64 << 61, 8]),
        json!([u64::MAX]),
        json!([0, 0]),
        json!([]),
        json!([1, 1, 1]),
        json!([-1, 1]),
        json!([1.5, 1]),
    ] {
        for data in ["", "AAAAAAAA8D8="] {
            let a = json!({"shape": shape, "dtype": "<f8", "data": data});
            for system in [json!({"a": a, "b": [1.0]}), json!({"a": [[1.0]], "b": a})] {
                let reply = site.ask(Ask::json("/v1/solve", &system)).await;
                assert!(matches!(reply.status.as_u16(), 400 | 422), "{system}: {}", reply.text());
                assert!(reply.json()["detail"].is_string());
            }
        }
    }
    site.until_idle().await;
}

#[tokio::test]
async fn long_nonsense_is_not_repeated_in_full() {
    let site = Site::embedded().await;
    let long = "x".repeat(100_000);
    for ask in [
        Ask::post("/v1/solve", "application/json", format!("{{\"{long}\":1}}")),
        Ask::post("/v1/solve", "application/json", format!("{{\"a\":[[1]],\"b\":[1],\"method\":\"{long}\"}}")),
        Ask::get(format!("/v1/tasks/{}", &long[..10_000])),
        Ask::get(format!("/v1/tasks?{}=1", &long[..10_000])),
        Ask::json(format!("/v1/tasks?kind={}", &long[..10_000]), &super::small()),
        Ask::get(format!("/{}", &long[..10_000])),
        Ask::json("/v1/solve", &super::small()).accept(&long[..10_000]),
        Ask::post("/v1/solve", &long[..10_000], ""),
    ] {
        let reply = site.ask(ask).await;
        assert!(reply.status.is_client_error() && reply.json()["detail"].is_string(), "{}", reply.status);
        assert!(reply.body.len() < 30_000, "{} bytes of reply: {:.300}", reply.body.len(), reply.text());
    }
}
