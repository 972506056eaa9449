//! What goes between a consumer and the broker over a network with faults: deliveries in, acks and the cancel out.
//!
//! Must not touch: what befalls a line. Invariants: deliveries keep their order, and so do acks; after the death of the channel
//! or the line neither passes.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::network::{Line, Underway, due};
use super::state::ConsumerId;
use super::{Consume, Consumer, Verdict, expire_later};
use crate::broker::Delivery;

pub(super) struct Ferry {
    line: Arc<Line>,
    id: ConsumerId,
    has_acks: bool,
    /// From the broker; `None` after the last one.
    deliveries: Option<mpsc::UnboundedReceiver<Delivery>>,
    /// On their way to the consumer,
    inward: Underway<Delivery>,
    /// and there; `None` when it has its last one.
    out: Option<mpsc::UnboundedSender<Delivery>>,
    /// From the consumer; `None` when there can be no more.
    verdicts: Option<mpsc::UnboundedReceiver<(u64, Verdict)>>,
    /// The consumer wants no more; `None` once that is known.
    cancelled: Option<oneshot::Receiver<()>>,
    cancel_arrives: Option<Instant>,
}

enum Step {
    Cut,
    Close,
    Verdict(Option<(u64, Verdict)>),
    Cancel,
    Delivery(Option<Delivery>),
    Time,
}

impl Ferry {
    /// Starts to run between the broker's consumer `id` and the consumer that this gives.
    pub(super) fn start(
        line: Arc<Line>,
        id: ConsumerId,
        options: Consume,
        deliveries: mpsc::UnboundedReceiver<Delivery>,
        verdicts: mpsc::UnboundedReceiver<(u64, Verdict)>,
    ) -> Consumer {
        let (out, delivered) = mpsc::unbounded_channel();
        let (cancel, cancelled) = oneshot::channel();
        let ferry = Ferry {
            line: line.clone(),
            id,
            has_acks: !options.no_ack,
            deliveries: Some(deliveries),
            inward: Underway::new(),
            out: Some(out),
            verdicts: Some(verdicts),
            cancelled: Some(cancelled),
            cancel_arrives: None,
        };
        line.ferries.spawn(ferry.run());
        Consumer { deliveries: delivered, ended: Arc::default(), _cancel: cancel }
    }

    async fn run(mut self) {
        loop {
            match self.step().await {
                Step::Cut => return self.cut_off().await,
                Step::Close => return self.goodbye(),
                Step::Verdict(Some(verdict)) => {
                    self.line.ack(self.id, verdict);
                    if self.line.movement(true).1 {
                        return self.die().await;
                    }
                }
                Step::Verdict(None) => self.verdicts = None,
                Step::Cancel => {
                    let (way, _) = self.line.movement(false);
                    (self.cancelled, self.cancel_arrives) = (None, Some(Instant::now() + way));
                }
                Step::Delivery(Some(delivery)) => {
                    let (way, dies) = self.line.movement(self.has_acks);
                    if dies {
                        return self.die().await;
                    }
                    self.inward.push_back((due(&self.inward, way), delivery));
                }
                Step::Delivery(None) => self.deliveries = None,
                Step::Time => {}
            }
            self.arrivals();
            if self.is_over() {
                self.forget();
                return;
            }
        }
    }

    /// The next thing that happens.
    async fn step(&mut self) -> Step {
        let acks = self.line.next_ack(self.id);
        let due = [acks, self.inward.front().map(|(due, _)| *due), self.cancel_arrives].into_iter().flatten().min();
        let Ferry { line, verdicts, cancelled, deliveries, .. } = self;
        tokio::select! {
            // In this order, so that an ack given before the close counts.
            biased;
            () = line.cut.cancelled() => Step::Cut,
            verdict = async { verdicts.as_mut()?.recv().await }, if verdicts.is_some() => Step::Verdict(verdict),
            () = line.closing.cancelled() => Step::Close,
            () = async { if let Some(it) = cancelled.as_mut() { drop(it.await) } }, if cancelled.is_some() => Step::Cancel,
            delivery = async { deliveries.as_mut()?.recv().await }, if deliveries.is_some() => Step::Delivery(delivery),
            () = async { if let Some(due) = due { until(due).await } }, if due.is_some() => Step::Time,
        }
    }

    /// What has come to the end of its way by now.
    fn arrivals(&mut self) {
        let now = Instant::now();
        self.line.settle(self.id, None);
        if self.cancel_arrives.take_if(|due| *due <= now).is_some() {
            self.line.network.note(format_args!("{} consumer {} is cancelled", self.line, self.id));
            let idle = self.line.network.broker.state().cancel(self.id);
            idle.into_iter().for_each(|idle| self.expire(idle));
        }
        while self.inward.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, delivery)) = self.inward.pop_front() else { break };
            let id = delivery.message.correlation_id.as_deref().unwrap_or_default();
            let (key, again) = (&delivery.routing_key, if delivery.redelivered { " again" } else { "" });
            self.line.network.note(format_args!(
                "{} consumer {} gets {}{again} from {key} {id}",
                self.line, self.id, delivery.settle.tag
            ));
            if delivery.redelivered {
                self.line.network.count("message redelivered");
            }
            if let Some(out) = &self.out {
                // Dropped if nobody takes it, and goes back.
                let _ = out.send(delivery);
            }
        }
        if self.deliveries.is_none() && self.inward.is_empty() {
            self.out = None;
        }
    }

    fn is_over(&self) -> bool {
        self.verdicts.is_none() && self.out.is_none() && self.line.next_ack(self.id).is_none()
    }

    /// The broker forgets the consumer; what it holds goes back.
    fn forget(&self) {
        let idle = self.line.network.broker.change(&self.line.runtime, |state| state.remove_consumer(self.id));
        idle.into_iter().for_each(|idle| self.expire(idle));
    }

    fn expire(&self, idle: super::Idle) {
        expire_later(&self.line.runtime, &self.line.network.broker, idle);
    }

    /// The line is cut: its program gets nothing more, and sees the end when it sees that of the line.
    async fn cut_off(mut self) {
        // First: what is on its way does not go back from here.
        self.verdicts = None;
        self.line.life.ended().await;
        self.out = None;
        // Until it sees the end, too, the broker delivers to nobody.
        self.line.gone.cancelled().await;
    }

    /// The line is closed in order: what was said before that counts.
    fn goodbye(mut self) {
        if let Some(verdicts) = &mut self.verdicts {
            while let Ok(verdict) = verdicts.try_recv() {
                self.line.ack(self.id, verdict);
            }
        }
        self.verdicts = None;
        self.line.settle(self.id, Some(usize::MAX));
    }

    /// The channel dies: the consumer ends, its connection does not.
    async fn die(mut self) {
        self.line.network.count("channel closed");
        self.line.network.note(format_args!("{} consumer {} loses its channel", self.line, self.id));
        self.line.settle_some(self.id);
        self.verdicts = None;
        self.forget();
        let (way, _) = self.line.movement(false);
        tokio::select! { biased; () = self.line.cut.cancelled() => {}, () = self.line.closing.cancelled() => {}, () = sleep(way) => {} }
        if self.line.cut.is_cancelled() {
            self.line.life.ended().await;
        }
    }
}

async fn until(due: Instant) {
    if due > Instant::now() {
        sleep_until(due).await;
    }
}
