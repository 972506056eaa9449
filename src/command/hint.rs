//! What a person should hear when nothing comes back.

use std::time::Duration;

use crate::boss::Boss;
use crate::task::Kind;

/// A question to the workers waits no longer for the broker to take it.
const ASK: Duration = Duration::from_millis(200);

/// Says each thing once.
#[derive(Default)]
pub(super) struct Hints {
    blocked: bool,
    no_worker: bool,
}

impl Hints {
    /// Why it may be that nothing was answered for a while, if that was not said before.
    pub(super) async fn look(&mut self, boss: &Boss, kind: &Kind) -> Option<String> {
        if let Some(reason) = boss.blocked() {
            let said = std::mem::replace(&mut self.blocked, true);
            return (!said).then(|| format!("the broker takes no messages at the moment ({reason}); waiting for it"));
        }
        // RabbitMQ tells of an alarm only who publishes, and everything may be published by now. The next look knows more.
        let _ = tokio::time::timeout(ASK, boss.workers(Duration::ZERO)).await;
        if !self.no_worker && matches!(boss.consumers(kind.as_str()).await, Ok(0)) {
            self.no_worker = true;
            return Some(format!(
                "no worker takes {kind} tasks yet; they wait in the queue. Start one: worker --broker URL"
            ));
        }
        None
    }
}
