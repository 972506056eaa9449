//! The OpenAPI document that the bridge serves is the one in `docs/`, which people and generators read.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::Site;

#[tokio::test]
async fn the_document_in_docs_is_the_one_that_is_served() {
    let site = Site::embedded().await;
    let served = site.get("/openapi.json").await.is(200);
    let served = serde_json::to_string_pretty(&served).expect("JSON") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    if std::env::var_os("RABBITRY_RENEW").is_some() {
        std::fs::write(&path, &served).expect("written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let first = golden.lines().zip(served.lines()).position(|(golden, served)| golden != served);
    let line = first.unwrap_or(golden.lines().count().min(served.lines().count())) + 1;
    assert!(
        golden == served,
        "docs/openapi.json differs from what the bridge serves, from line {line} on. If that is meant:\n\
         RABBITRY_RENEW=1 cargo test --test it the_document_in_docs"
    );
}

/// All `$ref`s of a document.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| match value.as_str() {
            Some(target) if name == "$ref" => drop(found.insert(target)),
            _ => references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_whole() {
    let site = Site::embedded().await;
    let document = site.get("/openapi.json").await.is(200);
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 5, "{found:?}");
    for target in found {
        assert!(document.pointer(target.trim_start_matches('#')).is_some_and(Value::is_object), "{target} is nowhere");
    }
    let calls = document["paths"].as_object().expect("paths");
    for (path, call) in calls {
        for (method, operation) in call.as_object().expect("methods") {
            let told = |name: &str| operation[name].as_str().is_some_and(|text| !text.is_empty());
            assert!(told("operationId") && (told("summary") || told("description")), "{method} {path}");
            assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()));
        }
    }
    for path in [
        "/v1/solve",
        "/v1/tasks",
        "/v1/tasks/{id}",
        "/v1/tasks/{id}/events",
        "/v1/render",
        "/v1/render/{id}",
        "/v1/render/{id}/image.png",
        "/v1/render/{id}/events",
        "/v1/workers",
        "/v1/queues",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert!(calls.contains_key(path), "{path}");
    }
}

#[tokio::test]
async fn the_page_that_shows_it_asks_for_nothing_from_elsewhere() {
    let site = Site::embedded().await;
    for part in ["/docs/", "/docs/swagger-initializer.js"] {
        let reply = site.get(part).await;
        assert_eq!(reply.status, 200, "{part}");
        assert!(!reply.text().contains("://"), "{part}: {}", reply.text());
    }
    let page = site.get("/docs/swagger-initializer.js").await.text();
    assert!(page.contains("/openapi.json") && page.contains(r#""validatorUrl": "none""#), "{page}");
}
