//! Our path tracer against Mitsuba 3, and what the pool adds to it: one run, interleaved rounds, the same scenes.
//!
//!     python3 tests/mitsuba/mitsuba_venv.py      once: sets up Mitsuba; `make mitsuba` does, too
//!     cargo bench --bench render                 three to five minutes; -- --help for sizes, samples, rounds, parts
//!
//! In every round each contestant has its turn, one after another, so that what the machine does meanwhile meets all of
//! them alike; a first round is thrown away, and the compilation of Mitsuba's kernels with it. A turn is one picture, on
//! one thread. What counts is the CPU time from the scene loaded to the picture there: other programs on the machine are
//! not in it, but for what they leave of caches and of the clock rate. Figures of one run may be compared with each other,
//! those of two runs may not.
//!
//! All follow paths for the same number of bounces, without Russian roulette, with one light sample a bounce and as many
//! samples a pixel; and all come to the same means, or the bench says so.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use rabbitry::tasks::render::trace::{Radiance, Tile, Tracer, View};
use rustix::time::{ClockId, clock_gettime};

#[path = "render/mitsuba.rs"]
mod mitsuba;
#[path = "render/pooled.rs"]
mod pooled;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/rabbitmq.rs"]
mod rabbitmq;
#[path = "render/scenes.rs"]
mod scenes;

use mitsuba::Mitsuba;
use scenes::{BOUNCES, Case};

/// Of Mitsuba, with the ratios of times, theirs by ours, that are wanted on the box and on the mesh.
const VARIANTS: [(&str, [f64; 2]); 2] = [("scalar_rgb", [2.0, 1.0]), ("llvm_ad_rgb", [0.6, 0.4])];
/// Means of pictures may differ by so much: more than their noise, less than a mistake.
const MEANS_DIFFER: f64 = 0.02;
/// Seconds that the tree over 250,000 triangles may take, and the overhead of the pool, at most.
const BUILD_LIMIT: f64 = 0.4;
const POOL_LIMIT: f64 = 1.05;

#[derive(Parser)]
#[command(about = "Our path tracer against Mitsuba 3, and what the pool adds to it")]
struct Options {
    /// Parts to run; without it all
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Pixels across and down
    #[arg(long, default_value_t = 256)]
    side: u32,
    /// Samples of each pixel
    #[arg(long, default_value_t = 16)]
    spp: u32,
    /// Rounds that count
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// cargo bench says so
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Against Mitsuba
    Speed,
    /// Building the tree over 250,000 triangles
    Build,
    /// What the pool adds: needs a RabbitMQ, as the tests do
    Pool,
}

/// What was measured, round by round.
struct Figures(Vec<f64>);

impl Figures {
    const fn new() -> Self {
        Figures(Vec::new())
    }

    fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    fn row(&self, what: &str, unit: &str) {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        println!("{:<60} {:>10.3} {:>10.3} {:>10.3}", format!("{what}, {unit}"), at(0.5), at(0.25), at(0.75));
    }
}

fn main() {
    let options = Options::parse();
    if [options.side as usize, options.spp as usize, options.rounds].contains(&0) {
        eprintln!("render: side, samples and rounds are at least 1");
        std::process::exit(2);
    }
    let is_wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    let cases = [Case::cornell_box(), Case::mesh()];
    println!("{:<60} {:>10} {:>10} {:>10}", "", "median", "lower", "upper");
    if is_wanted(Part::Speed) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for case in &cases {
            case.write(folder.path()).expect("a file in it");
        }
        let mut others = Vec::new();
        for (variant, targets) in VARIANTS {
            match Mitsuba::start(variant, folder.path()) {
                Ok(mitsuba) => others.push((variant, targets, mitsuba)),
                Err(why) => println!("no {variant} to compare with: {why}"),
            }
        }
        for (place, case) in cases.iter().enumerate() {
            speed(case, place, &mut others, &options);
        }
    }
    if is_wanted(Part::Build) {
        build(&cases[1], options.rounds);
    }
    if is_wanted(Part::Pool) {
        cases.iter().for_each(|case| pooled::run(case, view(case, options.side), options.spp, options.rounds));
        println!("(wanted: at most {POOL_LIMIT} for the tiles)");
    }
}

fn view(case: &Case, side: u32) -> View {
    View { camera: case.camera(), width: side, height: side, seed: 1, depth: BOUNCES, roulette: false }
}

/// The whole picture.
fn render(tracer: &Tracer, view: &View, samples: u32) -> Radiance {
    let tile = Tile { x: 0, y: 0, width: view.width, height: view.height };
    let never = &mut |_| Ok::<(), std::convert::Infallible>(());
    let Ok(radiance) = tracer.render(view, tile, 0..samples, never);
    radiance
}

/// CPU time of this thread.
fn thread_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process.
fn process_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32).as_secs_f64()
}

/// Ours and theirs, in turn.
fn speed(case: &Case, place: usize, others: &mut [(&str, [f64; 2], Mitsuba)], options: &Options) {
    let tracer = Tracer::new(case.scene());
    let view = view(case, options.side);
    let (mut ours, mut rays) = (Figures::new(), Figures::new());
    let mut theirs: Vec<(Figures, Figures)> = others.iter().map(|_| (Figures::new(), Figures::new())).collect();
    for round in 0..=options.rounds {
        let start = thread_seconds();
        let radiance = render(&tracer, &view, options.spp);
        let own = thread_seconds() - start;
        if round > 0 {
            ours.push(own);
            rays.push(radiance.rays as f64 / own / 1e6);
        }
        for ((variant, _, mitsuba), (times, ratios)) in others.iter_mut().zip(&mut theirs) {
            match mitsuba.render(case.name, options.side, options.spp, 1) {
                Ok(answer) if round > 0 => {
                    times.push(answer.seconds);
                    ratios.push(answer.seconds / own);
                }
                Ok(answer) => check_means(variant, case, &radiance, answer.mean, options.spp),
                Err(why) => println!("{variant}: {why}"),
            }
        }
    }
    let name = case.name;
    ours.row(&format!("{name}, {} triangles: ours", case.triangles()), "s");
    rays.row(&format!("{name}: ours"), "Mrays/s");
    for ((variant, targets, mitsuba), (times, ratios)) in
        others.iter().zip(&theirs).filter(|(_, (t, _))| !t.0.is_empty())
    {
        times.row(&format!("{name}: Mitsuba {} {variant}", mitsuba.version), "s");
        ratios.row(&format!("{name}: {variant} / ours, wanted at least {}", targets[place]), "x");
    }
}

fn check_means(variant: &str, case: &Case, ours: &Radiance, theirs: [f64; 3], spp: u32) {
    let pixels = ours.sums.len() as f64 / 3.0;
    for (channel, mean) in theirs.into_iter().enumerate() {
        let own: f64 = ours.sums.iter().skip(channel).step_by(3).map(|sum| f64::from(*sum)).sum();
        let own = own / pixels / f64::from(spp);
        let is_same = (own / mean - 1.0).abs() < MEANS_DIFFER;
        if !is_same {
            println!("{}: {variant} makes another picture: channel {channel} is {mean}, ours {own}", case.name);
        }
    }
}

/// CPU seconds from a scene to what renders it: its tree, and the table of its lights.
fn build(case: &Case, rounds: usize) {
    let mut figures = Figures::new();
    for round in 0..=rounds {
        let scene = case.scene();
        let start = thread_seconds();
        let tracer = Tracer::new(scene);
        let took = thread_seconds() - start;
        drop(tracer);
        if round > 0 {
            figures.push(took);
        }
    }
    let what = format!("{} triangles: made ready, wanted at most {BUILD_LIMIT}", case.triangles());
    figures.row(&what, "s");
}
