//! Tells bosses how far their tasks are.

use std::time::Duration;

use super::running::Running;
use crate::broker::{Connection, Error, Message, Route};
use crate::wire::{self, Progress, SHARES_MAX};

/// Between reports, at least: four a second are smooth enough for a bar.
const PERIOD: Duration = Duration::from_millis(250);

/// Reports until the connection ends. It waits without a timer while there is nothing to report on.
pub(super) async fn run(connection: &dyn Connection, running: &Running) -> Result<(), Error> {
    loop {
        running.until_reporting().await;
        tokio::time::sleep(PERIOD).await;
        for (queue, shares) in running.moved() {
            for shares in shares.chunks(SHARES_MAX) {
                let head = wire::encode(&Progress { tasks: shares.to_vec() }).into();
                // The next report makes up for one that is lost, so the confirm is not awaited.
                match connection.publish(&Route::queue(&queue), Message { head, ..Message::default() }).await {
                    Err(error) if error.is_transient() => return Err(error),
                    // The queue's name comes from outside.
                    Err(error) => tracing::debug!(%error, queue, "could not report progress"),
                    Ok(_) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use futures_util::poll;
    use tokio::time::Instant;

    use super::*;
    use crate::broker::embedded::EmbeddedBroker;
    use crate::broker::{Broker, Consume, Consumer, Queue};
    use crate::task::{Format, TaskId};
    use crate::wire::TaskHead;

    const DAY: Duration = Duration::from_secs(86_400);

    fn head(progress_to: &str) -> TaskHead {
        TaskHead {
            id: TaskId(1),
            kind: "probe".into(),
            attempt: 0,
            format: Format::Binary,
            deadline_unix_ms: 0,
            sent_unix_ms: 0,
            flops: 0,
            payload_bytes: 0,
            checksum: None,
            pull_from: None,
            progress_to: Some(progress_to.to_owned()),
            params: vec![],
        }
    }

    async fn permille(reports: &mut Consumer) -> u16 {
        let message = reports.next().await.unwrap().message;
        wire::decode::<Progress>(&message.head).unwrap().tasks[0].permille
    }

    /// The clock stands still but for where everybody waits on it.
    #[tokio::test(start_paused = true)]
    async fn reports_come_four_times_a_second_and_only_of_what_moves() {
        let connection = EmbeddedBroker::new().connect().await.unwrap();
        connection.declare_queue(&Queue { name: "boss".into(), ..Queue::default() }).await.unwrap();
        let mut reports = connection.consume("boss", Consume { prefetch: 0, no_ack: true }).await.unwrap();
        let running = Arc::new(Running::default());
        let (link, tasks) = (connection.clone(), running.clone());
        let reporter = tokio::spawn(async move { run(&*link, &tasks).await });
        let nothing_for_a_day = async |reports: &mut Consumer| {
            tokio::time::sleep(DAY).await;
            assert!(poll!(pin!(reports.next())).is_pending());
        };
        nothing_for_a_day(&mut reports).await;
        let task = running.enter(&head("boss"), &Arc::from("boss"), 1, None);
        nothing_for_a_day(&mut reports).await;
        let begun = Instant::now();
        for step in 1..=8u16 {
            task.watch.advance(f64::from(step) / 8.0);
            assert_eq!(permille(&mut reports).await, 125 * step);
        }
        assert!(begun.elapsed() >= 7 * PERIOD, "{:?}", begun.elapsed());
        nothing_for_a_day(&mut reports).await;
        drop(task);
        nothing_for_a_day(&mut reports).await;
        reporter.abort();
    }
}
