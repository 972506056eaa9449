//! The bridge over HTTP: a real one in this process, over either broker, and clients that say what they like.

mod access;
pub mod client;
mod detached;
mod document;
mod faults;
mod hostile;
mod kept;
mod random;
mod render;
mod restart;
mod solving;
mod waiting;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rabbitry::boss;
use rabbitry::bridge::{self, Bridge};
use rabbitry::task::{Blob, Format, Handler, Kind, Plan, TaskError, Watch};
use rabbitry::tasks::solve::{Matrix, Order};
use rabbitry::worker::Launcher;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::pool::{Place, Worker, one_slot, solve_handler, soon};
use client::{Ask, Connection, Reply};

/// A bridge and what it stands on.
pub struct Site {
    place: Place,
    options: bridge::Options,
    running: Option<Running>,
    _workers: Vec<Worker>,
    _folder: TempDir,
}

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), String>>,
}

/// As a bridge has it by default, with bounds that tests can reach.
fn options(folder: &TempDir) -> bridge::Options {
    bridge::Options {
        memory_bytes: 1 << 30,
        max_body_bytes: 64 << 20,
        tokens: None,
        cors_origins: Vec::new(),
        insecure: false,
        tls: None,
        connections_max: 4096,
        spool: folder.path().join("spool"),
        spool_bytes: 1 << 30,
        result_ttl: Duration::from_secs(3600),
        read_again: bridge::READ_AGAIN,
        patience: bridge::PATIENCE,
        lease: Duration::from_secs(30),
        quorum: false,
    }
}

impl Site {
    /// A bridge over this broker with one worker that solves.
    pub async fn on(place: Place) -> Self {
        Self::with(place, vec![solve_handler()], |_| {}).await
    }

    /// The same, in this process alone.
    pub async fn embedded() -> Self {
        Self::on(Place::embedded()).await
    }

    /// A bridge with other options, whose workers (one slot each) have these handlers.
    pub async fn with(
        place: Place,
        handlers: Vec<Arc<dyn Handler>>,
        change: impl FnOnce(&mut bridge::Options),
    ) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut options = options(&folder);
        change(&mut options);
        let workers = handlers.into_iter().map(|handler| place.worker(handler, one_slot())).collect();
        let mut site = Site { place, options, running: None, _workers: workers, _folder: folder };
        site.start().await;
        site
    }

    pub async fn start(&mut self) {
        let bridge = Bridge::bind("127.0.0.1:0", self.options.clone()).await.expect("a bridge");
        let address = bridge.url().rsplit('/').next().expect("an address").parse().expect("an address");
        let boss =
            self.place.boss_keeping(boss::Options { window_bytes: u64::MAX, quorum: false }, bridge.keep()).await;
        let stop = CancellationToken::new();
        let launcher = Launcher::new(self.place.broker.clone());
        let serving = tokio::spawn(bridge.serve(boss, launcher, stop.clone()));
        self.running = Some(Running { address, stop, serving });
    }

    /// Stops the bridge as a signal does, and waits until it has ended.
    pub async fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.stop.cancel();
        soon("the bridge's end", running.serving).await.expect("no panic").expect("a good end");
    }

    /// Begins to stop it, without waiting.
    pub fn ask_to_stop(&self) {
        self.running().stop.cancel();
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    pub fn address(&self) -> SocketAddr {
        self.running().address
    }

    /// Asks on a connection of its own.
    pub async fn ask(&self, ask: Ask) -> Reply {
        let what = format!("{ask:.200?}");
        soon(&what, async { Connection::one(self.address()).await.ask(ask).await.expect("a reply") }).await
    }

    pub async fn get(&self, target: impl Into<String>) -> Reply {
        self.ask(Ask::get(target)).await
    }

    /// The task at this URL once it has its outcome.
    pub async fn ended(&self, url: &str) -> Value {
        let view = self.get(format!("{url}?wait=60")).await.is(200);
        assert!(!matches!(view["state"].as_str(), Some("queued" | "running")), "{view}");
        view
    }

    /// Looks at the task until it is in this state.
    pub async fn until_state(&self, url: &str, state: &str) -> Value {
        soon(&format!("{url} to be {state}"), async {
            loop {
                let view = self.get(url).await.is(200);
                if view["state"] == state {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// A figure of `/metrics`.
    pub async fn figure(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }

    /// Waits until nothing of all requests is left: no memory, no tasks.
    pub async fn until_idle(&self) {
        soon("an idle bridge", async {
            while self.figure("rabbitry_memory_bytes").await != 0.0 || self.figure("rabbitry_tasks").await != 0.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(self.get("/v1/tasks").await.is(200)["tasks"], json!([]));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop.cancel();
        }
    }
}

/// A system of which everybody knows the solution: x = [0.1, 0.6].
pub fn small() -> Value {
    json!({"a": [[4.0, 1.0], [2.0, 3.0]], "b": [1.0, 2.0]})
}

/// Two unknowns, and that is their values.
#[track_caller]
pub fn is_small_solution(x: &Value) {
    let x: Vec<f64> = serde_json::from_value(x.clone()).expect("a vector");
    assert!((x[0] - 0.1).abs() < 1e-15 && (x[1] - 0.6).abs() < 1e-15 && x.len() == 2, "{x:?}");
}

/// The parts of a multipart body, and its content type.
pub fn multipart(parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let boundary = "a-boundary-that-is-in-no-part";
    let mut body = Vec::new();
    for (name, bytes) in parts {
        body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        let disposition = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{name}.npy\"\r\n\r\n");
        body.extend_from_slice(disposition.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// A matrix, or a vector if there is one length only, as numpy.save writes it.
pub fn npy(shape: &[usize], values: &[f64]) -> Vec<u8> {
    let text = shape.iter().map(|length| format!("{length},")).collect::<String>();
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({text}), }}");
    let unpadded = 10 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&u16::try_from(header.len()).expect("short").to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}

/// Memory for one task of 1000 unknowns with the pool while another comes in; that one waits on disk.
pub const ROOM_FOR_ONE: u64 = 30_000_000;

/// A system of `n` unknowns in multipart: content type and body. From n = 1000 on its progress is told.
pub fn large(n: usize) -> (String, Vec<u8>) {
    let a: Vec<f64> = (0..n * n).map(|at| if at % (n + 1) == 0 { n as f64 } else { (at % 7) as f64 / 7.0 }).collect();
    multipart(&[("a", &npy(&[n, n], &a)), ("b", &npy(&[n], &vec![1.0; n]))])
}

/// The numbers of a matrix in an answer's body, after `skip` bytes of head.
pub fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|number| f64::from_le_bytes(number.try_into().expect("8 bytes"))).collect()
}

/// A solver that begins when it is told, and tells when it has begun.
pub struct Gated {
    pub handler: Arc<dyn Handler>,
    begun: mpsc::UnboundedReceiver<usize>,
    open: Arc<AtomicBool>,
}

impl Gated {
    pub fn new() -> Self {
        let (tell, begun) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicBool::new(false));
        let handler = Arc::new(GatedHandler { inner: solve_handler(), tell, open: open.clone() });
        Gated { handler, begun, open }
    }

    /// Waits until the next task begins, and gives its rows.
    pub async fn begins(&mut self) -> usize {
        soon("a task to begin", self.begun.recv()).await.expect("the handler is alive")
    }

    /// No task has begun that was not heard of.
    pub fn is_silent(&mut self) -> bool {
        self.begun.try_recv().is_err()
    }

    /// Lets through what runs and what follows.
    pub fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    pub fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }
}

struct GatedHandler {
    inner: Arc<dyn Handler>,
    tell: mpsc::UnboundedSender<usize>,
    open: Arc<AtomicBool>,
}

impl Handler for GatedHandler {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    fn gflops(&self) -> f64 {
        0.0
    }

    fn plan(&self, format: Format, params: &[u8], payload_bytes: u64, threads: usize) -> Result<Plan, TaskError> {
        self.inner.plan(format, params, payload_bytes, threads)
    }

    fn run(&self, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError> {
        // Binary parameters begin with the rows of A.
        let rows = task.params.first_chunk().map_or(0, |rows| u64::from_le_bytes(*rows));
        // A test that has ended hears nothing.
        let _ = self.tell.send(usize::try_from(rows).unwrap_or(0));
        watch.advance(0.25);
        while !self.open.load(Ordering::Relaxed) {
            watch.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.inner.run(task, threads, watch)
    }
}

/// A site whose only worker is gated.
pub async fn gated(place: Place) -> (Site, Gated) {
    gated_with(place, |_| {}).await
}

pub async fn gated_with(place: Place, change: impl FnOnce(&mut bridge::Options)) -> (Site, Gated) {
    let gate = Gated::new();
    let site = Site::with(place, vec![gate.handler.clone()], change).await;
    (site, gate)
}

/// A diagonal system of `n` unknowns with this b, whose solution is b to the bit.
pub fn identity(n: usize, b: &[f64]) -> Value {
    let row = |at: usize| (0..n).map(|column| if column == at { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
    json!({"a": (0..n).map(row).collect::<Vec<_>>(), "b": b})
}

/// A diagonal system with this priority: those of different priorities share no message.
pub fn prioritised(n: usize, priority: &str) -> Value {
    let mut system = identity(n, &vec![1.0; n]);
    system["priority"] = priority.into();
    system
}

/// The raw payload of a system and its parameters in base64, as docs/protocol.md has them.
pub fn raw_system(a: Matrix, b: Matrix) -> (String, Vec<u8>) {
    let (head, body) = crate::pool::raw(rabbitry::tasks::solve::System::new(a, b));
    (base64_simd::STANDARD.encode_to_string(head.params), body)
}

pub fn small_raw() -> (String, Vec<u8>) {
    let a = Matrix::new(2, 2, Order::RowMajor, vec![4.0, 1.0, 2.0, 3.0]).expect("a matrix");
    raw_system(a, Matrix::vector(vec![1.0, 2.0]))
}

/// Posts a system as a detached task, with these headers beside; gives its URL.
pub async fn submit(site: &Site, system: &Value) -> String {
    site.ask(Ask::json("/v1/tasks?kind=solve", system)).await.accepted()
}
