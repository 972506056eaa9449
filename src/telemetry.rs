//! Logs to stderr, and the signals that end a program. Only `bin/` imports this.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Logs at `level` and above unless `RABBITRY_LOG` says otherwise (`debug`, `rabbitry::worker=trace`, ...).
///
/// lapin is silent unless it is named there: it logs returned messages with their whole body, and its errors come to us
/// as values anyway.
pub fn log_to_stderr(level: &str) {
    let wanted = std::env::var("RABBITRY_LOG").unwrap_or_else(|_| level.to_owned());
    let wanted = if wanted.contains("lapin") { wanted } else { format!("{wanted},lapin=off") };
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
        eprintln!("RABBITRY_LOG: {error}; logging at {level}");
        EnvFilter::new(format!("{level},lapin=off"))
    });
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).init();
}

/// Cancelled by the first SIGINT or SIGTERM; the second ends the process at once.
///
/// # Errors
/// The system's, if it lets nobody listen to signals.
pub fn shutdown_on_signal() -> std::io::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            if first {
                token.cancel();
            } else {
                std::process::exit(130);
            }
        }
    });
    Ok(shutdown)
}
