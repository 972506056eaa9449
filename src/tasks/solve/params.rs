//! The parameter blocks of a solve task and of its answer, byte for byte, and the certificate.
//!
//! Both are plain structs of fixed size, little-endian, without padding: `bincode` with fixed-width integers. What is
//! read here came from outside: every field is checked, and no length is believed before it is checked.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Serialize};

use super::matrix::Order;
use crate::task::TaskError;

/// How the answer was computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// LU with partial pivoting in f64. Code 1.
    Lu,
    /// LU in f32, refined in f64 against the original A. Code 2.
    Mixed,
}

/// What an answer says of itself.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The method whose answer this is.
    pub method: Method,
    /// max over the columns j of `||b_j - A x_j|| / (||A|| ||x_j|| + ||b_j||)` in the infinity norm, computed in f64
    /// against the A and B of the task. Finite.
    pub backward_error: f64,
    /// Seconds for checking, copying and factoring A (a failed attempt in f32 included).
    pub factor_seconds: f64,
    /// Seconds for all right-hand sides, refinement and the backward error included.
    pub solve_seconds: f64,
    /// Refinement steps, the most of any column. With [`Method::Lu`]: those of an attempt in f32 that was given up.
    pub iterations: u32,
    /// Threads that computed it.
    pub threads: u32,
}

/// The parameters of a solve task, 19 bytes:
///
/// | offset | bytes | type | field |
/// |---|---|---|---|
/// | 0 | 8 | u64 | `n`, rows and columns of A, 1 to 2^31 - 1 |
/// | 8 | 8 | u64 | `nrhs`, columns of B, at least 1 |
/// | 16 | 1 | u8 | order of A: 0 row-major, 1 column-major |
/// | 17 | 1 | u8 | order of B: 0 row-major, 1 column-major |
/// | 18 | 1 | u8 | 1 if B is a vector (then `nrhs` is 1), else 0 |
///
/// The payload is A, `n * n` f64, then B, `n * nrhs` f64, little-endian, in these orders, nothing between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TaskParams {
    pub n: usize,
    pub nrhs: usize,
    pub a_order: Order,
    pub b_order: Order,
    pub b_is_vector: bool,
}

/// The parameters of a solve answer, 51 bytes:
///
/// | offset | bytes | type | field |
/// |---|---|---|---|
/// | 0 | 8 | u64 | `n`, rows of X |
/// | 8 | 8 | u64 | `nrhs`, columns of X |
/// | 16 | 1 | u8 | order of X, that of B: 0 row-major, 1 column-major |
/// | 17 | 1 | u8 | 1 if X is a vector, as B was, else 0 |
/// | 18 | 1 | u8 | method: 1 LU in f64, 2 LU in f32 refined in f64 |
/// | 19 | 8 | f64 | backward error |
/// | 27 | 8 | f64 | seconds in the factorisation |
/// | 35 | 8 | f64 | seconds in the solution |
/// | 43 | 4 | u32 | refinement steps |
/// | 47 | 4 | u32 | threads |
///
/// The payload is X, `n * nrhs` f64, little-endian, in this order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct AnswerParams {
    pub n: usize,
    pub nrhs: usize,
    pub order: Order,
    pub is_vector: bool,
    pub certificate: Certificate,
}

/// Bytes of [`TaskParams`].
#[cfg(test)]
pub(super) const TASK_BYTES: usize = 19;
/// Bytes of [`AnswerParams`].
#[cfg(test)]
pub(super) const ANSWER_BYTES: usize = 51;

#[derive(bincode::Encode, bincode::Decode)]
struct RawTask {
    n: u64,
    nrhs: u64,
    a_order: u8,
    b_order: u8,
    b_is_vector: u8,
}

#[derive(bincode::Encode, bincode::Decode)]
struct RawAnswer {
    n: u64,
    nrhs: u64,
    order: u8,
    is_vector: u8,
    method: u8,
    backward_error: f64,
    factor_seconds: f64,
    solve_seconds: f64,
    iterations: u32,
    threads: u32,
}

type Config = Configuration<LittleEndian, Fixint, Limit<64>>;

fn config() -> Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<64>()
}

fn encode(raw: impl bincode::Encode) -> Vec<u8> {
    bincode::encode_to_vec(raw, config()).expect("a struct of fixed size below the limit always encodes")
}

fn decode<T: bincode::Decode<()>>(what: &str, bytes: &[u8]) -> Result<T, TaskError> {
    match bincode::decode_from_slice(bytes, config()) {
        Ok((raw, read)) if read == bytes.len() => Ok(raw),
        Ok((_, read)) => Err(TaskError::Invalid(format!("the {what} are {read} bytes, not {}", bytes.len()))),
        Err(error) => Err(TaskError::Invalid(format!("{} bytes are not {what}: {error}", bytes.len()))),
    }
}

fn order(code: u8) -> Result<Order, TaskError> {
    match code {
        0 => Ok(Order::RowMajor),
        1 => Ok(Order::ColMajor),
        _ => Err(TaskError::Invalid(format!("an order is 0 (row-major) or 1 (column-major), not {code}"))),
    }
}

fn order_code(order: Order) -> u8 {
    match order {
        Order::RowMajor => 0,
        Order::ColMajor => 1,
    }
}

fn shape(n: u64, nrhs: u64, is_vector: u8) -> Result<(usize, usize, bool), TaskError> {
    // LAPACK counts rows in 32 bits.
    let rows = usize::try_from(n).ok().filter(|n| (1..=i32::MAX as usize).contains(n));
    let cols = usize::try_from(nrhs).ok().filter(|&nrhs| nrhs >= 1);
    let vector = match is_vector {
        0 => Some(false),
        1 if nrhs == 1 => Some(true),
        _ => None,
    };
    match (rows, cols, vector) {
        (Some(rows), Some(cols), Some(vector)) => Ok((rows, cols, vector)),
        _ => Err(TaskError::Invalid(format!(
            "n = {n}, nrhs = {nrhs}, vector = {is_vector} is no system: n is 1 to {}, nrhs at least 1 and exactly 1 for \
             a vector (1, else 0)",
            i32::MAX
        ))),
    }
}

impl TaskParams {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        encode(RawTask {
            n: self.n as u64,
            nrhs: self.nrhs as u64,
            a_order: order_code(self.a_order),
            b_order: order_code(self.b_order),
            b_is_vector: self.b_is_vector.into(),
        })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TaskError> {
        let raw: RawTask = decode("parameters of a solve task", bytes)?;
        let (n, nrhs, b_is_vector) = shape(raw.n, raw.nrhs, raw.b_is_vector)?;
        Ok(TaskParams { n, nrhs, a_order: order(raw.a_order)?, b_order: order(raw.b_order)?, b_is_vector })
    }

    /// Numbers in A and B together, or `None` if that overflows.
    pub(super) fn numbers(self) -> Option<u64> {
        let (n, nrhs) = (self.n as u64, self.nrhs as u64);
        n.checked_mul(n.checked_add(nrhs)?)
    }

    /// Checks that a binary payload has exactly the bytes these parameters promise.
    pub(super) fn check_payload(self, payload_bytes: u64) -> Result<(), TaskError> {
        let expected = self.numbers().and_then(|numbers| numbers.checked_mul(8));
        if expected == Some(payload_bytes) {
            return Ok(());
        }
        let (n, nrhs) = (self.n, self.nrhs);
        let expected = expected.map_or("more than 2^64".to_owned(), |bytes| bytes.to_string());
        Err(TaskError::Invalid(format!(
            "the payload has {payload_bytes} bytes; A ({n} x {n}) and B ({n} x {nrhs}) in f64 are {expected}"
        )))
    }
}

impl AnswerParams {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let Certificate { method, backward_error, factor_seconds, solve_seconds, iterations, threads } =
            self.certificate;
        encode(RawAnswer {
            n: self.n as u64,
            nrhs: self.nrhs as u64,
            order: order_code(self.order),
            is_vector: self.is_vector.into(),
            method: match method {
                Method::Lu => 1,
                Method::Mixed => 2,
            },
            backward_error,
            factor_seconds,
            solve_seconds,
            iterations,
            threads,
        })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TaskError> {
        let raw: RawAnswer = decode("parameters of a solve answer", bytes)?;
        let (n, nrhs, is_vector) = shape(raw.n, raw.nrhs, raw.is_vector)?;
        let method = match raw.method {
            1 => Method::Lu,
            2 => Method::Mixed,
            code => return Err(TaskError::Invalid(format!("method {code} is not known here; is the worker newer?"))),
        };
        let certificate = Certificate {
            method,
            backward_error: raw.backward_error,
            factor_seconds: raw.factor_seconds,
            solve_seconds: raw.solve_seconds,
            iterations: raw.iterations,
            threads: raw.threads,
        };
        certificate.check()?;
        Ok(AnswerParams { n, nrhs, order: order(raw.order)?, is_vector, certificate })
    }
}

impl Certificate {
    /// Refuses a certificate from outside whose figures are no figures.
    pub(super) fn check(&self) -> Result<(), TaskError> {
        let figures = [self.backward_error, self.factor_seconds, self.solve_seconds];
        if figures.iter().all(|figure| figure.is_finite() && *figure >= 0.0) {
            Ok(())
        } else {
            Err(TaskError::Invalid(format!("the certificate is not one: {self:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        let task =
            TaskParams { n: 0x0102, nrhs: 1, a_order: Order::RowMajor, b_order: Order::ColMajor, b_is_vector: true };
        let bytes = task.to_bytes();
        assert_eq!(bytes, [2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(bytes.len(), TASK_BYTES);
        let certificate = Certificate {
            method: Method::Mixed,
            backward_error: 1e-16,
            factor_seconds: 0.5,
            solve_seconds: 0.25,
            iterations: 3,
            threads: 2,
        };
        let answer = AnswerParams { n: 5, nrhs: 2, order: Order::ColMajor, is_vector: false, certificate };
        let bytes = answer.to_bytes();
        assert_eq!(bytes.len(), ANSWER_BYTES);
        assert_eq!(bytes[16..19], [1, 0, 2]);
        assert_eq!(bytes[19..27], 1e-16_f64.to_le_bytes());
        assert_eq!(bytes[43..], [3, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(AnswerParams::from_bytes(&bytes).unwrap(), answer);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parameters_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(task) = TaskParams::from_bytes(&bytes) {
                prop_assert_eq!(task.to_bytes(), &bytes[..]);
                let _ = task.check_payload(bytes.len() as u64);
            }
            if let Ok(answer) = AnswerParams::from_bytes(&bytes) {
                prop_assert_eq!(answer.to_bytes(), &bytes[..]);
            }
        }

        #[test]
        fn a_payload_of_another_length_is_refused(n in 1_u64.., nrhs in 1_u64.., payload in any::<u64>()) {
            let raw = RawTask { n, nrhs, a_order: 0, b_order: 1, b_is_vector: 0 };
            if let Ok(task) = TaskParams::from_bytes(&encode(raw)) {
                let exact = u128::from(n) * (u128::from(n) + u128::from(nrhs)) * 8;
                prop_assert_eq!(task.check_payload(payload).is_ok(), exact == u128::from(payload));
            }
        }
    }
}
