//! `boss workers`: who is there.

use std::time::Duration;

use super::exit;
use crate::boss::Boss;
use crate::broker::Error;
use crate::directory::Node;

/// A live worker answers in milliseconds; a second covers a far one.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints the live nodes, as a table or as a JSON array, and gives the exit code.
///
/// # Errors
/// The broker's.
pub async fn run(boss: &Boss, broker: &str, json: bool) -> Result<u8, Error> {
    let nodes = boss.workers(PATIENCE).await?;
    let text = if json {
        serde_json::to_string_pretty(&nodes).map_err(|e| Error::Lost(e.to_string()))? + "\n"
    } else if nodes.is_empty() {
        format!("no workers at {broker}; start one with: worker --broker {broker}\n")
    } else {
        table(&nodes)
    };
    Ok(if super::print(&text) { exit::OK } else { exit::FAILED })
}

fn table(nodes: &[Node]) -> String {
    let head = ["HOST", "ADDRESS", "PID", "CORES", "BUSY", "KINDS", "GFLOP/s", "VERSION", "DONE", "LAST SEEN"];
    let rows = nodes.iter().map(|node| {
        [
            node.host.clone(),
            node.address.clone(),
            node.pid.to_string(),
            node.cores.to_string(),
            format!("{}/{}", node.busy, node.slots),
            node.kinds.join(","),
            format!("{:.0}", node.gflops),
            node.version.clone(),
            node.done.to_string(),
            format!("{:.1} s ago", node.last_seen_seconds),
        ]
    });
    super::table::table(head, rows)
}
