//! The RabbitMQ of the tests: one private node per process, started at the first need, and nodes of a test's own
//! ([`Node`]).
//!
//! The node knows [`VHOSTS`] virtual hosts; each test takes one of its own, so names of queues need not differ between
//! tests and tests run in parallel. `max_message_size` is 16 MiB, as RabbitMQ 4 has it. Users: guest, and `nobody`
//! (password `nobody`), who may do nothing.
//!
//! `RABBITRY_TEST_RABBITMQ=4.0` takes another version than the system's package, out of those that
//! `deploy/setup-test-brokers.sh` makes. `RABBITRY_TEST_AMQP=URL` names a running broker to use instead; then tests that
//! use it run one at a time.

// Benches include this file by a path of their own.
#[path = "rabbitmq/install.rs"]
mod install;
#[path = "rabbitmq/node.rs"]
mod node;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, OwnedMutexGuard};

pub use node::{Node, Setup};

const VHOSTS: usize = 260;
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A place on a broker that no other test uses.
pub struct TestBroker {
    pub url: String,
    _one_at_a_time: Option<OwnedMutexGuard<()>>,
}

/// An untouched virtual host on the shared node, or the broker named by `RABBITRY_TEST_AMQP`.
pub async fn vhost() -> TestBroker {
    if let Some(url) = given() {
        static TURN: OnceLock<Arc<Mutex<()>>> = OnceLock::new();
        let turn = Arc::clone(TURN.get_or_init(Arc::default)).lock_owned().await;
        return TestBroker { url, _one_at_a_time: Some(turn) };
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let node = tokio::task::spawn_blocking(node).await.expect("the node starts");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < VHOSTS, "more tests than vhosts: raise VHOSTS in tests/it/rabbitmq.rs");
    TestBroker { url: node.url(&format!("t{number}")), _one_at_a_time: None }
}

/// The broker that the environment names.
pub fn given() -> Option<String> {
    std::env::var("RABBITRY_TEST_AMQP").ok().filter(|url| !url.is_empty())
}

/// Whether the broker is one that the tests command; if not, says so.
pub fn takes_commands() -> bool {
    let own = given().is_none();
    if !own {
        eprintln!("not tested: RABBITRY_TEST_AMQP names a broker that the tests do not command");
    }
    own
}

/// The shared node. Blocks while it starts. Tests that stop it would disturb others: they start their own.
pub fn node() -> &'static Node {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(|| Node::start_with(Setup { vhosts: VHOSTS, ..Setup::default() }))
}

/// Of the nodes that are started here.
pub fn version() -> String {
    install::Install::chosen().version
}

/// Whether a classic queue of theirs has `consumer_timeout`. From 4.3 on the timeout is the queue's, and only quorum ones have it.
pub fn classic_queues_time_out() -> bool {
    ["3.", "4.0", "4.1", "4.2"].iter().any(|earlier| version().starts_with(earlier))
}
