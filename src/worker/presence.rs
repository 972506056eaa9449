//! Heartbeats out, control messages in.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::recent::Recent;
use super::{Worker, progress};
use crate::broker::{Connection, Consume, Consumer, Error, Message, Queue, Route};
use crate::transport::{self, names};
use crate::wire::{self, Command, Control, Heartbeat};

/// Between heartbeats.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// Names of queues of bosses; the newest of them.
#[derive(Default)]
pub(super) struct BossQueues(Mutex<Recent<String, 256>>);

impl BossQueues {
    fn queues(&self) -> MutexGuard<'_, Recent<String, 256>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, queue: String) {
        self.queues().add(queue);
    }

    pub(super) fn remove(&self, gone: &str) {
        self.queues().remove(gone);
    }

    pub(super) fn contains(&self, wanted: &str) -> bool {
        self.queues().contains(wanted)
    }
}

/// Listens to the control exchange, under a name of this connection's own.
pub(super) async fn listen(connection: &dyn Connection, name: &str) -> Result<Consumer, Error> {
    let name = names::ear(names::CONTROL, name);
    connection.declare_queue(&Queue { name: name.clone(), exclusive: true, ..Queue::default() }).await?;
    connection.bind_queue(&name, names::CONTROL, "").await?;
    connection.consume(&name, Consume { prefetch: 0, no_ack: true }).await
}

/// Sends heartbeats at their time and when asked, reports progress, and does what control messages say. Ends with the
/// connection.
pub(super) async fn run(connection: &dyn Connection, worker: &Worker, control: Consumer) -> Result<(), Error> {
    // Apart: neither waits while the other has a message to hand over.
    tokio::select! {
        biased;
        ended = attend(connection, worker, control) => ended,
        ended = progress::run(connection, &worker.running) => ended,
    }
}

async fn attend(connection: &dyn Connection, worker: &Worker, mut control: Consumer) -> Result<(), Error> {
    let mut tick = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            biased;
            _ = tick.tick() => {
                worker.memory.buffers().trim();
                worker.shared.trim();
                beat(connection, worker, false).await?;
            }
            delivery = control.next() => {
                let delivery = delivery.ok_or_else(|| Error::Lost("the control queue ended".into()))?;
                match wire::decode_all::<Control>(&delivery.message.head) {
                    Ok(controls) => obey(connection, worker, controls).await?,
                    Err(error) => tracing::warn!(%error, "ignored a control message"),
                }
            }
        }
    }
}

async fn obey(connection: &dyn Connection, worker: &Worker, controls: Vec<Control>) -> Result<(), Error> {
    let mut asked = false;
    for Control { command } in controls {
        match command {
            Command::WhoIsThere => {
                // Every boss asks when it connects: one of a known name may run on another clock than before.
                worker.clocks.forget();
                asked = true;
            }
            Command::BossGone { reply_to } => {
                worker.gone.add(reply_to.clone());
                // What waits meets the list in its own time; what is in hand is worth a question now.
                if worker.running.answers_to(&reply_to) && is_gone(connection, worker, &reply_to).await? {
                    worker.running.stop_for(&reply_to);
                }
            }
            Command::Cancel { task } => worker.running.cancel(task),
            // For bosses.
            Command::QueueLost { .. } => {}
            Command::Answered { task, reply_to, sent_unix_ms } => {
                worker.running.answered(task, &reply_to, sent_unix_ms)
            }
        }
    }
    if asked { beat(connection, worker, false).await } else { Ok(()) }
}

/// Whether nobody reads this results queue any more. The list is a reason to ask, and the broker has the word: a control
/// message may be forged, and a queue may be declared again. A name that was never seen is one, too: its boss may have gone
/// before this worker came.
pub(super) async fn is_gone(connection: &dyn Connection, worker: &Worker, reply_to: &str) -> Result<bool, Error> {
    // Direct reply-to has no queue to ask for.
    let known = worker.there.contains(reply_to) || reply_to.starts_with("amq.rabbitmq.reply-to");
    if known && !worker.gone.contains(reply_to) {
        return Ok(false);
    }
    let is_there = transport::is_there(connection, reply_to).await?;
    if is_there {
        worker.gone.remove(reply_to);
        worker.there.add(reply_to.to_owned());
    } else {
        worker.there.remove(reply_to);
        worker.gone.add(reply_to.to_owned());
    }
    Ok(!is_there)
}

/// Looks whether a work queue is there. If it is not, or its node is not, what was in it may be gone: whoever has published to
/// it must know, once it is there again.
pub(super) async fn look_for(
    connection: &dyn Connection,
    worker: &Worker,
    queue: &str,
    was_there: bool,
) -> Result<(), Error> {
    let looked = connection.queue_status(queue).await;
    let is_down = matches!(looked, Err(Error::Down { .. }));
    if is_down || matches!(looked, Ok(None)) {
        *lost(worker).entry(queue.to_owned()).or_default() |= was_there || is_down;
    }
    looked.map(drop)
}

/// Tells the bosses which work queues were lost, or are new.
pub(super) async fn tell_lost(connection: &dyn Connection, worker: &Worker) -> Result<(), Error> {
    let next = || lost(worker).first_key_value().map(|(queue, was_there)| (queue.clone(), *was_there));
    while let Some((queue, was_there)) = next() {
        let control = Control { command: Command::QueueLost { queue: queue.clone(), was_there } };
        let message = Message { head: wire::encode(&control).into(), ..Message::default() };
        connection.publish(&Route::exchange(names::CONTROL, ""), message).await?.0.await?;
        lost(worker).remove(&queue);
    }
    Ok(())
}

fn lost(worker: &Worker) -> MutexGuard<'_, BTreeMap<String, bool>> {
    worker.lost.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One heartbeat, with the last word if `leaving`.
pub(super) async fn beat(connection: &dyn Connection, worker: &Worker, leaving: bool) -> Result<(), Error> {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let heartbeat = Heartbeat {
        worker: worker.identity.worker.clone(),
        address: worker.identity.address.clone(),
        pid: worker.identity.pid,
        cores: worker.identity.cores,
        slots: count(worker.options.slots),
        busy: count(worker.options.slots - worker.slots.available_permits()),
        kinds: worker.registry.kinds().iter().map(ToString::to_string).collect(),
        gflops: worker.registry.gflops(),
        version: worker.identity.version.clone(),
        done: worker.done.load(Relaxed),
        failed: worker.failed.load(Relaxed),
        leaving,
    };
    let message = Message { head: wire::encode(&heartbeat).into(), ..Message::default() };
    // Nobody listening is fine, so the confirm is not awaited, except for the last word.
    let confirm = connection.publish(&Route::exchange(names::PRESENCE, ""), message).await?;
    if leaving {
        confirm.0.await?;
    }
    Ok(())
}
