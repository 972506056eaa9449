//! Dead letters as they are shown: a table and a page for people, the same as JSON for scripts. Pure.

use std::fmt::Write;

use bytesize::ByteSize;
use serde::Serialize;

use crate::boss::dead::{DeadTask, Letter};
use crate::command::table::{plain, table};
use crate::task::Format;
use crate::tasks;

/// Digits of an id in the table: enough to name a letter among millions.
const ID_SHOWN: usize = 12;

/// Characters of a text in the table.
const TEXT_SHOWN: usize = 70;

/// Tasks of a letter that are listed for people; `--json` lists all.
const TASKS_SHOWN: usize = 10;

/// A letter as JSON.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LetterView {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The kind of its tasks, if it is known.
    pub kind: Option<String>,
    /// Bytes of payload of its tasks, wherever that is; of the body if no task can be read.
    pub bytes: u64,
    /// Attempts that ended without an outcome.
    pub attempts: u32,
    /// Why it is here.
    pub reason: Option<String>,
    /// Why the first attempt failed.
    pub first_reason: Option<String>,
    /// The worker that put it here.
    pub worker: Option<String>,
    /// Since when.
    pub dead_unix_ms: Option<u64>,
    /// How long that is ago, by this machine's clock.
    pub age_seconds: Option<f64>,
    /// Why no worker could compute it, if it is so.
    pub defect: Option<String>,
    /// The queue for the answer.
    pub reply_to: Option<String>,
    /// What its sender calls it.
    pub correlation_id: Option<String>,
    /// What its sender says of its form.
    pub content_type: Option<String>,
    /// Which tasks go first.
    pub priority: u8,
    /// Bytes of the message's body and head.
    pub body_bytes: u64,
    /// Bytes of the head.
    pub head_bytes: usize,
    /// Its tasks, as far as they can be read.
    pub tasks: Vec<TaskView>,
}

/// A task in a letter as JSON.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TaskView {
    /// Its id, if its sender gave it one.
    pub id: Option<String>,
    /// Its kind.
    pub kind: String,
    /// Attempts that ended without an outcome.
    pub attempts: u32,
    /// `binary` or `json`.
    pub format: &'static str,
    /// Bytes of its payload.
    pub payload_bytes: u64,
    /// The queue that has its payload, if that is not in the letter.
    pub pull_from: Option<String>,
    /// When it is too late; `null` for never.
    pub deadline_unix_ms: Option<u64>,
    /// What its kind says of it.
    pub description: Option<String>,
}

/// Which queues that a letter names are there.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Queues {
    /// The one for the answer; `null` if there is no name.
    pub reply_to_there: Option<bool>,
    /// Those that have payloads, by name.
    pub pull_from_there: std::collections::BTreeMap<String, bool>,
}

/// A letter with all that can be found out about it, as JSON.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Page {
    /// The letter.
    #[serde(flatten)]
    pub letter: LetterView,
    /// The queues.
    #[serde(flatten)]
    pub queues: Queues,
    /// The first bytes of its head.
    pub head_hex: String,
    /// Why a retry would come to nothing, if that is known.
    pub refusal: Option<String>,
}

impl LetterView {
    /// Of a letter, at this moment.
    pub fn of(letter: &Letter, now_unix_ms: u64) -> Self {
        let reasons = &letter.reasons;
        let age = reasons.since_unix_ms.map(|since| now_unix_ms.saturating_sub(since) as f64 / 1000.0);
        let payload_bytes = letter.tasks.iter().fold(0u64, |sum, task| sum.saturating_add(task.payload_bytes));
        LetterView {
            id: letter.id.clone(),
            kind: letter.kind.clone(),
            bytes: if letter.tasks.is_empty() { letter.body_bytes } else { payload_bytes },
            attempts: letter.attempts(),
            reason: reasons.last.clone(),
            first_reason: reasons.first.clone(),
            worker: reasons.worker.clone(),
            dead_unix_ms: reasons.since_unix_ms,
            age_seconds: age,
            defect: letter.defect.clone(),
            reply_to: letter.reply_to.clone(),
            correlation_id: letter.correlation_id.clone(),
            content_type: letter.content_type.clone(),
            priority: letter.priority,
            body_bytes: letter.body_bytes,
            head_bytes: letter.head_bytes,
            tasks: letter.tasks.iter().map(TaskView::of).collect(),
        }
    }

    /// What it holds, in a few words.
    fn holds(&self) -> String {
        let first = self.tasks.first().and_then(|task| task.description.clone());
        match (self.tasks.len(), self.defect.is_some(), first) {
            (0, _, _) => "nothing that can be read".into(),
            (1, _, Some(description)) => description,
            (1, _, None) => "-".into(),
            (count, _, Some(description)) => format!("{count} tasks; first: {description}"),
            (count, _, None) => format!("{count} tasks"),
        }
    }
}

impl TaskView {
    fn of(task: &DeadTask) -> Self {
        TaskView {
            id: task.id.map(|id| id.to_string()),
            kind: task.kind.clone(),
            attempts: task.attempts,
            format: match task.format {
                Format::Binary => "binary",
                Format::Json => "json",
            },
            payload_bytes: task.payload_bytes,
            pull_from: task.pull_from.clone(),
            deadline_unix_ms: Some(task.deadline_unix_ms).filter(|at| *at != 0),
            description: tasks::describe(&task.kind, task.format, &task.params),
        }
    }
}

/// Letters for people, a line for each.
pub fn list(letters: &[LetterView]) -> String {
    let head = ["ID", "KIND", "SIZE", "HOLDS", "ATTEMPTS", "AGE", "WORKER", "REASON", "FIRST REASON"];
    let cell = |text: &Option<String>| short(text.as_deref().unwrap_or("-"));
    let rows = letters.iter().map(|letter| {
        // Once is enough where the first reason is the only one.
        let told = letter.first_reason == letter.reason;
        [
            letter.id.chars().take(ID_SHOWN).collect(),
            cell(&letter.kind),
            size(letter.bytes),
            short(&letter.holds()),
            letter.attempts.to_string(),
            letter.age_seconds.map_or("-".into(), age),
            cell(&letter.worker),
            cell(&letter.reason),
            if told { "the same".into() } else { cell(&letter.first_reason) },
        ]
    });
    table(head, rows)
}

/// A letter for people, all of it.
pub fn page(page: &Page) -> String {
    let Page { letter, queues, head_hex, refusal } = page;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing into a text has no way to fail.
        let _ = writeln!(text, "{name:<15} {}", plain(value));
    };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    line("id", letter.id.clone());
    line("kind", or_dash(&letter.kind));
    line("size", size(letter.bytes));
    line("attempts", letter.attempts.to_string());
    line("reason", or_dash(&letter.reason));
    line("first reason", or_dash(&letter.first_reason));
    line("worker", or_dash(&letter.worker));
    let since = letter.dead_unix_ms.zip(letter.age_seconds);
    line("age", since.map_or("-".into(), |(at, ago)| format!("{} (since {at} ms of Unix time)", age(ago))));
    line("message", format!("head of {} bytes, body of {}", letter.head_bytes, letter.body_bytes));
    line("content type", or_dash(&letter.content_type));
    line("correlation id", or_dash(&letter.correlation_id));
    line("priority", letter.priority.to_string());
    let there = |is_there: bool| if is_there { "it is there" } else { "it is not there: nobody reads it" };
    let answer = letter.reply_to.as_ref().zip(queues.reply_to_there);
    line("answer goes to", answer.map_or("-".into(), |(queue, is_there)| format!("{queue} ({})", there(is_there))));
    for (queue, is_there) in &queues.pull_from_there {
        let there = if *is_there { "it is there" } else { "it is not there: the payload is lost" };
        line("payload is with", format!("{queue} ({there})"));
    }
    for task in letter.tasks.iter().take(TASKS_SHOWN) {
        let description = task.description.as_deref().unwrap_or("its parameters say nothing here");
        let late = task.deadline_unix_ms.map_or(String::new(), |at| format!(", too late from {at} ms of Unix time on"));
        let id = task.id.as_deref().unwrap_or("without an id");
        let TaskView { kind, attempts, format, payload_bytes, .. } = task;
        let what = format!("{kind}, {description}, {payload_bytes} bytes, {format}, attempts {attempts}");
        line("task", format!("{id}: {what}{late}"));
    }
    if letter.tasks.len() > TASKS_SHOWN {
        line("", format!("... and {} more; --json lists all", letter.tasks.len() - TASKS_SHOWN));
    }
    if letter.defect.is_some() && !head_hex.is_empty() {
        line("head begins", head_hex.clone());
    }
    line("retry", refusal.clone().unwrap_or_else(|| "a worker can try it again".into()));
    text
}

fn short(text: &str) -> String {
    if text.chars().count() <= TEXT_SHOWN {
        return text.to_owned();
    }
    text.chars().take(TEXT_SHOWN).chain("...".chars()).collect()
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// How long ago.
fn age(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 3600.0 => format!("{:.0} min", s / 60.0),
        s if s < 86_400.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boss::dead::Reasons;

    fn letter() -> Letter {
        let task = DeadTask {
            id: Some(crate::task::TaskId(0xabc << 100)),
            kind: "bake\u{1b}[2J".into(),
            attempts: 5,
            format: Format::Binary,
            payload_bytes: 2048,
            pull_from: Some("pulls".into()),
            deadline_unix_ms: 9,
            params: vec![],
        };
        Letter {
            id: "0123456789abcdef0123456789abcdef".into(),
            tasks: vec![task],
            defect: Some("cut".into()),
            kind: Some("bake".into()),
            body_bytes: 0,
            head_bytes: 3,
            head_start: vec![1, 2, 0xff],
            reply_to: Some("answers".into()),
            correlation_id: None,
            content_type: None,
            priority: 3,
            reasons: Reasons {
                last: Some("z".repeat(200)),
                first: Some("a".into()),
                worker: Some("w-1".into()),
                kind: None,
                since_unix_ms: Some(1000),
            },
        }
    }

    #[test]
    fn a_line_has_what_there_is_to_know_and_is_no_longer_than_a_screen() {
        let view = LetterView::of(&letter(), 61_000 + 59_000);
        let text = list(&[view]);
        let line = text.lines().nth(1).unwrap();
        for part in ["0123456789ab ", "bake", "2.0 KiB", " 5 ", "2 min", "w-1", "zzz...", " a"] {
            assert!(line.contains(part), "{part:?} in {line:?}");
        }
        assert!(line.chars().count() < 220 && !line.contains("zzzz".repeat(20).as_str()), "{line}");
    }

    #[test]
    fn a_page_says_where_the_answer_goes_and_commands_no_terminal() {
        let pulls = [("pulls".to_owned(), false)].into();
        let queues = Queues { reply_to_there: Some(true), pull_from_there: pulls };
        let view = LetterView::of(&letter(), 500);
        assert_eq!(view.age_seconds, Some(0.0), "a clock behind the worker's");
        let text = page(&Page { letter: view, queues, head_hex: "01 02 ff".into(), refusal: Some("because".into()) });
        for part in ["answers (it is there)", "pulls (it is not there", "01 02 ff", "because", &"z".repeat(200)] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn ages_have_the_unit_that_fits() {
        for (seconds, said) in
            [(0.4, "0 s"), (59.0, "59 s"), (600.0, "10 min"), (5400.0, "1.5 h"), (172_800.0, "2.0 d")]
        {
            assert_eq!(age(seconds), said);
        }
    }
}
