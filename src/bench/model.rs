//! What a run of the benchmarks found: the document in `report.json`, from which every other form is made.
//!
//! Pure data. Names of fields are stable within one [`SCHEMA`]; units are last in a name, seconds and bytes unless it says
//! otherwise. docs/benchmarks.md describes it for whoever reads it with another program.

use serde::{Deserialize, Serialize};

/// The version of this document. A reader refuses others by name.
pub const SCHEMA: u32 = 1;

/// All of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// False if it was interrupted; what is there then is of fewer rounds.
    pub complete: bool,
    /// What was asked for.
    pub settings: Settings,
    /// Where it ran.
    pub machine: Machine,
    /// What a reader should know: what could not be had, how clocks were compared.
    pub notes: Vec<String>,
    /// Part 1, a row for each size and payload.
    pub payload: Vec<PayloadRow>,
    /// Part 2, a row for each contestant, size and number of threads.
    pub compute: Vec<ComputeRow>,
    /// Part 3, a row for each size and setting of the pool.
    pub pool: Vec<PoolRow>,
    /// Part 4; none where nothing is sent away.
    pub break_even: Option<BreakEven>,
    /// Part 5, a row for each peer and size, ours among them.
    pub peers: Vec<PeerRow>,
}

/// What was asked for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// `embedded`, or the broker's address without credentials.
    pub broker: String,
    /// Unknowns.
    pub sizes: Vec<usize>,
    /// Forms of the payload.
    pub payloads: Vec<Payload>,
    /// Programs to compare the solver with.
    pub baselines: Vec<String>,
    /// Systems to compare the pool with.
    pub peers: Vec<String>,
    /// Rounds that count, at least.
    pub rounds: usize,
    /// Of the random systems.
    pub seed: u64,
}

/// How the numbers travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// Raw little-endian numbers.
    Binary,
    /// Numbers as text, shortest form that reads back as the same bits.
    Json,
    /// JSON with the raw bytes in base64.
    Base64,
}

impl Payload {
    /// As it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Payload::Binary => "binary",
            Payload::Json => "json",
            Payload::Base64 => "base64",
        }
    }
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// What the form of the payload costs.
    Payload,
    /// The solver alone.
    Compute,
    /// Throughput and efficiency.
    Pool,
    /// When sending pays.
    BreakEven,
    /// The same job by others.
    Peers,
}

/// Where it ran.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Host name.
    pub host: String,
    /// Model of the processor.
    pub cpu: String,
    /// Logical cores that this process may use.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Operating system and version.
    pub os: String,
    /// Frequency governor of the first core, where the system says.
    pub governor: Option<String>,
    /// Load average of the last minute, when it began: other work on the machine makes figures worse.
    pub load: f64,
    /// Version of this program.
    pub rabbitry: String,
    /// Kernel of the solver and its version, e.g. `Intel oneAPI Math Kernel Library 2026.2`.
    pub kernel: String,
    /// Broker and its version, e.g. `RabbitMQ 3.10.8`.
    pub broker: Option<String>,
    /// Workers that ran already and were used, as `host-pid-xxxxxxxx, 2 slots, 60 GFLOP/s`. Empty if the bench started its own.
    pub workers: Vec<String>,
}

/// What repeated measurements say. None of them is thrown away but those of the warm-up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// Middle.
    pub median: f64,
    /// First quartile.
    pub lower: f64,
    /// Third quartile.
    pub upper: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// How many.
    pub count: usize,
    /// Those more than 1.5 interquartile ranges outside of the quartiles, the farthest 20 at most.
    pub outliers: Vec<f64>,
}

/// Where the time of a task goes, in seconds; the sum is the round trip. Of payloads up to 9 MiB, which travel with their
/// heads, the way is in `publish` and `queue`; those above are pulled, and their way is `receive`.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Stages {
    /// The caller's system is checked and written.
    pub encode: f64,
    /// Until the broker has confirmed its head, or a worker has it.
    pub publish: f64,
    /// Until a worker has it, and later until that has a free thread for it.
    pub queue: f64,
    /// The payload comes.
    pub receive: f64,
    /// It becomes numbers.
    pub decode: f64,
    /// The solver runs.
    pub compute: f64,
    /// The answer is written, travels and is read.
    pub reply: f64,
}

impl Stages {
    /// In the order of the way, with their names.
    pub fn named(&self) -> [(&'static str, f64); 7] {
        let Stages { encode, publish, queue, receive, decode, compute, reply } = *self;
        [
            ("encode", encode),
            ("publish", publish),
            ("queue", queue),
            ("receive", receive),
            ("decode", decode),
            ("compute", compute),
            ("reply", reply),
        ]
    }

    /// Of all of them.
    pub fn sum(&self) -> f64 {
        self.named().iter().map(|(_, seconds)| seconds).sum()
    }
}

/// One task at a time, and many.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PayloadRow {
    /// Unknowns; one right-hand side.
    pub n: usize,
    /// The form.
    pub payload: Payload,
    /// Payload of a task.
    pub task_bytes: u64,
    /// Payload of its answer.
    pub answer_bytes: u64,
    /// From before it is encoded until the answer is read, alone in the pool.
    pub round_trip_seconds: Option<Spread>,
    /// Where that goes: the mean over the round trips between the quartiles.
    pub stages_seconds: Option<Stages>,
    /// Many in flight.
    pub tasks_per_second: Option<Spread>,
    /// Peak resident memory of this process meanwhile; of the embedded workers, too.
    pub boss_peak_bytes: Option<u64>,
    /// That of the largest worker on this machine with a process of its own.
    pub worker_peak_bytes: Option<u64>,
    /// Why there are no figures.
    pub missing: Option<String>,
}

/// One solver at one size.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ComputeRow {
    /// `rabbitry`, `numpy`, `eigen`; `numpy (published)` and `eigen (published)` are the original project's figures, from
    /// another machine.
    pub contestant: String,
    /// Method, or version and BLAS.
    pub detail: String,
    /// Unknowns; one right-hand side.
    pub n: usize,
    /// Threads it was given; 0 where that is not said.
    pub threads: usize,
    /// Of one solution.
    pub seconds: Option<Spread>,
    /// Normwise, of the last solution.
    pub backward_error: Option<f64>,
    /// Why there are no figures.
    pub missing: Option<String>,
}

/// What is varied, the others at their defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sweep {
    /// Workers of one slot each.
    Workers,
    /// Tasks in flight.
    InFlight,
    /// Task messages that a worker takes ahead.
    Prefetch,
}

/// A pool of one setting.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PoolRow {
    /// What this row is for.
    pub sweep: Sweep,
    /// Unknowns; one right-hand side.
    pub n: usize,
    /// Workers.
    pub workers: usize,
    /// Slots of all of them.
    pub slots: usize,
    /// Tasks in flight.
    pub in_flight: usize,
    /// Of each worker; `null` for workers that ran already.
    pub prefetch: Option<u16>,
    /// Throughput.
    pub tasks_per_second: Spread,
    /// Seconds of computing / (seconds of wall time x slots); 1 is a pool that does nothing else.
    pub efficiency: Spread,
}

/// When sending tasks away pays.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BreakEven {
    /// What it is worked out from, one for each size measured.
    pub measured: Vec<Cost>,
    /// A point for each number of workers from 1 to 64 that was asked for.
    pub points: Vec<Point>,
    /// The same in words.
    pub sentences: Vec<String>,
}

/// What a task of one size costs here and on its way.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Unknowns.
    pub n: usize,
    /// Seconds between answers when this machine solves a stream of them itself, with all of its cores.
    pub local_seconds: f64,
    /// Seconds of a round trip that are not computing, a task alone.
    pub alone_seconds: f64,
    /// Seconds for each task of a stream beside computing, which bound what this machine can send: its CPU time, or the
    /// time between answers where the workers had to wait for them.
    pub stream_seconds: f64,
}

/// From which n on a pool of workers, each like this machine, beats it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Point {
    /// How many.
    pub workers: usize,
    /// Sending one task and waiting for it, then the next; `null` for never within what was measured.
    pub alone_n: Option<f64>,
    /// A stream of them, small ones together in a message.
    pub stream_n: Option<f64>,
}

/// One system at one size, all doing the same job.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PeerRow {
    /// `rabbitry`, or the peer's name.
    pub peer: String,
    /// Version, and how it was set up.
    pub detail: String,
    /// Unknowns; one right-hand side.
    pub n: usize,
    /// Systems of one job.
    pub count: usize,
    /// Worker processes of one thread each; of ours slots.
    pub workers: usize,
    /// Throughput of the job.
    pub tasks_per_second: Option<Spread>,
    /// Normwise, the worst of the last job.
    pub backward_error: Option<f64>,
    /// Why there are no figures.
    pub missing: Option<String>,
}
