//! Which letters are meant: by the beginnings of their ids. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::Letter;

/// The shortest beginning of an id, in digits.
const DIGITS_MIN: usize = 6;
/// A whole id.
const DIGITS_MAX: usize = 32;

/// The beginning of a letter's id, or of the id of a task in it: 6 to 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IdPrefix(String);

impl FromStr for IdPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_right = (DIGITS_MIN..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_hexdigit());
        if is_right {
            Ok(IdPrefix(text.to_ascii_lowercase()))
        } else {
            Err(format!("an id, or its beginning, is {DIGITS_MIN} to {DIGITS_MAX} hexadecimal digits, not {text:?}"))
        }
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which letters an action is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// All that are there.
    All,
    /// These.
    These(Vec<IdPrefix>),
}

/// What beginnings of ids have led to.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Matches {
    /// Ids of letters.
    pub ids: BTreeSet<String>,
    /// Those that fit none.
    pub missing: Vec<IdPrefix>,
    /// Those that fit letters of several ids, and these.
    pub ambiguous: Vec<(IdPrefix, Vec<String>)>,
}

/// Finds the letters that are meant. A letter's own id goes before that of a task in another.
pub(super) fn find<'a>(names: &[IdPrefix], letters: impl Iterator<Item = &'a Letter>) -> Matches {
    let mut fitting: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); names.len()];
    for letter in letters {
        for (fitting, IdPrefix(prefix)) in fitting.iter_mut().zip(names) {
            let task_fits = || {
                let mut ids = letter.tasks.iter().filter_map(|task| task.id);
                ids.any(|id| id.to_string().starts_with(prefix))
            };
            if letter.id.starts_with(prefix) || task_fits() {
                fitting.insert(&letter.id);
            }
        }
    }
    let mut matches = Matches::default();
    for (name, fitting) in names.iter().zip(fitting) {
        let exact = fitting.get(name.0.as_str()).copied();
        let only = if fitting.len() == 1 { fitting.first().copied() } else { exact };
        match only {
            Some(id) => drop(matches.ids.insert(id.to_owned())),
            None if fitting.is_empty() => matches.missing.push(name.clone()),
            None => matches.ambiguous.push((name.clone(), fitting.into_iter().map(str::to_owned).collect())),
        }
    }
    matches
}

impl super::Letters {
    /// The letters that these names mean, and the names that mean none or too many.
    pub fn find(&self, names: &[IdPrefix]) -> Matches {
        find(names, self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Message;
    use crate::task::{Format, TaskId};
    use crate::wire::{self, TaskHead};

    fn letter(ids: &[u128]) -> Letter {
        let mut head = Vec::new();
        for id in ids {
            let id = TaskId(*id);
            let head_of = TaskHead {
                id,
                kind: "solve".into(),
                attempt: 0,
                format: Format::Binary,
                deadline_unix_ms: 0,
                sent_unix_ms: 0,
                flops: 0,
                payload_bytes: 0,
                checksum: None,
                pull_from: None,
                progress_to: None,
                params: vec![],
            };
            wire::encode_into(&head_of, &mut head);
        }
        Letter::of(&Message { head: head.into(), ..Message::default() })
    }

    fn name(text: &str) -> IdPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_beginning_that_fits_one_id_is_enough_and_one_that_fits_two_is_not() {
        let (one, two) = (0xaaaa_aa11 << 96, 0xaaaa_aa22 << 96);
        // The same task twice is one id.
        let letters = [letter(&[one]), letter(&[two]), letter(&[one])];
        let ids = |id: u128| TaskId(id).to_string();
        let matches = find(&[name("AAAAAA1"), name("aaaaaa"), name("bbbbbb")], letters.iter());
        assert_eq!(matches.ids.into_iter().collect::<Vec<_>>(), [ids(one)]);
        assert_eq!(matches.ambiguous, [(name("aaaaaa"), vec![ids(one), ids(two)])]);
        assert_eq!(matches.missing, [name("bbbbbb")]);
    }

    #[test]
    fn a_task_in_a_batch_means_the_batch_unless_it_is_there_alone() {
        let (one, two) = (0xaaaa_aa11 << 96, 0xbbbb_bb22 << 96);
        let (batch, alone) = (letter(&[one, two]), letter(&[one]));
        let whole = name(&TaskId(one).to_string());
        assert_eq!(find(&[name("bbbbbb")], [&batch].into_iter()).ids.first(), Some(&batch.id));
        assert_eq!(find(&[whole], [&batch, &alone].into_iter()).ids.first(), Some(&alone.id));
    }

    #[test]
    fn an_id_is_six_to_thirty_two_hexadecimal_digits() {
        for wrong in ["", "aaaaa", "aaaaag", "+aaaaa", &"a".repeat(33), "üüüüüü"] {
            assert!(wrong.parse::<IdPrefix>().is_err(), "{wrong:?}");
        }
        assert_eq!(name("ABCDEF").to_string(), "abcdef");
    }
}
