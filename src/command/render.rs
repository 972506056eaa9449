//! `boss render`: a scene in, a picture and a report out.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::exit;
use super::hint::Hints;
use crate::boss::{Boss, Submit};
use crate::files;
use crate::files::picture::{self, Format};
pub use crate::render::setting::{Setting, Size, Sky};
pub use crate::render::tone::{Curve, Tone};
use crate::render::{Failed, Render, Report};
use crate::task::Task;
use crate::tasks::render::TileTask;
use crate::tasks::render::load;

/// Nothing came for so long: look whether anybody works at all.
const HINT_AFTER: Duration = Duration::from_secs(2);

/// The bar moves so often.
const REDRAW: Duration = Duration::from_millis(100);

/// `--preview` writes with the first piece, and then so often at most.
const PREVIEW: Duration = Duration::from_secs(1);

/// What to render, as asked for.
#[derive(Clone, Debug)]
pub struct Input {
    /// The file.
    pub scene: PathBuf,
    /// Where the picture goes.
    pub output: PathBuf,
    /// What is to be made of it.
    pub setting: Setting,
    /// How a PNG shows it.
    pub tone: Tone,
    /// Write it as it comes.
    pub preview: bool,
    /// Go on with what an interrupted run has left.
    pub resume: bool,
}

/// A scene in memory, and what is to be made of it.
pub struct Job {
    render: Arc<Render>,
    output: Output,
    preview: bool,
    /// It goes on with the file of an earlier run, which nobody needs once it is whole.
    resume: bool,
    notes: Vec<String>,
}

/// Where pictures go.
#[derive(Clone)]
struct Output {
    path: PathBuf,
    format: Format,
    tone: Tone,
    size: Size,
}

impl Input {
    /// Reads the scene, and makes sure that the picture can be written, before anything else is begun.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(self) -> Result<Job, String> {
        let format = picture::check(&self.output).map_err(|error| error.to_string())?;
        self.setting.check().map_err(|wrong| format!("--{}: {wrong}", wrong.name))?;
        let in_scene = |text: &dyn fmt::Display| format!("{}: {text}", self.scene.display());
        let loaded = load::file(&self.scene).map_err(|error| error.to_string())?;
        let (request, notes) = self.setting.request(loaded).map_err(|wrong| in_scene(&wrong))?;
        let mut notes: Vec<String> = notes.iter().map(|note| in_scene(note)).collect();
        let render = Arc::new(Render::new(request).map_err(|error| error.to_string())?);
        let output = Output { path: self.output, format, tone: self.tone, size: self.setting.size };
        notes.extend(if self.resume { resume(&render, &output.partial())? } else { output.left_behind() });
        Ok(Job { render, output, preview: self.preview, resume: self.resume, notes })
    }
}

/// Goes on with what is in this file, if it is there.
fn resume(render: &Render, partial: &Path) -> Result<Option<String>, String> {
    let name = partial.display();
    match std::fs::read(partial) {
        Ok(bytes) => {
            let resumed = render.resume(&bytes);
            resumed.map_err(|reason| format!("{name}: {reason}; without --resume it begins anew"))?;
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(Some(format!("there is no {name} to resume, so this begins anew")))
        }
        Err(error) => Err(format!("{name}: can't be read: {error}")),
    }
}

impl Output {
    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(extension);
        self.path.with_file_name(name)
    }

    fn partial(&self) -> PathBuf {
        self.beside(".partial")
    }

    /// What an earlier run has left, and this one does not go on with.
    fn left_behind(&self) -> Option<String> {
        let partial = self.partial();
        partial.exists().then(|| {
            format!(
                "{} of an interrupted run is there, and --resume goes on with it; this run replaces it if it is \
                 interrupted, too",
                partial.display()
            )
        })
    }

    /// Where a preview goes: to the picture's own place, if it is one to be looked at.
    fn preview(&self) -> PathBuf {
        if self.format == Format::Png { self.path.clone() } else { self.beside(".preview.png") }
    }

    fn write_png(&self, path: &Path, means: &[f32]) -> Result<(), files::Error> {
        picture::write_png(path, self.size.width, self.size.height, &self.tone.bytes(means))
    }

    fn write(&self, means: &[f32]) -> Result<(), files::Error> {
        match self.format {
            Format::Png => self.write_png(&self.path, means),
            Format::Exr => picture::write_exr(&self.path, self.size.width, self.size.height, means),
        }
    }
}

/// What `--json` prints: the report, and what became of it.
#[derive(Serialize)]
struct Printed {
    #[serde(flatten)]
    report: Report,
    /// The picture; `null` if it is not whole.
    output: Option<PathBuf>,
    /// What `--resume` can go on with, if it is not.
    partial: Option<PathBuf>,
    /// Why it is not.
    error: Option<String>,
    /// What was said on the way.
    notes: Vec<String>,
}

/// Renders, writes the picture, prints the report, and gives the exit code.
pub async fn run(boss: &Boss, job: Job, how: Submit, json: bool, stop: &CancellationToken) -> u8 {
    let Job { render, output, preview, resume, notes } = job;
    let show = Show::new(boss, render.clone(), notes);
    let writing = Arc::new(tokio::sync::Mutex::new(()));
    let preview = preview.then(|| Preview { render: render.clone(), output: output.clone(), writing: writing.clone() });
    let ended = {
        let say = |text: &str| show.say(text);
        let made = render.run(boss, how, stop, &say);
        tokio::pin!(made);
        tokio::select! {
            ended = &mut made => ended,
            never = show.watch() => never,
            never = Preview::go_on(preview) => never,
        }
    };
    show.bar.finish_and_clear();
    // A preview that is being written would take the place of the picture.
    let last_preview = writing.lock().await;
    let (written, error) = finish(&render, &output, ended, stop, resume);
    drop(last_preview);
    if let Some(error) = &error {
        eprintln!("boss: {error}");
    }
    let there = |path: PathBuf| path.exists().then_some(path);
    let printed = Printed {
        report: render.report(),
        output: written.then(|| output.path.clone()),
        partial: if written { None } else { there(output.partial()) },
        error,
        notes: show.notes.into_inner().unwrap_or_else(PoisonError::into_inner),
    };
    let printed = super::print(&match serde_json::to_string(&printed) {
        Ok(document) if json => document + "\n",
        _ => printed.report.to_string(),
    });
    match () {
        () if written && printed => exit::OK,
        () if stop.is_cancelled() => exit::INTERRUPTED,
        () => exit::FAILED,
    }
}

/// Writes the picture, or what there is of it; says whether it is whole and written, and if not why.
fn finish(
    render: &Render,
    output: &Output,
    ended: Result<(), Failed>,
    stop: &CancellationToken,
    resumed: bool,
) -> (bool, Option<String>) {
    let partial = output.partial();
    let error = match ended {
        Ok(()) if render.is_complete() => match output.write(&render.means()) {
            Ok(()) => {
                if resumed {
                    // There may have been none.
                    let _ = std::fs::remove_file(&partial);
                }
                return (true, None);
            }
            Err(error) => error.to_string(),
        },
        Ok(()) if stop.is_cancelled() => "interrupted".to_owned(),
        Ok(()) => "it ended before it was whole".to_owned(),
        Err(error) => error.to_string(),
    };
    if render.progress().pieces == 0 {
        return (false, Some(error));
    }
    let bytes = render.partial();
    let kept = match files::replace(&partial, |file| file.write_all(&bytes)) {
        Ok(()) => format!("what is done is in {}, and --resume goes on with it", partial.display()),
        Err(lost) => format!("and what is done is lost: {lost}"),
    };
    (false, Some(format!("{error}; {kept}")))
}

/// A picture that is written as it comes.
struct Preview {
    render: Arc<Render>,
    output: Output,
    /// Held while it is written, which goes on when nobody waits for it any more.
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl Preview {
    async fn go_on(preview: Option<Self>) -> Result<(), Failed> {
        let Some(Preview { render, output, writing }) = preview else { return std::future::pending().await };
        let mut shown = 0;
        loop {
            let pieces = render.progress().pieces;
            if pieces == shown {
                tokio::time::sleep(REDRAW).await;
                continue;
            }
            shown = pieces;
            let (render, output) = (render.clone(), output.clone());
            let turn = writing.clone().lock_owned().await;
            let write = move || {
                let _turn = turn;
                output.write_png(&output.preview(), &render.means())
            };
            let written = tokio::task::spawn_blocking(write).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(%error, "no preview");
            }
            tokio::time::sleep(PREVIEW).await;
        }
    }
}

/// The bar, and what is said beside it.
struct Show<'a> {
    boss: &'a Boss,
    render: Arc<Render>,
    bar: ProgressBar,
    drawn: bool,
    notes: Mutex<Vec<String>>,
}

impl<'a> Show<'a> {
    fn new(boss: &'a Boss, render: Arc<Render>, notes: Vec<String>) -> Self {
        let bar = ProgressBar::new(render.progress().samples_all);
        let style = "{wide_bar} {percent:>3} %  {msg}  {rate}  {elapsed} + {eta} to go";
        // The template is a constant that the tests of this crate have drawn.
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // There is nobody to tell when a bar can't be drawn.
            let _ = write!(out, "{:.2} Msamples/s", state.per_sec() / 1e6);
        }));
        let drawn = std::io::stderr().is_terminal();
        if drawn {
            bar.enable_steady_tick(REDRAW);
        }
        // What an earlier run has done is no speed of this one.
        bar.set_position(render.progress().samples);
        bar.reset_eta();
        notes.iter().for_each(|note| eprintln!("boss: {note}"));
        Show { boss, render, bar, drawn, notes: Mutex::new(notes) }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("boss: {text}"));
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    /// Moves the bar, and says why nothing comes.
    async fn watch(&self) -> Result<(), Failed> {
        let mut hints = Hints::default();
        let (mut last, mut since) = (0, Instant::now());
        loop {
            tokio::time::sleep(if self.drawn { REDRAW } else { HINT_AFTER }).await;
            let progress = self.render.progress();
            let running = self.boss.progress() * progress.samples_all as f64 / progress.pieces_all.max(1) as f64;
            self.bar.set_position((progress.samples + running as u64).min(progress.samples_all));
            let workers = self.boss.nodes().len();
            let plural = if workers == 1 { "" } else { "s" };
            self.bar
                .set_message(format!("{}/{} tiles, {workers} worker{plural}", progress.pieces, progress.pieces_all));
            if progress.pieces != last {
                (last, since) = (progress.pieces, Instant::now());
            } else if since.elapsed() >= HINT_AFTER {
                since = Instant::now();
                if let Some(hint) = hints.look(self.boss, &TileTask::KIND).await {
                    self.say(&hint);
                }
            }
        }
    }
}
