//! A pool for the tests: a boss and workers in this process over either broker, a raw client below the boss, and a kind
//! of task whose handler does what the test says.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rabbitry::boss::{self, Boss, Submit, Ticket};
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::broker::embedded::EmbeddedBroker;
use rabbitry::broker::{Broker, Connection, Consume, Consumer, Error, Message, Published, Queue, QueueStatus, Route};
use rabbitry::task::{Blob, Encoded, Format, Handler, Kind, Plan, Task, TaskError, TaskId, Watch};
use rabbitry::tasks::solve::{Matrix, SolveHandler, System};
use rabbitry::transport::{self, names};
use rabbitry::wire::{self, OutcomeHead, TaskHead};
use rabbitry::worker::{self, Options, Summary};
use tokio_util::sync::CancellationToken;

use crate::rabbitmq;

/// Longer than anything takes on two busy cores; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Makes a test per claim and broker; a claim is a function of a [`Place`].
macro_rules! on_both {
    ($($claim:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                super::$claim($crate::pool::Place::embedded()).await;
            })*
        }
        mod rabbitmq {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                super::$claim($crate::pool::Place::rabbitmq().await).await;
            })*
        }
    };
}
pub(crate) use on_both;

/// A broker that no other test uses.
pub struct Place {
    pub broker: Arc<dyn Broker>,
    /// Set if it is the embedded one.
    pub embedded: Option<EmbeddedBroker>,
    _place: Option<rabbitmq::TestBroker>,
}

impl Place {
    pub fn embedded() -> Self {
        let broker = EmbeddedBroker::new();
        Place { broker: Arc::new(broker.clone()), embedded: Some(broker), _place: None }
    }

    pub async fn rabbitmq() -> Self {
        let place = rabbitmq::vhost().await;
        let broker = Arc::new(AmqpBroker::new(&place.url).expect("a legal address"));
        Place { broker, embedded: None, _place: Some(place) }
    }

    pub async fn boss(&self) -> Boss {
        self.boss_with(boss::Options::default()).await
    }

    pub async fn boss_with(&self, options: boss::Options) -> Boss {
        soon("a boss", Boss::connect(self.broker.clone(), options)).await.expect("a boss")
    }

    /// A worker for `solve` with one slot.
    pub fn solver(&self) -> Worker {
        self.worker(solve_handler(), one_slot())
    }

    pub fn worker(&self, handler: Arc<dyn Handler>, options: Options) -> Worker {
        let stop = CancellationToken::new();
        let running = tokio::spawn(worker::run(self.broker.clone(), vec![handler], options, stop.clone()));
        Worker { stop, running }
    }

    /// A connection below the boss, with the shared topology and the work queues of `solve` and [`Probe`] declared.
    pub async fn client(&self) -> Client {
        let connection = soon("a connection", self.broker.connect()).await.expect("a connection");
        let kinds = [System::KIND, Probe::KIND];
        transport::declare_shared(&*connection, &kinds, false).await.expect("declared");
        let reply_to = format!("replies-{:08x}", rand::random::<u32>());
        let queue = Queue { name: reply_to.clone(), exclusive: true, ..Queue::default() };
        connection.declare_queue(&queue).await.expect("declared");
        let replies = connection.consume(&reply_to, Consume { prefetch: 0, no_ack: true }).await.expect("consuming");
        Client { connection, reply_to, replies }
    }
}

pub fn one_slot() -> Options {
    Options { slots: 1, threads: 1, prefetch: 2, memory_bytes: 1 << 30, ..Options::default() }
}

pub fn solve_handler() -> Arc<dyn Handler> {
    Arc::new(SolveHandler::uncalibrated(512))
}

/// A worker in this process.
pub struct Worker {
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<Summary, Error>>,
}

impl Worker {
    pub fn is_running(&self) -> bool {
        !self.running.is_finished()
    }

    /// Asks it to stop, without waiting.
    pub fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    pub async fn stop(mut self) -> Summary {
        self.stop.cancel();
        soon("the worker's end", &mut self.running).await.expect("no panic").expect("a good end")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A client that speaks the protocol itself.
pub struct Client {
    pub connection: Arc<dyn Connection>,
    pub reply_to: String,
    pub replies: Consumer,
}

impl Client {
    pub async fn publish(&self, queue: &str, message: Message) {
        let confirm = soon("room", self.connection.publish(&Route::queue(queue), message)).await.expect("published");
        assert_eq!(soon("a confirm", confirm.0).await.expect("confirmed"), Published::Routed);
    }

    /// Puts a message with this head and body on the work queue of `solve`, answers to this client.
    pub async fn send(&self, head: &TaskHead, body: &[u8]) {
        let message = self.message(wire::encode(head), body);
        self.publish(&names::work_queue("solve"), message).await;
    }

    pub fn message(&self, head: Vec<u8>, body: &[u8]) -> Message {
        Message {
            head: head.into(),
            body: vec![Bytes::copy_from_slice(body)],
            content_type: Some(Format::Binary.content_type().into()),
            reply_to: Some(self.reply_to.clone()),
            ..Message::default()
        }
    }

    pub async fn reply(&mut self) -> Message {
        soon("a reply", self.replies.next()).await.expect("a reply").message
    }

    pub async fn outcome(&mut self) -> OutcomeHead {
        wire::decode(&self.reply().await.head).expect("one outcome")
    }

    /// Asks for the state of a queue until it is so; each question is a round trip to the broker.
    pub async fn until(&self, queue: &str, what: &str, so: impl Fn(Option<QueueStatus>) -> bool) {
        soon(what, async {
            while !so(self.connection.queue_status(queue).await.expect("a status")) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub async fn until_ready(&self, queue: &str, ready: u64) {
        self.until(queue, &format!("{ready} ready in {queue}"), |q| q.is_some_and(|q| q.ready == ready)).await;
    }
}

/// A binary `solve` task of this system as head and body.
pub fn raw(system: System) -> (TaskHead, Vec<u8>) {
    let encoded = system.encode(Format::Binary).expect("a right system");
    let body = encoded.blob.payload.concat();
    let head = TaskHead {
        id: TaskId::random(),
        kind: "solve".into(),
        attempt: 0,
        format: Format::Binary,
        deadline_unix_ms: 0,
        flops: encoded.flops,
        payload_bytes: body.len() as u64,
        checksum: Some(wire::checksum(&[&body])),
        pull_from: None,
        params: encoded.blob.params,
    };
    (head, body)
}

/// A task of the test's own kind: bytes in, bytes out. Never shares a message with another.
pub struct Probe(pub Bytes);

impl Task for Probe {
    const KIND: Kind = Kind::from_static("probe");
    type Answer = Bytes;

    fn encode(self, format: Format) -> Result<Encoded, TaskError> {
        let answer_bytes = self.0.len() as u64;
        Ok(Encoded { blob: Blob { format, params: vec![], payload: vec![self.0] }, flops: 1 << 40, answer_bytes })
    }

    fn decode_answer(_: &[u8], answer: Blob) -> Result<Bytes, TaskError> {
        Ok(Bytes::from(answer.payload.concat()))
    }
}

type Doing = dyn Fn(Bytes) -> Result<Bytes, TaskError> + Send + Sync;

/// Computes [`Probe`]s as the test says.
pub struct ProbeHandler {
    run: Box<Doing>,
    planned: tokio::sync::watch::Sender<usize>,
}

impl ProbeHandler {
    pub fn new(run: impl Fn(Bytes) -> Result<Bytes, TaskError> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(ProbeHandler { run: Box::new(run), planned: Default::default() })
    }

    /// Waits until the worker has taken this many tasks in hand, running or not.
    pub async fn until_planned(&self, count: usize) {
        let mut planned = self.planned.subscribe();
        soon("tasks in hand", planned.wait_for(|planned| *planned >= count)).await.expect("the sender is in self");
    }
}

impl Handler for ProbeHandler {
    fn kind(&self) -> Kind {
        Probe::KIND
    }

    fn gflops(&self) -> f64 {
        0.0
    }

    fn plan(&self, _: Format, _: &[u8], payload_bytes: u64, _: usize) -> Result<Plan, TaskError> {
        self.planned.send_modify(|planned| *planned += 1);
        Ok(Plan { memory_bytes: payload_bytes, threads: 1 })
    }

    fn run(&self, task: Blob, _: usize, _: &Watch) -> Result<Blob, TaskError> {
        let answer = (self.run)(Bytes::from(task.payload.concat()))?;
        Ok(Blob { payload: vec![answer], ..Blob::default() })
    }
}

pub async fn submit<T: Task>(boss: &Boss, task: T) -> Ticket<T> {
    soon("room in the window", boss.submit(task, Submit::default())).await.expect("a right task")
}

/// The backward error of X in the infinity norm, worked out here from nothing but A, B and X.
pub fn backward_error(system: &System, x: &Matrix) -> f64 {
    let (a, b, x) = (system.a.view(), system.b.view(), x.view());
    assert_eq!(x.dim(), b.dim(), "X has B's shape");
    let norm = |v: ndarray::ArrayView1<'_, f64>| v.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    let a_norm = a.rows().into_iter().map(|row| row.iter().map(|value| value.abs()).sum()).fold(0.0f64, f64::max);
    let residual = &b - &a.dot(&x);
    let columns = residual.columns().into_iter().zip(x.columns()).zip(b.columns());
    columns.map(|((r, x), b)| norm(r) / (a_norm * norm(x) + norm(b))).fold(0.0, f64::max)
}
