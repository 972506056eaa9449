//! The programs that are measured, each ended by its pid, and what the kernel says of them.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::client::Client;

/// How long a program may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// The folder of the programs, if not those that were just built.
pub static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();

/// A program of ours that runs on until it is dropped.
pub struct Process(Child);

impl Process {
    /// A worker; whether it takes tasks yet shows with the first of them.
    pub fn worker(url: &str) -> Self {
        let mut worker = program(env!("CARGO_BIN_EXE_worker"));
        worker.args(["--broker", url]).stdout(Stdio::null()).stderr(Stdio::null());
        Process(worker.spawn().expect("the worker starts"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program without the options that this process's environment may hold for it.
fn program(path: &str) -> Command {
    let path = Path::new(path);
    let folder = PROGRAMS.get().map(PathBuf::as_path).or(path.parent()).expect("a folder");
    let mut command = Command::new(folder.join(path.file_name().expect("a name")));
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("RABBITRY_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A running bridge.
pub struct Bridge {
    process: Process,
    pub address: SocketAddr,
    _spool: tempfile::TempDir,
}

/// What the kernel counts of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: f64,
    /// Without what is mapped from files: the program and its libraries.
    pub anonymous: f64,
    pub peak: f64,
    pub threads: usize,
}

impl Bridge {
    /// Starts one, over a broker or with its own pool, and waits until it is ready.
    pub async fn start(broker: Option<&str>, arguments: &[&str]) -> Self {
        let spool = tempfile::tempdir().expect("a folder");
        let mut bridge = program(env!("CARGO_BIN_EXE_bridge"));
        bridge.args(["--listen", "127.0.0.1:0", "--spool"]).arg(spool.path()).args(arguments);
        bridge.args(broker.into_iter().flat_map(|url| ["--broker", url]));
        let mut process = Process(bridge.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts"));
        let mut said = BufReader::new(process.0.stderr.take().expect("piped"));
        let mut line = String::new();
        let address = loop {
            let before = line.len();
            assert!(said.read_line(&mut line).is_ok_and(|read| read > 0), "the bridge ended: {line}");
            let url = line[before..].split("http://").nth(1).and_then(|rest| rest.split('"').next());
            if let Some(address) = url.and_then(|address| address.trim().parse().ok()) {
                break address;
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let bridge = Bridge { process, address, _spool: spool };
        bridge.until_ready().await;
        bridge
    }

    async fn until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut client = Client::connect(self.address).await.expect("it listens");
            if client.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return;
            }
            assert!(Instant::now() < deadline, "the bridge is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it lists a worker.
    pub async fn until_worker(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut client = Client::connect(self.address).await.expect("it listens");
        while client.get("/v1/workers").await.expect("an answer").text() == "[]" {
            assert!(Instant::now() < deadline, "no worker came up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.process.0.id().to_string())[0]
    }

    pub fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).expect("/proc");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        Memory {
            resident: field("VmRSS") * 1024.0,
            anonymous: field("RssAnon") * 1024.0,
            peak: field("VmHWM") * 1024.0,
            threads: field("Threads") as usize,
        }
    }
}

/// NumPy behind Python's http.server; it ends with its stdin.
pub struct Python {
    _process: Process,
    pub address: SocketAddr,
    pub version: String,
}

impl Python {
    /// Starts what `make baselines` has set up.
    ///
    /// # Errors
    /// Why there is none.
    pub fn start(threads: usize) -> Result<Self, String> {
        let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/baselines/run.py");
        let mut command = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
        command.arg(runner).args(["serve", "--no-setup", "--threads", &threads.to_string(), "http", "0"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process(command.spawn().map_err(|error| error.to_string())?);
        let mut line = String::new();
        let stdout = process.0.stdout.as_mut().expect("piped");
        BufReader::new(stdout.take(4096)).read_line(&mut line).map_err(|error| error.to_string())?;
        let said: serde_json::Value = serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))?;
        match (said["port"].as_u64(), said["error"].as_str()) {
            (Some(port), _) => Ok(Python {
                _process: process,
                address: SocketAddr::from(([127, 0, 0, 1], port as u16)),
                version: said["version"].as_str().unwrap_or_default().to_owned(),
            }),
            (None, error) => Err(error.unwrap_or("it says nothing").to_owned()),
        }
    }
}

/// CPU of a process, and of its children that have ended.
pub fn cpu_seconds(process: &str) -> [f64; 2] {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // User and system, in clock ticks of 10 ms.
    [11, 13].map(|at| (at..at + 2).map(|i| fields[i].parse::<f64>().expect("ticks")).sum::<f64>() / 100.0)
}

/// Tasks a second as `boss solve` says them, and its CPU seconds from its start to its end.
pub fn boss_rate(broker: Option<&str>, n: usize, count: u64) -> (f64, f64) {
    let before = cpu_seconds("self")[1];
    let mut boss = program(env!("CARGO_BIN_EXE_boss"));
    boss.args(broker.into_iter().flat_map(|url| ["--broker", url]));
    boss.args(["solve", "--json", "--random", &n.to_string(), "--count", &count.to_string()]);
    let output = boss.stderr(Stdio::null()).output().expect("the boss runs");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["failed"], 0, "{report}");
    (report["tasks_per_second"].as_f64().expect("a rate"), cpu_seconds("self")[1] - before)
}
