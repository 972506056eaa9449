//! Two kinds of tasks whose right answer anybody can tell from their parameters: one with a payload of its own, one with a
//! payload that others share.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use rabbitry::broker::embedded::EmbeddedBroker;
use rabbitry::task::{
    Blob, ContentHash, Encoded, Format, Handler, Kind, Plan, Prepared, Shared, Task, TaskError, Watch, ambient,
};
use tokio_util::sync::CancellationToken;

/// All payloads and answers are pieces of this.
static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    Bytes::from(std::iter::repeat_with(next).take(2 << 20).collect::<Vec<u8>>())
});

/// The longest payload, and the longest answer.
pub const BYTES_MAX: usize = 1 << 20;

fn piece(of: u64, len: usize) -> Bytes {
    let start = (of.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize;
    NOISE.slice(start..start + len)
}

/// What a task does to its worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Does {
    Answer,
    Fail,
    Panic,
    /// It takes its worker down.
    Kill,
}

impl Does {
    const ALL: [Does; 4] = [Does::Answer, Does::Fail, Does::Panic, Does::Kill];
}

/// A task, in full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deed {
    pub nonce: u64,
    pub does: Does,
    pub payload_bytes: usize,
    pub answer_bytes: usize,
    /// Which of the shared payloads it has; the payload of others is their own.
    pub shared: Option<u64>,
    pub flops: u64,
}

impl Deed {
    fn payload(&self) -> Bytes {
        piece(self.shared.map_or(self.nonce, |which| !which), self.payload_bytes)
    }

    /// What its handler must come to. Answers of two runs differ, so that parts of both would be no answer.
    pub fn answer(&self, run: u64) -> Result<Bytes, TaskError> {
        match self.does {
            Does::Answer => Ok(piece(self.nonce ^ run, self.answer_bytes)),
            Does::Fail => Err(TaskError::Invalid(format!("task {} fails", self.nonce))),
            Does::Panic => Err(TaskError::Panicked(panic_message(self.nonce))),
            Does::Kill => Err(TaskError::TooManyAttempts { attempts: 0 }),
        }
    }

    fn params(&self) -> Vec<u8> {
        let numbers = [
            self.nonce,
            self.does as u64,
            self.payload_bytes as u64,
            self.answer_bytes as u64,
            self.shared.map_or(0, |which| which + 1),
            self.flops,
        ];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn of(params: &[u8]) -> Self {
        let number = |at| number(params, at);
        Deed {
            nonce: number(0),
            does: Does::ALL[number(1) as usize],
            payload_bytes: number(2) as usize,
            answer_bytes: number(3) as usize,
            shared: number(4).checked_sub(1),
            flops: number(5),
        }
    }

    fn encoded(self, format: Format) -> Encoded {
        let blob = Blob { format, params: self.params(), payload: vec![self.payload()] };
        Encoded { blob, shared: self.shared.is_some(), flops: self.flops, answer_bytes: self.answer_bytes as u64 }
    }
}

fn number(params: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(params[8 * at..8 * at + 8].try_into().expect("8 bytes"))
}

/// How the panics of handlers begin, to be told from those of the program.
pub const PANIC: &str = "as the task wants: ";

fn panic_message(nonce: u64) -> String {
    format!("{PANIC}{nonce}")
}

pub struct Own(pub Deed);
pub struct Common(pub Deed);

/// An answer, and what its worker says it is.
pub struct Answer {
    pub deed: Deed,
    pub run: u64,
    pub bytes: Bytes,
}

pub const KINDS: [Kind; 2] = [Own::KIND, Common::KIND];

impl Task for Own {
    const KIND: Kind = Kind::from_static("own");
    type Answer = Answer;

    fn encode(self, format: Format) -> Result<Encoded, TaskError> {
        Ok(self.0.encoded(format))
    }

    fn decode_answer(_: &[u8], answer: Blob) -> Result<Answer, TaskError> {
        let (deed, run) = (Deed::of(&answer.params), number(&answer.params, 6));
        Ok(Answer { deed, run, bytes: Bytes::from(answer.payload.concat()) })
    }
}

impl Task for Common {
    const KIND: Kind = Kind::from_static("common");
    type Answer = Answer;

    fn encode(self, format: Format) -> Result<Encoded, TaskError> {
        Ok(self.0.encoded(format))
    }

    fn decode_answer(task: &[u8], answer: Blob) -> Result<Answer, TaskError> {
        Own::decode_answer(task, answer)
    }
}

/// Computes one of the kinds in one worker.
pub struct Hand {
    kind: Kind,
    broker: EmbeddedBroker,
    dead: CancellationToken,
}

impl Hand {
    /// For the worker that has this broker by its name, and is no more when `dead`.
    pub fn both(broker: &EmbeddedBroker, dead: &CancellationToken) -> Vec<Arc<dyn Handler>> {
        KINDS.map(|kind| Arc::new(Hand { kind, broker: broker.clone(), dead: dead.clone() }) as Arc<dyn Handler>).into()
    }

    fn compute(&self, params: &[u8], payload: &[u8], watch: &Watch) -> Result<Blob, TaskError> {
        let deed = Deed::of(params);
        assert_eq!(payload, deed.payload(), "the payload of task {}", deed.nonce);
        watch.check()?;
        watch.advance(0.5);
        match deed.does {
            Does::Panic => panic!("{}", panic_message(deed.nonce)),
            Does::Kill => {
                self.broker.crash();
                self.dead.cancel();
            }
            Does::Answer | Does::Fail => {}
        }
        let run: u64 = ambient::random();
        let params = [params, &run.to_le_bytes()].concat();
        Ok(Blob { params, payload: vec![deed.answer(run)?], ..Blob::default() })
    }
}

impl Handler for Hand {
    fn kind(&self) -> Kind {
        self.kind.clone()
    }

    fn gflops(&self) -> f64 {
        1.0
    }

    fn plan(&self, _: Format, params: &[u8], payload_bytes: u64, _: usize) -> Result<Plan, TaskError> {
        let deed = Deed::of(params);
        assert_eq!(payload_bytes, deed.payload_bytes as u64);
        let shared =
            deed.shared.map(|_| Shared { hash: ContentHash::of(&deed.payload()), memory_bytes: payload_bytes });
        let payload_bytes = if shared.is_some() { 0 } else { payload_bytes };
        Ok(Plan { memory_bytes: payload_bytes + deed.answer_bytes as u64, threads: 1, shared })
    }

    fn run(&self, task: Blob, _: usize, watch: &Watch) -> Result<Blob, TaskError> {
        self.compute(&task.params, &task.payload.concat(), watch)
    }

    fn prepare(&self, payload: Bytes) -> Result<Prepared, TaskError> {
        let bytes = payload.len() as u64;
        Ok(Prepared { made: Arc::new(payload), bytes })
    }

    fn run_on(&self, shared: &Prepared, task: Blob, _: usize, watch: &Watch) -> Result<Blob, TaskError> {
        let payload = shared.made.downcast_ref::<Bytes>().expect("what `prepare` made");
        self.compute(&task.params, payload, watch)
    }
}
