//! The pictures that the bridge makes, from their submission until nobody wants to see them any more.
//!
//! They live in memory: a restart of the bridge forgets them. Invariants: a picture has the memory it takes for as long as
//! it is kept, or is not begun; it ends once, and then no tile of it is with the workers.

mod entry;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::blocking;
use super::body::no_room;
use super::budget::{Budget, Reservation};
use super::metrics::Metrics;
use super::problem::Problem;
use crate::boss::{Boss, Submit};
use crate::files;
use crate::render::setting::{Setting, Wrong};
use crate::render::tone::Tone;
use crate::render::{Failed, Render};
use crate::task::{Priority, Task, TaskId};
use crate::tasks::render::{TileTask, load};
use entry::Ended;
pub(super) use entry::{Entry, Phase};
pub(super) use view::{RenderState, RenderView};

/// Pictures that are made at a time. They share the pool: more of them are not sooner done.
const RUNNING_MAX: usize = 64;

/// Scenes that are read at a time: a short file may stand for a large scene, which nobody knows before.
const READING_MAX: usize = 2;

/// What a picture takes beside its pixels: its notes, above all.
const ENTRY_BYTES: u64 = 32 << 10;

/// Memory for a .png in the making, a pixel: its numbers, the same in 8 bits, and the file.
const PNG_PIXEL_BYTES: u64 = 12 + 3 + 4;

/// All of them.
pub(super) struct Renders {
    boss: Arc<Boss>,
    budget: Budget,
    metrics: Metrics,
    /// An ended one is kept so long.
    keep_for: Duration,
    entries: Mutex<HashMap<TaskId, Arc<Entry>>>,
    turns: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    running: TaskTracker,
    /// The bridge is going down.
    stop: CancellationToken,
}

/// Room for a picture that is about to be submitted.
pub(super) struct Room {
    setting: Setting,
    turn: OwnedSemaphorePermit,
    picture: Reservation,
}

impl Renders {
    pub(super) fn new(
        boss: Arc<Boss>,
        budget: Budget,
        metrics: Metrics,
        keep_for: Duration,
        stop: CancellationToken,
    ) -> Self {
        Renders {
            boss,
            budget,
            metrics,
            keep_for,
            entries: Mutex::default(),
            turns: Arc::new(Semaphore::new(RUNNING_MAX)),
            reading: Arc::new(Semaphore::new(READING_MAX)),
            running: TaskTracker::new(),
            stop,
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<Entry>>> {
        // One call changes it at a time, and leaves it whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for such a picture: to be asked for before its scene is read.
    pub(super) fn room(&self, setting: Setting) -> Result<Room, Problem> {
        if self.stop.is_cancelled() {
            return Err(Problem::stopping());
        }
        setting.check().map_err(wrong_setting)?;
        let turn = self.turns.clone().try_acquire_owned().map_err(|_| {
            Problem::busy(5, format!("{RUNNING_MAX} pictures are being made; ask again when one of them has ended"))
        })?;
        let picture = self.budget.reserve(setting.picture_bytes().saturating_add(ENTRY_BYTES)).map_err(no_room)?;
        Ok(Room { setting, turn, picture })
    }

    /// Reads a scene, and begins with its picture.
    pub(super) async fn begin(
        self: &Arc<Self>,
        room: Room,
        scene: Vec<u8>,
        memory: Arc<Reservation>,
        priority: Priority,
    ) -> Result<Arc<Entry>, Problem> {
        let Room { setting, turn, picture } = room;
        // The semaphore is never closed.
        let reading = self.reading.clone().acquire_owned().await.ok();
        // Even a short one may take long: never here.
        let (request, notes) = blocking::run(u64::MAX, &memory, move || {
            let _reading = reading;
            let loaded = load::bytes(&scene).map_err(|error| Problem::invalid(error.to_string()))?;
            drop(scene);
            setting.request(loaded).map_err(|wrong| Problem::invalid(format!("the scene: {wrong}")).at(wrong.name))
        })
        .await?;
        let scene_bytes = request.scene.len_bytes();
        memory.shrink_to(scene_bytes);
        memory.grow_to(scene_bytes).map_err(no_room)?;
        let render = Arc::new(Render::new(request).map_err(Problem::from)?);
        let entry = Arc::new(Entry::new(setting.size, render.clone(), notes, picture, self.stop.child_token()));
        {
            // The bridge waits for those that are in when it stops, and lets none in later.
            let mut entries = self.entries();
            if self.running.is_closed() {
                return Err(Problem::stopping());
            }
            entries.insert(entry.id, entry.clone());
            self.running.spawn(self.clone().make(entry.clone(), render, memory, turn, priority));
        }
        self.metrics.submitted(&TileTask::KIND);
        Ok(entry)
    }

    /// Makes a picture, and forgets it when its time is over.
    async fn make(
        self: Arc<Self>,
        entry: Arc<Entry>,
        render: Arc<Render>,
        memory: Arc<Reservation>,
        turn: OwnedSemaphorePermit,
        priority: Priority,
    ) {
        let how = Submit { priority, ..Submit::default() };
        let (boss, making, made) = (self.boss.clone(), entry.clone(), render.clone());
        // A task of its own: if it breaks, the picture still ends.
        let run = async move { made.run(&boss, how, &making.stop, &|text| making.note(text)).await };
        let error = match tokio::spawn(run).await {
            Ok(Ok(())) => None,
            // Its tiles end so when the bridge does.
            Ok(Err(_)) if entry.stop.is_cancelled() => None,
            Ok(Err(failed)) => Some(problem(&failed)),
            Err(error) => Some(broken(&error)),
        };
        self.end(&entry, render, error).await;
        // The scene is nobody's any more, nor is the turn.
        drop((memory, turn));
        let id = entry.id;
        // Whoever forgets it gives its memory back at once.
        drop(entry);
        if self.stop.run_until_cancelled(tokio::time::sleep(self.keep_for)).await.is_some() {
            self.entries().remove(&id);
        }
    }

    /// What is there is kept as it is seen, in half the memory.
    async fn end(&self, entry: &Entry, render: Arc<Render>, error: Option<Problem>) {
        let pixels = entry.pixels();
        let means = {
            let render = render.clone();
            tokio::task::spawn_blocking(move || render.means()).await
        };
        let (means, error) = match means {
            Ok(means) => (means, error),
            Err(defect) => (Vec::new(), error.or_else(|| Some(broken(&defect)))),
        };
        let (report, percent) = (render.report(), view::percent(&render));
        let state = match () {
            () if error.is_some() => RenderState::Failed,
            () if report.complete => RenderState::Done,
            () => RenderState::Cancelled,
        };
        self.metrics.ended_as(&TileTask::KIND, state.outcome());
        entry.end(Ended { at: jiff::Timestamp::now(), state, error, report, percent, means: means.into() });
        drop(render);
        entry.memory.shrink_to(pixels * 12 + ENTRY_BYTES);
    }

    /// The picture of this id.
    pub(super) fn find(&self, id: TaskId) -> Option<Arc<Entry>> {
        self.entries().get(&id).cloned()
    }

    /// Nobody wants to see it any more.
    pub(super) fn remove(&self, entry: &Entry) {
        self.entries().remove(&entry.id);
    }

    /// What is there of a picture, as a .png, and the memory that it takes until it is sent.
    pub(super) async fn png(&self, entry: &Entry, tone: Tone) -> Result<(Bytes, Arc<Reservation>), Problem> {
        let bytes = entry.pixels() * PNG_PIXEL_BYTES;
        let memory = Arc::new(self.budget.reserve(bytes).map_err(no_room)?);
        let (phase, size) = (entry.phase(), entry.size);
        let png = blocking::run(bytes, &memory, move || {
            let rgb = match phase {
                Phase::Running(render) => tone.bytes(&render.means()),
                Phase::Ended(ended) => tone.bytes(&ended.means),
            };
            files::picture::png(size.width, size.height, &rgb)
        });
        Ok((png.await.map_err(Problem::internal)?.into(), memory))
    }

    /// Waits until every picture has ended: all were told to stop. No new one is begun.
    pub(super) async fn settled(&self) {
        {
            let _entries = self.entries();
            self.running.close();
        }
        self.running.wait().await;
    }
}

fn wrong_setting(wrong: Wrong) -> Problem {
    Problem::bad_request(wrong.reason).at(wrong.name)
}

fn problem(failed: &Failed) -> Problem {
    Problem::from(failed.error.clone()).saying(failed.to_string())
}

fn broken(error: &tokio::task::JoinError) -> Problem {
    tracing::error!(%error, "a picture broke");
    Problem::internal("this picture met a defect of the bridge; its log says more")
}
