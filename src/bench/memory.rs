//! Peak resident memory of this process and of the workers on this machine, as Linux counts it. Elsewhere, of workers on
//! other machines, and of those of another user there is no figure.

use std::fs;

use crate::directory::Node;

/// Processes that are watched: their peaks from now on.
pub(super) struct Watched {
    own: bool,
    workers: Vec<u32>,
}

impl Watched {
    /// Sets the peaks of this process, and of those of `nodes` that run here, back to what is resident now.
    pub(super) fn start(nodes: &[Node]) -> Self {
        let host = gethostname::gethostname();
        let here = nodes.iter().filter(|node| *node.host == *host.to_string_lossy() && is_worker(node.pid));
        let workers = here.map(|node| node.pid).filter(|pid| reset(*pid)).collect();
        Watched { own: reset(std::process::id()), workers }
    }

    /// Bytes of this process, and of the largest worker with a process of its own.
    pub(super) fn peaks(&self) -> (Option<u64>, Option<u64>) {
        (
            self.own.then(|| peak_bytes(std::process::id())).flatten(),
            self.workers.iter().filter_map(|pid| peak_bytes(*pid)).max(),
        )
    }
}

/// A container may have the host's name and other pids.
fn is_worker(pid: u32) -> bool {
    pid != std::process::id()
        && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "worker")
}

/// 5 is for the peak (proc_pid_clear_refs(5)). Where it is not allowed the peak would be that of the process's life: false.
fn reset(pid: u32) -> bool {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok()
}

fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_touched_and_given_back_is_in_the_peak() {
        let touched = |bytes: usize| std::hint::black_box(vec![1u8; bytes]).len() as u64;
        let before = Watched::start(&[]);
        let most = touched(200 << 20);
        let (peak, workers) = before.peaks();
        assert!(peak.is_some_and(|bytes| bytes >= most), "{peak:?}");
        assert_eq!(workers, None);
    }

    #[test]
    fn a_process_that_is_no_worker_is_not_asked() {
        assert!(!is_worker(std::process::id()) && !is_worker(1));
    }
}
