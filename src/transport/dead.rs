//! What a dead letter says of itself: the headers that a worker writes when an attempt at a task has failed, and when it
//! gives a message up; and how they are read. Pure.
//!
//! Must not touch: heads and bodies. Invariants: the first reason is written once and stays; no header written here is
//! longer than [`CHARS_MAX`] characters, whatever came from outside.

use super::{incoming, names};

/// Why the last attempt failed, or why the message is a dead letter.
pub const REASON: &str = "rabbitry-reason";
/// Why the first attempt failed.
pub const FIRST_REASON: &str = "rabbitry-first-reason";
/// The id of the worker that wrote [`REASON`].
pub const WORKER: &str = "rabbitry-worker";
/// The kind whose queue it came from.
pub const KIND: &str = "rabbitry-kind";
/// When it was put aside, in milliseconds since 1970-01-01 UTC.
pub const SINCE: &str = "rabbitry-dead-unix-ms";

const OURS: [&str; 5] = [REASON, FIRST_REASON, WORKER, KIND, SINCE];

/// What RabbitMQ writes on the messages that it dead-letters by itself, beside its table `x-death`.
const BROKERS: [&str; 2] = ["x-first-death-", "x-last-death-"];

/// The longest text in one of our headers.
pub const CHARS_MAX: usize = 1000;

/// Text headers of a message.
pub type Headers = Vec<(String, String)>;

/// What the headers of a dead letter say; `None` is what they do not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reasons {
    /// Why it is a dead letter.
    pub last: Option<String>,
    /// Why the first attempt failed.
    pub first: Option<String>,
    /// The worker that put it aside.
    pub worker: Option<String>,
    /// The kind whose queue it came from.
    pub kind: Option<String>,
    /// When it was put aside, in milliseconds since 1970-01-01 UTC.
    pub since_unix_ms: Option<u64>,
}

/// An attempt has failed: says why, and who saw it.
pub fn attempt_failed(headers: &mut Headers, reason: &str, worker: &str) {
    let first = get(headers, FIRST_REASON).unwrap_or(reason).to_owned();
    set(headers, FIRST_REASON, &first);
    set(headers, REASON, reason);
    set(headers, WORKER, worker);
}

/// Whether an attempt has failed, by its headers.
pub fn has_failed(headers: &Headers) -> bool {
    get(headers, FIRST_REASON).is_some()
}

/// The message goes to the dead letters.
pub fn put_aside(headers: &mut Headers, reason: &str, worker: &str, kind: &str, now_unix_ms: u64) {
    attempt_failed(headers, reason, worker);
    set(headers, KIND, kind);
    set(headers, SINCE, &now_unix_ms.to_string());
}

/// Leaves nothing but our own headers, each within its bounds.
pub fn keep_ours(headers: &mut Headers) {
    headers.retain(|(name, _)| OURS.contains(&name.as_str()));
    headers.truncate(OURS.len());
    headers.iter_mut().for_each(|(_, value)| *value = short(value));
}

/// Forgets all that was said of earlier attempts, by us or by the broker.
pub fn forget(headers: &mut Headers) {
    headers.retain(|(name, _)| !OURS.contains(&name.as_str()) && !is_brokers(name));
}

/// Forgets what the broker says of a message that has only waited for its boss.
pub fn forget_waits(headers: &mut Headers) {
    let waited = |(name, value): &(String, String)| is_brokers(name) && value.starts_with(names::LATER);
    if headers.iter().any(waited) {
        headers.retain(|(name, _)| !is_brokers(name));
    }
}

fn is_brokers(name: &str) -> bool {
    BROKERS.iter().any(|start| name.starts_with(start))
}

/// Reads what was said.
pub fn read(headers: &Headers) -> Reasons {
    let text = |name: &str| get(headers, name).map(short);
    let brokers = |what: &str| {
        let [first, last] = BROKERS.map(|start| text(&format!("{start}{what}")));
        (first.clone(), last.or(first))
    };
    let since_unix_ms = text(SINCE).and_then(|text| text.parse().ok());
    let (first_queue, _) = brokers("queue");
    let waited = first_queue.as_deref().and_then(|queue| queue.strip_prefix(names::LATER));
    let came_from = |queue| Some(incoming::kind_of(queue)).filter(|kind| *kind != queue);
    let kind = text(KIND).or_else(|| waited.or(first_queue.as_deref().and_then(came_from)).map(str::to_owned));
    match (since_unix_ms, brokers("reason")) {
        // No worker put it aside: what one may have said before is not the reason.
        (None, (Some(first), Some(last))) => {
            let said = |reason: String| format!("RabbitMQ dead-lettered it: {}", reason.replace('_', " "));
            // To wait for its boss is no reason.
            let first = if waited.is_some() { last.clone() } else { first };
            let first = text(FIRST_REASON).unwrap_or_else(|| said(first));
            Reasons { last: Some(said(last)), first: Some(first), worker: None, kind, since_unix_ms }
        }
        _ => Reasons { last: text(REASON), first: text(FIRST_REASON), worker: text(WORKER), kind, since_unix_ms },
    }
}

fn get<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
}

fn set(headers: &mut Headers, name: &str, value: &str) {
    headers.retain(|(given, _)| given != name);
    headers.push((name.to_owned(), short(value)));
}

fn short(text: &str) -> String {
    text.chars().take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(of: &[(&str, &str)]) -> Headers {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_first_reason_stays_and_the_last_is_the_newest() {
        let mut said = headers(&[("x", "1")]);
        attempt_failed(&mut said, "a", "w1");
        attempt_failed(&mut said, "b", "w2");
        put_aside(&mut said, "c", "w3", "solve", 17);
        let text = |text: &str| Some(text.to_owned());
        let expected = Reasons {
            last: text("c"),
            first: text("a"),
            worker: text("w3"),
            kind: text("solve"),
            since_unix_ms: Some(17),
        };
        assert_eq!(read(&said), expected);
        forget(&mut said);
        assert_eq!(said, headers(&[("x", "1")]));
    }

    #[test]
    fn what_the_broker_says_counts_where_no_worker_put_it_aside() {
        let broker = [
            ("x-first-death-reason", "expired"),
            ("x-first-death-queue", "rabbitry.work.solve"),
            ("x-first-death-exchange", "rabbitry.work"),
            ("x-last-death-reason", "delivery_limit"),
        ];
        let mut said = headers(&broker);
        let reasons = read(&said);
        assert_eq!(reasons.last.as_deref(), Some("RabbitMQ dead-lettered it: delivery limit"));
        assert_eq!(reasons.first.as_deref(), Some("RabbitMQ dead-lettered it: expired"));
        assert_eq!((reasons.kind.as_deref(), reasons.worker), (Some("solve"), None));
        attempt_failed(&mut said, "a worker was lost", "w");
        let reasons = read(&said);
        assert_eq!(reasons.first.as_deref(), Some("a worker was lost"), "it came before");
        assert_eq!(reasons.worker, None, "it only put it back");
        put_aside(&mut said, "no reply_to", "w", "solve", 1);
        assert_eq!(read(&said).last.as_deref(), Some("no reply_to"));
        forget(&mut said);
        assert!(said.is_empty(), "{said:?}");
    }

    #[test]
    fn a_queue_of_another_name_tells_no_kind() {
        assert_eq!(
            read(&headers(&[("x-first-death-queue", "rabbitry.dead"), ("x-first-death-reason", "expired")])).kind,
            None
        );
    }

    #[test]
    fn a_wait_for_its_boss_is_no_death() {
        let waited = [("x", "1"), ("x-first-death-queue", "rabbitry.later.solve"), ("x-first-death-reason", "expired")];
        let mut said = headers(&waited);
        forget_waits(&mut said);
        assert_eq!(said, headers(&[("x", "1")]));
        let mut other = headers(&[("x-first-death-queue", "a client's"), ("x-last-death-queue", "another")]);
        let before = other.clone();
        forget_waits(&mut other);
        assert_eq!(other, before);
        let given_up = [waited[1], waited[2], ("x-last-death-reason", "delivery_limit")];
        let reasons = read(&headers(&given_up));
        assert_eq!(reasons.first.as_deref(), Some("RabbitMQ dead-lettered it: delivery limit"));
        assert_eq!((reasons.kind.as_deref(), reasons.last), (Some("solve"), reasons.first));
    }

    proptest! {
        #[test]
        fn whatever_the_headers_are_ours_fit(given in proptest::collection::vec(("[a-z-]{0,9}", ".{0,40}"), 0..6), which: u8) {
            let mut said: Headers = given;
            let name = OURS[usize::from(which) % OURS.len()];
            said.push((name.to_owned(), "ü".repeat(5 * CHARS_MAX)));
            let _ = read(&said);
            put_aside(&mut said, &"y".repeat(2 * CHARS_MAX), "w", "k", 1);
            keep_ours(&mut said);
            prop_assert_eq!(said.len(), OURS.len());
            prop_assert!(said.iter().all(|(_, value)| value.chars().count() <= CHARS_MAX));
            prop_assert_eq!(read(&said).since_unix_ms, Some(1));
        }
    }
}
