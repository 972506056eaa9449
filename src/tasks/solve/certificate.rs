//! What an answer says of itself: how it was made, how good it is, and how well A lets it be.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::task::TaskError;

/// How an answer was computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// LU with partial pivoting in f64. Code 1.
    Lu,
    /// LU in f32, refined in f64 against the original A. Code 2.
    Mixed,
    /// Cholesky in f64, for a symmetric positive definite A. Code 3.
    Cholesky,
    /// Substitution with a triangular A. Code 4.
    Triangular,
    /// QR of a full-rank A of any shape: least squares, or the shortest of all solutions. Code 5.
    Lstsq,
    /// Cholesky in f32, refined in f64 against the original A. Code 6.
    MixedCholesky,
}

impl Method {
    const CODES: [(u8, Method); 6] = [
        (1, Method::Lu),
        (2, Method::Mixed),
        (3, Method::Cholesky),
        (4, Method::Triangular),
        (5, Method::Lstsq),
        (6, Method::MixedCholesky),
    ];

    /// On the wire.
    pub(super) fn code(self) -> u8 {
        Self::CODES.iter().find(|(_, method)| *method == self).map_or(0, |(code, _)| *code)
    }

    /// From the wire.
    pub(super) fn from_code(code: u8) -> Result<Self, TaskError> {
        let known = Self::CODES.iter().find(|(known, _)| *known == code).map(|(_, method)| *method);
        known.ok_or_else(|| TaskError::Invalid(format!("method {code} is not known here; is the worker newer?")))
    }
}

impl fmt::Display for Method {
    /// As in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Lu => "lu",
            Method::Mixed => "mixed",
            Method::Cholesky => "cholesky",
            Method::Triangular => "triangular",
            Method::Lstsq => "lstsq",
            Method::MixedCholesky => "mixed-cholesky",
        })
    }
}

/// The proof that comes with an answer. Norms are infinity norms; A and B are those of the task, not a copy in another
/// precision.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Certificate {
    /// The method whose answer this is.
    pub method: Method,
    /// The methods begun before it and given up, in order.
    pub tried: Vec<Method>,
    /// max over the columns j of `||b_j - A x_j|| / (||A|| ||x_j|| + ||b_j||)`, computed in f64: x solves a system that
    /// differs from the task's by so much at most, relatively. With [`Method::Lstsq`] and more rows than columns, where the
    /// residual is not zero, `||A' r_j|| / (||A'|| (||A|| ||x_j|| + ||b_j||))`: how far from least it is. Finite.
    pub backward_error: f64,
    /// Estimate of `1 / (||A|| ||A^-1||)`, 0 to 1; of the triangular factor with [`Method::Lstsq`].
    pub rcond: f64,
    /// Bound of `||x_j - exact|| / ||x_j||` that follows from the two and the rounding of the residual; none if A is
    /// singular to working precision. With [`Method::Lstsq`] and more rows than columns, plus the step that the residual
    /// asks for.
    pub forward_error_bound: Option<f64>,
    /// Refinement steps, the most of any column; those of an attempt that was given up count. Without f32 there are none,
    /// as a rule.
    pub iterations: u32,
    /// Threads that computed it.
    pub threads: u32,
    /// Seconds for checking, copying and factoring A (failed attempts included).
    pub factor_seconds: f64,
    /// Seconds for all right-hand sides, refinement and this certificate included.
    pub solve_seconds: f64,
    /// If the task asked for it: the setting under which any worker gives the same bits.
    pub reproducible: Option<String>,
}

/// Above this a forward error bound is worth a warning.
const BOUND_WARNED: f64 = 1e-6;

impl Certificate {
    /// Why not to trust the answer blindly, in words, or `None`.
    pub fn warning(&self) -> Option<String> {
        if self.rcond < f64::EPSILON {
            Some(format!(
                "A is singular to working precision (rcond {:.1e}): digits of X may be meaningless",
                self.rcond
            ))
        } else {
            let Certificate { rcond, backward_error, .. } = self;
            let off = match self.forward_error_bound {
                None => "by any amount".to_owned(),
                Some(bound) if bound > BOUND_WARNED => format!("by {bound:.1e} relatively"),
                Some(_) => return None,
            };
            Some(format!("X may be off {off} (rcond {rcond:.1e}, backward error {backward_error:.1e})"))
        }
    }

    /// Refuses a certificate from outside whose figures are no figures.
    pub(super) fn check(&self) -> Result<(), TaskError> {
        let bound = self.forward_error_bound.unwrap_or(0.0);
        let figures = [self.backward_error, self.rcond, bound, self.factor_seconds, self.solve_seconds];
        // An estimate may be a rounding above 1.
        if figures.iter().all(|figure| figure.is_finite() && *figure >= 0.0) && self.rcond < 1.5 {
            Ok(())
        } else {
            Err(TaskError::Invalid(format!("the certificate is not one: {self:?}")))
        }
    }
}
