//! Publishing: one channel in confirm mode, messages started in order and confirmed in any.
//!
//! [`Publisher::publish`] gives a message to lapin and returns; one task ([`Confirms`]) waits for what becomes of them
//! all. Invariants: ids rise in the order of publishing; each message is answered once; at most [`WRITE_WINDOW`] bytes
//! wait for the socket.
//!
//! Two traps of lapin are dodged in here. It gives a returned message to *some* publish of the batch that one confirm
//! settles, not to its own: so each message carries an id, and who got which return is sorted out when the batch is
//! complete. And an error on the channel (a message too long for the broker) fails everything in flight on it: so the
//! one that is to blame is found, and the others are published again on a new channel (at least once).
//!
//! A third: lapin writes the frames of publishes after those of everything else, so what waits for the socket when the
//! broker closes the channel may follow the close-ok, which ends the connection ("expected 'channel.open'"). So a message
//! that may be too long for a broker is alone: nothing is given to lapin after it until it is answered. A broker that
//! takes less than [`INLINE_MAX`] may still cost the connection, which is lost like any other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::convert::{properties, short};
use super::{INLINE_MAX, end_by, is_fatal, reason};
use crate::broker::life::Life;
use crate::broker::limits::publish_to;
use crate::broker::{Confirm, Error, Message, Published, Route, concat};

/// Bytes given to lapin and not yet written. Enough to keep the socket busy; lapin holds a copy of them.
const WRITE_WINDOW: usize = 16 * 1024 * 1024;
/// What a message costs in the window besides its body.
const MESSAGE_BYTES: usize = 512;
/// [`Publisher::close`] waits no longer for confirms.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A message on its way, until it is confirmed.
struct Entry {
    id: u64,
    route: Route,
    /// With its body in one piece.
    message: Message,
    answer: oneshot::Sender<Result<Published, Error>>,
    /// Of the window, until the message is written, or answered if it [is alone](is_alone).
    permit: Option<OwnedSemaphorePermit>,
}

type Flight = BoxFuture<'static, (Entry, lapin::Result<Confirmation>)>;

enum Job {
    /// Given to lapin.
    Flying(Flight),
    /// There is no channel just now: to be started on the next one.
    Waiting(Box<Entry>),
}

/// Held while a message is given to lapin, so that ids, jobs and frames have one order.
struct Sending {
    channel: Option<Channel>,
    last_id: u64,
    jobs: mpsc::UnboundedSender<Job>,
}

/// The publishing side of a connection.
pub(super) struct Publisher {
    life: Arc<Life>,
    sending: Arc<Mutex<Sending>>,
    window: Arc<Semaphore>,
    blocked: watch::Receiver<Option<String>>,
    closing: CancellationToken,
    /// Closed when the task has ended.
    done: CancellationToken,
}

impl Publisher {
    /// Opens the channel and starts the task.
    pub(super) async fn start(
        connection: Arc<lapin::Connection>,
        life: Arc<Life>,
        blocked: watch::Receiver<Option<String>>,
    ) -> lapin::Result<Self> {
        let channel = open(&connection).await?;
        let (jobs_in, jobs) = mpsc::unbounded_channel();
        let sending = Arc::new(Mutex::new(Sending { channel: Some(channel.clone()), last_id: 0, jobs: jobs_in }));
        let closing = CancellationToken::new();
        let done = CancellationToken::new();
        let confirms = Confirms {
            connection,
            channel,
            life: Arc::clone(&life),
            sending: Arc::clone(&sending),
            jobs,
            flights: FuturesUnordered::new(),
            returned: HashSet::new(),
            closing: closing.clone(),
        };
        let (ended, guard) = (Arc::clone(&life), done.clone().drop_guard());
        tokio::spawn(async move {
            let _guard = guard;
            tokio::select! {
                () = confirms.run() => {}
                _ = ended.ended() => {}
            }
        });
        let window = Arc::new(Semaphore::new(WRITE_WINDOW));
        Ok(Publisher { life, sending, window, blocked, closing, done })
    }

    /// Gives a message to lapin, when there is room and the broker takes messages.
    pub(super) async fn publish(&self, route: &Route, mut message: Message) -> Result<Confirm, Error> {
        self.life.check()?;
        let body = concat(std::mem::take(&mut message.body));
        let cost = if is_alone(body.len()) { WRITE_WINDOW } else { body.len() + MESSAGE_BYTES } as u32;
        message.body.push(body);
        let permit = tokio::select! {
            permit = self.room(cost) => permit,
            lost = self.life.ended() => return Err(lost),
        };
        let (answer, answered) = oneshot::channel();
        {
            let mut sending = self.sending.lock().await;
            sending.last_id += 1;
            let entry = Entry { id: sending.last_id, route: route.clone(), message, answer, permit };
            let job = match &sending.channel {
                Some(channel) => Job::Flying(start(channel, entry)),
                None => Job::Waiting(Box::new(entry)),
            };
            // Fails when the connection is dead; the answer says so.
            let _ = sending.jobs.send(job);
        }
        let life = Arc::clone(&self.life);
        Ok(Confirm(Box::pin(async move {
            match answered.await {
                Ok(answer) => answer,
                Err(_) => Err(life.ended().await),
            }
        })))
    }

    async fn room(&self, cost: u32) -> Option<OwnedSemaphorePermit> {
        if self.blocked.borrow().is_some() {
            // Fails when the connection is dead, which the caller waits for, too.
            let _ = self.blocked.clone().wait_for(Option::is_none).await;
        }
        // The semaphore is never closed.
        Arc::clone(&self.window).acquire_many_owned(cost).await.ok()
    }

    /// Waits for what is in flight, for a while, and closes the channel.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT * 2, self.done.cancelled()).await;
    }
}

/// Whether a message of so many bytes has the whole window until it is answered. None of ours is so long.
fn is_alone(bytes: usize) -> bool {
    bytes > INLINE_MAX
}

async fn open(connection: &lapin::Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Gives a message to lapin: its first poll numbers it and queues its frames.
fn start(channel: &Channel, mut entry: Entry) -> Flight {
    let channel = channel.clone();
    let mut flight: Flight = Box::pin(async move {
        let properties = properties(&entry.message, entry.id);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, key) = (short(&entry.route.exchange), short(&entry.route.key));
        let body: &[u8] = entry.message.body.first().map_or(&[], |body| body);
        let written = channel.basic_publish(exchange, key, options, body, properties).await;
        if !is_alone(body.len()) {
            entry.permit = None;
        }
        let confirmation = match written {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        (entry, confirmation)
    });
    match (&mut flight).now_or_never() {
        Some(ended) => Box::pin(std::future::ready(ended)),
        None => flight,
    }
}

/// The task that waits for confirms.
struct Confirms {
    connection: Arc<lapin::Connection>,
    channel: Channel,
    life: Arc<Life>,
    sending: Arc<Mutex<Sending>>,
    jobs: mpsc::UnboundedReceiver<Job>,
    flights: FuturesUnordered<Flight>,
    /// Ids of messages that came back, until their confirm is there, too.
    returned: HashSet<u64>,
    closing: CancellationToken,
}

impl Confirms {
    async fn run(mut self) {
        let closing = self.closing.clone();
        loop {
            let ended = tokio::select! {
                Some(ended) = self.flights.next() => ended,
                Some(job) = self.jobs.recv() => {
                    self.take(job);
                    continue;
                }
                () = closing.cancelled() => break,
            };
            let batch = self.batch(ended).await;
            if self.answer(batch).await.is_err() {
                return;
            }
        }
        // Published before the close, and perhaps not taken yet.
        while let Ok(job) = self.jobs.try_recv() {
            self.take(job);
        }
        let finish = async {
            while let Some(ended) = self.flights.next().await {
                let batch = self.batch(ended).await;
                if self.answer(batch).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, finish).await;
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.channel.close(200, short("OK"))).await;
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Flying(flight) => self.flights.push(flight),
            // Only while `renew` has taken the channel away, and it takes these itself.
            Job::Waiting(entry) => self.flights.push(start(&self.channel, *entry)),
        }
    }

    /// All that has ended by now; at least the whole batch of confirms that `first` came with.
    async fn batch(
        &mut self,
        first: (Entry, lapin::Result<Confirmation>),
    ) -> Vec<(Entry, lapin::Result<Confirmation>)> {
        // lapin settles a batch under the lock that this call takes, before it would wait for something (it does not).
        let _ = self.channel.wait_for_confirms().now_or_never();
        // What is confirmed was given to lapin, and what was given to lapin is in `jobs` once this lock is had.
        let sending = Arc::clone(&self.sending);
        let sending = sending.lock().await;
        while let Ok(job) = self.jobs.try_recv() {
            self.take(job);
        }
        drop(sending);
        let mut batch = vec![first];
        while let Some(Some(ended)) = self.flights.next().now_or_never() {
            batch.push(ended);
        }
        batch
    }

    async fn answer(&mut self, mut batch: Vec<(Entry, lapin::Result<Confirmation>)>) -> Result<(), Error> {
        self.note_returned(&batch);
        if batch.iter().any(|(_, ended)| ended.is_err()) {
            return self.renew(batch).await;
        }
        batch.drain(..).for_each(|(entry, ended)| self.answer_confirmed(entry, ended));
        Ok(())
    }

    fn note_returned(&mut self, batch: &[(Entry, lapin::Result<Confirmation>)]) {
        for (_, ended) in batch {
            if let Ok(Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back))) = ended {
                let id: Option<u64> =
                    back.delivery.properties.message_id().as_ref().and_then(|id| id.as_str().parse().ok());
                self.returned.extend(id);
            }
        }
    }

    fn answer_confirmed(&mut self, entry: Entry, ended: lapin::Result<Confirmation>) {
        let answer = match ended {
            _ if self.returned.remove(&entry.id) => Ok(Published::Unroutable),
            Ok(Confirmation::Ack(_)) => Ok(Published::Routed),
            _ => Err(Error::Nacked { operation: publish_to(&entry.route) }),
        };
        // Nobody need wait for a confirm.
        let _ = entry.answer.send(answer);
    }

    /// After an error on the channel: answers those to blame, and publishes the others again on a new channel.
    async fn renew(&mut self, mut batch: Vec<(Entry, lapin::Result<Confirmation>)>) -> Result<(), Error> {
        let sending = Arc::clone(&self.sending);
        {
            let mut sending = sending.lock().await;
            sending.channel = None;
            while let Ok(job) = self.jobs.try_recv() {
                self.take(job);
            }
        }
        // The channel is dead, so all of these end.
        while let Some(ended) = self.flights.next().await {
            batch.push(ended);
        }
        self.note_returned(&batch);
        let mut failed = Vec::new();
        let mut errors = Vec::new();
        for (entry, ended) in batch {
            match ended {
                Ok(_) => self.answer_confirmed(entry, ended),
                Err(error) => {
                    failed.push(entry);
                    errors.push(error);
                }
            }
        }
        let status = self.connection.status();
        let cause = errors.iter().find(|error| error.is_amqp_soft_error()).map(reason);
        if let Some(cause) = &cause {
            failed = answer_blamed(failed, cause);
        }
        if let Some(error) = errors.iter().find(|error| is_fatal(status, error)) {
            return Err(end_by(&self.life, error).await);
        }
        // No cause is known: publishing again might go on for ever.
        if cause.is_none() {
            let reason = errors.first().map_or_else(String::new, reason);
            failed.drain(..).for_each(|entry| refuse(entry, &reason));
        }
        match open(&self.connection).await {
            Ok(channel) => self.channel = channel,
            Err(error) => return Err(end_by(&self.life, &error).await),
        }
        let mut sending = sending.lock().await;
        while let Ok(job) = self.jobs.try_recv() {
            match job {
                Job::Waiting(entry) => failed.push(*entry),
                Job::Flying(flight) => self.flights.push(flight),
            }
        }
        failed.sort_unstable_by_key(|entry| entry.id);
        failed.into_iter().for_each(|entry| self.flights.push(start(&self.channel, entry)));
        sending.channel = Some(self.channel.clone());
        Ok(())
    }
}

/// Answers the messages that made the broker close the channel; gives back the others.
fn answer_blamed(failed: Vec<Entry>, cause: &str) -> Vec<Entry> {
    let bytes = |entry: &Entry| entry.message.body_bytes();
    let number = |before: &str| {
        let digits = cause.split_once(before)?.1;
        digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())].parse::<usize>().ok()
    };
    // "message size 17825792 is larger than configured max size 16777216", 3.8 to 4.3.
    if let (Some(_), Some(limit)) = (number("message size "), number("max size ")) {
        let (long, innocent): (Vec<_>, Vec<_>) = failed.into_iter().partition(|entry| bytes(entry) > limit);
        for entry in long {
            let error = Error::MessageTooLarge { bytes: bytes(&entry), reason: cause.to_owned() };
            let _ = entry.answer.send(Err(error));
        }
        return innocent;
    }
    // "no exchange 'x' in vhost '/'", "write access to exchange 'x' in vhost '/' refused for user 'y'".
    let exchange = |entry: &Entry| match entry.route.exchange.as_str() {
        "" => cause.contains("'amq.default'") || cause.contains("exchange ''") || cause.contains("default exchange"),
        name => cause.contains(&format!("exchange '{name}'")),
    };
    let (mut blamed, mut innocent): (Vec<_>, Vec<_>) = failed.into_iter().partition(exchange);
    if blamed.is_empty() {
        std::mem::swap(&mut blamed, &mut innocent);
    }
    blamed.into_iter().for_each(|entry| refuse(entry, cause));
    innocent
}

fn refuse(entry: Entry, reason: &str) {
    let (operation, reason) = (publish_to(&entry.route), reason.to_owned());
    let forbidden = reason.starts_with("ACCESS_REFUSED");
    let error = if forbidden { Error::Forbidden { operation, reason } } else { Error::Operation { operation, reason } };
    let _ = entry.answer.send(Err(error));
}
