//! One dead letter as a person sees it: what it holds and what became of it, read from a message. Pure.
//!
//! Bytes come from outside: nothing here panics, and of a body nothing is kept but its length.

use crate::broker::{Message, concat};
use crate::task::{ContentHash, Format, TaskId};
use crate::transport::dead::{self, Reasons};
use crate::transport::incoming;
use crate::wire::{self, TaskHead};

/// Bytes of a head that are kept as they came.
const HEAD_SHOWN_BYTES: usize = 64;

/// A message in the queue of dead letters.
#[derive(Clone, PartialEq, Debug)]
pub struct Letter {
    /// 32 hexadecimal digits: the task's id. Of several tasks in one message, or none that can be read, a hash of its
    /// bytes: the same bytes, the same id.
    pub id: String,
    /// The tasks in it, as far as they can be read.
    pub tasks: Vec<DeadTask>,
    /// Why no worker could compute it, if it is so.
    pub defect: Option<String>,
    /// The kind of task, if it is known.
    pub kind: Option<String>,
    /// Bytes of its body. The payload of a task that pulls it is not among them.
    pub body_bytes: u64,
    /// Bytes of its head.
    pub head_bytes: usize,
    /// The first of them, up to 64.
    pub head_start: Vec<u8>,
    /// The queue for the answer.
    pub reply_to: Option<String>,
    /// What its sender calls it.
    pub correlation_id: Option<String>,
    /// What its sender says of its form.
    pub content_type: Option<String>,
    /// Which tasks go first.
    pub priority: u8,
    /// Why it is here, since when, and who put it here.
    pub reasons: Reasons,
}

/// A task in a [`Letter`].
#[derive(Clone, PartialEq, Debug)]
pub struct DeadTask {
    /// Its id; `None` if its sender gave it none.
    pub id: Option<TaskId>,
    /// Its kind, as it says.
    pub kind: String,
    /// Attempts that ended without an outcome.
    pub attempts: u32,
    /// The form of its payload.
    pub format: Format,
    /// The length of its payload, wherever that is.
    pub payload_bytes: u64,
    /// The queue that workers ask for its payload, if it is not in the letter.
    pub pull_from: Option<String>,
    /// When it is too late, in milliseconds since 1970-01-01 UTC; 0 for never.
    pub deadline_unix_ms: u64,
    /// The kind's own parameters.
    pub params: Vec<u8>,
}

impl Letter {
    /// Reads a message.
    pub(super) fn of(message: &Message) -> Self {
        let reasons = dead::read(&message.headers);
        let (tasks, readable) = tasks(message);
        let kind = reasons.kind.clone().or_else(|| tasks.first().map(|task| task.kind.clone()));
        let kind = kind.filter(|kind| !kind.is_empty());
        let id = match tasks.as_slice() {
            [DeadTask { id: Some(id), .. }] if readable => id.to_string(),
            _ => hash(message),
        };
        let head_start = message.head.iter().copied().take(HEAD_SHOWN_BYTES).collect();
        Letter {
            id,
            tasks,
            defect: defect(message, kind.as_deref()),
            kind,
            body_bytes: message.body_bytes() as u64,
            head_bytes: message.head.len(),
            head_start,
            reply_to: message.reply_to.clone(),
            correlation_id: message.correlation_id.clone(),
            content_type: message.content_type.clone(),
            priority: message.priority,
            reasons,
        }
    }

    /// The most attempts that any of its tasks has behind it.
    pub fn attempts(&self) -> u32 {
        self.tasks.iter().map(|task| task.attempts).max().unwrap_or(0)
    }

    /// The queues that workers would ask for payloads.
    pub fn pulls_from(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().filter_map(|task| task.pull_from.as_deref())
    }

    /// What it takes in memory, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let Letter { reasons, reply_to, correlation_id, content_type, .. } = self;
        let texts = [&reasons.last, &reasons.first, &reasons.worker, &reasons.kind, &self.defect, &self.kind];
        let texts = texts.into_iter().chain([reply_to, correlation_id, content_type]).map(text).sum::<usize>();
        let task =
            |task: &DeadTask| size_of::<DeadTask>() + task.kind.len() + text(&task.pull_from) + task.params.len();
        let tasks: usize = self.tasks.iter().map(task).sum();
        size_of::<Letter>() + self.id.len() + self.head_start.len() + texts + tasks
    }
}

impl DeadTask {
    fn of(head: TaskHead, has_id: bool) -> Self {
        DeadTask {
            id: has_id.then_some(head.id),
            kind: head.kind,
            attempts: head.attempt,
            format: head.format,
            payload_bytes: head.payload_bytes,
            pull_from: head.pull_from,
            deadline_unix_ms: head.deadline_unix_ms,
            params: head.params,
        }
    }
}

/// The tasks that can be read, and whether these are all.
fn tasks(message: &Message) -> (Vec<DeadTask>, bool) {
    if message.head.is_empty() {
        // The kind is told elsewhere.
        let Ok(jobs) = incoming::unpack(message, "") else { return (Vec::new(), false) };
        let has_id = message.correlation_id.as_deref().is_some_and(|text| text.parse::<TaskId>().is_ok());
        return (jobs.into_iter().map(|job| DeadTask::of(job.head, has_id)).collect(), true);
    }
    let (mut rest, mut tasks) = (&message.head[..], Vec::new());
    while !rest.is_empty() {
        match wire::decode_front::<TaskHead>(&mut rest) {
            Ok(head) => tasks.push(DeadTask::of(head, true)),
            Err(_) => return (tasks, false),
        }
    }
    (tasks, true)
}

/// Why a worker would put it aside again.
fn defect(message: &Message, kind: Option<&str>) -> Option<String> {
    let Some(kind) = kind else { return Some("nothing says what kind of task it is".into()) };
    match incoming::unpack(message, kind) {
        Err(error) => Some(error.to_string()),
        Ok(_) if message.reply_to.is_none() => Some("it has no reply_to: nobody would read the answer".into()),
        Ok(_) => None,
    }
}

/// Names a message by its bytes.
fn hash(message: &Message) -> String {
    let body = ContentHash::of(&concat(message.body.clone()));
    let hashes = [ContentHash::of(&message.head).0, body.0].concat();
    ContentHash::of(&hashes).to_string().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn head(id: u128) -> TaskHead {
        TaskHead {
            id: TaskId(id),
            kind: "solve".into(),
            attempt: 5,
            format: Format::Binary,
            deadline_unix_ms: 0,
            sent_unix_ms: 0,
            flops: 0,
            payload_bytes: 4,
            checksum: None,
            pull_from: None,
            progress_to: None,
            params: vec![1, 2, 3],
        }
    }

    fn message(heads: &[TaskHead], body: &[u8]) -> Message {
        let mut head = Vec::new();
        heads.iter().for_each(|h| wire::encode_into(h, &mut head));
        let body = vec![Bytes::copy_from_slice(body)];
        Message { head: head.into(), body, reply_to: Some("q".into()), ..Message::default() }
    }

    #[test]
    fn a_task_alone_gives_the_letter_its_id() {
        let letter = Letter::of(&message(&[head(5)], b"1234"));
        assert_eq!(letter.id, TaskId(5).to_string());
        assert_eq!((letter.defect.as_deref(), letter.kind.as_deref(), letter.attempts()), (None, Some("solve"), 5));
        assert_eq!((letter.body_bytes, letter.tasks.len()), (4, 1));
    }

    #[test]
    fn several_tasks_are_one_letter_with_an_id_of_its_own() {
        let batch = message(&[head(5), head(6)], b"12345678");
        let letter = Letter::of(&batch);
        assert_eq!((letter.tasks.len(), letter.defect.as_deref()), (2, None));
        assert_eq!((letter.id.len(), &letter.id), (32, &Letter::of(&batch).id), "it is stable");
        assert_ne!(letter.id, Letter::of(&message(&[head(5), head(6)], b"12345679")).id);
    }

    #[test]
    fn what_cannot_be_computed_says_why_and_keeps_what_can_be_read() {
        let whole = message(&[head(5), head(6)], b"12345678");
        let cut = Message { head: whole.head.slice(..whole.head.len() - 2), ..whole.clone() };
        let letter = Letter::of(&cut);
        assert_eq!(letter.tasks.len(), 1);
        assert!(letter.defect.is_some_and(|why| why.contains("ends early")));
        assert_ne!(letter.id, TaskId(5).to_string(), "it is not that task alone");
        let long = Letter::of(&message(&[head(5)], b"12345"));
        assert!(long.defect.is_some_and(|why| why.contains("announce")));
        let mute = Letter::of(&Message { reply_to: None, ..message(&[head(5)], b"1234") });
        assert!(mute.defect.is_some_and(|why| why.contains("reply_to")));
        let random = Letter::of(&Message { head: Bytes::from(vec![7; 200]), ..Message::default() });
        assert_eq!((random.head_bytes, random.head_start.len(), random.tasks.len()), (200, 64, 0));
    }

    #[test]
    fn json_without_a_head_has_the_kind_of_its_queue_and_the_id_of_its_correlation() {
        let json = |id: &str, headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let content_type = Some("application/json".into());
            Letter::of(&Message { content_type, headers, correlation_id: Some(id.into()), ..message(&[], b"{}") })
        };
        let id = TaskId(7).to_string();
        let letter = json(&id, &[(dead::KIND, "solve")]);
        assert_eq!((&letter.id, letter.kind.as_deref(), letter.defect), (&id, Some("solve"), None));
        assert!(json(&id, &[]).defect.is_some_and(|why| why.contains("kind")));
        let nameless = json("mine", &[(dead::KIND, "solve")]);
        assert_eq!((nameless.tasks[0].id, &nameless.id), (None, &json("mine", &[]).id));
    }

    proptest! {
        #[test]
        fn any_message_is_a_letter(bytes: Vec<u8>, body: Vec<u8>, json: bool, cut: prop::sample::Index) {
            let good = wire::encode(&head(1));
            for head in [bytes, good[..cut.index(good.len())].to_vec(), Vec::new()] {
                let content_type = json.then(|| "application/json".to_owned());
                let body = vec![Bytes::from(body.clone())];
                let message = Message { head: head.into(), body, content_type, ..Message::default() };
                let letter = Letter::of(&message);
                prop_assert!(letter.id.len() == 32 && letter.id.bytes().all(|c| c.is_ascii_hexdigit()));
                prop_assert!(letter.defect.is_some(), "nobody would read the answer");
            }
        }
    }
}
