//! The parameter blocks of a solve task and of its answer, byte for byte.
//!
//! Both are plain structs, little-endian, without padding: `bincode` with fixed-width integers. What is
//! read here came from outside: every field is checked, and no length is believed before it is checked.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};

use super::certificate::{Certificate, Method};
use super::matrix::Order;
use super::method::{Choice, How};
use crate::task::TaskError;

/// The parameters of a solve task, 29 bytes:
///
/// | offset | bytes | type | field |
/// |---|---|---|---|
/// | 0 | 8 | u64 | `m`, rows of A and of B, 1 to 2^31 - 1 |
/// | 8 | 8 | u64 | `n`, columns of A and rows of X, 1 to 2^31 - 1; `m`, unless the method is 5 |
/// | 16 | 8 | u64 | `nrhs`, columns of B and of X, at least 1 |
/// | 24 | 1 | u8 | order of A: 0 row-major, 1 column-major |
/// | 25 | 1 | u8 | order of B: 0 row-major, 1 column-major |
/// | 26 | 1 | u8 | 1 if B is a vector (then `nrhs` is 1), else 0 |
/// | 27 | 1 | u8 | method: 0 the solver's choice, 1 LU, 2 LU in f32 refined, 3 Cholesky, 4 triangular, 5 least squares |
/// | 28 | 1 | u8 | 1 if the answer must have the same bits on every worker, else 0 |
///
/// The payload is A, `m * n` f64, then B, `m * nrhs` f64, little-endian, in these orders, nothing between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TaskParams {
    pub m: usize,
    pub n: usize,
    pub nrhs: usize,
    pub a_order: Order,
    pub b_order: Order,
    pub b_is_vector: bool,
    pub how: How,
}

/// The parameters of a solve answer, 78 bytes and those of the setting:
///
/// | offset | bytes | type | field |
/// |---|---|---|---|
/// | 0 | 8 | u64 | `n`, rows of X |
/// | 8 | 8 | u64 | `nrhs`, columns of X |
/// | 16 | 1 | u8 | order of X, that of B: 0 row-major, 1 column-major |
/// | 17 | 1 | u8 | 1 if X is a vector, as B was, else 0 |
/// | 18 | 1 | u8 | method: 1 LU in f64, 2 LU in f32 refined in f64, 3 Cholesky, 4 triangular, 5 least squares, 6 Cholesky in f32 refined in f64 |
/// | 19 | 3 | u8 x 3 | methods begun before it and given up, in order; 0 for none |
/// | 22 | 8 | f64 | backward error |
/// | 30 | 8 | f64 | reciprocal condition |
/// | 38 | 8 | f64 | bound of the forward error, or infinity for none |
/// | 46 | 4 | u32 | refinement steps |
/// | 50 | 4 | u32 | threads |
/// | 54 | 8 | f64 | seconds in the factorisation |
/// | 62 | 8 | f64 | seconds in the solution |
/// | 70 | 8 | u64 | length of the setting, 0 if the task did not ask for the same bits |
/// | 78 | .. | UTF-8 | the setting under which other workers give the same bits |
///
/// The payload is X, `n * nrhs` f64, little-endian, in this order.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct AnswerParams {
    pub n: usize,
    pub nrhs: usize,
    pub order: Order,
    pub is_vector: bool,
    pub certificate: Certificate,
}

/// Bytes of [`TaskParams`].
#[cfg(test)]
pub(super) const TASK_BYTES: usize = 29;
/// Bytes of [`AnswerParams`] without a setting.
#[cfg(test)]
pub(super) const ANSWER_BYTES: usize = 78;

#[derive(bincode::Encode, bincode::Decode)]
struct RawTask {
    m: u64,
    n: u64,
    nrhs: u64,
    a_order: u8,
    b_order: u8,
    b_is_vector: u8,
    method: u8,
    reproducible: u8,
}

#[derive(bincode::Encode, bincode::Decode)]
struct RawAnswer {
    n: u64,
    nrhs: u64,
    order: u8,
    is_vector: u8,
    method: u8,
    tried: [u8; TRIED_MAX],
    backward_error: f64,
    rcond: f64,
    forward_error_bound: f64,
    iterations: u32,
    threads: u32,
    factor_seconds: f64,
    solve_seconds: f64,
    setting: String,
}

/// Cholesky in f32 and in f64, LU in f32, and then LU in f64.
const TRIED_MAX: usize = 3;

type Config = Configuration<LittleEndian, Fixint, Limit<256>>;

fn config() -> Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<256>()
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

/// A dimension that LAPACK can count.
fn dimension(name: &str, value: u64) -> Result<usize, TaskError> {
    let fits = usize::try_from(value).ok().filter(|value| (1..=i32::MAX as usize).contains(value));
    fits.ok_or_else(|| TaskError::Invalid(format!("{name} = {value}; it is 1 to {}", i32::MAX)))
}

/// Columns of B, and whether it is a vector.
fn columns(nrhs: u64, is_vector: u8) -> Result<(usize, bool), TaskError> {
    let cols = usize::try_from(nrhs).ok().filter(|&nrhs| nrhs >= 1);
    match (cols, is_vector) {
        (Some(cols), 0) => Ok((cols, false)),
        (Some(1), 1) => Ok((1, true)),
        _ => Err(TaskError::Invalid(format!(
            "nrhs = {nrhs}, vector = {is_vector}: nrhs is at least 1, and exactly 1 for a vector (1, else 0)"
        ))),
    }
}

impl TaskParams {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        encode(RawTask {
            m: self.m as u64,
            n: self.n as u64,
            nrhs: self.nrhs as u64,
            a_order: order_code(self.a_order),
            b_order: order_code(self.b_order),
            b_is_vector: self.b_is_vector.into(),
            method: self.how.method.code(),
            reproducible: self.how.reproducible.into(),
        })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TaskError> {
        let raw: RawTask = decode("parameters of a solve task", bytes)?;
        let (m, n) = (dimension("m", raw.m)?, dimension("n", raw.n)?);
        let (nrhs, b_is_vector) = columns(raw.nrhs, raw.b_is_vector)?;
        let reproducible = match raw.reproducible {
            0 => false,
            1 => true,
            code => return Err(TaskError::Invalid(format!("reproducible is 0 or 1, not {code}"))),
        };
        let how = How { method: Choice::from_code(raw.method)?, reproducible };
        how.check_shape(m, n)?;
        Ok(TaskParams { m, n, nrhs, a_order: order(raw.a_order)?, b_order: order(raw.b_order)?, b_is_vector, how })
    }

    /// Numbers in A and B together, or `None` if that overflows.
    pub(super) fn numbers(self) -> Option<u64> {
        let (m, n, nrhs) = (self.m as u64, self.n as u64, self.nrhs as u64);
        m.checked_mul(n.checked_add(nrhs)?)
    }

    /// Checks that a binary payload has exactly the bytes these parameters promise.
    pub(super) fn check_payload(self, payload_bytes: u64) -> Result<(), TaskError> {
        let expected = self.numbers().and_then(|numbers| numbers.checked_mul(8));
        if expected == Some(payload_bytes) {
            return Ok(());
        }
        let (m, n, nrhs) = (self.m, self.n, self.nrhs);
        let expected = expected.map_or("more than 2^64".to_owned(), |bytes| bytes.to_string());
        Err(TaskError::Invalid(format!(
            "the payload has {payload_bytes} bytes; A ({m} x {n}) and B ({m} x {nrhs}) in f64 are {expected}"
        )))
    }
}

impl AnswerParams {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let certificate = &self.certificate;
        let mut tried = [0; TRIED_MAX];
        tried.iter_mut().zip(&certificate.tried).for_each(|(code, method)| *code = method.code());
        encode(RawAnswer {
            n: self.n as u64,
            nrhs: self.nrhs as u64,
            order: order_code(self.order),
            is_vector: self.is_vector.into(),
            method: certificate.method.code(),
            tried,
            backward_error: certificate.backward_error,
            rcond: certificate.rcond,
            forward_error_bound: certificate.forward_error_bound.unwrap_or(f64::INFINITY),
            iterations: certificate.iterations,
            threads: certificate.threads,
            factor_seconds: certificate.factor_seconds,
            solve_seconds: certificate.solve_seconds,
            setting: certificate.reproducible.clone().unwrap_or_default(),
        })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TaskError> {
        let raw: RawAnswer = decode("parameters of a solve answer", bytes)?;
        let n = dimension("n", raw.n)?;
        let (nrhs, is_vector) = columns(raw.nrhs, raw.is_vector)?;
        let tried: Vec<u8> = raw.tried.into_iter().take_while(|code| *code != 0).collect();
        if raw.tried[tried.len()..].iter().any(|code| *code != 0) {
            return Err(TaskError::Invalid(format!("the methods tried are {:?}: a gap", raw.tried)));
        }
        let certificate = Certificate {
            method: Method::from_code(raw.method)?,
            tried: tried.into_iter().map(Method::from_code).collect::<Result<_, _>>()?,
            backward_error: raw.backward_error,
            rcond: raw.rcond,
            forward_error_bound: Some(raw.forward_error_bound).filter(|bound| *bound != f64::INFINITY),
            iterations: raw.iterations,
            threads: raw.threads,
            factor_seconds: raw.factor_seconds,
            solve_seconds: raw.solve_seconds,
            reproducible: Some(raw.setting).filter(|setting| !setting.is_empty()),
        };
        certificate.check()?;
        Ok(AnswerParams { n, nrhs, order: order(raw.order)?, is_vector, certificate })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        let how = How { method: Choice::Lstsq, reproducible: true };
        let (a_order, b_order) = (Order::RowMajor, Order::ColMajor);
        let task = TaskParams { m: 0x0304, n: 0x0102, nrhs: 1, a_order, b_order, b_is_vector: true, how };
        let bytes = task.to_bytes();
        assert_eq!(bytes[..16], [4, 3, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..], [1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 5, 1]);
        assert_eq!(bytes.len(), TASK_BYTES);
        let certificate = Certificate {
            method: Method::Lu,
            tried: vec![Method::Mixed],
            backward_error: 1e-16,
            rcond: 1e-9,
            forward_error_bound: None,
            iterations: 3,
            threads: 2,
            factor_seconds: 0.5,
            solve_seconds: 0.25,
            reproducible: None,
        };
        let mut answer = AnswerParams { n: 5, nrhs: 2, order: Order::ColMajor, is_vector: false, certificate };
        let bytes = answer.to_bytes();
        assert_eq!(bytes.len(), ANSWER_BYTES);
        assert_eq!(bytes[16..22], [1, 0, 1, 2, 0, 0]);
        assert_eq!(bytes[22..30], 1e-16_f64.to_le_bytes());
        assert_eq!(bytes[38..46], f64::INFINITY.to_le_bytes());
        assert_eq!(bytes[46..54], [3, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(AnswerParams::from_bytes(&bytes).unwrap(), answer);
        answer.certificate.reproducible = Some("mkl".into());
        let bytes = answer.to_bytes();
        assert_eq!(bytes[70..], *b"\x03\0\0\0\0\0\0\0mkl");
        assert_eq!(AnswerParams::from_bytes(&bytes).unwrap(), answer);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parameters_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
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
            let raw =
                RawTask { m: n, n, nrhs, a_order: 0, b_order: 1, b_is_vector: 0, method: 0, reproducible: 0 };
            if let Ok(task) = TaskParams::from_bytes(&encode(raw)) {
                let exact = u128::from(n) * (u128::from(n) + u128::from(nrhs)) * 8;
                prop_assert_eq!(task.check_payload(payload).is_ok(), exact == u128::from(payload));
            }
        }
    }
}
