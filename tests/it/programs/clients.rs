//! The clients in other languages, as they are: `make clients` has set up what they need.

use std::path::{Path, PathBuf};

use rabbitry::tasks::solve::System;
use tokio::process::Command;

use super::{BRIDGE, Ended, Process, program};
use crate::pool::soon;
use crate::rabbitmq::vhost;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `make clients` makes.
fn made(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{}: there is none; run `make clients`", path.display());
    path
}

fn python(script: &str, arguments: &[&str]) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let interpreter = made(root().join(target).join("clients/venv/bin/python"));
    let script = root().join("clients").join(script);
    let mut command =
        program(interpreter.to_str().expect("UTF-8"), &[&[script.to_str().expect("UTF-8")], arguments].concat());
    // A client's own words at once, and no `__pycache__` in the sources.
    command.env("PYTHONUNBUFFERED", "1").env("PYTHONDONTWRITEBYTECODE", "1").env("OPENBLAS_NUM_THREADS", "1");
    command
}

fn eigen(arguments: &[&str]) -> Command {
    program(made(root().join("clients/minion_eigen")).to_str().expect("UTF-8"), arguments)
}

/// A bridge on a free port, and its URL.
async fn bridge(spool: &Path, arguments: &[&str]) -> (Process, String) {
    let mut command = program(BRIDGE, &[&["--listen", "127.0.0.1:0"], arguments].concat());
    command.env("RABBITRY_SPOOL", spool);
    let mut bridge = Process::start(command);
    let url = bridge.until_listening().await;
    (bridge, url)
}

async fn end(what: &str, command: &mut Command) -> Ended {
    Ended::from(soon(what, command.output()).await.expect("it starts"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_in_python_does_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut bridge, url) = bridge(folder.path(), &["--max-body", "32MiB"]).await;
    let ended = end("test_clients.py", &mut python("test_clients.py", &["--bridge", &url])).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    bridge.terminate();
    assert_eq!(bridge.code().await, Some(0), "{}", bridge.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_above_16_mib_goes_straight_to_rabbitmq_and_back() {
    let place = vhost().await;
    let mut worker = Process::worker(&place.url, &["--slots", "1"]).await;
    let ended = end("direct_pika.py", &mut python("direct_pika.py", &["--broker", &place.url, "--n", "1500"])).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("backward error"), "{}", ended.out);
    worker.terminate();
    assert_eq!(worker.code().await, Some(0));
}

/// A bridge on a broker without any worker of ours: what is solved there is solved by the minion.
async fn a_minion_computes(minion: impl Fn(&[&str]) -> Command, name: &str, how: &[&str]) {
    let (place, folder) = (vhost().await, tempfile::tempdir().expect("a folder"));
    let (mut bridge, url) = bridge(folder.path(), &["--broker", &place.url]).await;
    let mut minion = Process::start(minion(&[&["--bridge", &url, "--name", name, "--count", "3"], how].concat()));
    let client = Solver { folder: folder.path(), url: &url };
    for seed in 0..3 {
        let who = client.solve(System::random(60, 1 + seed as usize, seed)).await;
        assert!(who.starts_with(name), "solved by {who}, not by {name}");
        if seed == 0 {
            // It asks for the next.
            let workers = end("curl", &mut program("curl", &["-sSf", &format!("{url}/v1/workers")])).await;
            assert!(workers.out.contains(&format!("\"id\":\"{name}-")), "{}{}", workers.out, workers.err);
        }
    }
    assert_eq!(minion.code().await, Some(0), "{}", minion.said());
    bridge.terminate();
    assert_eq!(bridge.code().await, Some(0), "{}", bridge.said());
}

/// The command line of the client in Python.
struct Solver<'a> {
    folder: &'a Path,
    url: &'a str,
}

impl Solver<'_> {
    /// Solves a system and says who has; X is right.
    async fn solve(&self, system: System) -> String {
        let path = |name: &str| self.folder.join(name).to_str().expect("UTF-8").to_owned();
        let (a, b, x) = (path("A.npy"), path("B.npy"), path("X.npy"));
        for (name, matrix) in [(&a, &system.a), (&b, &system.b)] {
            rabbitry::files::write(name, matrix).unwrap_or_else(|error| panic!("{error}"));
        }
        let ended = end("rabbitry.py", &mut python("rabbitry.py", &[&a, &b, "-o", &x, "--bridge", self.url])).await;
        assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
        let x = rabbitry::files::read(&x).unwrap_or_else(|error| panic!("{error}"));
        let residual = &system.a.view().dot(&x.view()) - &system.b.view();
        let largest = residual.iter().fold(0.0_f64, |largest, r| largest.max(r.abs()));
        assert!(largest < 1e-9, "off by {largest}");
        let said = format!("{}{}", ended.out, ended.err);
        let who = said.split("by ").nth(1).and_then(|rest| rest.split([' ', ',', '\n']).next());
        who.unwrap_or_else(|| panic!("nobody in {said}")).to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_numpy_computes_in_binary() {
    a_minion_computes(|arguments| python("minion_numpy.py", arguments), "numpy-binary", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_numpy_computes_in_json() {
    a_minion_computes(|arguments| python("minion_numpy.py", arguments), "numpy-json", &["--json"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_eigen_computes_in_binary() {
    a_minion_computes(eigen, "eigen-binary", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_eigen_computes_in_json() {
    a_minion_computes(eigen, "eigen-json", &["--json"]).await;
}
