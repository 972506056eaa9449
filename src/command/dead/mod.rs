//! `boss dead`: what could not be computed, and what becomes of it.

mod view;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::exit;
use super::table::plain;
use crate::boss::Boss;
use crate::boss::dead::{Acted, Action, Desk, IdPrefix, LETTERS_MAX, Letter, Refusal, Which};
use crate::broker::Error;
pub use view::{LetterView, Page, Queues, TaskView};

/// At most so many letters are listed for people; `--json` lists all that are held.
const LINES_MAX: usize = 50;

/// What is asked of the dead letters.
#[derive(Clone, Debug)]
pub enum Request {
    /// List them.
    List,
    /// Show all of one.
    Show(IdPrefix),
    /// Try them again, or throw them away.
    Act(Action, Which),
}

/// Does what is asked, prints what came of it, and gives the exit code.
///
/// # Errors
/// The broker's.
pub async fn run(
    boss: &Boss,
    broker: &str,
    request: &Request,
    json: bool,
    stop: &CancellationToken,
) -> Result<u8, Error> {
    let desk = boss.dead_letter_desk().await?;
    let work = async {
        match request {
            Request::List => list(&desk, broker, json).await,
            Request::Show(name) => show(&desk, broker, name, json).await,
            Request::Act(action, which) => act(&desk, broker, *action, which, json).await,
        }
    };
    let code = stop.run_until_cancelled(work).await;
    // In any case: what was decided is with the broker after that, and what was held is back.
    let closed = desk.close().await;
    let Some(code) = code else {
        eprintln!("boss: interrupted; what is left is listed by: boss dead ls");
        return Ok(exit::INTERRUPTED);
    };
    let code = code?;
    closed.map(|()| code)
}

async fn list(desk: &Desk, broker: &str, json: bool) -> Result<u8, Error> {
    let letters = desk.look(LETTERS_MAX).await?;
    let now = now_unix_ms();
    let views: Vec<LetterView> = letters.iter().map(|letter| LetterView::of(letter, now)).collect();
    let unseen = letters.unseen();
    drop(letters);
    let text = if json {
        document(&json!({ "letters": views, "unseen": unseen }))
    } else if views.is_empty() {
        format!("no dead letters at {broker}\n")
    } else {
        let (count, shown) = (views.len(), &views[..views.len().min(LINES_MAX)]);
        let mut text = view::list(shown);
        if count > shown.len() {
            text += &format!("... and {} more; --json lists them\n", count - shown.len());
        }
        if unseen > 0 {
            text += &format!("and {unseen} behind them that were not looked at\n");
        }
        let total = unseen.saturating_add(count as u64);
        let letters = if total == 1 { "dead letter" } else { "dead letters" };
        text + &format!(
            "{total} {letters}. All of one: boss dead show ID. Compute again: boss dead retry ID. Throw away: boss dead \
             drop ID. With --broker {broker}; six digits of an ID are enough where they fit one\n"
        )
    };
    Ok(if super::print(&text) { exit::OK } else { exit::FAILED })
}

async fn show(desk: &Desk, broker: &str, name: &IdPrefix, json: bool) -> Result<u8, Error> {
    let letters = desk.look(LETTERS_MAX).await?;
    let matches = letters.find(std::slice::from_ref(name));
    let meant = |letter: &&Letter| matches.ids.contains(&letter.id);
    let Some(letter) = letters.iter().find(meant) else {
        complain(broker, &Acted { missing: matches.missing, ambiguous: matches.ambiguous, unseen: letters.unseen() });
        return Ok(exit::FAILED);
    };
    let mut queues = Queues::default();
    if let Some(queue) = &letter.reply_to {
        queues.reply_to_there = Some(desk.is_there(queue).await?);
    }
    for queue in letter.pulls_from() {
        queues.pull_from_there.insert(queue.to_owned(), desk.is_there(queue).await?);
    }
    let hex: Vec<String> = letter.head_start.iter().map(|byte| format!("{byte:02x}")).collect();
    let page = Page {
        letter: LetterView::of(letter, now_unix_ms()),
        queues,
        head_hex: hex.join(" "),
        refusal: desk.refusal(letter).await?.map(|refusal| refusal.to_string()),
    };
    let text = if json { document(&json!(page)) } else { view::page(&page) };
    Ok(if super::print(&text) { exit::OK } else { exit::FAILED })
}

async fn act(desk: &Desk, broker: &str, action: Action, which: &Which, json: bool) -> Result<u8, Error> {
    let mut done: Vec<(String, Option<String>)> = Vec::new();
    let mut failed: Vec<(String, Refusal)> = Vec::new();
    let each = |letter: &Letter, result: Result<(), Refusal>| match result {
        Ok(()) => done.push((letter.id.clone(), letter.reply_to.clone())),
        Err(refusal) => failed.push((letter.id.clone(), refusal)),
    };
    // What was done before an error of the broker is told, too.
    let acted = desk.act(action, which, each).await;
    let verb = if matches!(action, Action::Drop) { "dropped" } else { "retried" };
    let nothing = Acted::default();
    let told = acted.as_ref().unwrap_or(&nothing);
    let printed = if json {
        let ids: Vec<&str> = done.iter().map(|(id, _)| id.as_str()).collect();
        let failures = failed.iter().map(|(id, refusal)| json!({ "id": id, "message": refusal.to_string() }));
        let ambiguous = told.ambiguous.iter().map(|(name, ids)| json!({ "id": name.to_string(), "fits": ids }));
        super::print(&document(&json!({
            verb: ids,
            "failed": failures.collect::<Vec<_>>(),
            "not_found": told.missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ambiguous": ambiguous.collect::<Vec<_>>(),
            "unseen": told.unseen,
        })))
    } else {
        super::print(&report(action, &done, failed.len()))
    };
    for (id, refusal) in failed.iter().take(if json { 0 } else { LINES_MAX }) {
        eprintln!("boss: {id} stays: {}", plain(refusal.to_string()));
    }
    if !json && failed.len() > LINES_MAX {
        eprintln!("boss: ... and {} more stay", failed.len() - LINES_MAX);
    }
    let acted = acted?;
    complain(broker, &acted);
    let all = failed.is_empty() && acted == nothing && printed;
    Ok(if all { exit::OK } else { exit::FAILED })
}

/// What was done, for people. It promises no answer.
fn report(action: Action, done: &[(String, Option<String>)], failed: usize) -> String {
    let count = done.len();
    let letters = |count: usize| if count == 1 { "1 letter".to_owned() } else { format!("{count} letters") };
    let stay = if failed == 0 { String::new() } else { format!(", {} stay where they were", letters(failed)) };
    let mut text = String::new();
    for (id, reply_to) in done.iter().take(LINES_MAX) {
        text += &match action {
            Action::Drop => format!("dropped {id}\n"),
            Action::Retry { .. } => {
                let queue = reply_to.as_deref().unwrap_or("nobody");
                format!("published {id} again, the answer goes to {}\n", plain(queue))
            }
        };
    }
    if count > LINES_MAX {
        text += &format!("... and {} more\n", count - LINES_MAX);
    }
    text + &match action {
        Action::Drop => format!("{} dropped{stay}\n", letters(count)),
        Action::Retry { .. } if count == 0 => format!("nothing was published{stay}\n"),
        Action::Retry { .. } => format!(
            "{} published again{stay}. Whoever was told that the task failed, as every boss is after the last attempt, has \
             ended it: it drops a late answer, and serves no payload for it\n",
            letters(count)
        ),
    }
}

fn complain(broker: &str, acted: &Acted) {
    let unseen = match acted.unseen {
        0 => String::new(),
        unseen => format!("; {unseen} letters behind the first {LETTERS_MAX} were not looked at"),
    };
    for name in &acted.missing {
        eprintln!(
            "boss: no dead letter {name} at {broker}{unseen}. List them with: boss dead ls. It may have been retried or \
             dropped, or somebody else looks at it at this moment"
        );
    }
    for (name, ids) in &acted.ambiguous {
        let shown: Vec<&str> = ids.iter().take(5).map(String::as_str).collect();
        eprintln!("boss: {name} fits {} letters ({}, ...): give more digits", ids.len(), shown.join(", "));
    }
    if acted.missing.is_empty() && acted.ambiguous.is_empty() && !unseen.is_empty() {
        eprintln!("boss: more to do{unseen}: do it again");
    }
}

fn document(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

fn now_unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_and_promises_no_answer() {
        let done = |count: usize| vec![("ab".to_owned(), Some("answers\u{1b}".to_owned())); count];
        let retry = Action::Retry { force: false };
        let text = report(retry, &done(2), 1);
        assert!(text.starts_with("published ab again, the answer goes to answers\n"), "{text}");
        assert!(
            text.contains("2 letters published again, 1 letter stay") && text.contains("drops a late answer"),
            "{text}"
        );
        assert_eq!(report(Action::Drop, &done(1), 0), "dropped ab\n1 letter dropped\n");
        assert_eq!(report(retry, &[], 0), "nothing was published\n");
        assert_eq!(report(Action::Drop, &done(LINES_MAX + 7), 0).lines().count(), LINES_MAX + 2);
    }
}
