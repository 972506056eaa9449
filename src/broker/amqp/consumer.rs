//! Consuming: one channel per consumer, one task that forwards deliveries and one that settles them.
//!
//! Invariants: deliveries are forwarded in the order of their tags, so a bulk ack covers only what was handed out; the
//! channel stays open until the last delivery handed out is settled; what was received but never handed out goes back.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join, try_join_all};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::acks::{Acks, Calls};
use super::convert::{self, short};
use super::topology::operation;
use super::{end_by, is_fatal, reason};
use crate::broker::life::Life;
use crate::broker::{Consume, Consumer, Delivery, Error, Settle, Verdict};

/// Closing a channel takes no longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a consumer; the future returned with it is its work, to be spawned.
pub(super) async fn consume(
    connection: &Connection,
    life: Arc<Life>,
    closing: CancellationToken,
    queue: &str,
    options: Consume,
) -> Result<(Consumer, impl Future<Output = ()> + Send + 'static), Error> {
    let open = async {
        let channel = connection.create_channel().await?;
        if !options.no_ack {
            channel.basic_qos(options.prefetch, BasicQosOptions { global: false }).await?;
        }
        let consume = BasicConsumeOptions { no_ack: options.no_ack, ..BasicConsumeOptions::default() };
        let stream = channel.basic_consume(short(queue), short(""), consume, FieldTable::default()).await?;
        Ok((channel, stream))
    };
    let (channel, stream) = match open.await {
        Ok(open) => open,
        Err(error) if is_fatal(connection.status(), &error) => {
            return Err(end_by(&life, &error).await);
        }
        Err(error) => return Err(operation(format!("consume from queue {queue:?}"), &error, None)),
    };
    let (deliveries_in, deliveries) = mpsc::unbounded_channel();
    let (verdicts_in, verdicts) = mpsc::unbounded_channel();
    let (cancel, cancelled) = oneshot::channel();
    let ended = Arc::<OnceLock<String>>::default();
    let forward = Forward {
        channel: channel.clone(),
        stream,
        deliveries: deliveries_in,
        verdicts: verdicts_in,
        no_ack: options.no_ack,
        ended: Arc::clone(&ended),
    };
    let work = async move {
        let forward = forward.run(Arc::clone(&life), closing.clone(), cancelled);
        join(forward, settle(channel, verdicts, closing, life)).await;
    };
    Ok((Consumer { deliveries, ended, _cancel: cancel }, work))
}

struct Forward {
    channel: Channel,
    stream: lapin::Consumer,
    deliveries: mpsc::UnboundedSender<Delivery>,
    verdicts: mpsc::UnboundedSender<(u64, Verdict)>,
    no_ack: bool,
    /// Why the broker ended it.
    ended: Arc<OnceLock<String>>,
}

impl Forward {
    async fn run(mut self, life: Arc<Life>, closing: CancellationToken, mut cancelled: oneshot::Receiver<()>) {
        let mut stop = pin!(async {
            tokio::select! { _ = life.ended() => {}, () = closing.cancelled() => {} }
        });
        loop {
            tokio::select! {
                biased;
                _ = &mut cancelled => break,
                () = &mut stop => return,
                item = self.stream.next() => match item {
                    // A send fails when the consumer has just been dropped; the delivery dropped with it goes back.
                    Some(Ok(received)) => {
                        if self.deliveries.send(self.delivery(received)).is_err() {
                            break;
                        }
                    }
                    // The channel or the connection is dead.
                    Some(Err(error)) => return drop(self.ended.set(reason(&error))),
                    // The broker cancelled it, and does not say why: the queue was deleted, or moved to another node.
                    None => return,
                },
            }
        }
        let give_back = async {
            let tag = self.stream.tag();
            // If this fails the channel is dead, and everything goes back with it.
            let _ = self.channel.basic_cancel(tag, BasicCancelOptions::default()).await;
            while let Some(Ok(received)) = self.stream.next().await {
                // To whoever waits for the rest; else it is dropped here, and goes back.
                let _ = self.deliveries.send(self.delivery(received));
            }
        };
        tokio::select! {
            () = give_back => {}
            () = stop => {}
        }
    }

    fn delivery(&self, received: lapin::message::Delivery) -> Delivery {
        let to = (!self.no_ack).then(|| self.verdicts.clone());
        Delivery {
            message: convert::message(&received.properties, received.data),
            routing_key: received.routing_key.into(),
            redelivered: received.redelivered,
            settle: Settle { tag: received.delivery_tag, to },
        }
    }
}

/// Sends verdicts, all that wait at a time, until there can be no more; then closes the channel.
async fn settle(
    channel: Channel,
    mut verdicts: mpsc::UnboundedReceiver<(u64, Verdict)>,
    closing: CancellationToken,
    life: Arc<Life>,
) {
    let mut acks = Acks::default();
    let mut batch = Vec::new();
    let mut ended = pin!(life.ended());
    loop {
        tokio::select! {
            biased;
            taken = verdicts.recv_many(&mut batch, 1024) => {
                // Nothing more can come: the consumer is gone and all it handed out is settled.
                if taken == 0 {
                    break;
                }
                if send(&channel, acks.settle(batch.drain(..))).await.is_err() {
                    return;
                }
            }
            () = closing.cancelled() => break,
            _ = &mut ended => return,
        }
    }
    // A dead channel needs no closing, and one that does not answer is closed by the connection's end.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, channel.close(200, short("OK"))).await;
}

async fn send(channel: &Channel, calls: Calls) -> lapin::Result<()> {
    let nack = BasicNackOptions { requeue: true, multiple: false };
    let requeue = calls.requeue.into_iter().map(|tag| channel.basic_nack(tag, nack));
    let single = calls.single.into_iter().map(|tag| channel.basic_ack(tag, BasicAckOptions { multiple: false }));
    // The awaits are for the socket. What was requeued must be out before an ack that covers it.
    tokio::try_join!(try_join_all(requeue), try_join_all(single))?;
    if let Some(tag) = calls.up_to {
        channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}
