//! Whether a connection is alive, and what ended it. Must not touch: any broker.
//!
//! Invariant: a [`Life`] ends once, and the first reason given is the one that everybody is told.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use super::Error;

/// The life of one connection, shared by all that works on it.
#[derive(Debug, Default)]
pub(super) struct Life {
    ended: CancellationToken,
    reason: OnceLock<String>,
}

impl Life {
    /// Ends it, for good.
    pub(super) fn end(&self, reason: impl Into<String>) {
        // A second reason is an echo of the first (the other socket closing, a task noticing): keep the first.
        let _ = self.reason.set(reason.into());
        self.ended.cancel();
    }

    /// Why it ended, if it has.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.ended.is_cancelled() { Err(self.error()) } else { Ok(()) }
    }

    /// Resolves when it has ended.
    pub(super) async fn ended(&self) -> Error {
        self.ended.cancelled().await;
        self.error()
    }

    fn error(&self) -> Error {
        Error::Lost(self.reason.get().cloned().unwrap_or_else(|| "it was closed".to_owned()))
    }
}
