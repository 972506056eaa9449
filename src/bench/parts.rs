//! The parts of a run, one after another: what has a turn in each, and where its rows go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::break_even::break_even;
use super::compute::{self, Baseline, Identity, METHODS, Ours, Theirs};
use super::cost::Sending;
use super::model::{Part, Settings};
use super::payload::Form;
use super::peers::{self, Entrant, Peer};
use super::pool::Setting;
use super::program::{self, Program};
use super::rounds::Contestant;
use super::stand::{Crew, Ground, Stand};
use super::{Bench, SLICE_SECONDS, clock, job};
use crate::broker::Error;
use crate::broker::embedded::EmbeddedBroker;
use crate::tasks::solve::System;

/// Baselines are set up by then, a download and a compilation included.
const BASELINE_LIMIT: Duration = Duration::from_secs(600);

/// A QR, a Cholesky and all that of a larger system take too long for what they tell.
const METHODS_N_MAX: usize = 2000;

/// The break-even is looked for among so many workers.
const WORKERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

impl Bench {
    pub(super) fn note_the_place(&mut self) {
        let manned = self.away.as_ref().map(|ground| ground.manned);
        let note = match manned {
            Some(true) => {
                "the workers that run on the broker were used as they are; stop them, and the bench starts workers of its \
                 own and varies their number and prefetch"
            }
            Some(false) => {
                "no worker runs on the broker: the bench used workers of its own, in this process, and peak memory is that of \
                 both"
            }
            None => {
                "embedded: boss and workers are one process, and nothing is sent; with --broker the way through RabbitMQ is \
                 measured, and when it pays"
            }
        };
        self.note(note);
        if self.report.machine.load > 0.5 * self.report.machine.cores as f64 {
            self.note(&format!(
                "the machine was busy when this began (load average {:.1} on {} cores): figures may be worse than it can do",
                self.report.machine.load, self.report.machine.cores
            ));
        }
    }

    fn note(&mut self, note: &str) {
        if !self.report.notes.iter().any(|other| other == note) {
            self.report.notes.push(note.to_owned());
        }
    }

    /// Where tasks of the pool go: through the broker, if there is one.
    fn ground(&self) -> Arc<Ground> {
        self.away.clone().unwrap_or_else(|| self.here.clone())
    }

    /// False if one of them could not be measured.
    pub(super) async fn all_parts(&mut self) -> bool {
        let mut is_whole = true;
        let parts = self.plan.parts.clone();
        for part in parts {
            if self.stop.is_cancelled() {
                break;
            }
            let done = match part {
                Part::Payload => self.payload().await,
                Part::Compute => self.compute().await,
                Part::Pool => self.pool().await,
                Part::BreakEven => self.break_even().await,
                Part::Peers => self.peers().await,
            };
            if let Err(why) = done {
                self.progress.say(&why);
                self.note(&why);
                is_whole = false;
            }
        }
        is_whole
    }

    async fn opened(&self, ground: &Ground, part: &str) -> Result<Stand, String> {
        self.opened_with(ground, ground.usual(), part).await
    }

    async fn opened_with(&self, ground: &Ground, crew: Crew, part: &str) -> Result<Stand, String> {
        let opened = self.stop.run_until_cancelled(ground.open(crew)).await;
        let opened = opened.unwrap_or_else(|| Err(Error::Lost("interrupted".into())));
        opened.map_err(|error| format!("{part}: {error}"))
    }

    fn systems(&self, n: usize) -> Result<Arc<[System]>, String> {
        self.progress.doing(&format!("making systems of N={n}"));
        Ok(job::systems(n, self.plan.settings.seed).map_err(|error| error.to_string())?.into())
    }

    async fn payload(&mut self) -> Result<(), String> {
        let stand = Arc::new(self.opened(&self.ground(), "payload").await?);
        let mut done: Vec<Form> = Vec::new();
        for n in self.plan.settings.sizes.clone() {
            let systems = self.systems(n)?;
            let forms = self.plan.settings.payloads.iter();
            let mut forms: Vec<Form> =
                forms.map(|&payload| Form::new(stand.clone(), systems.clone(), n, payload)).collect();
            self.progress.run(&mut forms, &self.stop).await;
            done.extend(forms);
            if self.stop.is_cancelled() {
                break;
            }
        }
        // Of all tasks together: the fastest ones say most of another host's clock.
        let offsets = clock::offsets(done.iter().flat_map(Form::trips));
        clock::in_words(&offsets).iter().for_each(|note| self.note(note));
        self.report.payload.extend(done.iter().map(|form| form.row(&offsets)));
        drop(done);
        close(stand).await;
        Ok(())
    }

    async fn compute(&mut self) -> Result<(), String> {
        let cores = self.here.pool.threads;
        let mut threads = vec![1, cores];
        threads.dedup();
        for threads in threads {
            // A broker of its own each: another stand would take its tasks.
            let stand = async |slots: usize| {
                let ground = Ground { broker: Arc::new(EmbeddedBroker::new()), ..(*self.here).clone() };
                let crew = Crew { workers: 1, slots, threads: slots, prefetch: None };
                self.opened_with(&ground, crew, "compute").await.map(Arc::new)
            };
            // What a worker would compute on one thread has nothing beside it here.
            let (narrow, wide) = (stand(1).await?, stand(threads).await?);
            let baselines = self.baselines(threads).await;
            for n in self.plan.settings.sizes.clone() {
                if !self.stop.is_cancelled() {
                    let stand = if n < self.parallel_from { &narrow } else { &wide };
                    self.compute_of(n, threads, stand, &baselines).await?;
                }
            }
            for (program, _) in baselines.into_values().flatten() {
                end(program, self.stop.is_cancelled()).await;
            }
            close(narrow).await;
            close(wide).await;
        }
        let published = compute::published(&self.plan.settings.sizes);
        self.report.compute.extend(published);
        Ok(())
    }

    async fn baselines(&mut self, threads: usize) -> BTreeMap<String, Baseline> {
        let mut all = BTreeMap::new();
        for name in self.plan.settings.baselines.clone() {
            self.progress.doing(&format!("starting {name}"));
            let started = self.baseline(&name, threads).await;
            all.insert(name, started.map(|(program, identity)| (Arc::new(Mutex::new(program)), identity)));
        }
        all
    }

    async fn baseline(&self, name: &str, threads: usize) -> Result<(Program, Identity), String> {
        let script = program::find(self.plan.programs.as_deref(), "baselines")?;
        let mut arguments = vec!["serve".to_owned(), "--threads".to_owned(), threads.to_string()];
        if !self.plan.set_up {
            arguments.push("--no-setup".to_owned());
        }
        arguments.push(name.to_owned());
        let start = Program::start::<Identity>(name, &script, &arguments, None, BASELINE_LIMIT);
        let started = self.stop.run_until_cancelled(start).await.ok_or("interrupted before it began")?;
        let (program, identity) = started?;
        if identity.threads != threads {
            program.end(false).await;
            return Err(format!("it uses {} threads, not {threads}", identity.threads));
        }
        Ok((program, identity))
    }

    async fn compute_of(
        &mut self,
        n: usize,
        threads: usize,
        stand: &Arc<Stand>,
        baselines: &BTreeMap<String, Baseline>,
    ) -> Result<(), String> {
        let systems = self.systems(n)?;
        let Some(first) = systems.first() else { return Ok(()) };
        let methods = METHODS.iter().filter(|(name, ..)| *name == "rabbitry" || n <= METHODS_N_MAX);
        let ours = methods.map(|&(name, method, is_definite)| {
            let system = |system: &System| match is_definite {
                true => compute::positive_definite(system).map(|definite| definite.by(method)),
                false => Ok(system.clone().by(method)),
            };
            // One, again and again, as the others do.
            let system = system(first).map_err(|error| error.to_string())?;
            Ok(Solver::Ours(Ours::new(name, stand.clone(), vec![system], n, threads)))
        });
        let mut solvers = ours.collect::<Result<Vec<Solver>, String>>()?;
        let seed = self.plan.settings.seed;
        let theirs = |(name, baseline): (&String, &Baseline)| {
            Solver::Theirs(Box::new(Theirs::new(name, baseline, first, seed, threads)))
        };
        solvers.extend(baselines.iter().map(theirs));
        self.progress.run(&mut solvers, &self.stop).await;
        self.report.compute.extend(solvers.iter().map(|solver| match solver {
            Solver::Ours(ours) => ours.row(),
            Solver::Theirs(theirs) => theirs.row(),
        }));
        Ok(())
    }

    async fn pool(&mut self) -> Result<(), String> {
        let ground = self.ground();
        for n in self.plan.settings.sizes.clone() {
            let systems = self.systems(n)?;
            let mut settings = Setting::all(&ground, &systems, n);
            self.progress.run(&mut settings, &self.stop).await;
            self.report.pool.extend(settings.iter().filter_map(Setting::row));
            let failures: Vec<String> = settings.iter().filter_map(Setting::failure).collect();
            failures.iter().for_each(|failure| self.note(failure));
            if self.stop.is_cancelled() {
                break;
            }
        }
        Ok(())
    }

    async fn break_even(&mut self) -> Result<(), String> {
        let Some(away) = self.away.clone() else { return Ok(()) };
        let here = Arc::new(self.opened(&self.here, "break-even").await?);
        let there = Arc::new(self.opened(&away, "break-even").await?);
        let mut costs = Vec::new();
        for n in self.plan.settings.sizes.clone() {
            let systems = self.systems(n)?;
            let mut sending = [Sending::new(n, systems, here.clone(), there.clone(), away.workers)];
            self.progress.run(&mut sending, &self.stop).await;
            let [sending] = sending;
            costs.extend(sending.cost());
            if let Some(error) = &sending.failed {
                self.note(&format!("break-even: N={n}: {error}"));
            }
            if self.stop.is_cancelled() {
                break;
            }
        }
        close(here).await;
        close(there).await;
        self.report.break_even = (!costs.is_empty()).then(|| break_even(costs, &WORKERS));
        Ok(())
    }

    async fn peers(&mut self) -> Result<(), String> {
        let workers = self.here.pool.slots;
        let mut all: BTreeMap<String, Peer> = BTreeMap::new();
        for name in self.plan.settings.peers.clone() {
            self.progress.doing(&format!("starting {name}; setting it up takes a while"));
            let script = program::find(self.plan.programs.as_deref(), "peers");
            let started = match &script {
                Ok(script) => {
                    let start = peers::start(&name, script, workers, self.plan.broker_url.as_deref());
                    let started = self.stop.run_until_cancelled(start).await;
                    started.unwrap_or_else(|| Err("interrupted before it began".to_owned()))
                }
                Err(why) => Err(why.clone()),
            };
            all.insert(name, started.map(|(program, identity)| (Arc::new(Mutex::new(program)), identity)));
        }
        let mut ours = vec![("rabbitry embedded", self.here.clone())];
        ours.extend(self.away.clone().map(|away| ("rabbitry", away)));
        for n in self.plan.settings.sizes.clone() {
            if all.is_empty() || self.stop.is_cancelled() {
                break;
            }
            let (systems, seed) = (self.systems(n)?, self.plan.settings.seed);
            let entrants = ours.iter().map(|(name, ground)| Entrant::ours(name, ground, &systems, n, workers));
            let theirs = all.iter().map(|(name, peer)| Entrant::peer(name, peer, &systems, (n, seed), workers));
            let mut entrants: Vec<Entrant> = entrants.chain(theirs).collect();
            self.progress.run(&mut entrants, &self.stop).await;
            self.report.peers.extend(entrants.iter().map(Entrant::row));
        }
        for (program, _) in all.into_values().flatten() {
            end(program, self.stop.is_cancelled()).await;
        }
        Ok(())
    }
}

/// What all of it takes, roughly.
pub(super) fn expected_seconds(plan: &super::Plan, here: &Ground, away: Option<&Ground>) -> f64 {
    let cores = here.pool.slots as f64;
    let Settings { sizes, payloads, baselines, peers, rounds, .. } = &plan.settings;
    let of = |part: &Part, n: usize| {
        let (once, slice) = (super::expected_seconds(n), SLICE_SECONDS);
        let stream = slice.max(2.0 * once * cores);
        match part {
            Part::Payload => payloads.iter().map(|form| slice.max(once) + stream + form.text_seconds(n)).sum(),
            Part::Compute => 2.0 * (0.05_f64.max(once) * (METHODS.len() + 2 * baselines.len()) as f64),
            Part::Pool => 10.0 * (0.1 + stream),
            Part::BreakEven => away.map_or(0.0, |_| 2.0 * stream + once),
            Part::Peers => peers.len() as f64 * (1.0 + 3.0 * peers::count(n) as f64 * once),
        }
    };
    let each = plan.parts.iter().flat_map(|part| sizes.iter().map(move |&n| of(part, n)));
    each.sum::<f64>() * (*rounds as f64 + 1.0)
}

/// A solver of either side.
enum Solver {
    Ours(Ours),
    Theirs(Box<Theirs>),
}

#[async_trait::async_trait]
impl Contestant for Solver {
    fn name(&self) -> String {
        match self {
            Solver::Ours(ours) => ours.name(),
            Solver::Theirs(theirs) => theirs.name(),
        }
    }

    fn turn_seconds(&self) -> f64 {
        match self {
            Solver::Ours(ours) => ours.turn_seconds(),
            Solver::Theirs(theirs) => theirs.turn_seconds(),
        }
    }

    async fn turn(&mut self, counts: bool) {
        match self {
            Solver::Ours(ours) => ours.turn(counts).await,
            Solver::Theirs(theirs) => theirs.turn(counts).await,
        }
    }

    fn is_settled(&self) -> bool {
        match self {
            Solver::Ours(ours) => ours.is_settled(),
            Solver::Theirs(theirs) => theirs.is_settled(),
        }
    }
}

/// Closes a stand that nobody measures on any more.
async fn close(stand: Arc<Stand>) {
    if let Some(stand) = Arc::into_inner(stand) {
        stand.close().await;
    }
}

/// Ends a program that nobody asks any more.
async fn end(program: Arc<Mutex<Program>>, at_once: bool) {
    if let Some(program) = Arc::into_inner(program) {
        program.into_inner().end(at_once).await;
    }
}
