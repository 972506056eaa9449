//! Whether a worker does its work: readiness means that it consumes, not that its process is alive. Pure.

/// How a worker is, as it says itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Work queues that it consumes from at the moment,
    pub consuming: usize,
    /// of so many.
    pub queues: usize,
    /// It was told to stop, and takes nothing new.
    pub draining: bool,
    /// Why it does not consume, or did not for a moment: what was last said.
    pub reason: Option<String>,
}

impl Health {
    /// Whether tasks get to it from every one of its queues.
    pub fn is_ready(&self) -> bool {
        !self.draining && self.queues > 0 && self.consuming == self.queues
    }
}
