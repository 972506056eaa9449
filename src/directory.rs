//! Who is alive: heartbeats in, node table out. Pure; the clock is passed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::wire::Heartbeat;

/// A node that has been silent for three heartbeats is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(16);

/// The nodes heard of.
#[derive(Debug, Default)]
pub struct Directory {
    nodes: BTreeMap<String, (Heartbeat, Instant)>,
}

/// A live node, as `boss workers` shows it.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub struct Node {
    /// The worker's id.
    pub id: String,
    /// Host name.
    pub host: String,
    /// The address it reaches the broker from.
    pub address: String,
    /// Process id.
    pub pid: u32,
    /// Cores of its machine.
    pub cores: u32,
    /// Small tasks it computes at a time.
    pub slots: u32,
    /// Slots in use when last heard.
    pub busy: u32,
    /// Kinds it computes.
    pub kinds: Vec<String>,
    /// GFLOP/s of one core.
    pub gflops: f64,
    /// Version of the program.
    pub version: String,
    /// Tasks answered.
    pub done: u64,
    /// Of these, with an error.
    pub failed: u64,
    /// Seconds since it was last heard.
    pub last_seen_seconds: f64,
}

impl Directory {
    /// Takes a heartbeat that came at `now`; whether its node was not alive before. The dead are forgotten.
    pub fn heard(&mut self, heartbeat: Heartbeat, now: Instant) -> bool {
        self.nodes.retain(|_, (_, heard)| now.saturating_duration_since(*heard) < DEAD_AFTER);
        if heartbeat.leaving {
            self.nodes.remove(&heartbeat.worker.id);
            return false;
        }
        self.nodes.insert(heartbeat.worker.id.clone(), (heartbeat, now)).is_none()
    }

    /// The nodes alive at `now`, by id.
    pub fn nodes(&self, now: Instant) -> Vec<Node> {
        let silence = |heard: &Instant| now.saturating_duration_since(*heard);
        let alive = self.nodes.values().filter(|(_, heard)| silence(heard) < DEAD_AFTER);
        alive.map(|(heartbeat, heard)| Node::new(heartbeat.clone(), silence(heard))).collect()
    }
}

impl Node {
    fn new(heartbeat: Heartbeat, silence: Duration) -> Self {
        Node {
            id: heartbeat.worker.id,
            host: heartbeat.worker.host,
            address: heartbeat.address,
            pid: heartbeat.pid,
            cores: heartbeat.cores,
            slots: heartbeat.slots,
            busy: heartbeat.busy,
            kinds: heartbeat.kinds,
            gflops: heartbeat.gflops,
            version: heartbeat.version,
            done: heartbeat.done,
            failed: heartbeat.failed,
            last_seen_seconds: silence.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::WorkerRef;

    fn heartbeat(id: &str, leaving: bool) -> Heartbeat {
        Heartbeat {
            worker: WorkerRef { id: id.into(), host: "h".into() },
            address: "127.0.0.1".into(),
            pid: 1,
            cores: 2,
            slots: 2,
            busy: 0,
            kinds: vec!["solve".into()],
            gflops: 50.0,
            version: "0".into(),
            done: 0,
            failed: 0,
            leaving,
        }
    }

    #[test]
    fn nodes_come_and_go() {
        let mut directory = Directory::default();
        let start = Instant::now();
        assert!(directory.heard(heartbeat("b", false), start));
        assert!(directory.heard(heartbeat("a", false), start + Duration::from_secs(1)));
        assert!(!directory.heard(heartbeat("a", false), start + Duration::from_secs(5)), "it was there");
        let ids = |at| directory.nodes(at).into_iter().map(|node| node.id).collect::<Vec<_>>();
        assert_eq!(ids(start + Duration::from_secs(5)), ["a", "b"]);
        assert_eq!(ids(start + DEAD_AFTER), ["a"], "b has been silent for too long");
        assert!(!directory.heard(heartbeat("a", true), start + DEAD_AFTER));
        assert!(directory.nodes(start + DEAD_AFTER).is_empty(), "a has said goodbye");
    }
}
