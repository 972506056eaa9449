//! Exchanges, queues, consumers and what is unacked: the embedded broker as plain data. Pure: no I/O, no clock, no
//! lock; whoever holds it calls one method at a time, and says when a time that it was told of is over.
//!
//! Invariants: a message of a queue is either ready or in exactly one consumer's `unacked`; `active` lists exactly the
//! consumers of the queue that take deliveries; a consumer with prefetch p holds at most p unacked; what is ready is not
//! overdue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use tokio::sync::mpsc::UnboundedSender;

use super::super::{Consume, Delivery, Error, ExchangeKind, Message, Queue, QueueStatus, Route, Settle, Verdict};

/// A connection, by number.
pub(super) type ConnectionId = u64;
/// A consumer, by number.
pub(super) type ConsumerId = u64;
/// Where a message stands in its queue, and goes back to when it is requeued.
type Position = (Reverse<u8>, u64);

/// A message in a queue.
struct Stored {
    message: Message,
    routing_key: String,
    redelivered: bool,
    /// Its time was over while a consumer had it.
    overdue: bool,
}

struct Exchange {
    kind: ExchangeKind,
    /// Routing key and queue.
    bindings: Vec<(String, String)>,
}

struct QueueState {
    declared: Queue,
    owner: ConnectionId,
    ready: BTreeMap<Position, Stored>,
    /// Whose turn it is comes first.
    active: VecDeque<ConsumerId>,
    /// Counts what restarts the clock of `expires`.
    idle_epoch: u64,
}

struct ConsumerState {
    connection: ConnectionId,
    queue: String,
    options: Consume,
    /// Both `None` once it takes no more deliveries.
    deliveries: Option<UnboundedSender<Delivery>>,
    verdicts: Option<UnboundedSender<(u64, Verdict)>>,
    unacked: BTreeMap<u64, (Position, Stored)>,
    last_tag: u64,
}

impl ConsumerState {
    fn has_room(&self) -> bool {
        let prefetch = usize::from(self.options.prefetch);
        self.options.no_ack || prefetch == 0 || self.unacked.len() < prefetch
    }
}

/// A queue that has no consumer and will expire: what to check when its time is over.
pub(super) struct Idle {
    pub(super) queue: String,
    pub(super) epoch: u64,
    pub(super) expires: std::time::Duration,
}

/// Messages that came to a queue, this one the last, and will expire: what to look for when their time is over.
pub(super) struct Aging {
    queue: String,
    last: u64,
    pub(super) ttl: std::time::Duration,
}

/// Everything there is.
#[derive(Default)]
pub(super) struct State {
    exchanges: BTreeMap<String, Exchange>,
    queues: BTreeMap<String, QueueState>,
    consumers: BTreeMap<ConsumerId, ConsumerState>,
    last_consumer: ConsumerId,
    last_position: u64,
    aging: Vec<Aging>,
}

impl State {
    pub(super) fn declare_exchange(&mut self, name: &str, kind: ExchangeKind) -> Result<(), Error> {
        let exchange = self.exchanges.entry(name.to_owned()).or_insert_with(|| Exchange { kind, bindings: Vec::new() });
        if exchange.kind == kind {
            return Ok(());
        }
        Err(operation(
            format!("declare exchange {name:?}"),
            format!("it is there as {:?}; delete it or ask for that", exchange.kind),
        ))
    }

    pub(super) fn declare_queue(&mut self, owner: ConnectionId, queue: &Queue) -> Result<(), Error> {
        let doing = || format!("declare queue {:?}", queue.name);
        if let Some(there) = self.find(owner, &queue.name, doing)? {
            if there.declared != *queue {
                let reason = format!(
                    "it is there with other arguments ({:?}); delete the queue or declare it with those",
                    there.declared
                );
                return Err(operation(doing(), reason));
            }
            there.idle_epoch += 1;
            return Ok(());
        }
        let state = QueueState {
            declared: queue.clone(),
            owner,
            ready: BTreeMap::new(),
            active: VecDeque::new(),
            idle_epoch: 0,
        };
        self.queues.insert(queue.name.clone(), state);
        Ok(())
    }

    pub(super) fn bind(&mut self, by: ConnectionId, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
        let doing = || format!("bind queue {queue:?} to exchange {exchange:?}");
        if self.find(by, queue, doing)?.is_none() {
            return Err(operation(doing(), "there is no such queue; declare it first".to_owned()));
        }
        let Some(exchange) = self.exchanges.get_mut(exchange) else {
            return Err(operation(doing(), "there is no such exchange; declare it first".to_owned()));
        };
        let binding = (key.to_owned(), queue.to_owned());
        if !exchange.bindings.contains(&binding) {
            exchange.bindings.push(binding);
        }
        Ok(())
    }

    pub(super) fn delete_queue(&mut self, by: ConnectionId, queue: &str) -> Result<(), Error> {
        if self.find(by, queue, || format!("delete queue {queue:?}"))?.is_some() {
            self.drop_queue(queue);
        }
        Ok(())
    }

    pub(super) fn status(&mut self, by: ConnectionId, queue: &str) -> Result<Option<QueueStatus>, Error> {
        let found = self.find(by, queue, || format!("look at queue {queue:?}"))?;
        Ok(found.map(|q| QueueStatus { ready: q.ready.len() as u64, consumers: q.active.len() as u64 }))
    }

    /// Puts the message into the queues it is for; `false` if there is none.
    pub(super) fn publish(&mut self, route: Route, message: Message) -> Result<bool, Error> {
        let mut queues: Vec<String> = if route.exchange.is_empty() {
            self.queues.contains_key(&route.key).then(|| route.key.clone()).into_iter().collect()
        } else {
            let Some(exchange) = self.exchanges.get(&route.exchange) else {
                let doing = super::super::limits::publish_to(&route);
                return Err(operation(doing, "there is no such exchange; declare it first".to_owned()));
            };
            let wanted = exchange.bindings.iter();
            let wanted = wanted.filter(|(key, _)| exchange.kind == ExchangeKind::Fanout || *key == route.key);
            wanted.map(|(_, queue)| queue.clone()).collect()
        };
        queues.sort_unstable();
        queues.dedup();
        let Some(last) = queues.pop() else { return Ok(false) };
        let fresh = |message, routing_key| Stored { message, routing_key, redelivered: false, overdue: false };
        for queue in queues {
            self.enqueue(&queue, fresh(message.clone(), route.key.clone()));
        }
        self.enqueue(&last, fresh(message, route.key));
        Ok(true)
    }

    pub(super) fn consume(
        &mut self,
        connection: ConnectionId,
        queue: &str,
        options: Consume,
        deliveries: UnboundedSender<Delivery>,
        verdicts: UnboundedSender<(u64, Verdict)>,
    ) -> Result<ConsumerId, Error> {
        let doing = || format!("consume from queue {queue:?}");
        let id = self.last_consumer + 1;
        let Some(found) = self.find(connection, queue, doing)? else {
            return Err(operation(doing(), "there is no such queue; declare it first".to_owned()));
        };
        found.active.push_back(id);
        found.idle_epoch += 1;
        self.last_consumer = id;
        self.consumers.insert(
            id,
            ConsumerState {
                connection,
                queue: queue.to_owned(),
                options,
                deliveries: Some(deliveries),
                verdicts: Some(verdicts),
                unacked: BTreeMap::new(),
                last_tag: 0,
            },
        );
        self.dispatch(queue);
        Ok(id)
    }

    /// Settles deliveries of a consumer. Those it does not hold (any more) are ignored.
    pub(super) fn settle(&mut self, id: ConsumerId, verdicts: &[(u64, Verdict)]) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let queue = consumer.queue.clone();
        let held = verdicts.iter().filter_map(|(tag, verdict)| Some((consumer.unacked.remove(tag)?, verdict)));
        let back = held.filter(|(_, verdict)| **verdict == Verdict::Requeue).map(|(held, _)| held).collect();
        self.put_back(&queue, back);
    }

    /// No more deliveries for this consumer; what it holds can still be settled.
    pub(super) fn cancel(&mut self, id: ConsumerId) -> Option<Idle> {
        let queue = self.stop(id)?;
        // Where only one of them is active it is the next one's turn.
        self.dispatch(&queue);
        self.idle(&queue)
    }

    /// Forgets a consumer; what it holds goes back, before it is another one's turn.
    pub(super) fn remove_consumer(&mut self, id: ConsumerId) -> Option<Idle> {
        let queue = self.stop(id);
        let consumer = self.consumers.remove(&id)?;
        self.put_back(&consumer.queue, consumer.unacked.into_values().collect());
        self.idle(&queue?)
    }

    /// A consumer takes no more. The name of its queue, if that is there.
    fn stop(&mut self, id: ConsumerId) -> Option<String> {
        let consumer = self.consumers.get_mut(&id)?;
        consumer.deliveries = None;
        consumer.verdicts = None;
        let queue = self.queues.get_mut(&consumer.queue)?;
        queue.active.retain(|&active| active != id);
        queue.idle_epoch += 1;
        Some(consumer.queue.clone())
    }

    /// The end of a connection: its exclusive queues go, what its consumers hold goes back.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Vec<Idle> {
        let exclusive = self.queues.iter().filter(|(_, q)| q.declared.exclusive && q.owner == connection);
        for name in exclusive.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.drop_queue(&name);
        }
        let consumers = self.consumers.iter().filter(|(_, c)| c.connection == connection).map(|(id, _)| *id);
        let mut consumers: Vec<ConsumerId> = consumers.collect();
        // All stop taking before anything goes back, else one would be given what another of them held.
        consumers.sort_unstable();
        consumers.iter().for_each(|&id| drop(self.stop(id)));
        consumers.into_iter().filter_map(|id| self.remove_consumer(id)).collect()
    }

    /// The broker restarts: what is transient goes. All connections have ended before.
    pub(super) fn restart(&mut self) {
        self.queues.values_mut().for_each(|queue| queue.ready.retain(|_, stored| stored.message.persistent));
    }

    /// What is in each queue: ready, and delivered but not settled.
    pub(super) fn contents(&self) -> Vec<(String, usize, usize)> {
        let unacked = |name: &str| self.consumers.values().filter(|c| c.queue == name).map(|c| c.unacked.len()).sum();
        self.queues.iter().map(|(name, queue)| (name.clone(), queue.ready.len(), unacked(name))).collect()
    }

    /// What to wait for, if the queue expires and has no consumer.
    pub(super) fn idle(&self, queue: &str) -> Option<Idle> {
        let state = self.queues.get(queue)?;
        let expires = state.declared.expires.filter(|_| state.active.is_empty())?;
        Some(Idle { queue: queue.to_owned(), epoch: state.idle_epoch, expires })
    }

    /// The time of `idle` is over: deletes the queue unless somebody came meanwhile.
    pub(super) fn expire(&mut self, idle: &Idle) {
        if self.queues.get(&idle.queue).is_some_and(|q| q.idle_epoch == idle.epoch && q.active.is_empty()) {
            self.drop_queue(&idle.queue);
        }
    }

    /// The messages that will expire since this was called last.
    pub(super) fn take_aging(&mut self) -> Vec<Aging> {
        std::mem::take(&mut self.aging)
    }

    /// The time of `aging` is over, and so is that of all that came to its queue before: what is ready is dead-lettered, in the
    /// queue's order; what a consumer has, when it comes back.
    pub(super) fn overdue(&mut self, aging: &Aging) {
        let Some(queue) = self.queues.get_mut(&aging.queue) else { return };
        let is_due = |position: &Position| position.1 <= aging.last;
        let due: Vec<Position> = queue.ready.keys().filter(|position| is_due(position)).copied().collect();
        let due: Vec<Stored> = due.iter().filter_map(|position| queue.ready.remove(position)).collect();
        let consumers = self.consumers.values_mut().filter(|consumer| consumer.queue == aging.queue);
        let held = consumers.flat_map(|consumer| consumer.unacked.values_mut());
        held.filter(|(position, _)| is_due(position)).for_each(|(_, stored)| stored.overdue = true);
        due.into_iter().for_each(|stored| self.dead_letter(&aging.queue, stored.message));
    }

    /// The message goes where the dead letters of its queue go, if anywhere.
    fn dead_letter(&mut self, queue: &str, mut message: Message) {
        let Some(to) = self.queues.get(queue).and_then(|queue| queue.declared.dead_letter.clone()) else { return };
        for (name, value) in [("x-first-death-queue", queue), ("x-first-death-reason", "expired")] {
            if !message.headers.iter().any(|(given, _)| given == name) {
                message.headers.push((name.to_owned(), value.to_owned()));
            }
        }
        // As with RabbitMQ, an exchange that is not there is the end of it.
        drop(self.publish(to, message));
    }

    /// What a consumer had goes back to its places.
    fn put_back(&mut self, name: &str, held: Vec<(Position, Stored)>) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        let (overdue, back): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, stored)| stored.overdue);
        queue.ready.extend(back.into_iter().map(|(at, stored)| (at, Stored { redelivered: true, ..stored })));
        self.dispatch(name);
        overdue.into_iter().for_each(|(_, stored)| self.dead_letter(name, stored.message));
    }

    fn find(
        &mut self,
        by: ConnectionId,
        queue: &str,
        doing: impl Fn() -> String,
    ) -> Result<Option<&mut QueueState>, Error> {
        match self.queues.get_mut(queue) {
            Some(found) if found.declared.exclusive && found.owner != by => {
                Err(operation(doing(), "it is exclusive to another connection".to_owned()))
            }
            found => Ok(found),
        }
    }

    fn drop_queue(&mut self, name: &str) {
        let Some(queue) = self.queues.remove(name) else { return };
        for id in queue.active {
            if let Some(consumer) = self.consumers.get_mut(&id) {
                consumer.deliveries = None;
                consumer.verdicts = None;
            }
        }
        // Not into a later queue of the same name.
        self.consumers.values_mut().filter(|c| c.queue == name).for_each(|c| c.unacked.clear());
        self.exchanges.values_mut().for_each(|exchange| exchange.bindings.retain(|(_, queue)| queue != name));
    }

    fn enqueue(&mut self, name: &str, stored: Stored) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        self.last_position += 1;
        let priority = stored.message.priority.min(queue.declared.max_priority.unwrap_or(0));
        queue.ready.insert((Reverse(priority), self.last_position), stored);
        if let Some(ttl) = queue.declared.message_ttl {
            self.aging.push(Aging { queue: name.to_owned(), last: self.last_position, ttl });
        }
        self.dispatch(name);
    }

    /// Hands out what is ready, one to each consumer with room, in turn.
    fn dispatch(&mut self, name: &str) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        while !queue.ready.is_empty() {
            let consumers = &self.consumers;
            let only = queue.active.iter().min().filter(|_| queue.declared.single_active);
            let mut turns = queue.active.iter();
            let turn = turns.position(|id| {
                only.is_none_or(|only| only == id) && consumers.get(id).is_some_and(ConsumerState::has_room)
            });
            let Some(turn) = turn else { return };
            queue.active.rotate_left(turn);
            let Some(id) = queue.active.pop_front() else { return };
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            let Some((position, stored)) = queue.ready.pop_first() else { return };
            match consumer.deliver(position, stored) {
                None => queue.active.push_back(id),
                // It has just been dropped, and its cancel is on the way: it gets no further turn.
                Some(stored) => drop(queue.ready.insert(position, stored)),
            }
        }
    }
}

impl ConsumerState {
    /// Gives the message back if nobody takes it.
    fn deliver(&mut self, position: Position, stored: Stored) -> Option<Stored> {
        let Some(deliveries) = &self.deliveries else { return Some(stored) };
        let tag = self.last_tag + 1;
        let to = if self.options.no_ack { None } else { self.verdicts.clone() };
        let kept = (!self.options.no_ack).then(|| Stored {
            message: stored.message.clone(),
            routing_key: stored.routing_key.clone(),
            redelivered: stored.redelivered,
            overdue: false,
        });
        let Stored { message, routing_key, redelivered, .. } = stored;
        let delivery = Delivery { message, routing_key, redelivered, settle: Settle { tag, to } };
        if let Err(refused) = deliveries.send(delivery) {
            let Delivery { message, routing_key, redelivered, mut settle } = refused.0;
            settle.to = None;
            return Some(Stored { message, routing_key, redelivered, overdue: false });
        }
        self.last_tag = tag;
        if let Some(kept) = kept {
            self.unacked.insert(tag, (position, kept));
        }
        None
    }
}

fn operation(operation: String, reason: String) -> Error {
    Error::Operation { operation, reason }
}
