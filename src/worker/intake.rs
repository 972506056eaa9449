//! Takes deliveries from the work queues: as many as the prefetch allows, or one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::delivery::{self, Source};
use super::presence;
use super::session::Session;
use crate::broker::{Consume, Consumer, Error};
use crate::task::ambient;
use crate::transport::backoff::Backoff;
use crate::transport::{self, names};

/// A consumer that was consumed from for so long was a good one.
const SETTLED: Duration = Duration::from_secs(2);

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

/// How much of what it takes runs is decided by memory, slots and the prefetch. A consumer that the broker ends (its queue
/// was deleted, or an ack was too long in coming) has a successor; what came from it and runs goes on.
async fn take_all(session: &Arc<Session>, queue: &mut WorkQueue, running: &TaskTracker) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    loop {
        let (opened, source) = (ambient::now(), Source::default());
        let Some(consumer) = &mut queue.1 else { return Err(Error::Lost("no consumer".into())) };
        while let Some(delivery) = consumer.next().await {
            // As far as the queue for a slot at once: tasks that begin at the same time are run in any order, and what
            // the broker gave first, by priority, is to be computed first.
            let mut way = Box::pin(delivery::process(session.clone(), delivery, source.clone()));
            // A defect in one is not the end of the others.
            match catch_unwind(AssertUnwindSafe(|| (&mut way).now_or_never())) {
                Ok(None) => drop(running.spawn(way)),
                Ok(Some(())) => {}
                Err(_) => tracing::error!("a delivery met a defect of this program; it goes back to its queue"),
            }
        }
        let reason = consumer.reason();
        source.end();
        queue.1 = None;
        if let Some(error) = session.connection.closed().now_or_never() {
            return Err(error);
        }
        tracing::warn!(
            queue = queue.0,
            reason,
            "the broker ended a consumer; what runs goes on, and another takes its place"
        );
        session.worker.health(|health| {
            health.consuming = health.consuming.saturating_sub(1);
            health.reason = Some(format!("the consumer of {} was ended: {reason}", queue.0));
        });
        if ambient::now().duration_since(opened) > SETTLED {
            backoff = Backoff::default();
        }
        let worker = &session.worker;
        // At once: a boss may declare it any time.
        presence::look_for(&*session.connection, worker, &queue.0, true).await?;
        tokio::time::sleep(backoff.next()).await;
        transport::declare_shared(&*session.connection, &worker.registry.kinds(), worker.options.quorum).await?;
        open(session, std::slice::from_mut(queue)).await?;
        worker.health(|health| health.consuming += 1);
        presence::tell_lost(&*session.connection, worker).await?;
    }
}

/// Takes a delivery from whichever queue it comes first. The prefetch of 1 holds the others of its queue back; the consumers
/// of the other queues are cancelled until it has its end. What is begun here goes on when this is dropped.
async fn one_by_one(session: &Arc<Session>, sources: &mut [WorkQueue], running: &TaskTracker) -> Result<(), Error> {
    loop {
        // What came on a connection that is lost may still have the slot.
        drop(session.worker.slots.acquire().await);
        open(session, sources).await?;
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
