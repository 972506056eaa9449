//! Takes deliveries from the work queues: as many as the prefetch allows, or one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::delivery;
use super::session::Session;
use crate::broker::{Consume, Consumer, Error};
use crate::transport::names;

/// A work queue, and who consumes from it at the moment.
type Source = (String, Option<Consumer>);

/// Gives each delivery a task of its own in `running`, until `shutdown`; then drains. Nothing is on its way any more when it
/// returns.
///
/// # Errors
/// One of the consumers has ended.
pub(super) async fn run(
    session: &Arc<Session>,
    shutdown: &CancellationToken,
    running: &TaskTracker,
) -> Result<(), Error> {
    let kinds = session.worker.registry.kinds();
    let mut sources: Vec<Source> = kinds.iter().map(|kind| (names::work_queue(kind.as_str()), None)).collect();
    let taken = async {
        if session.worker.options.one_by_one {
            one_by_one(session, &mut sources, running).await
        } else {
            all(session, &mut sources, running).await
        }
    };
    if let Some(ended) = shutdown.run_until_cancelled(taken).await {
        return ended;
    }
    session.draining.cancel();
    for consumer in sources.into_iter().filter_map(|(_, consumer)| consumer) {
        for delivery in consumer.cancel().await {
            // It will find that the worker drains.
            running.spawn(delivery::process(session.clone(), delivery));
        }
    }
    Ok(())
}

async fn open(session: &Session, sources: &mut [Source], prefetch: u16) -> Result<(), Error> {
    for (queue, consumer) in sources.iter_mut().filter(|(_, consumer)| consumer.is_none()) {
        *consumer = Some(session.connection.consume(queue, Consume { prefetch, no_ack: false }).await?);
    }
    Ok(())
}

/// How much of what it takes runs is decided by memory, slots and the prefetch.
async fn all(session: &Arc<Session>, sources: &mut [Source], running: &TaskTracker) -> Result<(), Error> {
    open(session, sources, session.worker.options.prefetch).await?;
    let forward = async |consumer: &mut Consumer| {
        while let Some(delivery) = consumer.next().await {
            // As far as the queue for a slot at once: tasks that begin at the same time are run in any order, and what
            // the broker gave first, by priority, is to be computed first.
            let mut way = Box::pin(delivery::process(session.clone(), delivery));
            // A defect in one is not the end of the others.
            match catch_unwind(AssertUnwindSafe(|| (&mut way).now_or_never())) {
                Ok(None) => drop(running.spawn(way)),
                Ok(Some(())) => {}
                Err(_) => tracing::error!("a delivery met a defect of this program; it goes back to its queue"),
            }
        }
    };
    let consumers = sources.iter_mut().filter_map(|(_, consumer)| consumer.as_mut());
    select_all(consumers.map(|consumer| Box::pin(forward(consumer)))).await;
    Err(ended())
}

/// Takes a delivery from whichever queue it comes first. The prefetch of 1 holds the others of its queue back; the consumers
/// of the other queues are cancelled until it has its end. What is begun here goes on when this is dropped.
async fn one_by_one(session: &Arc<Session>, sources: &mut [Source], running: &TaskTracker) -> Result<(), Error> {
    loop {
        // What came on a connection that is lost may still have the slot.
        drop(session.worker.slots.acquire().await);
        open(session, sources, 1).await?;
        let consumers = sources.iter_mut().filter_map(|(_, consumer)| consumer.as_mut());
        let (first, from, _) = select_all(consumers.map(|consumer| Box::pin(consumer.next()))).await;
        let first = running.spawn(delivery::process(session.clone(), first.ok_or_else(ended)?));
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

fn ended() -> Error {
    Error::Lost("the broker ended a consumer (was its queue deleted?)".into())
}
