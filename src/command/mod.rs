//! What the subcommands of `boss` do, over the public [`crate::boss::Boss`] and nothing below it.

pub mod report;
pub mod solve;
pub mod workers;

/// Exit codes that scripts rely on.
pub mod exit {
    /// All answers came and were right in form.
    pub const OK: u8 = 0;
    /// A task failed, or the broker is not there.
    pub const FAILED: u8 = 1;
    /// Bad usage or unreadable input.
    pub const USAGE: u8 = 2;
    /// Interrupted by a signal.
    pub const INTERRUPTED: u8 = 130;
}
