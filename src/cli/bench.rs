//! The options of `boss bench` and `boss estimate`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use crate::bench::model::{Payload, Settings};
use crate::bench::{Part, Plan, Question};
use crate::command::bench::Output;

/// `boss bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  boss bench                                     the quick set, in this process, in under two minutes
  boss --broker URL bench --out report/          through RabbitMQ, with the break-even; report.html, .json and .csv
  boss bench --sizes 100,1000,5000 --baselines numpy,eigen
                                                 against NumPy and Eigen, which are set up first (pip and g++)
  boss --broker URL bench --parts peers --peers managers,celery,dask,ray
                                                 the same job by others (from PyPI; in a checkout of rabbitry)
  boss bench --compare report/report.json        what got slower since
Ctrl-C writes what is measured by then. Exit code: 0, 1 a part could not be measured or something got slower than in
--compare, 2 bad usage or unreadable input, 130 interrupted.")]
pub struct BenchArgs {
    /// Unknowns of the systems
    #[arg(long, env = "RABBITRY_SIZES", value_name = "N,...", value_delimiter = ',', default_value = "100,1000",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub sizes: Vec<u32>,
    /// Forms of the payload
    #[arg(
        long = "payload",
        env = "RABBITRY_PAYLOADS",
        value_name = "FORM,...",
        value_delimiter = ',',
        default_value = "binary,json,base64"
    )]
    pub payloads: Vec<PayloadArg>,
    /// Solvers to compare with, numpy or eigen: named, they are set up if need be [default: those that are set up]
    #[arg(long, env = "RABBITRY_BASELINES", value_name = "NAME,...", value_delimiter = ',')]
    pub baselines: Option<Vec<String>>,
    /// Systems to compare the pool with: managers, celery (needs --broker), dask, ray
    #[arg(long, env = "RABBITRY_PEERS", value_name = "NAME,...", value_delimiter = ',')]
    pub peers: Vec<String>,
    /// What to measure [default: all; peers if there are --peers, break-even with --broker]
    #[arg(long, env = "RABBITRY_PARTS", value_name = "PART,...", value_delimiter = ',')]
    pub parts: Option<Vec<PartArg>>,
    /// Rounds that count; up to twice as many for what spreads widely
    #[arg(long, env = "RABBITRY_ROUNDS", value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Seed of the random systems
    #[arg(long, env = "RABBITRY_SEED", value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// A folder for report.html, report.json and report.csv
    #[arg(short, long, env = "RABBITRY_OUT", value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Compare with the report.json of an earlier run
    #[arg(long, env = "RABBITRY_COMPARE", value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// The folder with baselines/ and peers/ [default: benches/ of the checkout that boss was built in or is run in]
    #[arg(long, env = "RABBITRY_PROGRAMS", value_name = "FOLDER")]
    pub programs: Option<PathBuf>,
    /// Print report.json, or the comparison, on stdout and nothing else there
    #[arg(long, env = "RABBITRY_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

impl BenchArgs {
    /// What to measure; `broker` is the address, if there is one.
    pub fn plan(&self, broker: Option<&str>) -> Plan {
        let usual = |part: &Part| match part {
            Part::BreakEven => broker.is_some(),
            Part::Peers => !self.peers.is_empty(),
            _ => true,
        };
        let mut parts: Vec<Part> = match &self.parts {
            Some(parts) => parts.iter().map(|part| part.part()).collect(),
            None => PartArg::value_variants().iter().map(|part| part.part()).filter(usual).collect(),
        };
        let mut seen = Vec::new();
        parts.retain(|part| {
            !seen.contains(part) && {
                seen.push(*part);
                true
            }
        });
        let mut sizes: Vec<usize> = self.sizes.iter().map(|&n| n as usize).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let mut payloads: Vec<Payload> = self.payloads.iter().map(|form| form.payload()).collect();
        payloads.sort_unstable();
        payloads.dedup();
        let baselines = self.baselines.clone().unwrap_or_else(|| vec!["numpy".to_owned(), "eigen".to_owned()]);
        let (peers, rounds, seed) = (self.peers.clone(), usize::from(self.rounds), self.seed);
        // Filled in by the run, without the password.
        let settings = Settings { broker: String::new(), sizes, payloads, baselines, peers, rounds, seed };
        let (programs, broker_url) = (self.programs.clone(), broker.map(str::to_owned));
        Plan { settings, parts, programs, set_up: self.baselines.is_some(), broker_url }
    }

    /// Where the report goes.
    pub fn output(&self) -> Output {
        Output { out: self.out.clone(), compare: self.compare.clone(), json: self.json }
    }
}

/// `--payload` of `boss bench`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PayloadArg {
    /// Raw little-endian numbers
    Binary,
    /// Numbers as JSON text
    Json,
    /// JSON with the raw numbers in base64
    Base64,
}

impl PayloadArg {
    fn payload(self) -> Payload {
        match self {
            PayloadArg::Binary => Payload::Binary,
            PayloadArg::Json => Payload::Json,
            PayloadArg::Base64 => Payload::Base64,
        }
    }
}

/// `--parts`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PartArg {
    /// Binary against JSON: round trips by stage, throughput, memory
    Payload,
    /// The solver against NumPy and Eigen
    Compute,
    /// Throughput against workers, tasks in flight, prefetch
    Pool,
    /// From which size on sending pays
    BreakEven,
    /// The same job by Celery, Dask, Ray
    Peers,
}

impl PartArg {
    fn part(self) -> Part {
        match self {
            PartArg::Payload => Part::Payload,
            PartArg::Compute => Part::Compute,
            PartArg::Pool => Part::Pool,
            PartArg::BreakEven => Part::BreakEven,
            PartArg::Peers => Part::Peers,
        }
    }
}

/// `boss estimate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Measures one system of this size for a moment, here and through the broker, and works out the rest: within tens of per cent.
Without --broker only this machine is looked at. A run of boss bench says more.")]
pub struct EstimateArgs {
    /// Unknowns of a system
    #[arg(long, env = "RABBITRY_N", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub n: u32,
    /// How many systems
    #[arg(long, env = "RABBITRY_COUNT", value_name = "K", default_value_t = 1)]
    pub count: u64,
    /// Print one JSON object on stdout and nothing else there
    #[arg(long, env = "RABBITRY_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

impl EstimateArgs {
    /// What is asked.
    pub fn question(&self) -> Question {
        Question { n: self.n as usize, count: self.count }
    }
}
