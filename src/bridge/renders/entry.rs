//! One picture: how far it is, and what came of it.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::budget::Reservation;
use super::super::problem::Problem;
use super::RenderState;
use crate::render::setting::Size;
use crate::render::{Render, Report};
use crate::task::TaskId;

/// Remarks on a picture, at most: there may be one for each tile.
const NOTES_MAX: usize = 200;

/// One picture.
pub(in super::super) struct Entry {
    pub id: TaskId,
    pub size: Size,
    pub created: Timestamp,
    /// Calls its tiles off. It has ended soon after.
    pub stop: CancellationToken,
    pub(super) memory: Reservation,
    notes: Mutex<Vec<String>>,
    phase: watch::Sender<Phase>,
}

/// How far it is.
#[derive(Clone)]
pub(in super::super) enum Phase {
    Running(Arc<Render>),
    Ended(Arc<Ended>),
}

/// What came of it.
pub(in super::super) struct Ended {
    pub at: Timestamp,
    pub state: RenderState,
    pub error: Option<Problem>,
    pub report: Report,
    pub percent: f64,
    /// As [`Render::means`]; not all of it is there if it was cancelled or has failed.
    pub means: Box<[f32]>,
}

impl Entry {
    pub(super) fn new(
        size: Size,
        render: Arc<Render>,
        notes: Vec<String>,
        memory: Reservation,
        stop: CancellationToken,
    ) -> Self {
        let (notes, phase) = (Mutex::new(notes), watch::Sender::new(Phase::Running(render)));
        Entry { id: TaskId::random(), size, created: Timestamp::now(), stop, memory, notes, phase }
    }

    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.size.width) * u64::from(self.size.height)
    }

    pub(super) fn note(&self, text: &str) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES_MAX {
            notes.push(text.to_owned());
        }
    }

    /// What was said of it so far.
    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it is doing now.
    pub(in super::super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(super) fn end(&self, ended: Ended) {
        self.phase.send_replace(Phase::Ended(Arc::new(ended)));
    }

    /// Waits until it has ended.
    pub(in super::super) async fn ended(&self) {
        // The entry holds the sender.
        let _ = self.phase.subscribe().wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
    }
}
