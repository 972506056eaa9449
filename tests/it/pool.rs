//! A pool for the tests: a boss and workers in this process over either broker, a raw client below the boss, and a kind
//! of task whose handler does what the test says.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rabbitry::boss::{self, Boss, Submit, Ticket};
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::broker::embedded::EmbeddedBroker;
use rabbitry::broker::{Broker, Connection, Consume, Consumer, Error, Message, Published, Queue, QueueStatus, Route};
use rabbitry::task::{Blob, Encoded, Format, Handler, Kind, Plan, Task, TaskError, TaskId, Watch};
use rabbitry::tasks::solve::{Matrix, SolveHandler, System};
use rabbitry::transport::{self, names};
use rabbitry::wire::{self, Command, Control, OutcomeHead, TaskHead};
use rabbitry::worker::{self, Options, Summary};
use tokio::sync::mpsc;
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
    place: Option<rabbitmq::TestBroker>,
}

impl Place {
    pub fn embedded() -> Self {
        let broker = EmbeddedBroker::new();
        Place { broker: Arc::new(broker.clone()), embedded: Some(broker), place: None }
    }

    /// A broker of the test's own making.
    pub fn of(broker: Arc<dyn Broker>) -> Self {
        Place { broker, embedded: None, place: None }
    }

    pub async fn rabbitmq() -> Self {
        let place = rabbitmq::vhost().await;
        let broker = Arc::new(AmqpBroker::new(&place.url).expect("a legal address"));
        Place { broker, embedded: None, place: Some(place) }
    }

    /// The address for programs.
    pub fn url(&self) -> &str {
        self.place.as_ref().map_or("", |place| &place.url)
    }

    pub async fn boss(&self) -> Boss {
        self.boss_with(boss::Options::default()).await
    }

    pub async fn boss_with(&self, options: boss::Options) -> Boss {
        soon("a boss", Boss::connect(self.broker.clone(), options)).await.expect("a boss")
    }

    pub async fn boss_keeping(&self, options: boss::Options, keep: boss::Keep) -> Boss {
        soon("a boss", Boss::connect_keeping(self.broker.clone(), options, keep)).await.expect("a boss")
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

/// As if the broker had restarted its links; false where the tests do not command the broker.
pub async fn cut_all_connections(on: &Place) -> bool {
    match &on.embedded {
        Some(broker) => broker.sever(),
        None if !rabbitmq::takes_commands() => return false,
        None => {
            let address = on.broker.address();
            let vhost = address.rsplit('/').next().expect("a vhost");
            rabbitmq::node().ctl(&["close_all_connections", "--vhost", vhost, "a test"]).await;
        }
    }
    true
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

    /// Says something to all workers and bosses.
    pub async fn control(&self, command: Command) {
        let message = Message { head: wire::encode(&Control { command }).into(), ..Message::default() };
        let control = Route::exchange(names::CONTROL, "");
        let confirm = soon("room", self.connection.publish(&control, message)).await.expect("published");
        soon("a confirm", confirm.0).await.expect("confirmed");
    }

    /// Hears what is said on a fanout from now on.
    pub async fn hear(&self, exchange: &str) -> Consumer {
        let ear = names::ear(exchange, &self.reply_to);
        let queue = Queue { name: ear.clone(), exclusive: true, ..Queue::default() };
        self.connection.declare_queue(&queue).await.expect("declared");
        self.connection.bind_queue(&ear, exchange, "").await.expect("bound");
        self.connection.consume(&ear, Consume { prefetch: 0, no_ack: true }).await.expect("consuming")
    }

    /// Puts a message with this head and body on the work queue of `solve`, answers to this client.
    pub async fn send(&self, head: &TaskHead, body: &[u8]) {
        let message = self.message(wire::encode(head), body);
        self.publish(&names::work_queue("solve"), message).await;
    }

    /// Sends a [`Probe`] whose workers were lost twice.
    pub async fn send_suspect(&self) -> TaskId {
        let head = head(&Probe::KIND, b"suspect");
        let message = lost_twice(&head, self.message(Vec::new(), b"suspect"));
        self.publish(&names::work_queue("probe"), message).await;
        head.id
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

    pub async fn until(&self, queue: &str, what: &str, so: impl Fn(Option<QueueStatus>) -> bool) {
        until(&*self.connection, queue, what, so).await;
    }

    pub async fn until_ready(&self, queue: &str, ready: u64) {
        until_ready(&*self.connection, queue, ready).await;
    }
}

/// Asks for the state of a queue until it is so; each question is a round trip to the broker.
pub async fn until(connection: &dyn Connection, queue: &str, what: &str, so: impl Fn(Option<QueueStatus>) -> bool) {
    let began = Instant::now();
    loop {
        let status = soon(what, connection.queue_status(queue)).await.expect("a status");
        if so(status) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}: {status:?}");
    }
}

pub async fn until_ready(connection: &dyn Connection, queue: &str, ready: u64) {
    until(connection, queue, &format!("{ready} ready in {queue}"), |q| q.is_some_and(|q| q.ready == ready)).await;
}

/// A task whose workers were lost twice.
pub fn lost_twice(head: &TaskHead, message: Message) -> Message {
    let head = TaskHead { attempt: 2, ..head.clone() };
    let headers = vec![("rabbitry-first-reason".to_owned(), "its worker was lost".to_owned())];
    Message { head: wire::encode(&head).into(), headers, ..message }
}

/// A binary `solve` task of this system as head and body.
pub fn raw(system: System) -> (TaskHead, Vec<u8>) {
    let encoded = system.encode(Format::Binary).expect("a right system");
    let body = encoded.blob.payload.concat();
    let head = TaskHead { flops: encoded.flops, params: encoded.blob.params, ..head(&System::KIND, &body) };
    (head, body)
}

/// The head of a task with this payload beside it, and no parameters.
pub fn head(kind: &Kind, payload: &[u8]) -> TaskHead {
    TaskHead {
        id: TaskId::random(),
        kind: kind.to_string(),
        attempt: 0,
        format: Format::Binary,
        deadline_unix_ms: 0,
        sent_unix_ms: 0,
        flops: 0,
        payload_bytes: payload.len() as u64,
        checksum: Some(wire::checksum(&[payload])),
        pull_from: None,
        progress_to: None,
        params: vec![],
    }
}

/// As [`head`], of a payload of so many bytes that is pulled.
pub fn pulled_head(kind: &Kind, payload_bytes: u64, pull_from: &str) -> TaskHead {
    TaskHead { payload_bytes, checksum: None, pull_from: Some(pull_from.to_owned()), ..head(kind, b"") }
}

/// A task of the test's own kind: bytes in, bytes out. Never shares a message with another.
pub struct Probe(pub Bytes);

impl Task for Probe {
    const KIND: Kind = Kind::from_static("probe");
    type Answer = Bytes;

    fn encode(self, format: Format) -> Result<Encoded, TaskError> {
        let answer_bytes = self.0.len() as u64;
        let blob = Blob { format, params: vec![], payload: vec![self.0] };
        Ok(Encoded { blob, shared: false, flops: 1 << 40, answer_bytes })
    }

    fn decode_answer(_: &[u8], answer: Blob) -> Result<Bytes, TaskError> {
        Ok(Bytes::from(answer.payload.concat()))
    }
}

type Doing = dyn Fn(Bytes, &Watch) -> Result<Bytes, TaskError> + Send + Sync;

/// Computes [`Probe`]s as the test says.
pub struct ProbeHandler {
    kind: Kind,
    run: Box<Doing>,
    planned: tokio::sync::watch::Sender<usize>,
}

impl ProbeHandler {
    pub fn new(run: impl Fn(Bytes) -> Result<Bytes, TaskError> + Send + Sync + 'static) -> Arc<Self> {
        Self::watching(Probe::KIND, move |bytes, _| run(bytes))
    }

    /// Computes what it says it does, and sees its watch.
    pub fn watching(
        kind: Kind,
        run: impl Fn(Bytes, &Watch) -> Result<Bytes, TaskError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(ProbeHandler { kind, run: Box::new(run), planned: Default::default() })
    }

    /// How many tasks the worker has taken in hand so far.
    pub fn planned(&self) -> usize {
        *self.planned.borrow()
    }

    /// Waits until the worker has taken this many tasks in hand, running or not.
    pub async fn until_planned(&self, count: usize) {
        let mut planned = self.planned.subscribe();
        soon("tasks in hand", planned.wait_for(|planned| *planned >= count)).await.expect("the sender is in self");
    }
}

impl Handler for ProbeHandler {
    fn kind(&self) -> Kind {
        self.kind.clone()
    }

    fn gflops(&self) -> f64 {
        0.0
    }

    fn plan(&self, _: Format, _: &[u8], payload_bytes: u64, _: usize) -> Result<Plan, TaskError> {
        self.planned.send_modify(|planned| *planned += 1);
        Ok(Plan { memory_bytes: payload_bytes, threads: 1, shared: None })
    }

    fn run(&self, task: Blob, _: usize, watch: &Watch) -> Result<Blob, TaskError> {
        let answer = (self.run)(Bytes::from(task.payload.concat()), watch)?;
        Ok(Blob { payload: vec![answer], ..Blob::default() })
    }
}

/// What an [`endless`] task has done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Did {
    Begin(Bytes),
    /// Told to.
    Stop(Bytes),
}

/// What endless tasks do, and a way to let them end well.
pub struct Endless {
    pub handler: Arc<ProbeHandler>,
    did: mpsc::UnboundedReceiver<Did>,
    enough: Arc<AtomicBool>,
}

impl Endless {
    pub async fn next(&mut self) -> Did {
        soon("something to happen", self.did.recv()).await.expect("the handler is alive")
    }

    pub async fn begins(&mut self, payload: &'static str) {
        assert_eq!(self.next().await, Did::Begin(payload.into()));
    }

    pub async fn stops(&mut self, payload: &'static str) {
        assert_eq!(self.next().await, Did::Stop(payload.into()));
    }

    /// All that run, and all that follow, give their payload back.
    pub fn enough(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

/// Tasks of `kind` that run until they are told to stop, or until it is [`Endless::enough`].
pub fn endless(kind: Kind) -> Endless {
    let (tell, did) = mpsc::unbounded_channel();
    let enough = Arc::new(AtomicBool::new(false));
    let until = enough.clone();
    let handler = ProbeHandler::watching(kind, move |bytes, watch| {
        // A test that has ended hears nothing.
        let _ = tell.send(Did::Begin(bytes.clone()));
        while !until.load(Ordering::Relaxed) {
            if let Err(error) = watch.check() {
                let _ = tell.send(Did::Stop(bytes));
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(bytes)
    });
    Endless { handler, did, enough }
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
