//! Numbers of every value and shape, and bodies of every nonsense. Seeded: a failure says which.

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::client::{Ask, Connection, Reply};
use super::{Site, multipart, npy, small, small_raw};
use crate::pool::soon;

/// Any f64 that JSON has a word for.
fn finite() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite())
}

/// Runs a claim about a reply for random inputs, on one connection.
fn for_all<S: Strategy>(cases: u32, inputs: S, ask: impl Fn(&S::Value) -> Ask, claim: impl Fn(&S::Value, &Reply))
where
    S::Value: Clone,
{
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let site = runtime.block_on(Site::embedded());
    let mut connection = runtime.block_on(Connection::one(site.address()));
    let connection = std::cell::RefCell::new(&mut connection);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let tested = runner.run(&inputs, |input| {
        let reply = runtime.block_on(soon("a reply", connection.borrow_mut().ask(ask(&input)))).expect("a reply");
        claim(&input, &reply);
        Ok(())
    });
    tested.unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(site.until_idle());
}

fn bits(numbers: &Value) -> Vec<u64> {
    let rows: Vec<Value> = serde_json::from_value(numbers.clone()).expect("a list");
    rows.iter()
        .flat_map(|row| row.as_array().map_or_else(|| vec![bits_of(row)], |row| row.iter().map(bits_of).collect()))
        .collect()
}

fn bits_of(number: &Value) -> u64 {
    number.as_f64().unwrap_or_else(|| panic!("{number} is no number")).to_bits()
}

#[test]
fn every_bit_of_a_number_survives_json_in_both_directions() {
    // One unknown, A = 1: each of x is one of b, and nothing is added to it.
    let values = proptest::collection::vec(finite(), 1..40);
    let ask = |b: &Vec<f64>| Ask::json("/v1/solve", &json!({"a": [[1.0]], "b": [b], "method": "triangular"}));
    for_all(300, values, ask, |b, reply| {
        let x = reply.is(200)["x"].clone();
        assert_eq!(bits(&x), b.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), "{b:?} {x}");
    });
}

#[test]
fn a_system_of_any_shape_is_solved_or_refused_with_a_reason() {
    let matrix = (0usize..6, 0usize..6).prop_flat_map(|(rows, columns)| {
        proptest::collection::vec(proptest::collection::vec(-9.0..9.0, columns), rows)
    });
    let methods =
        prop_oneof![Just("auto"), Just("lu"), Just("mixed"), Just("cholesky"), Just("triangular"), Just("lstsq")];
    let ask = |(a, b, method): &(Vec<Vec<f64>>, Vec<Vec<f64>>, &str)| {
        Ask::json("/v1/solve", &json!({"a": a, "b": b, "method": method}))
    };
    for_all(500, (matrix.clone(), matrix, methods), ask, |(a, b, method), reply| {
        if reply.status == 200 {
            let x = reply.json()["x"].clone();
            assert_eq!(x.as_array().map(Vec::len), a.first().map(Vec::len), "x has a row for each unknown");
            assert_eq!(x[0].as_array().map(Vec::len), b.first().map(Vec::len), "and the columns of b");
        } else {
            let code = reply.json()["code"].clone();
            assert!(reply.status == 422 && (code == "invalid" || code == "singular"), "{method} {}", reply.text());
        }
    });
}

#[test]
fn the_forms_of_a_matrix_are_the_same_matrix() {
    let values = (1usize..5, 1usize..4)
        .prop_flat_map(|(n, m)| (Just((n, m)), proptest::collection::vec(-9.0..9.0, n * n + n * m)));
    let rows = |values: &[f64], columns: usize| json!(values.chunks(columns).collect::<Vec<_>>());
    let base64 = |values: &[f64]| {
        base64_simd::STANDARD.encode_to_string(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let site = runtime.block_on(Site::embedded());
    let mut runner = TestRunner::new(Config { cases: 50, failure_persistence: None, ..Config::default() });
    let tested = runner.run(&values, |((n, m), mut values)| {
        // Not singular.
        (0..n).for_each(|at| values[at * n + at] += 100.0);
        let (a, b) = values.split_at(n * n);
        let (content_type, parts) = multipart(&[("a", &npy(&[n, n], a)), ("b", &npy(&[n, m], b))]);
        let packed =
            |shape: [usize; 2], values: &[f64]| json!({"shape": shape, "dtype": "<f8", "data": base64(values)});
        let asks = [
            Ask::json("/v1/solve", &json!({"a": rows(a, n), "b": rows(b, m)})),
            Ask::json("/v1/solve", &json!({"a": packed([n, n], a), "b": packed([n, m], b)})),
            Ask::post("/v1/solve", &content_type, parts),
        ];
        let replies = asks.map(|ask| runtime.block_on(site.ask(ask)).is(200)["x"].clone());
        assert_eq!(bits(&replies[0]), bits(&replies[1]));
        assert_eq!(bits(&replies[0]), bits(&replies[2]));
        Ok(())
    });
    tested.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Nonsense: bytes, or something right that was damaged in a few places.
fn nonsense(random: &mut SmallRng) -> Ask {
    let (content_type, parts) =
        multipart(&[("a", &npy(&[2, 2], &[4.0, 1.0, 2.0, 3.0])), ("b", &npy(&[2], &[1.0, 2.0])), ("method", b"lu")]);
    let (params, raw) = small_raw();
    let packed = json!({"a": {"shape": [1, 1], "dtype": "<f8", "data": "AAAAAAAA8D8="}, "b": [1.0], "priority": "low"});
    let (content_type, mut body) = match random.random_range(0..5) {
        0 => ("application/json".to_owned(), small().to_string().into_bytes()),
        1 => ("application/json".to_owned(), packed.to_string().into_bytes()),
        2 => (content_type, parts),
        3 => ("application/x-rabbitry".to_owned(), raw),
        _ => ("application/json".to_owned(), (0..random.random_range(0..200)).map(|_| random.random()).collect()),
    };
    for _ in 0..random.random_range(0..6) {
        let at = random.random_range(0..=body.len());
        match random.random_range(0..4) {
            0 => body.truncate(at),
            1 => body.insert(at, random.random()),
            2 if at < body.len() => body[at] ^= 1 << random.random_range(0..8),
            _ => {
                let again = body[at..].to_vec();
                body.extend_from_slice(&again);
            }
        }
    }
    let target = if random.random_bool(0.9) { "/v1/solve?wait=30" } else { "/v1/tasks?kind=solve" };
    let ask = Ask::post(target, &content_type, body);
    if random.random_bool(0.9) { ask.with("rabbitry-params", &params) } else { ask }
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// Sends this many, eight at a time, and looks at every reply.
async fn send_nonsense(site: &Site, seed: u64, count: u64) {
    let senders = (0..8u64).map(|sender| async move {
        let mut random = SmallRng::seed_from_u64(seed + sender);
        let mut connection = Connection::one(site.address()).await;
        for number in 0..count / 8 {
            let ask = nonsense(&mut random);
            let shown = format!("seed {seed}, sender {sender}, number {number}: {ask:.2000?}");
            let reply = soon(&shown, connection.ask(ask)).await;
            let reply = match reply {
                Ok(reply) => reply,
                // The bridge closes a connection on which a body was not read to its end.
                Err(_) => {
                    connection = Connection::one(site.address()).await;
                    continue;
                }
            };
            match reply.status.as_u16() {
                200 => assert!(reply.json()["x"].is_array(), "{shown}"),
                202 => drop(site.ask(Ask::delete(reply.accepted())).await.status),
                400 | 413 | 415 | 422 => assert!(reply.json()["detail"].is_string(), "{shown}: {}", reply.text()),
                status => panic!("{status} {}: {shown}", reply.text()),
            }
        }
    });
    join_all(senders).await;
}

/// Forgets all tasks that are listed.
async fn forget_all(site: &Site) {
    let tasks = site.get("/v1/tasks?limit=1000").await.is(200);
    for task in tasks["tasks"].as_array().expect("a list") {
        let url = format!("/v1/tasks/{}", task["task"].as_str().expect("an id"));
        // Once to end it, once to forget it.
        for _ in 0..2 {
            let _ = site.ask(Ask::delete(&url)).await;
        }
    }
}

async fn ten_thousand_leave_nothing(alone: bool) {
    let site = Site::embedded().await;
    send_nonsense(&site, 1, 800).await;
    let before = resident_bytes();
    send_nonsense(&site, 2, 10_000).await;
    forget_all(&site).await;
    site.until_idle().await;
    assert_eq!(site.figure("rabbitry_spool_bytes").await, 0.0);
    let more = resident_bytes().saturating_sub(before);
    // Other tests run in this process, too.
    assert!(!alone || more < 64 << 20, "{more} bytes more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_bodies_are_answered_and_leave_nothing() {
    ten_thousand_leave_nothing(false).await;
}

/// Some seconds: `cargo test --test it -- --ignored ten_thousand`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "looks at the memory of the whole process, so it has to be alone"]
async fn ten_thousand_random_bodies_leave_no_memory_behind() {
    ten_thousand_leave_nothing(true).await;
}
