//! What the handler of a task is asked, and what it comes to: the plan, the run, the outcome.
//!
//! Must not touch: the broker, what else waits. Invariant: a panic of a handler is an outcome.

use std::sync::Arc;

use super::{Answer, Back, Ran, Ready};
use crate::task::{Blob, HandBack, Handler, MAX_PARAMS, Plan, TaskError, WorkerTimes, ambient, monotonic_ns};
use crate::transport::incoming::Job;
use crate::wire::{OutcomeHead, TaskHead};
use crate::worker::Worker;
use crate::worker::compute::catch;
use crate::worker::running::Entered;

/// Why a handler that is a front for somebody else hands a task back.
const GIVEN_UP: &str = "who computed it was lost, or silent for too long";

/// What a task takes, by its head alone.
pub(super) fn plan(worker: &Worker, head: &TaskHead) -> Result<(Arc<dyn Handler>, Plan), TaskError> {
    let handler = worker.registry.find(&head.kind)?;
    if head.params.len() > MAX_PARAMS {
        return Err(TaskError::Invalid(format!("{} bytes of parameters, {MAX_PARAMS} are allowed", head.params.len())));
    }
    let plan = catch(|| handler.plan(head.format, &head.params, head.payload_bytes, worker.options.threads))?;
    let shared_bytes = plan.shared.map_or(0, |shared| shared.memory_bytes);
    worker.memory.check(plan.memory_bytes.saturating_add(shared_bytes))?;
    Ok((handler.clone(), plan))
}

/// Has a task computed. On a compute thread.
pub(super) fn run_one(worker: &Worker, job: Ready, threads: usize) -> (Ran, Entered) {
    let Ready { head, payload, shared, handler, entered, received_ns, fetched_ns } = job;
    if let Err(error) = entered.watch.check() {
        return (Ran::Answer(finish(worker, &head, Err(error), None)), entered);
    }
    // What was pulled is pulled again by the next.
    let inline = head.pull_from.is_none().then(|| payload.clone());
    let payload = if shared.is_none() { vec![payload] } else { Vec::new() };
    let blob = Blob { format: head.format, params: head.params.clone(), payload };
    let started_ns = monotonic_ns();
    let result = catch(|| match &shared {
        None => handler.run(blob, threads, &entered.watch),
        Some(shared) => handler.run_on(&shared.prepared, blob, threads, &entered.watch),
    });
    let ran = match entered.watch.handed_back() {
        Some(HandBack::Uncounted) => Ran::Back(Job { head, payload: inline }, Back::Uncounted),
        Some(HandBack::Counted) => Ran::Back(Job { head, payload: inline }, Back::Counted(GIVEN_UP.to_owned())),
        None => {
            let ended_ns = monotonic_ns();
            let (decoded_ns, computed_ns) = entered.watch.marks_ns();
            let decoded_ns = decoded_ns.clamp(started_ns, ended_ns);
            let computed_ns = if computed_ns == 0 { ended_ns } else { computed_ns.clamp(decoded_ns, ended_ns) };
            let times = WorkerTimes { received_ns, fetched_ns, started_ns, decoded_ns, computed_ns, sent_ns: ended_ns };
            Ran::Answer(finish(worker, &head, result, Some(times)))
        }
    };
    (ran, entered)
}

/// An outcome, without what is filled in on its way; `times` of a task that a handler ran, which has just ended.
pub(super) fn finish(
    worker: &Worker,
    head: &TaskHead,
    result: Result<Blob, TaskError>,
    times: Option<WorkerTimes>,
) -> Answer {
    let (blob, error) = match result {
        Ok(blob) => (blob, None),
        Err(error) => (Blob::default(), Some(error)),
    };
    let outcome = OutcomeHead {
        id: head.id,
        run: ambient::random(),
        worker: worker.identity.worker.clone(),
        compute_ns: times.map_or(0, |times| times.sent_ns.saturating_sub(times.started_ns)),
        times,
        error,
        format: head.format,
        // Filled in by whoever sends it.
        payload_bytes: 0,
        checksum: None,
        in_parts: false,
        params: blob.params,
    };
    Answer { head: outcome, payload: blob.payload, sent_unix_ms: head.sent_unix_ms }
}
