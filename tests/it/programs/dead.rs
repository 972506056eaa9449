//! `boss dead`: what people and scripts see of the dead letters.

use rabbitry::broker::Message;
use rabbitry::task::TaskId;
use rabbitry::tasks::solve::System;
use rabbitry::transport::names;
use rabbitry::wire::{self, TaskHead};
use serde_json::{Value, json};

use super::{Ended, boss};
use crate::pool::{Client, Place, raw};

/// Ids that differ in the ninth digit only, and one that begins otherwise.
const IDS: [u128; 3] = [0x000a_aaaa_aaa1 << 92, 0x000a_aaaa_aaa2 << 92, 0xbbbb_bbbb << 96];

fn id(number: usize) -> String {
    TaskId(IDS[number]).to_string()
}

/// Three tasks that were given up, and 200 bytes that are nothing.
async fn four_letters(client: &Client) {
    for id in IDS {
        let (head, body) = raw(System::random(4, 1, 0));
        let head = TaskHead { id: TaskId(id), attempt: 5, ..head };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis();
        let headers = [
            ("rabbitry-reason", "5 attempts ended".to_owned()),
            ("rabbitry-first-reason", "a worker was lost\u{1b}[2J".to_owned()),
            ("rabbitry-worker", "host-1-abcd".to_owned()),
            ("rabbitry-dead-unix-ms", (now - 120_000).to_string()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
        client.publish(names::DEAD, Message { headers, ..client.message(wire::encode(&head), &body) }).await;
    }
    client.publish(names::DEAD, client.message(vec![0xa5; 200], b"what")).await;
}

async fn dead(url: &str, arguments: &[&str]) -> Ended {
    boss(&[&["--broker", url, "dead"], arguments].concat()).await
}

fn object(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {}{}", ended.out, ended.err))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_and_shown_and_stay() {
    let on = Place::rabbitmq().await;
    let client = on.client().await;
    let none = dead(on.url(), &["ls"]).await;
    assert_eq!((none.code, none.err.as_str()), (Some(0), ""));
    assert!(none.out.starts_with("no dead letters at amqp://"), "{}", none.out);
    four_letters(&client).await;
    let listed = dead(on.url(), &["ls"]).await;
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = listed.out.lines().collect();
    assert!(lines[0].starts_with("ID") && lines.len() == 6, "{}", listed.out);
    for part in ["aaaaaaaa1000", "solve", "160 B", "A 4 x 4, B 4 x 1", " 5 ", "2 min", "host-1-abcd", "was lost"] {
        assert!(lines[1].contains(part), "{part:?} in {}", lines[1]);
    }
    assert!(lines[4].contains("nothing that can be read"), "{}", lines[4]);
    assert!(lines[5].starts_with("4 dead letters") && lines[5].contains("retry ID"), "{}", lines[5]);
    assert!(!listed.out.contains('\u{1b}'), "no escape sequence");
    let all = object(&dead(on.url(), &["ls", "--json"]).await);
    let letters = all["letters"].as_array().expect("a list");
    assert_eq!((letters.len(), &all["unseen"]), (4, &json!(0)));
    let first = &letters[0];
    assert_eq!((&first["id"], &first["kind"], &first["attempts"]), (&json!(id(0)), &json!("solve"), &json!(5)));
    assert_eq!((&first["reason"], &first["worker"]), (&json!("5 attempts ended"), &json!("host-1-abcd")));
    assert!(first["age_seconds"].as_f64().is_some_and(|age| (119.0..600.0).contains(&age)), "{first}");
    assert_eq!(first["tasks"][0]["description"], json!("A 4 x 4, B 4 x 1, method auto"));
    let strange = letters[3]["id"].as_str().expect("an id").to_owned();
    assert!(letters[3]["defect"].is_string() && letters[3]["tasks"] == json!([]), "{}", letters[3]);
    let shown = dead(on.url(), &["show", &strange[..8]]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(shown.out.contains("a5 a5 a5") && shown.out.contains(&client.reply_to), "{}", shown.out);
    assert!(shown.out.contains("(it is there)") && shown.out.contains("no worker can compute it"), "{}", shown.out);
    let shown = object(&dead(on.url(), &["show", "bbbbbb", "--json"]).await);
    assert_eq!((&shown["id"], &shown["refusal"]), (&json!(id(2)), &Value::Null));
    assert_eq!((&shown["reply_to_there"], &shown["pull_from_there"]), (&json!(true), &json!({})));
    client.until_ready(names::DEAD, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_of_an_id_is_enough_if_it_fits_one() {
    let on = Place::rabbitmq().await;
    let mut client = on.client().await;
    four_letters(&client).await;
    for command in [&["show", "aaaaaa"][..], &["retry", "aaaaaaaa"], &["drop", "aaaaaa"]] {
        let ended = dead(on.url(), command).await;
        assert_eq!(ended.code, Some(1), "{command:?}: {}", ended.out);
        assert!(ended.err.contains("fits 2 letters") && ended.err.contains(&id(1)), "{}", ended.err);
    }
    let ended = dead(on.url(), &["retry", "ccccccc"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("no dead letter ccccccc at amqp://"), "{}", ended.err);
    client.until_ready(names::DEAD, 4).await;
    let _worker = on.solver();
    let ended = dead(on.url(), &["retry", "AAAAAAAA1", "bbbbbbb"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert!(ended.out.contains(&id(0)) && ended.out.contains(&client.reply_to), "{}", ended.out);
    assert!(ended.out.contains("2 letters published again"), "{}", ended.out);
    let answered = [client.outcome().await, client.outcome().await];
    assert!(answered.iter().all(|outcome| outcome.error.is_none() && outcome.id != TaskId(IDS[1])), "{answered:?}");
    client.until_ready(names::DEAD, 2).await;
    // One is there and the other is not: the one is dropped.
    let ended = dead(on.url(), &["drop", "aaaaaa", "cccccc", "--json"]).await;
    assert_eq!(ended.code, Some(1));
    let expected = json!({ "dropped": [id(1)], "failed": [], "not_found": ["cccccc"], "ambiguous": [], "unseen": 0 });
    assert_eq!(object(&ended), expected);
    client.until_ready(names::DEAD, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_retried_or_dropped_and_what_stays_is_told() {
    let on = Place::rabbitmq().await;
    let client = on.client().await;
    four_letters(&client).await;
    let ended = dead(on.url(), &["retry", "--all"]).await;
    assert_eq!(ended.code, Some(1), "one can't be: {}", ended.err);
    assert!(ended.out.contains("3 letters published again, 1 letter"), "{}", ended.out);
    assert!(ended.err.contains("stays: no worker can compute it"), "{}", ended.err);
    client.until_ready(&names::work_queue("solve"), 3).await;
    client.until_ready(names::DEAD, 1).await;
    let ended = dead(on.url(), &["drop", "--all"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert!(ended.out.ends_with("1 letter dropped\n"), "{}", ended.out);
    let ended = dead(on.url(), &["drop", "--all", "--json"]).await;
    assert_eq!((ended.code, &object(&ended)["dropped"]), (Some(0), &json!([])));
}

#[tokio::test]
async fn boss_dead_without_a_broker_or_with_a_wrong_id_is_bad_usage() {
    for (arguments, why) in [
        (&["dead", "ls"][..], "--broker"),
        (&["--broker", "amqp://127.0.0.1", "dead"], "Usage"),
        (&["--broker", "amqp://127.0.0.1", "dead", "show", "abc"], "6 to 32 hexadecimal digits"),
        (&["--broker", "amqp://127.0.0.1", "dead", "drop"], "--all"),
        (&["--broker", "amqp://127.0.0.1", "dead", "drop", "--all", "abcdef"], "--all"),
    ] {
        let ended = boss(arguments).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(why), "{arguments:?}: {}", ended.err);
    }
}
