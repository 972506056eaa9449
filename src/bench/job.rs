//! The work that is measured: systems made beforehand, sent one at a time or as a stream, in any form of payload.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;

use super::clock::Trip;
use super::expected_seconds;
use super::model::Payload;
use crate::boss::{Boss, Submit};
use crate::task::{Blob, Encoded, Format, Outcome, Task, TaskError, TaskId, monotonic_ns};
use crate::tasks::solve::{Base64, Solution, System};

/// Different systems of a stream, as benches/peers/ has them; the others are the same again. They share their bytes with
/// what is sent.
const DISTINCT_BYTES: u64 = 256_000_000;
const DISTINCT_MAX: u64 = 8;

/// A task is not waited for longer, beside what many of its size take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of a binary payload.
pub(super) fn payload_bytes(n: usize) -> u64 {
    (n as u64).saturating_mul(n as u64 + 1).saturating_mul(8)
}

/// How many different systems a stream has.
pub(super) fn distinct(n: usize) -> u64 {
    (DISTINCT_BYTES / payload_bytes(n).max(1)).clamp(1, DISTINCT_MAX)
}

/// Systems of n unknowns, made of `seed`, `seed + 1` and so on.
pub(super) fn systems(n: usize, seed: u64) -> Result<Vec<System>, TaskError> {
    (0..distinct(n)).map(|i| System::try_random(n, 1, seed.wrapping_add(i))).collect()
}

/// The sum of the bits of all numbers, modulo 2^64, by which two programs know that they solve the same system.
pub(super) fn fingerprint(system: &System) -> String {
    let bits = |sum: u64, number: &f64| sum.wrapping_add(number.to_bits());
    let sum = system.b.as_slice().iter().fold(system.a.as_slice().iter().fold(0, bits), bits);
    format!("{sum:016x}")
}

impl Payload {
    /// The form of the message.
    pub(super) fn format(self) -> Format {
        match self {
            Payload::Binary => Format::Binary,
            Payload::Json | Payload::Base64 => Format::Json,
        }
    }

    /// What a task of n unknowns takes, at most.
    fn bytes_at_most(self, n: usize) -> u64 {
        let binary = payload_bytes(n);
        match self {
            Payload::Binary => binary,
            Payload::Json => binary / 8 * 26 + 1024,
            Payload::Base64 => binary / 2 * 3 + 1024,
        }
    }
}

/// A system with its payload written in one of the forms. Their matrices are the same bytes.
fn encode(system: System, payload: Payload) -> Result<Encoded, TaskError> {
    #[derive(Serialize)]
    struct Form<'a> {
        a: Base64<'a>,
        b: Base64<'a>,
    }
    if payload != Payload::Base64 {
        return system.encode(payload.format());
    }
    // What the pool must know is that of the binary form, which is checked here, once; only the payload is another.
    let Encoded { blob, flops, answer_bytes, .. } = system.clone().encode(Format::Binary)?;
    let numbers = system.a.as_slice().len() + system.b.as_slice().len();
    let mut text = Vec::with_capacity(numbers * 11 + 1024);
    serde_json::to_writer(&mut text, &Form { a: Base64(&system.a), b: Base64(&system.b) })
        .map_err(|error| TaskError::Invalid(format!("can't be written as JSON: {error}")))?;
    let blob = Blob { format: Format::Json, params: blob.params, payload: vec![text.into()] };
    // A list of numbers, with its certificate: three times as long as they are, at most.
    Ok(Encoded { blob, shared: false, flops, answer_bytes: answer_bytes * 4 + 4096 })
}

/// What came of one task.
pub(super) struct Done {
    pub trip: Trip,
    pub task_bytes: u64,
    pub answer_bytes: u64,
    pub compute_seconds: f64,
    pub solution: Solution,
}

/// Sends one task and reads its answer.
pub(super) async fn send(boss: &Boss, system: System, payload: Payload) -> Result<Done, TaskError> {
    // Room first, as long as it may become: the texts of a stream must not be in memory all at once.
    let n = system.a.rows();
    let room = boss.reserve(payload.bytes_at_most(n), payload.bytes_at_most(1) * n as u64).await;
    let (watch, began_ns) = (Instant::now(), monotonic_ns());
    let encoded = encode(system, payload)?;
    let encoded_ns = monotonic_ns();
    let (task_bytes, params) = (encoded.blob.payload_bytes(), encoded.blob.params.clone());
    // A pool that has gone is an error, in the end.
    let deadline = Some(PATIENCE + Duration::from_secs_f64(200.0 * expected_seconds(n)));
    let how = Submit { format: payload.format(), deadline, ..Submit::default() };
    let ticket = room.submit_encoded(TaskId::random(), &System::KIND, encoded, how);
    let Outcome { result, worker, compute_seconds, times, .. } = ticket.outcome().await;
    let answer = result?;
    let answer_bytes = answer.payload_bytes();
    let solution = System::decode_answer(&params, answer)?;
    let (ended_ns, wall_seconds) = (monotonic_ns(), watch.elapsed().as_secs_f64());
    let (times, worker) = times.zip(worker).ok_or_else(|| TaskError::Invalid("an answer without times".into()))?;
    let trip = Trip { host: worker.host, began_ns, encoded_ns, times, ended_ns, wall_seconds };
    Ok(Done { trip, task_bytes, answer_bytes, compute_seconds, solution })
}

/// What came of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streamed {
    pub count: u64,
    pub seconds: f64,
    /// Of handlers, times the threads they had.
    pub busy_seconds: f64,
    /// The worst.
    pub backward_error: f64,
    /// CPU of this process, the handlers of its own workers included.
    pub cpu_seconds: f64,
}

impl Streamed {
    pub(super) fn tasks_per_second(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

/// Sends `count` tasks, at most `in_flight` at a time, and reads the answers. `each` sees every one of them.
pub(super) async fn stream(
    boss: &Boss,
    systems: &[System],
    (count, in_flight): (u64, usize),
    payload: Payload,
    mut each: impl FnMut(&Done) + Send,
) -> Result<Streamed, TaskError> {
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let mut done = Streamed { count, ..Streamed::default() };
    let mut on_the_way = FuturesUnordered::new();
    let mut next = systems.iter().cycle();
    let mut sent = 0;
    while sent < count || !on_the_way.is_empty() {
        while sent < count
            && on_the_way.len() < in_flight.max(1)
            && let Some(system) = next.next()
        {
            on_the_way.push(send(boss, system.clone(), payload));
            sent += 1;
        }
        if let Some(one) = on_the_way.next().await {
            let one = one?;
            done.busy_seconds += one.compute_seconds * one.solution.certificate.threads.max(1) as f64;
            done.backward_error = done.backward_error.max(one.solution.certificate.backward_error);
            each(&one);
        }
    }
    done.seconds = started.elapsed().as_secs_f64();
    done.cpu_seconds = cpu_seconds() - cpu;
    Ok(done)
}

/// CPU time of this process so far, all threads.
fn cpu_seconds() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// A size of stream that takes about so long, and is longer than its start and its end: `rate` was measured with another
/// one.
pub(super) fn count_for(seconds: f64, rate: f64, in_flight: usize) -> u64 {
    let wanted = seconds * rate;
    let least = 2 * in_flight.max(1) as u64;
    if wanted.is_finite() { (wanted.min(1e5) as u64).max(least) } else { least }
}
