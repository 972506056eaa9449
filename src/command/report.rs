//! What came of a run of tasks: figures for people, and the same for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::task::{TaskError, TaskId, WorkerRef};
use crate::tasks::solve::Certificate;

/// At most so many failures, and warnings, are listed for people; `--json` lists all.
const FAILURES_SHOWN: usize = 10;

/// The summary of `boss solve`; its fields are the object that `--json` prints.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// Tasks submitted or refused.
    pub tasks: u64,
    /// Answered and right in form.
    pub ok: u64,
    /// Not answered.
    pub failed: u64,
    /// From the first submission to the last outcome.
    pub seconds: f64,
    /// Answers per second.
    pub tasks_per_second: f64,
    /// Floating point operations of the answered tasks (2/3 n^3 + 2 n^2 m each) per second of wall time, in 1e9.
    pub gflops: f64,
    /// The worst normwise backward error; `null` if there is no answer.
    pub max_backward_error: Option<f64>,
    /// The smallest reciprocal condition; `null` if there is no answer.
    pub min_rcond: Option<f64>,
    /// The largest bound of a forward error; `null` if there is no answer, or one without a bound.
    pub max_forward_error_bound: Option<f64>,
    /// Answers by method.
    pub methods: BTreeMap<String, u64>,
    /// Answers not to be trusted blindly.
    pub warnings: Vec<Warning>,
    /// Who computed how much.
    pub workers: Vec<Share>,
    /// What failed.
    pub failures: Vec<Failure>,
    #[serde(skip)]
    flops: f64,
    #[serde(skip)]
    by_worker: BTreeMap<String, Share>,
}

/// One worker's share.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Share {
    /// Its id.
    pub id: String,
    /// Its host name.
    pub host: String,
    /// Tasks it answered.
    pub tasks: u64,
    /// Seconds its handler ran, all threads' tasks added up.
    pub compute_seconds: f64,
}

/// An answer not to be trusted blindly.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Warning {
    /// The task's id.
    pub task: String,
    /// Why, in words.
    pub message: String,
}

/// A task without an answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Failure {
    /// Its id; empty if it was refused before it had one.
    pub task: String,
    /// The error's code.
    pub error: &'static str,
    /// The error in words.
    pub message: String,
}

impl Report {
    /// Counts an answer.
    pub fn answered(&mut self, task: TaskId, flops: f64, certificate: &Certificate) {
        let bound = certificate.forward_error_bound;
        let worst_bound = if self.ok == 0 { Some(0.0) } else { self.max_forward_error_bound };
        self.max_forward_error_bound = worst_bound.zip(bound).map(|(worst, bound)| worst.max(bound));
        self.tasks += 1;
        self.ok += 1;
        self.flops += flops;
        let worst = self.max_backward_error.unwrap_or(0.0);
        self.max_backward_error = Some(worst.max(certificate.backward_error));
        self.min_rcond = Some(self.min_rcond.unwrap_or(1.0).min(certificate.rcond));
        *self.methods.entry(certificate.method.to_string()).or_default() += 1;
        let warning = certificate.warning().map(|message| Warning { task: task.to_string(), message });
        self.warnings.extend(warning);
    }

    /// Counts a failure.
    pub fn failed(&mut self, task: Option<TaskId>, error: &TaskError) {
        self.tasks += 1;
        self.failed += 1;
        let task = task.map_or_else(String::new, |id| id.to_string());
        self.failures.push(Failure { task, error: error.code(), message: error.to_string() });
    }

    /// Counts those of `count` tasks that have no outcome as failed, with one entry for all of them.
    pub fn interrupted(&mut self, count: u64) {
        let unanswered = count.saturating_sub(self.tasks);
        if unanswered > 0 {
            self.tasks += unanswered;
            self.failed += unanswered;
            let message = format!("interrupted; {unanswered} tasks had no answer yet");
            self.failures.push(Failure { task: String::new(), error: TaskError::Shutdown.code(), message });
        }
    }

    /// Adds to a worker's share.
    pub fn computed_by(&mut self, worker: &WorkerRef, compute_seconds: f64) {
        let fresh = || Share { id: worker.id.clone(), host: worker.host.clone(), tasks: 0, compute_seconds: 0.0 };
        let share = self.by_worker.entry(worker.id.clone()).or_insert_with(fresh);
        share.tasks += 1;
        share.compute_seconds += compute_seconds;
    }

    /// Works out the rates.
    pub fn finish(&mut self, wall: Duration) {
        self.seconds = wall.as_secs_f64();
        let per_second = |amount: f64| if self.seconds > 0.0 { amount / self.seconds } else { 0.0 };
        self.tasks_per_second = per_second(self.ok as f64);
        self.gflops = per_second(self.flops / 1e9);
        self.workers = self.by_worker.values().cloned().collect();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tasks           {} ({} ok, {} failed)", self.tasks, self.ok, self.failed)?;
        writeln!(f, "wall time       {:.3} s", self.seconds)?;
        writeln!(f, "throughput      {:.1} tasks/s, {:.1} GFLOP/s", self.tasks_per_second, self.gflops)?;
        if let Some(error) = self.max_backward_error {
            writeln!(f, "backward error  {error:.1e} at worst")?;
        }
        if let Some(rcond) = self.min_rcond {
            let bound = self.max_forward_error_bound;
            let bound =
                bound.map_or("no bound of the error".to_owned(), |bound| format!("error of X below {bound:.1e}"));
            writeln!(f, "condition       rcond {rcond:.1e} at worst, {bound}")?;
            let methods: Vec<_> = self.methods.iter().map(|(method, count)| format!("{method} {count}")).collect();
            writeln!(f, "methods         {}", methods.join(", "))?;
        }
        let answered: u64 = self.workers.iter().map(|share| share.tasks).sum();
        for share in &self.workers {
            let percent = 100.0 * share.tasks as f64 / answered.max(1) as f64;
            writeln!(
                f,
                "worker          {}: {} tasks ({percent:.0} %), {:.2} s computing",
                share.id, share.tasks, share.compute_seconds
            )?;
        }
        for warning in self.warnings.iter().take(FAILURES_SHOWN) {
            writeln!(f, "warning         {}: {}", warning.task, warning.message)?;
        }
        if self.warnings.len() > FAILURES_SHOWN {
            writeln!(f, "                ... and {} more; --json lists all", self.warnings.len() - FAILURES_SHOWN)?;
        }
        for failure in self.failures.iter().take(FAILURES_SHOWN) {
            writeln!(f, "failed          {}: {}", or_dash(&failure.task), failure.message)?;
        }
        if self.failures.len() > FAILURES_SHOWN {
            writeln!(f, "                ... and {} more; --json lists all", self.failures.len() - FAILURES_SHOWN)?;
        }
        Ok(())
    }
}

fn or_dash(id: &str) -> &str {
    if id.is_empty() { "-" } else { id }
}
