//! The names of exchanges and queues, as RabbitMQ's management page shows them.

use crate::task::ambient;

/// Direct exchange for tasks; the routing key is the kind.
pub const WORK: &str = "rabbitry.work";
/// Queue of what could not be computed: malformed messages, and tasks that killed their worker too often.
pub const DEAD: &str = "rabbitry.dead";
/// What the names of queues begin with in which tasks wait.
pub const LATER: &str = "rabbitry.later.";
/// Fanout of heartbeats.
pub const PRESENCE: &str = "rabbitry.presence";
/// Fanout of control messages to all workers.
pub const CONTROL: &str = "rabbitry.control";

/// The queue of one kind's tasks, shared by all workers.
pub fn work_queue(kind: &str) -> String {
    format!("{WORK}.{kind}")
}

/// Where large tasks of one kind wait whose boss is away.
pub fn later_queue(kind: &str) -> String {
    format!("{LATER}{kind}")
}

/// Where a boss reads its outcomes: exclusive, gone with its connection; for kept tasks durable, under a name that outlives it.
pub fn results_queue(boss: &str) -> String {
    format!("rabbitry.results.{boss}")
}

/// Where a boss is asked for parts: as its results queue.
pub fn pull_queue(boss: &str) -> String {
    format!("rabbitry.pull.{boss}")
}

/// What `id` calls itself on its `number`th connection, from 1. Its exclusive queues carry it: a broker that has not
/// noticed yet that the last connection is dead keeps those of the last name locked.
pub fn on_connection(id: &str, number: u64) -> String {
    if number <= 1 { id.to_owned() } else { format!("{id}.{number}") }
}

/// Where a worker gets its parts: exclusive, gone with the worker.
pub fn inbox(worker: &str) -> String {
    format!("rabbitry.inbox.{worker}")
}

/// An exclusive ear of `who` on a fanout.
pub fn ear(exchange: &str, who: &str) -> String {
    format!("{exchange}.{who}")
}

/// An id for a boss or a worker: host, pid and 32 random bits, legal in a queue name. Several of them may be in one process, and
/// the processes of containers that share a host's name may have one pid: with 16 bits some would meet in the names of queues.
pub fn process_id() -> String {
    format!("{}-{}-{:08x}", host(), std::process::id(), ambient::random::<u32>())
}

/// The host name, at most 64 bytes of it.
pub fn host() -> String {
    let legal = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    gethostname::gethostname().to_string_lossy().chars().filter(legal).take(64).collect()
}
