//! The HTTP bridge against its targets: the built programs, a private RabbitMQ on this machine, interleaved rounds.
//!
//!     make baselines                                  once: sets up NumPy
//!     cargo bench --bench bridge                      all of it, about six minutes; -- --help for the options
//!     cargo bench --bench bridge -- --only memory     one part: speed, json, polls, latency, memory
//!
//! In every round each contestant has its turn, one after another; a first round is thrown away. Figures of one run may be
//! compared with each other, those of two runs may not. What the client costs, writing and reading a socket on the same
//! cores, is in every figure over HTTP; the boss has no such costs, but makes its systems as it goes. Rates suffer from
//! what else the machine does, and more threads suffer less: the CPU that a task takes says how the two compare alone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

#[path = "bridge/bodies.rs"]
mod bodies;
#[path = "bridge/client.rs"]
mod client;
#[path = "bridge/load.rs"]
mod load;
#[path = "bridge/memory.rs"]
mod memory;
#[path = "bridge/process.rs"]
mod process;
#[path = "bridge/report.rs"]
mod report;
#[path = "bridge/speed.rs"]
mod speed;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/rabbitmq.rs"]
mod rabbitmq;

use report::Report;

#[derive(Parser)]
#[command(about = "The HTTP bridge against its targets")]
struct Options {
    /// Parts
    #[arg(long, value_delimiter = ',', value_enum, default_value = "speed,json,polls,latency,memory")]
    only: Vec<Part>,
    /// Unknowns of the systems whose rate is measured
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    sizes: Vec<usize>,
    /// Unknowns of the large system
    #[arg(long, default_value_t = 5000)]
    large: usize,
    /// Rounds that count
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Tasks of a turn, at N = 1000
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Connections that send at a time
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Without a broker: only the embedded pool
    #[arg(long)]
    embedded: bool,
    /// Long polls that are open at a time
    #[arg(long, default_value_t = 2000)]
    polls: usize,
    /// Programs of another build, to compare with: the folder of boss, bridge and worker
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Writes all figures to a file as well
    #[arg(long)]
    json: Option<PathBuf>,
    /// cargo bench says so
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Binary against `boss`
    Speed,
    /// JSON against Python
    Json,
    /// Open long polls
    Polls,
    /// Directory and health while a large body comes in
    Latency,
    /// Peak memory of large bodies
    Memory,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let is_wanted = |part| options.only.contains(&part);
    if let Some(folder) = &options.programs {
        process::PROGRAMS.set(folder.clone()).expect("not set before");
    }
    let node = (!options.embedded).then(rabbitmq::Node::start);
    let url = |vhost: &str| node.as_ref().map(|node| node.url(vhost));
    let mut report = Report::default();
    if is_wanted(Part::Speed) {
        speed::binary(&mut report, &options, url("t0").as_deref()).await;
    }
    if is_wanted(Part::Json) {
        speed::json(&mut report, &options).await;
    }
    if is_wanted(Part::Polls) {
        match url("t1") {
            Some(url) => load::polls(&mut report, options.polls, &url).await,
            None => report.note("polls: they need a broker without a worker"),
        }
    }
    if is_wanted(Part::Latency) {
        load::latency(&mut report, options.large, url("t2").as_deref()).await;
    }
    if is_wanted(Part::Memory) {
        match url("t3") {
            Some(url) => memory::run(&mut report, options.large, &url).await,
            None => report.note("memory: it needs a broker, so that the pool's own is not in it"),
        }
    }
    report.finish(options.json.as_deref())
}
