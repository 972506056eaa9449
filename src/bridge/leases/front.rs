//! The front of an outside worker: the handler that its session in this process computes with.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Shared;
use super::table::{Held, Number, Verdict};
use crate::task::{Blob, Format, HandBack, Handler, Kind, Plan, TaskError, Watch};

/// Offers tasks of one kind to an outside worker, and waits for what comes of them.
pub(super) struct Front {
    /// Knows a right task when it sees one.
    pub(super) kind: Arc<dyn Handler>,
    pub(super) session: Number,
    pub(super) shared: Arc<Shared>,
}

impl Handler for Front {
    fn kind(&self) -> Kind {
        self.kind.kind()
    }

    /// Nobody has measured it.
    fn gflops(&self) -> f64 {
        0.0
    }

    /// As if it were computed here: the answer, and both in another form, take about as much as the work space would.
    fn plan(&self, format: Format, params: &[u8], payload_bytes: u64, _: usize) -> Result<Plan, TaskError> {
        self.kind.plan(format, params, payload_bytes, 1)
    }

    /// Holds its compute thread for as long as the outside worker computes: it is a thread that does nothing, and the
    /// rules of a worker hold for it as they are.
    fn run(&self, task: Blob, _: usize, watch: &Watch) -> Result<Blob, TaskError> {
        match self.offer(task, watch).blocking_recv() {
            Ok(Verdict::Outcome(result)) => result,
            Ok(Verdict::Back(how)) => self.back(watch, how),
            // The table gives each task a verdict; without one nobody has begun it.
            Err(_) => self.back(watch, HandBack::Uncounted),
        }
    }
}

impl Front {
    /// What comes of it comes to the receiver.
    pub(super) fn offer(&self, task: Blob, watch: &Watch) -> oneshot::Receiver<Verdict> {
        let (verdict, came) = oneshot::channel();
        let held = Held { kind: self.kind.kind(), blob: task, watch: watch.clone(), verdict };
        self.shared.table().offer(self.session, held);
        came
    }

    fn back(&self, watch: &Watch, how: HandBack) -> Result<Blob, TaskError> {
        watch.hand_back(how);
        // Dropped by the worker.
        Err(TaskError::Cancelled)
    }
}
