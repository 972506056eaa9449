//! `boss cancel`, and Ctrl-C of `boss solve`: what computes on a worker stops.

use rabbitry::boss::Boss;
use rabbitry::task::{Task, TaskError};
use rabbitry::tasks::solve::System;
use serde_json::Value;

use super::{BOSS, Process, boss, program};
use crate::pool::{Did, Endless, Place, Probe, endless, one_slot, soon, submit};

/// A boss and a worker in this process, and the address for programs.
async fn pool() -> (Place, String, Boss, Endless) {
    let on = Place::rabbitmq().await;
    let (url, boss) = (on.url().to_owned(), on.boss().await);
    (on, url, boss, endless(Probe::KIND))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boss_cancel_ends_a_task_of_another_program() {
    let (on, url, owner, mut tasks) = pool().await;
    let _worker = on.worker(tasks.handler.clone(), one_slot());
    for json in [false, true] {
        let ticket = submit(&owner, Probe("a".into())).await;
        tasks.begins("a").await;
        let id = ticket.id().to_string();
        let arguments = ["--broker", &url, "cancel", &id, "--json"];
        let arguments = if json { &arguments[..] } else { &arguments[..4] };
        let ended = boss(arguments).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
        if json {
            let said: Value = serde_json::from_str(&ended.out).expect("one JSON object");
            assert_eq!(said, serde_json::json!({ "task": id, "cancelled": true }));
        } else {
            assert_eq!(ended.out, format!("cancelled {id}\n"));
        }
        assert_eq!(soon("its end", ticket.outcome()).await.result, Err(TaskError::Cancelled));
        tasks.stops("a").await;
        let again = boss(arguments).await;
        assert_eq!(again.code, Some(1), "it has ended: {}{}", again.out, again.err);
        assert!(again.err.contains(&id) && again.err.contains("127.0.0.1"), "{}", again.err);
        assert_eq!(again.out.is_empty(), !json, "{}", again.out);
    }
}

#[tokio::test]
async fn boss_cancel_without_a_broker_or_an_id_is_bad_usage() {
    let id = "00112233445566778899aabbccddeeff";
    for (arguments, why) in [
        (&["cancel", id][..], "--broker"),
        (&["--broker", "amqp://127.0.0.1", "cancel"], "TASK"),
        (&["--broker", "amqp://127.0.0.1", "cancel", "0011"], "32 hexadecimal digits"),
    ] {
        let ended = boss(arguments).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(why), "{arguments:?}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_of_boss_solve_stops_its_tasks_on_the_workers() {
    let (on, url, _owner, _) = pool().await;
    let mut tasks = endless(System::KIND);
    let _worker = on.worker(tasks.handler.clone(), one_slot());
    let mut solving = Process::start(program(BOSS, &["--broker", &url, "solve", "--random", "3", "--count", "2"]));
    assert!(matches!(tasks.next().await, Did::Begin(_)));
    solving.interrupt();
    assert_eq!(solving.code().await, Some(130), "{}", solving.said());
    assert!(matches!(tasks.next().await, Did::Stop(_)));
}
