//! The boss's half of sending: tasks packed into messages, and parts served to the worker that asks.

use std::sync::Arc;

use bytes::Bytes;

use super::assembly::Cut;
use super::{HEADS_MAX_BYTES, in_process, names};
use crate::broker::{Confirm, Connection, Error, Message, Route};
use crate::task::{Format, TaskId, unix_ms};
use crate::wire::{self, Gone, Part, PullRequest, TaskHead};

/// Small tasks share a message up to this many bytes: one message costs as much as 10 kB of payload.
pub const BATCH_BYTES: u64 = 1 << 20;

/// and up to this much work, about 2 ms of one core: more would hold answers back and share badly between workers.
pub const BATCH_FLOPS: u64 = 100_000_000;

/// A task of at least so much work says how far it is: that of a system of n = 1000, some 20 ms of one core.
pub const PROGRESS_FLOPS: u64 = 666_000_000;

/// Parts served to one request at most, whatever it asks for.
const SERVED_MAX: u32 = 16;

/// A task as the boss keeps it until it is answered.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its head as for an inline message without a checksum; [`pack`] fills in how it travels.
    pub head: TaskHead,
    /// The payload in pieces.
    pub payload: Vec<Bytes>,
    /// The payload is that of other tasks, too: it is pulled, however small.
    pub shared: bool,
    /// AMQP priority.
    pub priority: u8,
    /// Its answer is read by the boss that comes after this one, too.
    pub kept: bool,
}

/// Tasks that go as one message.
#[derive(Debug, Default)]
pub struct Batch {
    tasks: Vec<Arc<Outgoing>>,
    bytes: u64,
    flops: u64,
    heads: usize,
}

impl Batch {
    /// Adds a task, or gives it back if it must go in another message.
    ///
    /// # Errors
    /// The task itself: publish this batch, then begin the next with it.
    pub fn push(&mut self, task: Arc<Outgoing>) -> Result<(), Arc<Outgoing>> {
        let carried = if task.shared { 0 } else { task.head.payload_bytes };
        let bytes = self.bytes.saturating_add(carried);
        let flops = self.flops.saturating_add(task.head.flops);
        // Fixed fields, queue name and checksum take less than 200 bytes. What is told to report goes alone.
        let heads = self.heads + task.head.params.len() + 200;
        if let Some(first) = self.tasks.first() {
            let alike = first.priority == task.priority
                && first.kept == task.kept
                && first.head.kind == task.head.kind
                && first.head.format == Format::Binary
                && task.head.format == Format::Binary;
            if !alike || bytes > BATCH_BYTES || flops > BATCH_FLOPS || heads > HEADS_MAX_BYTES {
                return Err(task);
            }
        }
        (self.bytes, self.flops, self.heads) = (bytes, flops, heads);
        self.tasks.push(task);
        Ok(())
    }

    /// Nothing small could be added any more: no use in waiting.
    pub fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES / 2 || self.flops >= BATCH_FLOPS / 2 || self.heads >= HEADS_MAX_BYTES / 2
    }

    /// Leaves out what is no longer to be sent.
    pub fn keep_only(&mut self, is_wanted: impl Fn(TaskId) -> bool) {
        self.tasks.retain(|task| is_wanted(task.head.id));
    }

    /// The tasks in it.
    pub fn tasks(&self) -> &[Arc<Outgoing>] {
        &self.tasks
    }
}

/// The names in the queues that a task tells its worker.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// In those of answers and of requests for parts.
    pub boss: &'a str,
    /// In that of progress.
    pub ear: &'a str,
}

/// Publishes a batch to its kind's work queue. The confirm says whether the broker has it, not whether it is computed.
///
/// # Errors
/// The broker's. An empty batch is none.
pub async fn publish(connection: &dyn Connection, batch: &Batch, names: Names<'_>) -> Result<Option<Confirm>, Error> {
    let Some(first) = batch.tasks.first() else { return Ok(None) };
    let route = Route::exchange(names::WORK, first.head.kind.as_str());
    let message = pack(connection, batch, names);
    connection.publish(&route, message).await.map(Some)
}

fn pack(connection: &dyn Connection, batch: &Batch, Names { boss, ear }: Names<'_>) -> Message {
    let mut message = Message { reply_to: Some(names::results_queue(boss)), ..Message::default() };
    let mut heads = Vec::with_capacity(batch.heads);
    let sent_unix_ms = unix_ms();
    for task in &batch.tasks {
        let mut head = task.head.clone();
        head.sent_unix_ms = sent_unix_ms;
        let fits = usize::try_from(head.payload_bytes).is_ok_and(|bytes| bytes <= connection.inline_max_bytes());
        if fits && !task.shared {
            head.checksum = (!in_process(connection)).then(|| wire::checksum(&task.payload));
            message.body.extend(task.payload.iter().cloned());
        } else {
            head.pull_from = Some(names::pull_queue(boss));
        }
        head.progress_to = (head.flops >= PROGRESS_FLOPS).then(|| names::ear(names::PRESENCE, ear));
        wire::encode_into(&head, &mut heads);
        message.priority = task.priority;
        message.content_type = Some(head.format.content_type().into());
        message.correlation_id = Some(head.id.to_string());
    }
    message.head = heads.into();
    message
}

/// Answers a worker's request for parts; `task` is `None` if the boss no longer waits for it. Waits until the broker has
/// the parts, so that one request at a time per worker bounds what is on the way.
///
/// # Errors
/// The broker's. A worker that has gone meanwhile is no error: its inbox went with it.
pub async fn serve(
    connection: &dyn Connection,
    request: &PullRequest,
    inbox: &str,
    task: Option<&Outgoing>,
) -> Result<(), Error> {
    let route = Route::queue(inbox);
    let PullRequest { id, run, part_bytes, .. } = *request;
    let Some(task) = task else {
        let head = wire::encode(&Gone { id, run }).into();
        connection.publish(&route, Message { head, ..Message::default() }).await?;
        return Ok(());
    };
    let cut = match Cut::new(task.head.payload_bytes, part_bytes) {
        Ok(cut) => cut,
        Err(error) => {
            tracing::warn!(%error, task = %id, inbox, "refused a pull request");
            return Ok(());
        }
    };
    let end = request.first.saturating_add(request.count.min(SERVED_MAX)).min(cut.count());
    let mut confirms = Vec::new();
    for index in request.first..end {
        let body = slice(&task.payload, cut.range(index));
        let total_bytes = task.head.payload_bytes;
        let part = Part { id, run, index, part_bytes, total_bytes, checksum: wire::checksum(&body) };
        let message = Message { head: wire::encode(&part).into(), body, ..Message::default() };
        confirms.push(connection.publish(&route, message).await?);
    }
    for confirm in confirms {
        confirm.0.await?;
    }
    Ok(())
}

/// A range of the concatenation of the pieces, as pieces, without a copy.
pub(super) fn slice(pieces: &[Bytes], range: std::ops::Range<usize>) -> Vec<Bytes> {
    let mut start = 0;
    let mut out = Vec::new();
    for piece in pieces {
        let (from, to) = (range.start.max(start), range.end.min(start + piece.len()));
        if from < to {
            out.push(piece.slice(from - start..to - start));
        }
        start += piece.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::concat;

    fn task(payload_bytes: u64, flops: u64) -> Arc<Outgoing> {
        let head = TaskHead {
            id: TaskId::random(),
            kind: "solve".into(),
            attempt: 0,
            format: Format::Binary,
            deadline_unix_ms: 0,
            sent_unix_ms: 0,
            flops,
            payload_bytes,
            checksum: None,
            pull_from: None,
            progress_to: None,
            params: vec![0; 20],
        };
        Arc::new(Outgoing { head, payload: vec![], shared: false, priority: 3, kept: false })
    }

    #[test]
    fn a_large_task_travels_alone_and_small_ones_together() {
        let mut batch = Batch::default();
        assert!(batch.push(task(80_000, 700_000)).is_ok());
        assert!(batch.push(task(80_000, 700_000)).is_ok());
        assert!(batch.push(task(2_000_000, 700_000)).is_err());
        let mut batch = Batch::default();
        assert!(batch.push(task(200_000_000, 1 << 40)).is_ok(), "the first always fits");
        assert!(batch.push(task(8, 8)).is_err());
    }

    #[test]
    fn tasks_whose_answers_go_to_different_queues_share_no_message() {
        let mut batch = Batch::default();
        let kept = Arc::new(Outgoing { kept: true, ..(*task(8, 8)).clone() });
        assert!(batch.push(kept.clone()).is_ok() && batch.push(kept).is_ok());
        assert!(batch.push(task(8, 8)).is_err());
    }

    #[test]
    fn heads_of_tiny_tasks_fit_the_frame() {
        let mut batch = Batch::default();
        while batch.push(task(8, 8)).is_ok() {}
        let bytes: usize = batch.tasks().iter().map(|task| wire::encode(&task.head).len()).sum();
        assert!(batch.tasks().len() > 200 && bytes <= HEADS_MAX_BYTES, "{} heads, {bytes} bytes", batch.tasks().len());
    }

    #[test]
    fn a_slice_crosses_pieces() {
        let pieces = [Bytes::from_static(b"abc"), Bytes::from_static(b""), Bytes::from_static(b"defgh")];
        for start in 0..8 {
            for end in start..=8 {
                assert_eq!(concat(slice(&pieces, start..end)), &b"abcdefgh"[start..end]);
            }
        }
    }
}
