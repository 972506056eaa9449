//! The options of `bridge`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;
use clap::builder::FalseyValueParser;

use super::{PoolArgs, QueueType, seconds};
use crate::{boss, bridge, worker};

/// Solves over HTTP: JSON and binary for everybody who does not speak AMQP, and the directory of the workers.
#[derive(Debug, Parser)]
#[command(
    name = "bridge",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  bridge                                         solves on all cores of this machine, at http://127.0.0.1:8080
  bridge --broker amqp://guest:guest@host:5672   the same on the workers of a RabbitMQ broker
  curl -s http://127.0.0.1:8080/v1/solve -H 'content-type: application/json' -d '{\"a\":[[4,1],[2,3]],\"b\":[1,2]}'
The calls are described at /docs. The first Ctrl-C (or SIGTERM) takes no new requests and answers those that wait; the
second quits at once. Logs go to stderr; RABBITRY_LOG=debug shows more."
)]
pub struct BridgeCli {
    /// RabbitMQ to use, amqp://user:password@host:port/vhost (or amqps://), or several nodes of a cluster with commas between
    /// them. Without it the tasks are computed in this process
    #[arg(long, env = "RABBITRY_BROKER", value_name = "URL", hide_env_values = true)]
    pub broker: Option<String>,
    /// Where to listen. Beyond this machine it needs --token-file, or --insecure
    #[arg(long, env = "RABBITRY_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Let in only who has one of these tokens: a file with one a line, sent as `Authorization: Bearer TOKEN`
    #[arg(long, env = "RABBITRY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Let everybody in who can reach it
    #[arg(long, env = "RABBITRY_INSECURE", value_parser = FalseyValueParser::new(), conflicts_with = "token_file")]
    pub insecure: bool,
    /// Speak TLS: the chain of certificates, PEM
    #[arg(long, env = "RABBITRY_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the first certificate, PEM
    #[arg(long, env = "RABBITRY_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let web pages of this origin use it, e.g. https://example.org; * for all. May be given several times
    #[arg(long, env = "RABBITRY_CORS_ORIGIN", value_name = "ORIGIN,...", value_delimiter = ',')]
    pub cors_origin: Vec<String>,
    /// The longest body of a request
    #[arg(long, env = "RABBITRY_MAX_BODY", value_name = "BYTES", default_value = "1GiB")]
    pub max_body: ByteSize,
    /// Memory for bodies, tasks and answers in all, e.g. 8GiB [default: half of what is free]
    #[arg(long, env = "RABBITRY_MEMORY", value_name = "BYTES")]
    pub memory: Option<ByteSize>,
    /// The folder of detached tasks and their results [default: ~/.local/state/rabbitry/bridge-PORT]
    #[arg(long, env = "RABBITRY_SPOOL", value_name = "FOLDER")]
    pub spool: Option<PathBuf>,
    /// The most that may lie there
    #[arg(long, env = "RABBITRY_SPOOL_SIZE", value_name = "BYTES", default_value = "16GiB")]
    pub spool_size: ByteSize,
    /// Seconds that a result is kept that nobody reads
    #[arg(long, env = "RABBITRY_RESULT_TTL", value_name = "SECS", default_value = "3600", value_parser = seconds)]
    pub result_ttl: Duration,
    /// Seconds that a worker in another language has a task without renewing its lease
    #[arg(long, env = "RABBITRY_LEASE", value_name = "SECS", default_value = "30", value_parser = seconds)]
    pub lease: Duration,
    /// Connections at a time
    #[arg(long, env = "RABBITRY_MAX_CONNECTIONS", value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Pool in this process: small tasks computed at a time [default: the cores]
    #[arg(long, env = "RABBITRY_SLOTS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: Option<u16>,
    /// Pool in this process: threads that one large task may use, at most the slots [default: the slots]
    #[arg(long, env = "RABBITRY_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Pool in this process: memory that tasks may take in all [default: 40 % of what is free]
    #[arg(long, env = "RABBITRY_POOL_MEMORY", value_name = "BYTES")]
    pub pool_memory: Option<ByteSize>,
    /// Type of the work queues; `quorum` for a replicated broker. All programs of a pool must agree
    #[arg(long, env = "RABBITRY_QUEUE_TYPE", value_name = "TYPE", default_value = "classic")]
    pub queue_type: QueueType,
}

impl BridgeCli {
    /// As the bridge takes it.
    ///
    /// # Errors
    /// What is wrong with an option, in words.
    pub fn options(&self) -> Result<bridge::Options, String> {
        let free_bytes = worker::free_memory_bytes();
        let origin = |text: &String| text.parse().map_err(|_| format!("--cors-origin {text:?} is no origin"));
        Ok(bridge::Options {
            memory_bytes: self.memory.map_or((free_bytes / 2).max(64 << 20), |memory| memory.as_u64()),
            max_body_bytes: self.max_body.as_u64(),
            tokens: self.token_file.as_deref().map(bridge::Tokens::read).transpose()?,
            cors_origins: self.cors_origin.iter().map(origin).collect::<Result<_, _>>()?,
            insecure: self.insecure,
            tls: self.tls_cert.clone().zip(self.tls_key.clone()),
            connections_max: self.max_connections as usize,
            spool: self.spool.clone().or_else(|| self.default_spool()).ok_or("there is no HOME: say --spool FOLDER")?,
            spool_bytes: self.spool_size.as_u64(),
            result_ttl: self.result_ttl,
            read_again: bridge::READ_AGAIN,
            patience: bridge::PATIENCE,
            lease: self.lease,
            quorum: self.queue_type.is_quorum(),
        })
    }

    /// Where the state of programs belongs; one folder for each port, because two bridges can't share one.
    fn default_spool(&self) -> Option<PathBuf> {
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
        let port = self.listen.rsplit(':').next().unwrap_or_default();
        Some(state.join("rabbitry").join(format!("bridge-{port}")))
    }

    /// What a bridge asks of its boss: the bound on memory is the bridge's own.
    pub fn boss(&self) -> boss::Options {
        boss::Options { window_bytes: u64::MAX, quorum: self.queue_type.is_quorum() }
    }

    /// The pool in this process.
    pub fn pool(&self) -> worker::Options {
        let memory = self.pool_memory.unwrap_or_else(|| ByteSize(worker::free_memory_bytes() / 10 * 4));
        let pool = PoolArgs { slots: self.slots, threads: self.threads, memory: Some(memory) };
        worker::Options { quorum: self.queue_type.is_quorum(), ..pool.options() }
    }
}
