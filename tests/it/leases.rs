//! Workers outside, below HTTP: they lease tasks that a boss submits, and keep, answer, lose and give back their leases.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::poll;
use rabbitry::boss::{Boss, Ticket};
use rabbitry::bridge::leases::{Ended, Lease, LeaseError, LeaseId, Leases, Minion, Offer, Options};
use rabbitry::directory::Node;
use rabbitry::task::{Blob, TaskError};
use rabbitry::tasks::solve::System;
use rabbitry::transport::names;
use rabbitry::wire;
use rabbitry::worker::{self, Claim, Launcher, Memory};

use crate::pool::{PATIENCE, Place, Probe, ProbeHandler, cut_all_connections, on_both, one_slot, raw, soon, submit};

on_both!(
    an_outside_worker_computes_and_is_in_the_directory,
    a_lease_that_is_not_renewed_goes_to_another_and_counts,
    a_task_that_loses_its_worker_too_often_ends,
    a_renewed_lease_keeps_its_task_and_reports_its_progress,
    a_cancel_reaches_the_outside_worker,
    a_dropped_request_loses_nothing,
    two_outside_workers_share,
    a_worker_that_asks_for_nothing_leaves_the_directory,
    closing_hands_leases_back,
    a_lease_given_back_counts_no_attempt,
    a_batch_is_shared,
    a_worker_of_two_kinds_holds_one_task,
    all_outside_workers_share_one_limit_of_memory,
    a_lost_connection_ends_the_lease_and_the_task_comes_again,
);

/// Leases of nobody's: short enough to be waited for, long enough for two busy cores.
fn options() -> Options {
    Options {
        lease: Duration::from_secs(20),
        grace: Duration::from_secs(1),
        memory: Memory::new(1 << 30),
        ..Options::default()
    }
}

fn bridge(on: &Place, options: Options) -> Leases {
    bridge_of(on, ProbeHandler::new(Ok), options)
}

fn bridge_of(on: &Place, probe: Arc<ProbeHandler>, options: Options) -> Leases {
    let offers = vec![Offer::new::<Probe>(probe), Offer::new::<System>(crate::pool::solve_handler())];
    Leases::new(Launcher::new(on.broker.clone()), offers, options)
}

fn minion(name: &str) -> Minion {
    let claim = Claim {
        name: name.into(),
        host: "far".into(),
        address: "192.0.2.7".into(),
        pid: 77,
        cores: 12,
        version: "go 3.1".into(),
    };
    Minion { claim, kinds: vec!["probe".into()] }
}

fn of_kinds(name: &str, kinds: &[&str]) -> Minion {
    Minion { kinds: kinds.iter().map(ToString::to_string).collect(), ..minion(name) }
}

async fn lease(leases: &Leases, minion: &Minion) -> Lease {
    soon("a lease", leases.next(minion, 2 * PATIENCE)).await.expect("a good request").expect("a task")
}

fn payload(lease: &Lease) -> Bytes {
    lease.leased.blob.payload.concat().into()
}

/// The answer of a [`Probe`]: what came.
async fn echo(leases: &Leases, lease: &Lease) {
    let answer = Blob { payload: lease.leased.blob.payload.clone(), ..Blob::default() };
    soon("the check", leases.complete(lease.id, answer)).await.expect("an open lease");
}

async fn answered(ticket: Ticket<Probe>, payload: &'static str) {
    assert_eq!(soon("an outcome", ticket.outcome()).await.result, Ok(Bytes::from(payload)));
}

fn ended(result: Result<impl std::fmt::Debug, LeaseError>) -> Ended {
    match result {
        Err(LeaseError::Ended { how, .. }) => how,
        other => panic!("not an ended lease: {other:?}"),
    }
}

async fn directory(boss: &Boss, so: impl Fn(&[Node]) -> bool) -> Vec<Node> {
    soon("the directory", async {
        loop {
            let nodes = boss.workers(Duration::from_millis(100)).await.expect("asked");
            if so(&nodes) {
                return nodes;
            }
        }
    })
    .await
}

async fn an_outside_worker_computes_and_is_in_the_directory(on: Place) {
    let (boss, leases, m) = (on.boss().await, bridge(&on, options()), minion("minion"));
    let ticket = submit(&boss, Probe("a".into())).await;
    let leased = lease(&leases, &m).await;
    assert_eq!((leased.leased.task, leased.leased.attempt), (ticket.id(), 0));
    assert_eq!((leased.leased.kind.as_str(), payload(&leased)), ("probe", Bytes::from("a")));
    let nodes = directory(&boss, |nodes| nodes.iter().any(|node| node.busy == 1)).await;
    let node = nodes.first().expect("one");
    assert!(node.id.starts_with("minion-"), "{}", node.id);
    assert_eq!((&*node.host, &*node.address, node.pid, node.cores), ("far", "192.0.2.7", 77, 12));
    assert_eq!((&*node.version, node.slots, &*node.kinds), ("go 3.1", 1, &["probe".to_owned()][..]));
    echo(&leases, &leased).await;
    let outcome = soon("an outcome", ticket.outcome()).await;
    assert_eq!(outcome.result, Ok(Bytes::from("a")));
    assert_eq!(outcome.worker.expect("a worker").id, node.id);
    leases.close().await;
}

async fn a_lease_that_is_not_renewed_goes_to_another_and_counts(on: Place) {
    let short = Options { lease: Duration::from_millis(300), ..options() };
    let (boss, leases) = (on.boss().await, bridge(&on, short));
    let patient = bridge(&on, options());
    let ticket = submit(&boss, Probe("a".into())).await;
    let silent = lease(&leases, &minion("silent")).await;
    let other = lease(&patient, &minion("other")).await;
    assert_eq!((other.leased.task, other.leased.attempt), (ticket.id(), silent.leased.attempt + 1));
    assert_eq!(ended(leases.renew(silent.id, None)), Ended::Expired);
    echo(&patient, &other).await;
    answered(ticket, "a").await;
}

async fn a_task_that_loses_its_worker_too_often_ends(on: Place) {
    let short = Options { lease: Duration::from_millis(100), attempts_max: 2, ..options() };
    let (boss, leases, client) = (on.boss().await, bridge(&on, short), on.client().await);
    let ticket = submit(&boss, Probe("a".into())).await;
    for attempt in 0..2 {
        let lost = lease(&leases, &minion("m")).await;
        assert_eq!(lost.leased.attempt, attempt);
        soon("its end", async {
            while leases.task(lost.id).is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let outcome = soon("its end", ticket.outcome()).await;
    assert_eq!(outcome.result, Err(TaskError::TooManyAttempts { attempts: 2 }));
    client.until_ready(names::DEAD, 1).await;
}

async fn a_renewed_lease_keeps_its_task_and_reports_its_progress(on: Place) {
    let lease_time = Duration::from_secs(2);
    let (boss, leases) = (on.boss().await, bridge(&on, Options { lease: lease_time, ..options() }));
    let ticket = submit(&boss, Probe("a".into())).await;
    let (leased, other, from) = (lease(&leases, &minion("m")).await, minion("other"), Instant::now());
    // It would get the task.
    let mut waiting = Box::pin(leases.next(&other, PATIENCE));
    soon("twice its time, and its progress", async {
        while from.elapsed() < 2 * lease_time || ticket.progress() < 0.5 {
            assert!(poll!(&mut waiting).is_pending());
            assert_eq!(leases.renew(leased.id, Some(0.5)).expect("open").stopped, None);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    echo(&leases, &leased).await;
    answered(ticket, "a").await;
}

/// Renews until the worker is told to stop.
async fn until_stopped(leases: &Leases, lease: LeaseId) -> TaskError {
    soon("the word to stop", async {
        loop {
            if let Some(why) = leases.renew(lease, None).expect("an open lease").stopped {
                return why;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn a_cancel_reaches_the_outside_worker(on: Place) {
    let (boss, leases, m) = (on.boss().await, bridge(&on, options()), minion("m"));
    let ticket = submit(&boss, Probe("a".into())).await;
    let leased = lease(&leases, &m).await;
    assert!(ticket.cancel());
    assert_eq!(until_stopped(&leases, leased.id).await, TaskError::Cancelled);
    assert_eq!(ended(leases.renew(leased.id, None)), Ended::Stopped(TaskError::Cancelled));
    let next = submit(&boss, Probe("b".into())).await;
    echo(&leases, &lease(&leases, &m).await).await;
    answered(next, "b").await;
}

async fn a_dropped_request_loses_nothing(on: Place) {
    // One attempt: a task that came back with one counted would end.
    let probe = ProbeHandler::new(Ok);
    let leases = bridge_of(&on, probe.clone(), Options { attempts_max: 1, ..options() });
    let (boss, m) = (on.boss().await, minion("m"));
    let mut request = Box::pin(leases.next(&m, PATIENCE));
    assert!(poll!(&mut request).is_pending());
    let ticket = submit(&boss, Probe("a".into())).await;
    // The task is there, and the request does not look.
    probe.until_planned(1).await;
    drop(request);
    let other = lease(&leases, &minion("other")).await;
    assert_eq!((other.leased.task, other.leased.attempt), (ticket.id(), 0), "after the grace of the first");
    echo(&leases, &other).await;
    answered(ticket, "a").await;
}

async fn two_outside_workers_share(on: Place) {
    let (boss, leases) = (on.boss().await, bridge(&on, options()));
    let mut tickets = Vec::new();
    for payload in ["a", "b", "c", "d"] {
        tickets.push((submit(&boss, Probe(payload.into())).await, payload));
    }
    let (one, two) = (minion("one"), minion("two"));
    for _ in 0..2 {
        // Both hold one at the same time.
        let (a, b) = (lease(&leases, &one).await, lease(&leases, &two).await);
        assert!(a.leased.task != b.leased.task);
        echo(&leases, &b).await;
        echo(&leases, &a).await;
    }
    for (ticket, payload) in tickets {
        answered(ticket, payload).await;
    }
}

async fn a_worker_that_asks_for_nothing_leaves_the_directory(on: Place) {
    let (boss, leases, m) = (on.boss().await, bridge(&on, options()), minion("m"));
    let mut request = Box::pin(leases.next(&m, PATIENCE));
    assert!(poll!(&mut request).is_pending());
    directory(&boss, |nodes| nodes.len() == 1).await;
    drop(request);
    directory(&boss, <[Node]>::is_empty).await;
    assert_eq!(leases.counts(), (0, 0));
}

async fn closing_hands_leases_back(on: Place) {
    let (boss, leases) = (on.boss().await, bridge(&on, options()));
    let ticket = submit(&boss, Probe("a".into())).await;
    let leased = lease(&leases, &minion("m")).await;
    soon("the end of the leases", leases.close()).await;
    assert_eq!(ended(leases.renew(leased.id, None)), Ended::Closed);
    assert!(boss.workers(Duration::from_millis(100)).await.expect("asked").is_empty(), "it has said goodbye");
    let _worker = on.worker(ProbeHandler::new(Ok), worker::Options { attempts_max: 1, ..one_slot() });
    answered(ticket, "a").await;
}

async fn a_lease_given_back_counts_no_attempt(on: Place) {
    let leases = bridge(&on, Options { attempts_max: 1, ..options() });
    let (boss, m) = (on.boss().await, minion("m"));
    let ticket = submit(&boss, Probe("a".into())).await;
    for _ in 0..3 {
        let leased = lease(&leases, &m).await;
        assert_eq!(leased.leased.attempt, 0);
        leases.give_back(leased.id).expect("open");
    }
    echo(&leases, &lease(&leases, &m).await).await;
    answered(ticket, "a").await;
}

async fn a_batch_is_shared(on: Place) {
    let (mut client, leases) = (on.client().await, bridge(&on, Options { attempts_max: 1, ..options() }));
    let tasks = [raw(System::random(2, 1, 0)), raw(System::random(3, 1, 1))];
    let (heads, bodies): (Vec<_>, Vec<_>) = tasks.iter().map(|(head, body)| (wire::encode(head), &body[..])).unzip();
    client.publish(&names::work_queue("solve"), client.message(heads.concat(), &bodies.concat())).await;
    let (one, two) = (of_kinds("one", &["solve"]), of_kinds("two", &["solve"]));
    let held = [lease(&leases, &one).await, lease(&leases, &two).await];
    for lease in held {
        let (head, body) = tasks.iter().find(|(head, _)| head.id == lease.leased.task).expect("one of the two");
        assert_eq!((payload(&lease), &lease.leased.blob.params), (Bytes::from(body.clone()), &head.params));
        leases.fail(lease.id, TaskError::Singular { pivot: 1 }).await.expect("open");
        let outcome = client.outcome().await;
        assert_eq!((outcome.id, outcome.error), (head.id, Some(TaskError::Singular { pivot: 1 })));
    }
}

async fn a_worker_of_two_kinds_holds_one_task(on: Place) {
    let leases = bridge(&on, Options { attempts_max: 1, ..options() });
    let (boss, both) = (on.boss().await, of_kinds("both", &["probe", "solve"]));
    for seed in 0..3 {
        let probe = submit(&boss, Probe("a".into())).await;
        let first = lease(&leases, &both).await;
        assert_eq!(first.leased.task, probe.id());
        let system = submit(&boss, System::random(2, 1, seed)).await;
        // It is not with the first, which has something to do.
        let second = lease(&leases, &of_kinds("solver", &["solve"])).await;
        assert_eq!((second.leased.task, second.leased.attempt), (system.id(), 0));
        leases.fail(second.id, TaskError::Singular { pivot: 1 }).await.expect("open");
        assert_eq!(soon("an outcome", system.outcome()).await.result.unwrap_err(), TaskError::Singular { pivot: 1 });
        echo(&leases, &first).await;
        answered(probe, "a").await;
    }
}

async fn all_outside_workers_share_one_limit_of_memory(on: Place) {
    let probe = ProbeHandler::new(Ok);
    let leases = bridge_of(&on, probe.clone(), Options { memory: Memory::new(150 << 10), ..options() });
    let (boss, one, two) = (on.boss().await, minion("one"), minion("two"));
    let mut tickets = Vec::new();
    for byte in [1, 2] {
        tickets.push(submit(&boss, Probe(vec![byte; 100 << 10].into())).await);
    }
    let first = lease(&leases, &one).await;
    let mut second = Box::pin(leases.next(&two, 2 * PATIENCE));
    assert!(poll!(&mut second).is_pending());
    probe.until_planned(2).await;
    assert!(poll!(&mut second).is_pending(), "there is memory for one");
    echo(&leases, &first).await;
    let second = soon("a lease", second).await.expect("a good request").expect("a task");
    echo(&leases, &second).await;
    for ticket in tickets {
        assert!(soon("an outcome", ticket.outcome()).await.result.is_ok());
    }
}

async fn a_lost_connection_ends_the_lease_and_the_task_comes_again(on: Place) {
    // Longer than `rabbitmqctl` takes on two busy cores.
    let leases = bridge(&on, Options { lease: 2 * PATIENCE, ..options() });
    let (boss, m) = (on.boss().await, minion("m"));
    let ticket = submit(&boss, Probe("a".into())).await;
    let leased = lease(&leases, &m).await;
    if !cut_all_connections(&on).await {
        return;
    }
    assert_eq!(until_stopped(&leases, leased.id).await, TaskError::Cancelled);
    // A boss that was cut off, too, publishes it anew: it may come twice.
    let (task, mut outcome) = (ticket.id(), pin!(ticket.outcome()));
    let outcome = soon("an outcome", async {
        loop {
            tokio::select! {
                outcome = &mut outcome => return outcome,
                again = lease(&leases, &m) => {
                    assert_eq!(again.leased.task, task);
                    echo(&leases, &again).await;
                }
            }
        }
    });
    assert_eq!(outcome.await.result, Ok(Bytes::from("a")));
}
