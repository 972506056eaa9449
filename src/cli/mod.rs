//! The command line: clap groups that `bin/` flattens. Every option has an environment variable. Only `bin/` imports this.

mod bench;
mod bridge;
mod dead;
mod render;

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::boss::{self, Priority};
use crate::command::Input;
use crate::command::bench::Measure;
use crate::command::solve::{self, Choice, How, Random};
use crate::task::{Format, TaskId};
use crate::worker;
pub use bench::{BenchArgs, EstimateArgs};
pub use bridge::BridgeCli;
pub use dead::{DeadArgs, DeadCommand, WhichArgs};
pub use render::RenderArgs;

/// Solves many dense systems A X = B and renders pictures, on this machine or on a pool of workers behind RabbitMQ.
#[derive(Debug, Parser)]
#[command(
    name = "boss",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  boss solve --random 1000 --count 16            16 random systems on all cores of this machine
  boss solve A.npy B.npy -o X.npy                one system from files; .npy and .mtx, in and out
  boss render scene.glb -o out.png --spp 64      a picture of a scene
  boss bench                                     what this machine does, in two minutes
  boss --broker amqp://guest:guest@host:5672 solve --random 1000 --count 64
                                                 the same on the workers of a RabbitMQ broker
  boss --broker amqp://... workers               who is there
  boss --broker amqp://... cancel TASK           end a task of any boss on the broker
  boss --broker amqp://... dead ls               what could not be computed, and why
Exit code: 0 all answers came, 1 a task failed or the broker is not there, 2 bad usage or unreadable input, 130 interrupted."
)]
pub struct BossCli {
    /// Where it runs.
    #[command(flatten)]
    pub broker: BossBroker,
    /// The embedded pool's share of this machine.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: BossCommand,
}

impl BossCli {
    /// Reads the arguments of this process; ends it with a message and exit code 2 if they are wrong.
    pub fn from_arguments() -> Self {
        Self::checked(Self::parse()).unwrap_or_else(|error| error.exit())
    }

    fn checked(self) -> Result<Self, clap::Error> {
        if matches!(self.command, BossCommand::Cancel(_)) && self.broker.broker.is_none() {
            let why = "cancel needs --broker URL: a task that has no broker ends with its program, by Ctrl-C there";
            return Err(Self::command().error(ErrorKind::MissingRequiredArgument, why));
        }
        if matches!(self.command, BossCommand::Dead(_)) && self.broker.broker.is_none() {
            let why = "dead needs --broker URL: a pool in this process keeps no dead letters when it ends";
            return Err(Self::command().error(ErrorKind::MissingRequiredArgument, why));
        }
        Ok(self)
    }
}

/// Which broker, and how much is in flight.
#[derive(Debug, Args)]
pub struct BossBroker {
    /// RabbitMQ to use, amqp://user:password@host:port/vhost (or amqps://), or several nodes of a cluster with commas between
    /// them. Without it the tasks are computed in this process
    #[arg(long, global = true, env = "RABBITRY_BROKER", value_name = "URL", hide_env_values = true)]
    pub broker: Option<String>,
    /// Bytes of tasks in flight, e.g. 512MiB; it bounds this program's memory
    #[arg(long, global = true, env = "RABBITRY_WINDOW", value_name = "BYTES", default_value = "1GiB")]
    pub window: ByteSize,
    /// Type of the work queues; `quorum` for a replicated broker. All programs of a pool must agree
    #[arg(long, global = true, env = "RABBITRY_QUEUE_TYPE", value_name = "TYPE", default_value = "classic")]
    pub queue_type: QueueType,
}

impl BossBroker {
    /// As the boss takes it.
    pub fn options(&self) -> boss::Options {
        boss::Options { window_bytes: self.window.as_u64(), quorum: self.queue_type.is_quorum() }
    }
}

/// Types of RabbitMQ's queues.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum QueueType {
    /// On one node, with priorities
    Classic,
    /// Replicated over the nodes of a cluster, slower
    Quorum,
}

impl QueueType {
    /// Whether it is replicated.
    pub fn is_quorum(self) -> bool {
        matches!(self, QueueType::Quorum)
    }
}

/// What the boss can do.
#[derive(Debug, Subcommand)]
pub enum BossCommand {
    /// Solve A X = B: random systems, or one from files
    Solve(SolveArgs),
    /// Render a scene: glTF, OBJ, or the simple text format
    Render(RenderArgs),
    /// List the live workers
    Workers(WorkersArgs),
    /// Cancel a task, whoever submitted it
    Cancel(CancelArgs),
    /// Look at the tasks that were given up, try them again or throw them away
    Dead(DeadArgs),
    /// Measure: payloads, the solver, the pool, and when sending tasks away pays
    Bench(BenchArgs),
    /// Say how long a job will take, here and in the pool, before it is begun
    Estimate(EstimateArgs),
}

impl BossCommand {
    /// What there is to work on, if anything.
    pub fn input(&self) -> Option<Input> {
        match self {
            BossCommand::Solve(args) => args.input().map(Input::Solve),
            BossCommand::Render(args) => Some(Input::Render(args.input())),
            _ => None,
        }
    }
}

impl BossCommand {
    /// How its tasks are sent.
    pub fn submit(&self) -> boss::Submit {
        match self {
            BossCommand::Solve(args) => args.submit(),
            BossCommand::Render(args) => args.submit(),
            _ => boss::Submit::default(),
        }
    }

    /// What there is to measure, if that is what it does. `broker` is the address, if there is one.
    pub fn measure(&self, broker: Option<&str>) -> Option<Measure> {
        match self {
            BossCommand::Bench(args) => Some(Measure::Bench(Box::new(args.plan(broker)), args.output())),
            BossCommand::Estimate(args) => Some(Measure::Estimate { question: args.question(), json: args.json }),
            _ => None,
        }
    }

    /// Whether a script reads what it prints.
    pub fn json(&self) -> bool {
        match self {
            BossCommand::Solve(SolveArgs { json, .. })
            | BossCommand::Render(RenderArgs { json, .. })
            | BossCommand::Workers(WorkersArgs { json })
            | BossCommand::Cancel(CancelArgs { json, .. })
            | BossCommand::Dead(DeadArgs { json, .. })
            | BossCommand::Bench(BenchArgs { json, .. })
            | BossCommand::Estimate(EstimateArgs { json, .. }) => *json,
        }
    }
}

/// `boss solve`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("input").required(true).args(["random", "a"]))]
pub struct SolveArgs {
    /// Solve random systems of N unknowns
    #[arg(long, env = "RABBITRY_RANDOM", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub random: Option<u32>,
    /// How many of them
    #[arg(long, env = "RABBITRY_COUNT", value_name = "K", default_value_t = 1, conflicts_with = "a")]
    pub count: u64,
    /// Right-hand sides of each
    #[arg(long, env = "RABBITRY_RHS", value_name = "M", default_value_t = 1, conflicts_with = "a",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub rhs: u32,
    /// Seed of the random numbers: the same seed, the same systems
    #[arg(long, env = "RABBITRY_SEED", value_name = "S", default_value_t = 0, conflicts_with = "a")]
    pub seed: u64,
    /// The matrix A, n x n (m x n with --method lstsq): .npy, or dense Matrix Market .mtx
    #[arg(value_name = "A", requires = "b", requires = "output")]
    pub a: Option<PathBuf>,
    /// The right-hand sides B: a vector of n, or n x m
    #[arg(value_name = "B")]
    pub b: Option<PathBuf>,
    /// Where X goes: .npy or .mtx
    #[arg(short, long, env = "RABBITRY_OUTPUT", value_name = "X", conflicts_with = "random")]
    pub output: Option<PathBuf>,
    /// The method; all but auto are the choice of somebody who knows A
    #[arg(long, env = "RABBITRY_METHOD", default_value = "auto")]
    pub method: MethodArg,
    /// The same bits from every worker with the same CPU family and the same version: one thread per task
    #[arg(long, env = "RABBITRY_REPRODUCIBLE", value_parser = FalseyValueParser::new())]
    pub reproducible: bool,
    /// How the numbers travel
    #[arg(long, env = "RABBITRY_PAYLOAD", default_value = "binary")]
    pub payload: Payload,
    /// Give up on a task this many seconds after it was submitted
    #[arg(long, env = "RABBITRY_DEADLINE", value_name = "SECS", value_parser = seconds)]
    pub deadline: Option<Duration>,
    /// Which tasks workers take first
    #[arg(long, env = "RABBITRY_PRIORITY", default_value = "normal")]
    pub priority: PriorityArg,
    /// Print one JSON object on stdout and nothing else there
    #[arg(long, env = "RABBITRY_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

impl SolveArgs {
    /// What to solve. `None` cannot be: clap has made sure that there is an input, and an output to files.
    pub fn input(&self) -> Option<solve::Input> {
        let how = How { method: self.method.choice(), reproducible: self.reproducible };
        if let Some(n) = self.random {
            let (n, nrhs) = (n as usize, self.rhs as usize);
            return Some(solve::Input::Random(Random { n, nrhs, count: self.count, seed: self.seed, how }));
        }
        Some(solve::Input::Files { a: self.a.clone()?, b: self.b.clone()?, x: self.output.clone()?, how })
    }

    /// How each task is sent.
    pub fn submit(&self) -> boss::Submit {
        let format = match self.payload {
            Payload::Binary => Format::Binary,
            Payload::Json => Format::Json,
        };
        boss::Submit { format, deadline: self.deadline, priority: self.priority.level() }
    }
}

/// `--method`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum MethodArg {
    /// What A looks like decides: triangular, cholesky, mixed or lu; what breaks down goes on with the next
    Auto,
    /// LU in double precision
    Lu,
    /// LU in single precision, refined in double; LU if that does not converge
    Mixed,
    /// Cholesky, for a symmetric A; LU if A is not positive definite
    Cholesky,
    /// Substitution, for a triangular A
    Triangular,
    /// QR, for an A of any shape and full rank: the x of least ||b - A x||, or the shortest x that solves
    Lstsq,
}

impl MethodArg {
    fn choice(self) -> Choice {
        match self {
            MethodArg::Auto => Choice::Auto,
            MethodArg::Lu => Choice::Lu,
            MethodArg::Mixed => Choice::Mixed,
            MethodArg::Cholesky => Choice::Cholesky,
            MethodArg::Triangular => Choice::Triangular,
            MethodArg::Lstsq => Choice::Lstsq,
        }
    }
}

/// `--payload`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Payload {
    /// Raw little-endian numbers
    Binary,
    /// JSON text, two to three times as long and much slower: for comparison, and for clients that know nothing else
    Json,
}

/// `--priority`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PriorityArg {
    /// After everything else
    Low,
    /// The usual
    Normal,
    /// Before everything else
    High,
}

impl PriorityArg {
    fn level(self) -> Priority {
        match self {
            PriorityArg::Low => Priority::Low,
            PriorityArg::Normal => Priority::Normal,
            PriorityArg::High => Priority::High,
        }
    }
}

/// `boss workers`.
#[derive(Debug, Args)]
pub struct WorkersArgs {
    /// Print a JSON array on stdout and nothing else there
    #[arg(long, env = "RABBITRY_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

/// `boss cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The task's id, 32 hexadecimal digits: `boss solve` of one task says it, and failed tasks are listed with theirs
    #[arg(value_name = "TASK")]
    pub task: TaskId,
    /// Print one JSON object on stdout and nothing else there
    #[arg(long, env = "RABBITRY_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

/// Computes tasks from a RabbitMQ broker. Start as many as you like, on any machine, at any time.
#[derive(Debug, Parser)]
#[command(
    name = "worker",
    version,
    max_term_width = 100,
    after_help = "\
The first Ctrl-C (or SIGTERM) finishes what runs and hands the rest back; the second quits at once, and the broker gives
the tasks to other workers. Logs go to stderr; RABBITRY_LOG=debug shows more."
)]
pub struct WorkerCli {
    /// RabbitMQ to work for, amqp://user:password@host:port/vhost (or amqps://), or several nodes of a cluster with commas
    /// between them
    #[arg(
        long,
        env = "RABBITRY_BROKER",
        value_name = "URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672"
    )]
    pub broker: String,
    /// Its share of this machine.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// Task messages taken ahead of time [default: slots + 1]
    #[arg(long, env = "RABBITRY_PREFETCH", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub prefetch: Option<u16>,
    /// Times that a task may be lost with its worker before it is dead-lettered
    #[arg(long, env = "RABBITRY_ATTEMPTS", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub attempts: u32,
    /// Answer at this address whether it consumes: GET /readyz gives 200 or 503 [default: not]
    #[arg(long, env = "RABBITRY_HEALTH", value_name = "HOST:PORT")]
    pub health: Option<String>,
    /// Kinds of task to compute [default: all there are]
    #[arg(long, env = "RABBITRY_KINDS", value_name = "KIND,...", value_delimiter = ',')]
    pub kinds: Option<Vec<String>>,
    /// Type of the work queues; `quorum` for a replicated broker. All programs of a pool must agree
    #[arg(long, env = "RABBITRY_QUEUE_TYPE", value_name = "TYPE", default_value = "classic")]
    pub queue_type: QueueType,
}

/// How much of a machine a worker takes.
#[derive(Debug, Args)]
pub struct PoolArgs {
    /// Small tasks computed at a time [default: the cores]
    #[arg(long, global = true, env = "RABBITRY_SLOTS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: Option<u16>,
    /// Threads that one large task may use, at most the slots [default: the slots]
    #[arg(long, global = true, env = "RABBITRY_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Memory that tasks may take in all, e.g. 8GiB [default: 70 % of what is free]
    #[arg(long, global = true, env = "RABBITRY_MEMORY", value_name = "BYTES")]
    pub memory: Option<ByteSize>,
}

impl PoolArgs {
    /// As the worker takes it.
    pub fn options(&self) -> worker::Options {
        let defaults = worker::Options::default();
        let slots = self.slots.map_or(defaults.slots, usize::from);
        worker::Options {
            slots,
            threads: self.threads.map_or(slots, usize::from).min(slots),
            prefetch: u16::try_from(slots + 1).unwrap_or(u16::MAX),
            memory_bytes: self.memory.map_or(defaults.memory_bytes, |memory| memory.as_u64()),
            ..defaults
        }
    }
}

impl WorkerCli {
    /// As the worker takes it.
    pub fn options(&self) -> worker::Options {
        let options = self.pool.options();
        worker::Options {
            prefetch: self.prefetch.unwrap_or(options.prefetch),
            quorum: self.queue_type.is_quorum(),
            attempts_max: self.attempts,
            ..options
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "it must be above zero, and less than 10^19".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_lines_are_consistent() {
        BossCli::command().debug_assert();
        WorkerCli::command().debug_assert();
        BridgeCli::command().debug_assert();
    }

    #[test]
    fn every_option_has_an_environment_variable() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
                let id = arg.get_id().as_str();
                let expected = format!("RABBITRY_{}", id.to_uppercase());
                let automatic = id == "help" || id == "version";
                let env = arg.get_env().map(|env| env.to_string_lossy().into_owned());
                assert!(automatic || env.as_deref() == Some(&expected), "--{id} has {env:?}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&BossCli::command());
        check(&WorkerCli::command());
        check(&BridgeCli::command());
    }

    #[test]
    fn cancel_needs_a_broker_and_an_id() {
        let id = "00112233445566778899aabbccddeeff";
        let parse = |line: String| BossCli::try_parse_from(line.split(' ')).and_then(BossCli::checked);
        let cli = parse(format!("boss cancel {id} --json --broker amqp://h")).unwrap();
        let BossCommand::Cancel(args) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!((args.task.to_string().as_str(), args.json), (id, true));
        // Unless the environment of this test names one.
        if std::env::var_os("RABBITRY_BROKER").is_none() {
            assert!(parse(format!("boss cancel {id}")).unwrap_err().to_string().contains("--broker"));
        }
        for wrong in ["", "0", "g0112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff0"] {
            assert!(parse(format!("boss --broker amqp://h cancel {wrong}")).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn input_is_random_or_files_and_not_both() {
        let parse = |line: &str| BossCli::try_parse_from(line.split(' ')).map(|_| ());
        assert!(parse("boss solve --random 10 --count 3").is_ok());
        assert!(parse("boss solve A.npy B.npy -o X.npy --broker amqp://h").is_ok());
        for wrong in [
            "boss solve",
            "boss solve A.npy",
            "boss solve A.npy B.npy",
            "boss solve --random 3 -o X.npy",
            "boss solve --random 3 A.npy B.npy -o X.npy",
            "boss solve A.npy B.npy -o X.npy --count 3",
            "boss solve --random 0",
            "boss solve --random 3 --deadline -1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
