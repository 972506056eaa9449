//! Three nodes with quorum queues: one is killed under load, and then the one that leads the work queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rabbitry::boss::{self, Boss};
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::transport::names;

use super::load::{Stream, Watched};
use super::{BACK_WITHIN, PATIENCE, on_node, short_and_long};
use crate::pool::soon;
use crate::programs::{Process, WORKER, program};
use crate::rabbitmq::Node;

short_and_long!(a_killed_node_of_three_takes_no_task_with_it, kill_nodes, 1, 5);

const IN_FLIGHT: usize = 24;
/// The node that everybody is connected to.
const STAYS: usize = 2;

async fn kill_nodes(rounds: usize) -> String {
    let mut nodes = on_node(Node::cluster);
    let url = nodes[STAYS].url("t0");
    let log = Watched::default();
    let broker = Arc::new(AmqpBroker::new(&url).expect("an address"));
    let options = boss::Options { quorum: true, ..boss::Options::default() };
    let boss = Arc::new(soon("a boss", Boss::connect(broker, options)).await.expect("a boss"));
    // One is connected to the node that stays, one to the first that will be killed: it knows the others.
    let all: Vec<String> = nodes.iter().map(|node| node.url("t0")).collect();
    let mut workers = [&url, &all.join(",")]
        .map(|broker| Process::start(program(WORKER, &["--broker", broker, "--slots", "1", "--queue-type", "quorum"])));
    for worker in &mut workers {
        worker.until_consuming().await;
    }
    let stream = Stream::start(boss.clone(), IN_FLIGHT, 8, log.clone());
    let (mut follower_gap, mut leader_gap) = (Duration::ZERO, Duration::ZERO);
    for number in 1..=rounds {
        lead(&nodes, 0).await;
        follower_gap = follower_gap.max(kill(&mut nodes[1], &log).await);
        start_again(&mut nodes[1]).await;
        lead(&nodes, 0).await;
        leader_gap = leader_gap.max(kill(&mut nodes[0], &log).await);
        if number < rounds {
            start_again(&mut nodes[0]).await;
        }
        assert!(!stream.has_failed(), "an answer was wrong: see above");
    }
    let [stayed, moved] = &workers;
    let (pid, now) = (moved.pid(), Instant::now());
    let what = "an answer of the worker that lost its node";
    log.until(PATIENCE, what, |log| log.answers_since(now).find(|it| it.pid == pid).map(drop)).await;
    let tally = stream.end(PATIENCE).await;
    assert_eq!(stayed.said().matches("consuming").count(), 1, "it stayed connected: {}", stayed.said());
    assert!(moved.said().matches("consuming").count() > 1, "it went to another node: {}", moved.said());
    boss.close().await;
    let longest = follower_gap.max(leader_gap);
    assert!(longest < BACK_WITHIN * 3, "nothing was answered for {longest:?}");
    format!(
        "{rounds} kills of a node that follows and {rounds} of the one that leads the work queue, of three; the longest time \
         without an answer {:.1} s and {:.1} s; {} tasks, each answered once and right",
        follower_gap.as_secs_f64(),
        leader_gap.as_secs_f64(),
        tally.small + tally.pulled,
    )
}

/// Sees to it that a node leads the work queue.
async fn lead(nodes: &[Node; 3], leader: usize) {
    let node = &nodes[STAYS];
    let queue = names::work_queue("solve");
    let transfer = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"t0\">>, queue, <<\"{queue}\">>)), \
         rabbit_quorum_queue:transfer_leadership(Q, '{}').",
        nodes[leader].name(),
    );
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leads = node.ctl(&["list_queues", "--vhost", "t0", "name", "leader"]).await;
        if leads.lines().any(|line| line.contains(&queue) && line.contains(nodes[leader].name())) {
            return;
        }
        assert!(Instant::now() < deadline, "{} does not become the leader: {leads}", nodes[leader].name());
        // It refuses while the node is still catching up.
        node.ctl(&["eval", &transfer]).await;
    }
}

/// Kills a node; gives the longest time without an answer since.
async fn kill(node: &mut Node, log: &Watched) -> Duration {
    log.until_more(IN_FLIGHT).await;
    on_node(|| node.kill());
    let killed = Instant::now();
    log.until_more(2 * IN_FLIGHT).await;
    let log = log.now();
    let mut moments: Vec<Instant> = log.answers_since(killed).map(|answer| answer.at).collect();
    moments.push(killed);
    moments.windows(2).map(|pair| pair[0] - pair[1]).max().unwrap_or_default()
}

async fn start_again(node: &mut Node) {
    on_node(|| node.start_again());
    node.ctl(&["await_startup"]).await;
}
