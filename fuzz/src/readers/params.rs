//! The parameters of tasks and answers, which a worker plans by before it has a payload.

use std::sync::OnceLock;

use bytes::Bytes;
use rabbitry::task::{Blob, Format, Handler, Task, TaskError};
use rabbitry::tasks::render::{RenderHandler, TileTask};
use rabbitry::tasks::solve::{SolveHandler, System};

use super::input::Input;
use super::memory::{Bound, within};
use super::says_enough;

/// Bytes of the parameters of a solve task, of a tile, and of a rendered tile.
const SOLVE: usize = 29;
const TILE: usize = 130;
const RENDERED: usize = 16;

/// Where the order of B is in those of a solve task.
const B_ORDER: usize = 25;

/// The payload may lie unaligned, and is copied then; a reader of parameters takes no more than 256 bytes at a time.
const BOUND: Bound = Bound { per_byte: 3, beside: 1024 };

fn solver() -> &'static SolveHandler {
    static SOLVER: OnceLock<SolveHandler> = OnceLock::new();
    SOLVER.get_or_init(|| SolveHandler::uncalibrated(1000))
}

/// Parameters, and a payload that they belong to or not.
pub fn params(bytes: &[u8]) {
    let mut input = Input(bytes);
    let which = input.byte();
    let payload_bytes = input.u64() >> (input.byte() % 64);
    let rest = input.0;
    plans(rest, payload_bytes);
    match which % 3 {
        0 => system(rest),
        1 => solution(rest),
        _ => tile(rest),
    }
}

fn plans(params: &[u8], payload_bytes: u64) {
    let handlers: [&dyn Handler; 2] = [solver(), &RenderHandler];
    for handler in handlers {
        for format in [Format::Binary, Format::Json] {
            for params in [params, &params[..SOLVE.min(params.len())], &params[..TILE.min(params.len())]] {
                let plan = within(BOUND, params.len(), || handler.plan(format, params, payload_bytes, 4));
                let Some(plan) = told(plan) else { continue };
                let reserved = plan.memory_bytes.max(plan.shared.map_or(0, |shared| shared.memory_bytes));
                assert!(reserved >= payload_bytes && (1..=4).contains(&plan.threads), "{plan:?} of {payload_bytes}");
            }
        }
    }
}

fn system(bytes: &[u8]) {
    let (params, payload) = bytes.split_at(SOLVE.min(bytes.len()));
    let blob = blob(params, payload);
    let Some(system) = told(within(BOUND, bytes.len(), || System::from_blob(blob))) else { return };
    // A vector lies the same in either order.
    let mut params = params.to_vec();
    if system.b.is_vector() {
        params[B_ORDER] = system.to_params()[B_ORDER];
    }
    assert_eq!(system.to_params(), params);
    assert_eq!([&system.a.into_bytes()[..], &system.b.into_bytes()].concat(), payload);
}

fn solution(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (task, len) = (input.take(SOLVE), input.byte());
    let blob = blob(input.take(len.into()), input.0);
    let Some(solution) = told(within(BOUND, bytes.len(), || System::decode_answer(task, blob))) else { return };
    let again = solution.to_blob(task, Format::Binary).and_then(|blob| System::decode_answer(task, blob));
    assert_eq!(again, Ok(solution));
}

fn tile(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (task, answer) = (input.take(TILE), input.take(RENDERED));
    let blob = blob(answer, input.0);
    let Some(rendered) = told(within(BOUND, bytes.len(), || TileTask::decode_answer(task, blob))) else { return };
    assert!(rendered.sums.iter().all(|sum| sum.is_finite()) && rendered.sums.len() * 4 == input.0.len());
}

fn blob(params: &[u8], payload: &[u8]) -> Blob {
    Blob { format: Format::Binary, params: params.to_vec(), payload: vec![Bytes::copy_from_slice(payload)] }
}

fn told<T>(read: Result<T, TaskError>) -> Option<T> {
    read.map_err(|error| says_enough(&error.to_string())).ok()
}
