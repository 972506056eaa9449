//! What is submitted, and what must come of it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use rabbitry::boss::{Boss, RawTicket, Submit, Ticket};
use rabbitry::task::{Format, Outcome, Task, TaskError, TaskId};
use rabbitry::tasks::solve::{Matrix, System};

/// A sort of task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sort {
    /// N = 50 to 300: of a hundred good ones 80.
    Small,
    /// N = 1000: 15.
    Middle,
    /// N = 4000: 5.
    Large,
    /// A with a row of zeros.
    Singular,
    /// A payload of another length than its head says of the system.
    Malformed,
    /// Late before anybody can look at it.
    Late,
    /// Called off by its caller.
    Cancelled,
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sort::Small => "N = 50 to 300",
            Sort::Middle => "N = 1000",
            Sort::Large => "N = 4000",
            Sort::Singular => "singular",
            Sort::Malformed => "malformed",
            Sort::Late => "too late",
            Sort::Cancelled => "cancelled",
        })
    }
}

/// A task on its way, and what must come of it.
pub enum Expected {
    /// X of `System::random(n, 1, seed)`.
    Answer { n: usize, seed: u64, ticket: Ticket<System> },
    /// An error of these codes.
    Error { codes: &'static [&'static str], ticket: RawTicket },
}

/// The `number`th task of a run. The same number is the same task.
pub async fn submit(boss: &Boss, number: u64) -> (Sort, Expected) {
    // Spread evenly, by a multiplier without common factors.
    let dice = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let sort = match (dice % 100, number % 50) {
        (_, 0) => Sort::Singular,
        (_, 1) => Sort::Malformed,
        (_, 2) => Sort::Late,
        (_, 3) => Sort::Cancelled,
        (0..80, _) => Sort::Small,
        (80..95, _) => Sort::Middle,
        _ => Sort::Large,
    };
    let small = 50 + (dice / 100 % 251) as usize;
    let n = match sort {
        Sort::Middle => 1000,
        Sort::Large => 4000,
        _ => small,
    };
    let (payload_bytes, answer_bytes) = (8 * (n * n + n) as u64, 8 * n as u64);
    let room = boss.reserve(payload_bytes, answer_bytes).await;
    let system = System::random(n, 1, number);
    if matches!(sort, Sort::Small | Sort::Middle | Sort::Large) {
        let ticket = room.submit(system, Submit::default()).expect("a right system");
        return (sort, Expected::Answer { n, seed: number, ticket });
    }
    let system = if sort == Sort::Singular { without_first_row(system) } else { system };
    let mut encoded = system.encode(Format::Binary).expect("a right system");
    let mut how = Submit::default();
    let codes: &[&str] = match sort {
        Sort::Malformed => {
            encoded.blob.payload.push(Bytes::from_static(&[0; 8]));
            &["invalid"]
        }
        Sort::Late => {
            how.deadline = Some(Duration::from_nanos(1));
            &["deadline_exceeded"]
        }
        // It may be faster than its caller's word.
        Sort::Cancelled => &["cancelled", "ok"],
        _ => &["singular"],
    };
    let ticket = room.submit_encoded(TaskId::random(), &System::KIND, encoded, how);
    if sort == Sort::Cancelled {
        ticket.handle().cancel();
    }
    (sort, Expected::Error { codes, ticket })
}

fn without_first_row(system: System) -> System {
    let mut a = system.a.view().to_owned();
    a.row_mut(0).fill(0.0);
    System::new(a, system.b)
}

impl Expected {
    /// Waits for the outcome, and says what is wrong with it.
    pub async fn judge(self) -> (TaskId, Result<(), String>) {
        match self {
            Expected::Answer { n, seed, ticket } => {
                let Outcome { task, result, .. } = ticket.outcome().await;
                // The check takes a while for the large ones.
                let judge =
                    move || result.map_err(|error| error.to_string()).and_then(|answer| check(n, seed, &answer.x));
                (task, tokio::task::spawn_blocking(judge).await.unwrap_or_else(|panic| Err(panic.to_string())))
            }
            Expected::Error { codes, ticket } => {
                let Outcome { task, result, .. } = ticket.outcome().await;
                let code = result.as_ref().map_or_else(TaskError::code, |_| "ok");
                let is_right = codes.contains(&code);
                (task, if is_right { Ok(()) } else { Err(format!("{code} instead of {}", codes.join(" or "))) })
            }
        }
    }
}

/// The residual, from nothing but A, b and x: the system is made anew from its seed.
fn check(n: usize, seed: u64, x: &Matrix) -> Result<(), String> {
    let System { a, b, .. } = System::random(n, 1, seed);
    let (a, b, x) = (a.view(), b.view(), x.view());
    if x.dim() != b.dim() {
        return Err(format!("X is {:?} and B {:?}", x.dim(), b.dim()));
    }
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0f64, |max, value| max.max(value.abs()));
    let residual = &b - &a.dot(&x);
    let scale = n as f64 * largest(&mut x.iter().copied()) + 1.0;
    let error = largest(&mut residual.iter().copied()) / scale;
    // NaN is no good, either.
    if error <= 1e-13 { Ok(()) } else { Err(format!("N = {n}, seed {seed}: residual {error:e}")) }
}
