//! `boss cancel`: ends a task, whoever submitted it.

use super::exit;
use crate::boss::Boss;
use crate::broker::Error;
use crate::task::TaskId;

/// Cancels a task, says whether that went, and gives the exit code.
///
/// # Errors
/// The broker's.
pub async fn run(boss: &Boss, broker: &str, task: TaskId, json: bool) -> Result<u8, Error> {
    let cancelled = boss.cancel(task).await?;
    let printed = match (json, cancelled) {
        (true, _) => {
            let document = serde_json::json!({ "task": task.to_string(), "cancelled": cancelled });
            super::print(&format!("{document}\n"))
        }
        (false, true) => super::print(&format!("cancelled {task}\n")),
        (false, false) => true,
    };
    if !cancelled {
        eprintln!(
            "boss: no boss on {broker} waits for task {task}: it has ended, or its boss is gone. If neither is so, check \
             the id, and the host and vhost in --broker"
        );
    }
    Ok(if cancelled && printed { exit::OK } else { exit::FAILED })
}
