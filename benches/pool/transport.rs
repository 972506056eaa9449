//! 200 MB from a boss through RabbitMQ to a worker that sums them, against a bare lapin stream of as many bytes in
//! messages of 8 MB on the same broker; both transient, both in one process, in turn.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ConnectionProperties};
use rabbitry::boss::Boss;
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::task::{Blob, Encoded, Format, Handler, Kind, Plan, Task, TaskError, Watch};
use rabbitry::worker;
use tokio_util::sync::CancellationToken;

const BYTES: usize = 200_000_000;
const MESSAGE: usize = 8_000_000;
const ROUNDS: usize = 9;

/// Numbers to be moved and summed.
struct Move(Bytes);

impl Task for Move {
    const KIND: Kind = Kind::from_static("move");
    type Answer = u64;

    fn encode(self, format: Format) -> Result<Encoded, TaskError> {
        let blob = Blob { format, params: Vec::new(), payload: vec![self.0] };
        Ok(Encoded { blob, shared: false, flops: 0, answer_bytes: 8 })
    }

    fn decode_answer(_: &[u8], answer: Blob) -> Result<u64, TaskError> {
        let bytes = answer.params.try_into().map_err(|_| TaskError::Invalid("no sum".into()))?;
        Ok(u64::from_le_bytes(bytes))
    }
}

struct Sum;

impl Handler for Sum {
    fn kind(&self) -> Kind {
        Move::KIND
    }

    fn gflops(&self) -> f64 {
        0.0
    }

    fn plan(&self, _: Format, _: &[u8], payload_bytes: u64, _: usize) -> Result<Plan, TaskError> {
        Ok(Plan { memory_bytes: payload_bytes, threads: 1, shared: None })
    }

    fn run(&self, task: Blob, _: usize, _: &Watch) -> Result<Blob, TaskError> {
        let sum = task.payload.iter().map(|piece| sum(piece)).fold(0, u64::wrapping_add);
        Ok(Blob { format: task.format, params: sum.to_le_bytes().to_vec(), payload: Vec::new() })
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("8 bytes"))))
}

#[tokio::main]
pub async fn run(url: &str) {
    let payload: Vec<u8> =
        (0..BYTES / 8).flat_map(|i| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect();
    let payload = Bytes::from(payload);
    let expected = sum(&payload);

    let broker = Arc::new(AmqpBroker::new(url).expect("an address"));
    let stop = CancellationToken::new();
    let worker =
        tokio::spawn(worker::run(broker.clone(), vec![Arc::new(Sum)], worker::Options::default(), stop.clone()));
    let boss = Boss::connect(broker, rabbitry::boss::Options::default()).await.expect("a broker");
    let (mut pull, mut bare, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let started = Instant::now();
        let ticket = boss.submit(Move(payload.clone()), Default::default()).await.expect("submitted");
        assert_eq!(ticket.outcome().await.result, Ok(expected));
        let pulled = started.elapsed().as_secs_f64();
        let streamed = stream(url, &payload, expected).await;
        if round > 0 {
            pull.push(BYTES as f64 / 1e6 / pulled);
            bare.push(BYTES as f64 / 1e6 / streamed);
            ratio.push(streamed / pulled);
        }
    }
    super::row("200 MB pulled, submit to summed", "MB/s", pull);
    super::row("200 MB bare lapin stream, 8 MB messages", "MB/s", bare);
    super::row("pull / bare stream", "x", ratio);
    boss.close().await;
    stop.cancel();
    worker.await.expect("the worker ends").expect("in good order");
}

/// The same bytes through a queue of their own, prefetch 8, one publishing and one consuming connection.
async fn stream(url: &str, payload: &Bytes, expected: u64) -> f64 {
    let open = || lapin::Connection::connect(url, ConnectionProperties::default());
    let (publishing, consuming) = (open().await.expect("a connection"), open().await.expect("a connection"));
    let (publisher, consumer) =
        (publishing.create_channel().await.expect("a channel"), consuming.create_channel().await.expect("a channel"));
    publisher.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = consumer.queue_declare("".into(), exclusive, FieldTable::default()).await.expect("a queue");
    consumer.basic_qos(8, BasicQosOptions::default()).await.expect("qos");
    let name = queue.name().clone();
    let options = BasicConsumeOptions::default();
    let mut deliveries =
        consumer.basic_consume(name.clone(), "".into(), options, FieldTable::default()).await.expect("a consumer");
    let started = Instant::now();
    let bytes = payload.clone();
    let publish = tokio::spawn(async move {
        let mut confirms = Vec::new();
        for message in bytes.chunks(MESSAGE) {
            let options = BasicPublishOptions::default();
            let sent = publisher.basic_publish("".into(), name.clone(), options, message, BasicProperties::default());
            confirms.push(sent.await.expect("published"));
        }
        for confirm in confirms {
            confirm.await.expect("confirmed");
        }
        publisher
    });
    let (mut total, mut got) = (0u64, 0);
    while got < payload.len() {
        let delivery = deliveries.next().await.expect("a delivery").expect("intact");
        got += delivery.data.len();
        total = total.wrapping_add(sum(&delivery.data));
        delivery.ack(BasicAckOptions::default()).await.expect("acked");
    }
    let took = started.elapsed().as_secs_f64();
    assert_eq!(total, expected);
    let publisher = publish.await.expect("the publisher ends");
    publisher.close(200, "".into()).await.expect("closed");
    consumer.close(200, "".into()).await.expect("closed");
    publishing.close(200, "".into()).await.expect("closed");
    consuming.close(200, "".into()).await.expect("closed");
    took
}
