//! `solve`: dense systems A X = B in f64, any number of right-hand sides; least squares where A is not square.
//!
//! [`System`] is what one submits, [`Solution`] what comes back, [`SolveHandler`] computes. Layouts of parameters and
//! payload are in `params.rs`, the JSON form in `json/`. Imports only [`crate::task`]; of the two kernels, MKL is named
//! in `mkl/` alone and faer in `faer.rs` alone.
//!
//! Invariants: a 200 MB A is not copied between a caller's array and the payload, nor between the payload and LAPACK;
//! what is refused is refused before it is sent; every answer carries its backward error against the A it was asked
//! about. Limits: up to 2^31 - 1 rows and columns; finite numbers.

mod calibrate;
mod certificate;
mod condition;
mod direct;
#[cfg(all(feature = "faer", not(feature = "mkl")))]
mod faer;
#[cfg(test)]
mod gallery;
mod handler;
mod json;
mod kernel;
mod lstsq;
mod matrix;
mod method;
mod mixed;
#[cfg(feature = "mkl")]
mod mkl;
mod panel;
mod params;
mod scan;
mod scratch;
mod small;
mod small_cholesky;
mod structure;
#[cfg(test)]
mod tests;
mod triangular;

use bytes::{Bytes, BytesMut};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

pub use self::certificate::{Certificate, Method};
pub use self::handler::{SolveHandler, gesv, posv};
pub use self::json::{Base64, JsonError, Wishes};
pub use self::matrix::{Matrix, Order};
pub use self::method::{Choice, How};
use self::params::{AnswerParams, TaskParams};
use crate::task::{Blob, Encoded, Format, Kind, Task, TaskError};

/// A task of this kind in a few words, from its parameters; JSON may come without. `None` if they are not right.
pub(super) fn describe(format: Format, params: &[u8]) -> Option<String> {
    if format == Format::Json && params.is_empty() {
        return Some("JSON".into());
    }
    let TaskParams { m, n, nrhs, how, .. } = TaskParams::from_bytes(params).ok()?;
    let json = if format == Format::Json { ", JSON" } else { "" };
    let bits = if how.reproducible { ", reproducible" } else { "" };
    let method = format!("{:?}", how.method).to_lowercase();
    Some(format!("A {m} x {n}, B {m} x {nrhs}, method {method}{bits}{json}"))
}

/// A X = B: A is m x n, B a vector of m or a matrix of m x nrhs. m = n, unless the method is [`Choice::Lstsq`].
#[derive(Clone, PartialEq, Debug)]
pub struct System {
    /// A.
    pub a: Matrix,
    /// B. A vector is answered as a vector, a matrix in its own order.
    pub b: Matrix,
    /// By which method, and whether to the bit.
    pub how: How,
}

/// What solves a [`System`].
#[derive(Clone, PartialEq, Debug)]
pub struct Solution {
    /// X, n x nrhs, in B's order; a vector if B is one.
    pub x: Matrix,
    /// How, how well and how fast.
    pub certificate: Certificate,
}

impl System {
    /// A system, not checked yet: see [`System::check`].
    pub fn new(a: impl Into<Matrix>, b: impl Into<Matrix>) -> Self {
        System { a: a.into(), b: b.into(), how: How::default() }
    }

    /// The same system, to be solved by `method`.
    pub fn by(self, method: Choice) -> Self {
        System { how: How { method, ..self.how }, ..self }
    }

    /// Uniform numbers in [-1, 1), column-major, B a vector if `nrhs` is 1. The same seed gives the same numbers on
    /// every machine and in every version: xoshiro256++ seeded through SplitMix64, two numbers of 32 bits from each word,
    /// the lower half first.
    ///
    /// # Panics
    /// If there is no memory for it; see [`System::try_random`].
    pub fn random(n: usize, nrhs: usize, seed: u64) -> Self {
        Self::try_random(n, nrhs, seed).expect("memory for a random system")
    }

    /// As [`System::random`], for sizes that come from outside.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if this machine has no memory for it.
    pub fn try_random(n: usize, nrhs: usize, seed: u64) -> Result<Self, TaskError> {
        let count = n.checked_add(nrhs).and_then(|cols| cols.checked_mul(n));
        let mut numbers: Vec<f64> = Vec::new();
        if count.is_none_or(|count| numbers.try_reserve_exact(count).is_err()) {
            let reason = format!("no memory here for a system of {n} unknowns and {nrhs} right-hand sides");
            return Err(TaskError::Invalid(reason));
        }
        numbers.resize(n * (n + nrhs), 0.0);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        // The bits of a float in [2, 4), less 3.
        let number = |half: u32| f64::from_bits(u64::from(half) << 20 | 0x400 << 52) - 3.0;
        let (pairs, rest) = numbers.as_chunks_mut::<2>();
        for pair in pairs {
            let word = rng.next_u64();
            *pair = [number(word as u32), number((word >> 32) as u32)];
        }
        rest.iter_mut().for_each(|last| *last = number(rng.next_u64() as u32));
        // In one piece, as it will travel.
        let [a, b] = Matrix::pair(n, n, nrhs, numbers)?;
        let b = if nrhs == 1 { b.into_vector()? } else { b };
        Ok(System::new(a, b))
    }

    /// Refuses what can't be solved: A empty, or not square without the method for it, B empty or of another height, NaN or infinity.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] with the shapes, or with the place of the first number that is none.
    pub fn check(&self) -> Result<(), TaskError> {
        self.check_shapes()?;
        let System { a, b, .. } = self;
        method::check_finite("A", a.rows(), a.cols(), a.order(), a.as_slice())?;
        method::check_finite("B", b.rows(), b.cols(), b.order(), b.as_slice())
    }

    fn check_shapes(&self) -> Result<(), TaskError> {
        let System { a, b, how } = self;
        let (rows, cols) = (a.rows(), a.cols());
        let problem = if rows == 0 || cols == 0 {
            format!("A is empty ({rows} x {cols})")
        } else if rows.max(cols) > i32::MAX as usize {
            format!("A is {rows} x {cols}; the limit is {}", i32::MAX)
        } else if b.cols() == 0 || b.rows() == 0 {
            format!("B is empty ({} x {})", b.rows(), b.cols())
        } else if b.rows() != rows {
            format!("B is {} x {} and A {rows} x {cols}; they must have as many rows", b.rows(), b.cols())
        } else {
            return how.check_shape(rows, cols);
        };
        Err(TaskError::Invalid(problem))
    }

    /// Reads the blob of a task, in either form. Binary numbers are not copied if they lie aligned, a text not unless
    /// somebody else holds it and it has base64. Shapes are checked where there are parameters; else, and numbers in
    /// any case, that is for [`System::check`].
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if it is not the blob of such a task.
    pub fn from_blob(blob: Blob) -> Result<System, TaskError> {
        let said = match (blob.format, blob.params.is_empty()) {
            (Format::Json, true) => None,
            _ => Some(TaskParams::from_bytes(&blob.params)?),
        };
        match (blob.format, said) {
            (Format::Binary, Some(said)) => {
                said.check_payload(blob.payload_bytes())?;
                let TaskParams { m, n, nrhs, a_order, b_order, b_is_vector, how } = said;
                let [a, b] = split_payload(blob.payload, m * n * 8);
                let a = Matrix::from_front(m, n, a_order, a)?;
                let b = Matrix::from_bytes(m, nrhs, b_order, b)?;
                Ok(System { a, b: if b_is_vector { b.into_vector()? } else { b }, how })
            }
            (_, said) => {
                let system = json::read_task(one_piece(blob.payload))?;
                let shape = |params: TaskParams| (params.m, params.n, params.nrhs);
                let has = shape(system.params());
                match said.map(shape).filter(|said| *said != has) {
                    None => Ok(system),
                    Some(said) => {
                        let reason = format!("the parameters say (m, n, nrhs) = {said:?}, the JSON has {has:?}");
                        Err(TaskError::Invalid(reason))
                    }
                }
            }
        }
    }

    /// The parameters that travel with the task, as [`Task::encode`] gives them, of a system that passes
    /// [`System::check`].
    pub fn to_params(&self) -> Vec<u8> {
        self.params().to_bytes()
    }

    fn params(&self) -> TaskParams {
        TaskParams {
            m: self.a.rows(),
            n: self.a.cols(),
            nrhs: self.b.cols(),
            a_order: self.a.order(),
            b_order: self.b.order(),
            b_is_vector: self.b.is_vector(),
            how: self.how,
        }
    }
}

impl Solution {
    /// The answer to the task of these parameters (see [`System::to_params`]), X in the order that B had; as
    /// [`Task::decode_answer`] takes it.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if X is not that task's in shape, or not finite, or the certificate is none.
    pub fn to_blob(&self, task_params: &[u8], format: Format) -> Result<Blob, TaskError> {
        let asked = TaskParams::from_bytes(task_params)?;
        self.check(asked)?;
        let TaskParams { n, nrhs, b_order: order, b_is_vector: is_vector, .. } = asked;
        let answer = AnswerParams { n, nrhs, order, is_vector, certificate: self.certificate.clone() };
        let params = answer.to_bytes();
        // A foreign worker may list more methods, or a longer setting, than the parameters hold.
        if AnswerParams::from_bytes(&params).as_ref() != Ok(&answer) {
            let reason = "the certificate does not fit into an answer: \"tried\" is too long, or \"reproducible\"";
            return Err(TaskError::Invalid(reason.to_owned()));
        }
        let payload = match format {
            Format::Json => json::write_answer(self)?.into(),
            Format::Binary => self.x.bytes_in(order),
        };
        Ok(Blob { format, params, payload: vec![payload] })
    }

    fn check(&self, asked: TaskParams) -> Result<(), TaskError> {
        self.certificate.check()?;
        let (x, TaskParams { n, nrhs, b_is_vector, .. }) = (&self.x, asked);
        if (x.rows(), x.cols(), x.is_vector()) != (n, nrhs, b_is_vector) {
            let kind = |is_vector| if is_vector { "a vector, " } else { "" };
            return Err(TaskError::Invalid(format!(
                "the answer is {}{} x {}, not {}{n} x {nrhs}",
                kind(x.is_vector()),
                x.rows(),
                x.cols(),
                kind(b_is_vector)
            )));
        }
        method::check_finite("X", n, nrhs, x.order(), x.as_slice())
    }
}

/// Floating point operations of a solution by LU: the factorisation and two triangular solves per right-hand side. By QR
/// where A is not square; the other methods take less, and are counted as if they were LU.
pub(crate) fn flops(m: usize, n: usize, nrhs: usize) -> f64 {
    let (long, short, nrhs) = (m.max(n) as f64, m.min(n) as f64, nrhs as f64);
    let factor = if m == n { 2.0 / 3.0 * short } else { 2.0 * long - 2.0 / 3.0 * short };
    short * (short * factor + 2.0 * long * nrhs)
}

impl Task for System {
    const KIND: Kind = Kind::from_static("solve");
    type Answer = Solution;

    fn encode(self, format: Format) -> Result<Encoded, TaskError> {
        self.check()?;
        let params = self.params();
        let TaskParams { m, n, nrhs, .. } = params;
        let numbers = n as u64 * nrhs as u64;
        let (payload, answer_bytes) = match format {
            Format::Binary => (self.a.into_payload(self.b), numbers * 8),
            Format::Json => (vec![Bytes::from(json::write_task(&self)?)], json::answer_bytes(n, nrhs)),
        };
        let blob = Blob { format, params: params.to_bytes(), payload };
        Ok(Encoded { blob, shared: false, flops: flops(m, n, nrhs) as u64, answer_bytes })
    }

    fn decode_answer(task: &[u8], answer: Blob) -> Result<Solution, TaskError> {
        let asked = TaskParams::from_bytes(task)?;
        let payload = one_piece(answer.payload);
        let solution = match answer.format {
            Format::Json => json::read_answer(payload)?,
            Format::Binary => {
                let AnswerParams { n, nrhs, order, is_vector, certificate } = AnswerParams::from_bytes(&answer.params)?;
                let x = Matrix::from_bytes(n, nrhs, order, payload)?;
                Solution { x: if is_vector { x.into_vector()? } else { x }, certificate }
            }
        };
        solution.check(asked)?;
        Ok(solution)
    }
}

/// A payload of two matrices, the first of them `first` bytes long; not copied if it is one piece or those two. Of one
/// piece the first goes on to its end.
fn split_payload(pieces: Vec<Bytes>, first: usize) -> [Bytes; 2] {
    match <[Bytes; 2]>::try_from(pieces) {
        Ok(pieces) if pieces[0].len() == first => pieces,
        Ok(pieces) => split_whole(one_piece(pieces.into()), first),
        Err(pieces) => split_whole(one_piece(pieces), first),
    }
}

fn split_whole(whole: Bytes, first: usize) -> [Bytes; 2] {
    let rest = whole.slice(first..);
    [whole, rest]
}

/// The pieces as one; copied only if there are several.
fn one_piece(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        0 => Bytes::new(),
        1 => pieces.swap_remove(0),
        _ => {
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
    }
}
