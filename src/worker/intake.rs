//! Takes deliveries from the work queues: as many as the prefetch allows, or one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alone::{self, Asking, Taking};
use super::delivery::{self, Source};
use super::presence;
use super::session::Session;
use crate::broker::{Consume, Consumer, Delivery, Error};
use crate::task::ambient;
use crate::transport::backoff::Backoff;
use crate::transport::{self, names};
use crate::wire::TaskHead;

/// A consumer that was consumed from for so long was a good one.
const SETTLED: Duration = Duration::from_secs(2);

/// A worker that is to hold nothing else waits so long for another task of that sort: some round trips to a broker far away.
const NEXT_SUSPECT: Duration = Duration::from_millis(300);

/// After such tasks for so long those of other kinds have their turn.
const IN_A_ROW: Duration = Duration::from_secs(30);

/// A work queue, and who consumes from it at the moment.
type WorkQueue = (String, Option<Consumer>);

/// Gives each delivery a task of its own in `running`, until `shutdown`; then drains. Nothing is on its way any more when it
/// returns.
///
/// # Errors
/// The connection's, or that of a consumer that has no successor.
pub(super) async fn run(
    session: &Arc<Session>,
    shutdown: &CancellationToken,
    running: &TaskTracker,
) -> Result<(), Error> {
    let kinds = session.worker.registry.kinds();
    let mut sources: Vec<WorkQueue> = kinds.iter().map(|kind| (names::work_queue(kind.as_str()), None)).collect();
    open(session, &mut sources).await?;
    session.is_consuming();
    let taken = async {
        if session.worker.options.one_by_one {
            one_by_one(session, &mut sources, running).await
        } else {
            let all = sources.iter_mut().map(|source| Box::pin(take_all(session, source, running)));
            select_all(all).await.0
        }
    };
    if let Some(ended) = shutdown.run_until_cancelled(taken).await {
        return ended;
    }
    session.worker.health(|health| health.draining = true);
    session.draining.cancel();
    for consumer in sources.into_iter().filter_map(|(_, consumer)| consumer) {
        for delivery in consumer.cancel().await {
            // It will find that the worker drains.
            running.spawn(delivery::process(session.clone(), delivery, Source::default()));
        }
    }
    Ok(())
}

async fn open(session: &Session, queues: &mut [WorkQueue]) -> Result<(), Error> {
    let options = &session.worker.options;
    let prefetch = if options.one_by_one { 1 } else { options.prefetch };
    for (queue, consumer) in queues.iter_mut().filter(|(_, consumer)| consumer.is_none()) {
        *consumer = Some(session.connection.consume(queue, Consume { prefetch, no_ack: false }).await?);
    }
    Ok(())
}

/// Why nothing more is taken from a consumer.
enum Stopped {
    /// The broker has ended it.
    Ended,
    /// Another queue has a task that is to be computed alone.
    Asked,
    /// This is such a task, and asks to be.
    Suspect(Box<Delivery>, Asking),
}

/// How much of what it takes runs is decided by memory, slots and the prefetch. A consumer that the broker ends (its queue
/// was deleted, or an ack was too long in coming) has a successor; what came from it and runs goes on.
async fn take_all(session: &Arc<Session>, queue: &mut WorkQueue, running: &TaskTracker) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    let mut was_lost = false;
    loop {
        let taking = session.alone.taking().await;
        match open(session, std::slice::from_mut(queue)).await {
            // Deleted while nothing was consumed from it.
            Err(Error::Operation { reason, .. }) => {
                drop(taking);
                declare_again(session, &queue.0, &reason, backoff.next(), !was_lost).await?;
                was_lost = true;
                continue;
            }
            opened => opened?,
        }
        if std::mem::take(&mut was_lost) {
            session.worker.health(|health| health.consuming += 1);
            presence::tell_lost(&*session.connection, &session.worker).await?;
        }
        let (opened, source) = (ambient::now(), Source::default());
        let Some(consumer) = &mut queue.1 else { return Err(Error::Lost("no consumer".into())) };
        match take_until(session, consumer, &source, &taking, running).await {
            Stopped::Asked => {
                source.let_go();
                hand_over(session, queue.1.take(), running).await;
            }
            Stopped::Suspect(suspect, asking) => {
                source.let_go();
                let (session, name, consumer) = (session.clone(), queue.0.clone(), queue.1.take());
                let tracker = running.clone();
                // Goes on should this be dropped: a worker that drains while it waits has it published anew, uncounted. A
                // defect in one is not the end of the others.
                let way = async move {
                    hand_over(&session, consumer, &tracker).await;
                    drop(taking);
                    suspects(&session, &name, *suspect, asking, &tracker).await;
                };
                let _ = running.spawn(way).await;
            }
            Stopped::Ended => {
                if ambient::now().duration_since(opened) > SETTLED {
                    backoff = Backoff::default();
                }
                let reason = consumer.reason();
                source.end();
                queue.1 = None;
                drop(taking);
                declare_again(session, &queue.0, &reason, backoff.next(), true).await?;
                was_lost = true;
            }
        }
    }
}

/// Gives each delivery a task of its own. One who stops keeps what `taking` says until he has handed over what is on its way.
async fn take_until(
    session: &Arc<Session>,
    consumer: &mut Consumer,
    source: &Source,
    taking: &Taking,
    running: &TaskTracker,
) -> Stopped {
    let asked = session.alone.asked();
    tokio::pin!(asked);
    loop {
        let delivery = tokio::select! {
            biased;
            () = &mut asked => return Stopped::Asked,
            delivery = consumer.next() => delivery,
        };
        let Some(delivery) = delivery else { return Stopped::Ended };
        // One that is over is not computed.
        let is_over = |suspect: &TaskHead| session.worker.running.is_over(suspect, &delivery.message);
        if alone::suspect(&delivery).is_some_and(|suspect| !is_over(&suspect)) {
            let (taker, taken) = oneshot::channel();
            // Goes on should this be dropped.
            drop(running.spawn(delivery::unless_away(session.clone(), delivery, taker)));
            let Ok(suspect) = taken.await else { continue };
            let Some(asking) = session.alone.ask() else {
                // Another is to be alone first, and this one not to be counted if he takes the worker down.
                let _ = running.spawn(delivery::put_back(session.clone(), suspect)).await;
                return Stopped::Asked;
            };
            return Stopped::Suspect(Box::new(suspect), asking);
        }
        let (way, taking) = (delivery::process(session.clone(), delivery, source.clone()), taking.clone());
        // As far as the queue for a slot at once: tasks that begin at the same time are run in any order, and what
        // the broker gave first, by priority, is to be computed first.
        let mut way = Box::pin(async move {
            way.await;
            drop(taking);
        });
        // A defect in one is not the end of the others.
        match catch_unwind(AssertUnwindSafe(|| (&mut way).now_or_never())) {
            Ok(None) => drop(running.spawn(way)),
            Ok(Some(())) => {}
            Err(_) => tracing::error!("a delivery met a defect of this program; it goes back to its queue"),
        }
    }
}

/// Computes a task that workers were lost with while nothing else is in hand, and those that come next if they are such, too:
/// what died together comes back together, and taken one by one none is handed over for the other.
async fn suspects(session: &Arc<Session>, queue: &str, first: Delivery, asking: Asking, running: &TaskTracker) {
    let _alone = session.alone.alone(asking).await;
    tracing::info!("a task that workers were lost with is computed alone");
    let source = Source::default();
    source.let_go();
    delivery::process(session.clone(), first, source).await;
    // An error is that of the connection, or whoever consumes next meets it.
    let consume = Consume { prefetch: 1, no_ack: false };
    let Ok(mut consumer) = session.connection.consume(queue, consume).await else { return };
    let (begun, mut innocent) = (ambient::now(), None);
    while ambient::now().duration_since(begun) < IN_A_ROW {
        let Some(next) = next_soon(session, &mut consumer).await else { break };
        if alone::suspect(&next).is_none() {
            innocent = Some(next);
            break;
        }
        let source = Source::default();
        let way = delivery::process(session.clone(), next, source.clone());
        tokio::pin!(way);
        tokio::select! {
            biased;
            () = &mut way => {}
            // With a prefetch of 1 nothing else can come of it.
            None = consumer.next() => {
                source.end();
                way.await;
            }
        }
    }
    // While it has one in hand it gets no other.
    hand_over(session, Some(consumer), running).await;
    if let Some(innocent) = innocent {
        delivery::put_back(session.clone(), innocent).await;
    }
}

/// What comes next, unless that takes long or the worker drains.
async fn next_soon(session: &Session, consumer: &mut Consumer) -> Option<Delivery> {
    let next = tokio::time::timeout(NEXT_SUSPECT, consumer.next());
    session.draining.run_until_cancelled(next).await?.ok()?
}

/// Ends a consumer; what it was given ahead is put back uncounted. Goes on should this be dropped.
async fn hand_over(session: &Arc<Session>, consumer: Option<Consumer>, running: &TaskTracker) {
    let Some(consumer) = consumer else { return };
    let session = session.clone();
    let handed_over = running.spawn(async move {
        for other in consumer.cancel().await {
            delivery::put_back(session.clone(), other).await;
        }
    });
    // What was not put back when it ended in disorder is requeued.
    let _ = handed_over.await;
}

/// The broker has ended a consumer, or has no queue to consume from: says so, once, and declares the queue again.
async fn declare_again(
    session: &Session,
    queue: &str,
    reason: &str,
    pause: Duration,
    first: bool,
) -> Result<(), Error> {
    if let Some(error) = session.connection.closed().now_or_never() {
        return Err(error);
    }
    tracing::warn!(queue, reason, "the broker ended a consumer; what runs goes on, and another takes its place");
    let worker = &session.worker;
    worker.health(|health| {
        health.consuming = health.consuming.saturating_sub(usize::from(first));
        health.reason = Some(format!("the consumer of {queue} was ended: {reason}"));
    });
    // At once: a boss may declare it any time.
    presence::look_for(&*session.connection, worker, queue, true).await?;
    tokio::time::sleep(pause).await;
    transport::declare_shared(&*session.connection, &worker.registry.kinds(), worker.options.quorum).await
}

/// Takes a delivery from whichever queue it comes first. The prefetch of 1 holds the others of its queue back; the consumers
/// of the other queues are cancelled until it has its end. What is begun here goes on when this is dropped.
async fn one_by_one(session: &Arc<Session>, sources: &mut [WorkQueue], running: &TaskTracker) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    loop {
        // What came on a connection that is lost may still have the slot.
        drop(session.worker.slots.acquire().await);
        match open(session, sources).await {
            // One was deleted while nothing was consumed from it.
            Err(Error::Operation { reason, .. }) => {
                let closed = || sources.iter().filter(|(_, consumer)| consumer.is_none()).map(|(queue, _)| queue);
                for queue in closed() {
                    declare_again(session, queue, &reason, backoff.next(), false).await?;
                }
                presence::tell_lost(&*session.connection, &session.worker).await?;
                continue;
            }
            opened => opened?,
        }
        let consumers = sources.iter_mut().filter_map(|(_, consumer)| consumer.as_mut());
        let (first, from, _) = select_all(consumers.map(|consumer| Box::pin(consumer.next()))).await;
        let first =
            first.ok_or_else(|| Error::Lost(sources[from].1.as_ref().map_or_else(String::new, Consumer::reason)))?;
        let first = running.spawn(delivery::process(session.clone(), first, Source::default()));
        let others = sources.iter_mut().enumerate().filter(|(index, _)| *index != from);
        let others: Vec<Consumer> = others.filter_map(|(_, (_, consumer))| consumer.take()).collect();
        let session = session.clone();
        let cancelled = running.spawn(async move {
            for consumer in others {
                for other in consumer.cancel().await {
                    delivery::put_back(session.clone(), other).await;
                }
            }
        });
        if tokio::try_join!(first, cancelled).is_err() {
            return Err(Error::Lost("a task of the runtime's ended in disorder".into()));
        }
    }
}
