//! How much a reader holds at a time, against what the length of its input justifies.
//!
//! Counted are the bytes that the reading thread has asked the allocator for and not given back, touched or not. A vector
//! that grows counts twice while it moves.

use std::cell::Cell;

/// The most that a reader may hold: a multiple of its input, and some bytes beside it.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Bytes for each byte of the input.
    pub per_byte: usize,
    /// Bytes for an input of any length.
    pub beside: usize,
}

impl Bound {
    fn of(self, input_bytes: usize) -> usize {
        input_bytes.saturating_mul(self.per_byte).saturating_add(self.beside)
    }
}

/// What a reader held when it came closest to its bound.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// Bytes held.
    pub held: usize,
    /// Length of the input.
    pub input: usize,
    /// What it might have held.
    pub allowed: usize,
}

impl Peak {
    /// Of what was allowed.
    pub fn share(&self) -> f64 {
        self.held as f64 / self.allowed.max(1) as f64
    }
}

thread_local! {
    static CLOSEST: Cell<Peak> = const { Cell::new(Peak { held: 0, input: 0, allowed: 1 }) };
}

/// Reads, and fails if that took more than an input of this length justifies.
///
/// # Panics
/// If it did.
pub fn within<T>(bound: Bound, input_bytes: usize, read: impl FnOnce() -> T) -> T {
    let (result, held) = measured(read);
    check(bound, input_bytes, held);
    result
}

/// Reads, and tells the most bytes that were held at a time: for a bound that depends on what was read.
pub fn measured<T>(read: impl FnOnce() -> T) -> (T, usize) {
    let mut result = None;
    let counted = allocation_counter::measure(|| result = Some(read()));
    (result.expect("the closure has run"), usize::try_from(counted.bytes_max).unwrap_or(usize::MAX))
}

/// Compares what was held with what is allowed.
///
/// # Panics
/// If it is more.
pub fn check(bound: Bound, input_bytes: usize, held: usize) {
    let allowed = bound.of(input_bytes);
    assert!(held <= allowed, "{held} bytes were held for an input of {input_bytes}; {bound:?} allows {allowed}");
    let peak = Peak { held, input: input_bytes, allowed };
    if peak.share() > closest().share() {
        CLOSEST.set(peak);
    }
}

/// The closest that this thread has come to a bound.
pub fn closest() -> Peak {
    CLOSEST.get()
}
