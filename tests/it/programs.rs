//! The programs as people and scripts use them: real processes against RabbitMQ.

mod benching;
mod cancelling;
mod clients;
mod dead;
mod exit_codes;
mod readme;
mod rendering;
mod solving;
mod workers;

use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rabbitry::boss::Boss;
use rabbitry::broker::amqp::AmqpBroker;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::pool::soon;

pub const BOSS: &str = env!("CARGO_BIN_EXE_boss");
pub const BRIDGE: &str = env!("CARGO_BIN_EXE_bridge");
pub const WORKER: &str = env!("CARGO_BIN_EXE_worker");

/// A program without the options that this process's environment may hold for it.
pub fn program(path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    std::env::vars().filter(|(name, _)| name.starts_with("RABBITRY_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What came of a program that ended.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

async fn run(path: &str, arguments: &[&str]) -> Ended {
    let output = soon(&format!("the end of {arguments:?}"), program(path, arguments).output()).await;
    output.expect("the program starts").into()
}

async fn boss(arguments: &[&str]) -> Ended {
    run(BOSS, arguments).await
}

/// A program that runs on; it is killed when this is dropped.
pub struct Process {
    pub child: Child,
    said: Arc<Mutex<String>>,
    /// How many lines it has said.
    lines: watch::Receiver<usize>,
}

impl Process {
    pub fn start(mut command: Command) -> Process {
        let mut child = command.spawn().expect("the program starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (announce, said_so_far) = watch::channel(0);
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let heard = said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                {
                    let mut heard = heard.lock().expect("no panic");
                    heard.push_str(&line);
                    heard.push('\n');
                }
                announce.send_modify(|lines| *lines += 1);
            }
        });
        Process { child, said, lines: said_so_far }
    }

    /// A worker that takes tasks.
    pub async fn worker(url: &str, arguments: &[&str]) -> Process {
        let mut worker = Process::start(program(WORKER, &[&["--broker", url], arguments].concat()));
        worker.until_consuming().await;
        worker
    }

    /// A worker takes tasks.
    pub async fn until_consuming(&mut self) {
        self.until_said("consuming").await;
    }

    /// A bridge takes requests, at this URL.
    pub async fn until_listening(&mut self) -> String {
        self.until_said("listening").await;
        let said = self.said();
        let url = said.split("url=\"").nth(1).and_then(|rest| rest.split('"').next());
        url.unwrap_or_else(|| panic!("no address in {said}")).to_owned()
    }

    pub async fn until_said(&mut self, word: &str) {
        let heard = self.said.clone();
        let said = |_: &usize| heard.lock().expect("no panic").contains(word);
        let found = soon(&format!("a program that is {word}"), self.lines.wait_for(said)).await.is_ok();
        assert!(found, "the program ended: {}", self.said());
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
    }

    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// As Ctrl-C does.
    fn interrupt(&self) {
        self.signal("-INT");
    }

    pub fn signal(&self, signal: &str) {
        let kill = std::process::Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(kill.expect("kill runs").success());
    }

    pub async fn code(&mut self) -> Option<i32> {
        soon("the end of a program", self.child.wait()).await.expect("waited for").code()
    }
}

/// A boss in this process, to watch the pool with.
pub async fn watcher(url: &str) -> Boss {
    let broker = Arc::new(AmqpBroker::new(url).expect("a legal address"));
    soon("a boss", Boss::connect(broker, Default::default())).await.expect("a boss")
}

/// Asks the workers until the one with this pid computes.
pub async fn until_busy(watcher: &Boss, pid: u32) {
    soon("a busy worker", async {
        loop {
            let nodes = watcher.workers(Duration::from_millis(50)).await.expect("a census");
            if nodes.iter().any(|node| node.pid == pid && node.busy > 0) {
                return;
            }
        }
    })
    .await;
}
