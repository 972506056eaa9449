//! Detached tasks: into the spool, from there to the pool as it has room, and their outcomes back into the spool.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use jiff::Timestamp;

use super::super::budget::Reservation;
use super::super::form::Submission;
use super::super::kinds;
use super::super::problem::Problem;
use super::super::spool::{AnswerHead, Found, Idempotency, OutcomeRecord, SpoolError, TaskRecord};
use super::entry::{Answer, Birth, Ended, Entry, Kept, Phase, deadline};
use super::table::Known;
use super::{Keep, Tasks};
use crate::boss::{Receipt, Submit};
use crate::task::{Blob, Encoded, Outcome, TaskError, TaskId};

/// Between looks for what has expired.
const SWEEP: Duration = Duration::from_secs(1);

/// A task whose payload can't be read from the disk at the moment is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// How a task has ended whose answer is on the disk, and what is to be put there.
fn as_spooled(outcome: &Outcome<Blob>) -> (Ended, Vec<bytes::Bytes>) {
    match &outcome.result {
        Err(error) => (Ended::made(outcome, Err(error.clone())), Vec::new()),
        Ok(blob) => {
            let (format, params, payload_bytes) = (blob.format, blob.params.clone(), blob.payload_bytes());
            let answer = Answer::Spooled { format, params, payload_bytes };
            (Ended::made(outcome, Ok(answer)), blob.payload.clone())
        }
    }
}

impl Tasks {
    /// Puts a task into the spool; the pool gets it when it has room. The same submission with the same key is the same
    /// task, and true says that it was there.
    pub(in super::super) async fn detach(
        &self,
        task: Submission,
        key: Option<String>,
    ) -> Result<(Arc<Entry>, bool), Problem> {
        let id = TaskId::random();
        let idempotency = key.clone().map(|key| Idempotency { key, fingerprint: fingerprint(&task) });
        let _claim = match &idempotency {
            None => None,
            Some(Idempotency { key, fingerprint }) => match self.table().claim(key, *fingerprint, id) {
                Known::New => Some(Claim { tasks: self, key, task: id }),
                Known::Task(entry) => return Ok((entry, true)),
                Known::Coming => {
                    return Err(conflict("the first request with this Idempotency-Key is still on its way"));
                }
                Known::Other(other) => return Err(other_task(other)),
            },
        };
        let Submission { kind, encoded, wishes, reservation } = task;
        let deadline = wishes.deadline.and_then(deadline);
        let birth = Birth { priority: wishes.priority, deadline, key, ..Birth::new(id, kind, &encoded) };
        let record = Arc::new(record(&birth, &encoded, idempotency.clone()));
        self.spool.put(record, encoded.blob.payload).await.map_err(|error| problem(&error))?;
        drop(reservation);
        let entry = self.table().enter(birth, Phase::Waiting, Kept::Yes);
        self.metrics.submitted(&kind.kind());
        self.waiting.notify_one();
        Ok((entry, false))
    }

    /// Puts an attached task into the spool, whose client will come back for it.
    pub(in super::super) async fn keep(&self, entry: &Entry) -> Result<Keep, Problem> {
        let Some(task) = entry.task() else { return Ok(Keep::Ended(entry.ended().await)) };
        let record = Arc::new(record(&entry.birth, &task, None));
        self.spool.put(record, task.blob.payload).await.map_err(|error| problem(&error))?;
        match entry.keep() {
            Ok(()) => Ok(Keep::Kept),
            Err(ended) => {
                let removed = self.spool.remove(entry.id()).await;
                removed.map_err(|error| problem(&error))?;
                Ok(Keep::Ended(ended))
            }
        }
    }

    /// What an earlier bridge has left.
    pub(in super::super) fn recover(&self, found: Vec<Found>) {
        let (mut waiting, mut ended) = (0, 0);
        for Found { task, outcome } in found {
            let Ok(kind) = kinds::find(&task.kind) else {
                tracing::warn!(task = %task.id, kind = task.kind, "left a task of an unknown kind in the spool");
                continue;
            };
            let phase = match outcome {
                None => Phase::Waiting,
                Some(outcome) => Phase::Ended(Arc::new(ended_before(outcome))),
            };
            *if matches!(phase, Phase::Waiting) { &mut waiting } else { &mut ended } += 1;
            let birth = Birth {
                id: task.id,
                kind,
                params: task.params.clone(),
                format: task.format,
                flops: task.flops,
                payload_bytes: task.payload_bytes,
                answer_bytes: task.answer_bytes,
                created: from_unix_ms(task.created_unix_ms),
                deadline: task.deadline_unix_ms.map(from_unix_ms),
                priority: task.priority,
                key: task.idempotency.as_ref().map(|idempotency| idempotency.key.clone()),
            };
            let mut table = self.table();
            if let Some(Idempotency { key, fingerprint }) = &task.idempotency {
                table.claim(key, *fingerprint, task.id);
            }
            table.enter_again(birth, phase);
        }
        if waiting + ended > 0 {
            tracing::info!(waiting, ended, "found detached tasks of an earlier run");
        }
    }

    /// Sends what waits, as there is room, until the bridge stops.
    pub(in super::super) async fn dispatch(self: Arc<Self>) {
        self.caught_up().await;
        loop {
            let next = self.table().next_waiting();
            let Some(entry) = next else {
                self.waiting.notified().await;
                continue;
            };
            let bytes = entry.birth.payload_bytes.saturating_add(entry.birth.answer_bytes);
            let reservation = tokio::select! {
                reservation = self.budget.reserve_in_background(bytes) => Arc::new(reservation),
                // Another goes first, or this one was cancelled.
                () = self.waiting.notified() => continue,
            };
            // One of higher priority may have come meanwhile, or this one was cancelled.
            let next = self.table().next_waiting();
            let Some(entry) = next.filter(|next| next.id() == entry.id()) else { continue };
            if entry.birth.deadline.is_some_and(|at| at <= Timestamp::now()) {
                self.end_waiting(&entry, TaskError::DeadlineExceeded).await;
                continue;
            }
            match self.spool.payload(entry.id()).await {
                Ok(payload) => self.dispatch_one(entry, payload, reservation).await,
                Err(error @ (SpoolError::Damaged { .. } | SpoolError::Unknown { .. })) => {
                    self.end_waiting(&entry, TaskError::Refused(error.to_string())).await;
                    // Removed meanwhile, it has ended before.
                    self.table().taken(&entry);
                }
                Err(error) => {
                    tracing::error!(%error, task = %entry.id(), "can't read a detached task; others go on, and it is tried again");
                    self.table().taken(&entry);
                    tokio::spawn(wait_again(Arc::downgrade(&self), entry));
                }
            }
        }
    }

    async fn dispatch_one(self: &Arc<Self>, entry: Arc<Entry>, payload: bytes::Bytes, reservation: Arc<Reservation>) {
        let birth = &entry.birth;
        let blob = Blob { format: birth.format, params: birth.params.clone(), payload: vec![payload] };
        let encoded = Encoded { blob, shared: false, flops: birth.flops, answer_bytes: birth.answer_bytes };
        let left = birth.deadline.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
        let how = Submit { format: birth.format, deadline: left, priority: birth.priority };
        let room = self.boss.reserve(birth.payload_bytes, birth.answer_bytes).await;
        let sent = entry.sent(|| {
            let ticket = room.submit_kept(birth.id, &birth.kind.kind(), encoded, how, entry.came_before);
            let handle = ticket.handle();
            (ticket, handle)
        });
        self.table().taken(&entry);
        if let Some(ticket) = sent {
            self.attending.spawn(self.clone().attend(entry, ticket, reservation));
        }
    }

    /// Ends a task that waits; false if it waits no longer.
    pub(super) async fn end_waiting(&self, entry: &Entry, error: TaskError) -> bool {
        if !entry.end_waiting(Ended::new(Err(error.clone()))) {
            return false;
        }
        self.table().taken(entry);
        self.waiting.notify_one();
        self.metrics.ended(entry);
        let _ = self.write_outcome(entry, &Ended::new(Err(error)), Vec::new()).await;
        true
    }

    /// Puts the outcome of a task of the spool there, and tells who waits.
    pub(super) async fn finish(
        &self,
        entry: &Entry,
        outcome: Outcome<Blob>,
        reservation: Arc<Reservation>,
        receipt: Receipt,
    ) {
        let (ended, payload) = as_spooled(&outcome);
        let written = self.write_outcome(entry, &ended, payload).await.is_ok();
        let ended = match outcome.result {
            Ok(blob) if !written => {
                // Better in memory than nowhere; the next start computes it again.
                reservation.shrink_to(blob.payload_bytes());
                Ended { result: Ok(Answer::Here(blob, reservation)), ..ended }
            }
            _ => ended,
        };
        if written {
            receipt.written()
        } else {
            receipt.not_written()
        }
        entry.end(ended);
        self.metrics.ended(entry);
    }

    /// As [`Tasks::finish`], an outcome that the broker has kept: there it stays until the disk takes it, and so do those after
    /// it.
    pub(super) async fn finish_kept(&self, entry: &Entry, outcome: Outcome<Blob>, receipt: Receipt) {
        let (ended, payload) = as_spooled(&outcome);
        loop {
            match self.write_outcome(entry, &ended, payload.clone()).await {
                Ok(()) => break receipt.written(),
                // Removed meanwhile, or answered already.
                Err(SpoolError::Unknown { .. } | SpoolError::Exists { .. }) => break receipt.not_written(),
                Err(_) => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
        entry.end(ended);
        self.metrics.ended(entry);
    }

    async fn write_outcome(&self, entry: &Entry, ended: &Ended, payload: Vec<bytes::Bytes>) -> Result<(), SpoolError> {
        let result = match &ended.result {
            Ok(Answer::Spooled { format, params, .. }) => Ok(AnswerHead { format: *format, params: params.clone() }),
            Ok(Answer::Here(blob, _)) => Ok(AnswerHead { format: blob.format, params: blob.params.clone() }),
            Err(error) => Err(error.clone()),
        };
        let outcome = OutcomeRecord {
            finished_unix_ms: unix_ms(ended.at),
            result,
            worker: ended.worker.clone(),
            compute_seconds: ended.compute_seconds,
            payload_bytes: payload.iter().map(|piece| piece.len() as u64).sum(),
        };
        let written = self.spool.finish(entry.id(), &outcome, payload).await;
        written.inspect_err(|error| tracing::error!(%error, task = %entry.id(), "can't keep an outcome"))
    }

    /// Removes results that were read or have expired, and ends what waits too long, until the bridge stops.
    pub(in super::super) async fn sweep(self: Arc<Self>) {
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let (late, old) = self.overdue(Timestamp::now(), Instant::now());
            for entry in late {
                self.end_waiting(&entry, TaskError::DeadlineExceeded).await;
            }
            for entry in old {
                self.remove(&entry).await;
            }
        }
    }

    /// What waits past its deadline, and what has been kept long enough.
    fn overdue(&self, now: Timestamp, instant: Instant) -> (Vec<Arc<Entry>>, Vec<Arc<Entry>>) {
        let (mut late, mut old) = (Vec::new(), Vec::new());
        for entry in self.table().all() {
            match entry.phase() {
                Phase::Waiting if entry.birth.deadline.is_some_and(|at| at <= now) => late.push(entry.clone()),
                Phase::Ended(ended) if entry.is_kept() => {
                    let age = Duration::try_from(now.duration_since(ended.at)).unwrap_or_default();
                    let read =
                        ended.read.get().is_some_and(|at| instant.saturating_duration_since(*at) >= self.keep_for.read);
                    if read || age >= self.keep_for.unread {
                        old.push(entry.clone());
                    }
                }
                _ => {}
            }
        }
        (late, old)
    }
}

/// A key that is given up if its submission does not come about.
struct Claim<'a> {
    tasks: &'a Tasks,
    key: &'a str,
    task: TaskId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut table = self.tasks.table();
        if table.find(self.task).is_none() {
            table.release(self.key, self.task);
        }
    }
}

/// One whose file could not be read is tried again, if the bridge is still there.
async fn wait_again(tasks: Weak<Tasks>, entry: Arc<Entry>) {
    tokio::time::sleep(TRY_AGAIN).await;
    if let Some(tasks) = tasks.upgrade() {
        tasks.table().waits_again(&entry);
        tasks.waiting.notify_one();
    }
}

fn record(birth: &Birth, task: &Encoded, idempotency: Option<Idempotency>) -> TaskRecord {
    TaskRecord {
        id: birth.id,
        kind: birth.kind.kind().to_string(),
        format: task.blob.format,
        params: task.blob.params.clone(),
        flops: task.flops,
        answer_bytes: task.answer_bytes,
        priority: birth.priority,
        deadline_unix_ms: birth.deadline.map(unix_ms),
        created_unix_ms: unix_ms(birth.created),
        idempotency,
        payload_bytes: task.blob.payload_bytes(),
    }
}

fn ended_before(outcome: OutcomeRecord) -> Ended {
    let payload_bytes = outcome.payload_bytes;
    let spooled = |AnswerHead { format, params }| Answer::Spooled { format, params, payload_bytes };
    Ended {
        at: from_unix_ms(outcome.finished_unix_ms),
        worker: outcome.worker,
        compute_seconds: outcome.compute_seconds,
        ..Ended::new(outcome.result.map(spooled))
    }
}

fn unix_ms(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

fn from_unix_ms(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

/// A hash that tells one submission from another that was sent with the same key by mistake.
fn fingerprint(task: &Submission) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(task.kind.kind().as_str().as_bytes());
    crc.update(&task.encoded.blob.params);
    task.encoded.blob.payload.iter().for_each(|piece| crc.update(piece));
    task.encoded.blob.payload_bytes() << 32 ^ u64::from(crc.finalize())
}

fn conflict(detail: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, "conflict", "Not while another request does the same", detail)
        .at("Idempotency-Key")
}

fn other_task(other: TaskId) -> Problem {
    let detail = "another task was submitted with this Idempotency-Key; take a new key for a new task";
    let title = "The key belongs to another task";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", title, detail)
        .at("Idempotency-Key")
        .of(other)
}

/// What the spool could not do.
pub(super) fn problem(error: &SpoolError) -> Problem {
    let status = match error {
        SpoolError::Full { .. } | SpoolError::DiskFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
        SpoolError::Unknown { .. } => StatusCode::NOT_FOUND,
        SpoolError::Record { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Problem::new(status, "spool", "The spool of detached tasks can't do that", error.to_string())
}
