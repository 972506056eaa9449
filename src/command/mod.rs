//! What the subcommands of `boss` do, over the public [`crate::boss::Boss`] and nothing below it.

pub mod cancel;
pub mod report;
pub mod solve;
pub mod workers;

/// Writes to stdout; false if it is gone. A reader that has seen enough (`| head`) is no error worth words.
pub(crate) fn print(text: &str) -> bool {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match &written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("boss: can't write to stdout: {error}")
        }
        _ => {}
    }
    written.is_ok()
}

/// Exit codes that scripts rely on.
pub mod exit {
    /// All answers came and were right in form; the task was cancelled.
    pub const OK: u8 = 0;
    /// A task failed, there was none to cancel, or the broker is not there.
    pub const FAILED: u8 = 1;
    /// Bad usage or unreadable input.
    pub const USAGE: u8 = 2;
    /// Interrupted by a signal.
    pub const INTERRUPTED: u8 = 130;
}
