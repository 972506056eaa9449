//! A picture as its URL shows it.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::problem::Problem;
use super::{Entry, Phase};
use crate::render::{Render, Report};

/// How far a picture is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum RenderState {
    /// Its tiles are with the workers, or wait for one.
    Running,
    /// All of it is there.
    Done,
    /// A tile of it can't be had, and `error` says why.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl RenderState {
    /// As the metrics have it.
    pub(super) fn outcome(self) -> &'static str {
        match self {
            RenderState::Running => "running",
            RenderState::Done => "ok",
            RenderState::Failed => "failed",
            RenderState::Cancelled => "cancelled",
        }
    }
}

/// A picture, without its pixels.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in super::super) struct RenderView {
    /// Its id, 32 hexadecimal digits.
    #[schema(example = "00112233445566778899aabbccddeeff")]
    render: String,
    state: RenderState,
    /// What is done of it, in per cent of its samples.
    #[schema(minimum = 0, maximum = 100)]
    percent: f64,
    /// When it was submitted.
    created: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<Timestamp>,
    /// What there is to be said: what of the scene is not shown, what was added to it, workers that compute other bits.
    notes: Vec<String>,
    /// Tiles, rays, and who made how much.
    report: Report,
    /// Why it is not whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

impl RenderView {
    pub(in super::super) fn of(entry: &Entry) -> Self {
        let (render, created, notes) = (entry.id.to_string(), entry.created, entry.notes());
        match entry.phase() {
            Phase::Running(making) => {
                let (percent, report) = (percent(&making), making.report());
                let state = RenderState::Running;
                RenderView { render, state, percent, created, finished: None, notes, report, error: None }
            }
            Phase::Ended(ended) => RenderView {
                render,
                state: ended.state,
                percent: ended.percent,
                created,
                finished: Some(ended.at),
                notes,
                report: ended.report.clone(),
                error: ended.error.clone(),
            },
        }
    }

    pub(in super::super) fn is_running(&self) -> bool {
        self.state == RenderState::Running
    }

    /// Whether there is something to tell after the other one. Its clock alone is not.
    pub(in super::super) fn differs(&self, other: &Self) -> bool {
        let told = |view: &Self| (view.state, view.report.pieces_done, view.notes.len());
        told(self) != told(other)
    }
}

/// Samples that are done, of all.
pub(super) fn percent(render: &Render) -> f64 {
    let progress = render.progress();
    let share = progress.samples as f64 / progress.samples_all.max(1) as f64;
    // 100 is said of what is whole, and of nothing else.
    let percent = (share * 1000.0).round() / 10.0;
    if progress.pieces < progress.pieces_all { percent.min(99.9) } else { percent }
}
