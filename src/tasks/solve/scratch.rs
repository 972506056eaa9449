//! Working memory kept between tasks. A fresh 100 MB allocation costs as much in page faults as moving it does.
//!
//! Invariant: what lies idle is at most [`KEEP_BYTES`] and [`KEEP_COUNT`] buffers, whatever ran before. Contents are
//! left over from earlier tasks: who borrows a buffer writes it before reading.

use std::sync::{Mutex, PoisonError};

use super::kernel::Pivots;

/// Bytes kept idle, at most: the f32 factor of N = 8000, or the f64 one of N = 5700.
pub(super) const KEEP_BYTES: usize = 256 << 20;
/// Buffers kept idle, at most.
const KEEP_COUNT: usize = 64;
/// A buffer this many times larger than wanted is left for a task that needs it.
const WASTE: usize = 8;
/// Cache line: MKL's kernels are faster on aligned matrices.
const ALIGN_BYTES: usize = 64;

/// Buffers of one task: the factors, the row exchanges, and a panel of right-hand sides.
#[derive(Default)]
pub(super) struct Scratch {
    factor: Vec<f64>,
    /// Row exchanges of the factorisation.
    pub pivots: Pivots,
    panel: Vec<f64>,
}

impl Scratch {
    /// Room for `len` numbers of a factorisation in f64, or twice as many in f32, with the pivots and a panel.
    pub(super) fn parts(&mut self, factor_len: usize, panel_len: usize) -> (&mut [f64], &mut Pivots, &mut [f64]) {
        (grown(&mut self.factor, factor_len), &mut self.pivots, grown(&mut self.panel, panel_len))
    }

    fn bytes(&self) -> usize {
        (self.factor.capacity() + self.panel.capacity()) * size_of::<f64>() + self.pivots.bytes()
    }
}

/// `len` aligned numbers of `buffer`. One that is too small is dropped first: growing it would copy what nobody wants
/// and hold both meanwhile.
pub(super) fn grown(buffer: &mut Vec<f64>, len: usize) -> &mut [f64] {
    let slack = ALIGN_BYTES / size_of::<f64>();
    if buffer.len() < len + slack {
        *buffer = Vec::new();
        *buffer = vec![0.0; len + slack];
    }
    let start = buffer.as_ptr().align_offset(ALIGN_BYTES).min(slack);
    &mut buffer[start..start + len]
}

/// The idle buffers of a handler.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Scratch>>,
}

impl Pool {
    /// The idle buffer that fits `factor_len` numbers best, or an empty one. To be given back with [`Pool::put`]; one
    /// lost in a panic is just freed.
    pub(super) fn take(&self, factor_len: usize) -> Scratch {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |scratch: &Scratch| {
            let room = scratch.factor.len();
            room >= factor_len && room / WASTE <= factor_len.max(1 << 17)
        };
        let best = (0..idle.len()).filter(|&at| fits(&idle[at])).min_by_key(|&at| idle[at].factor.len());
        best.map(|at| idle.remove(at)).unwrap_or_default()
    }

    /// Keeps a buffer for later, in the place of the ones longest unused where the bounds want it.
    pub(super) fn put(&self, scratch: Scratch) {
        if scratch.bytes() > KEEP_BYTES {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(scratch);
        while idle.len() > KEEP_COUNT || idle.iter().map(Scratch::bytes).sum::<usize>() > KEEP_BYTES {
            idle.remove(0);
        }
    }

    #[cfg(test)]
    fn kept_bytes(&self) -> usize {
        self.idle.lock().unwrap().iter().map(Scratch::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_aligned_and_without_a_new_allocation() {
        let pool = Pool::default();
        let mut scratch = pool.take(1000);
        let at = scratch.parts(1000, 10).0.as_ptr();
        assert_eq!(at.align_offset(ALIGN_BYTES), 0);
        pool.put(scratch);
        let mut again = pool.take(900);
        assert_eq!(again.parts(900, 10).0.as_ptr(), at);
    }

    #[test]
    fn what_lies_idle_is_bounded() {
        let pool = Pool::default();
        for _ in 0..3 {
            let mut scratch = Scratch::default();
            scratch.parts(KEEP_BYTES / 20, 0);
            pool.put(scratch);
        }
        let kept = pool.kept_bytes();
        assert!(kept > KEEP_BYTES / 2 && kept <= KEEP_BYTES, "{kept}");
        let mut over = Scratch::default();
        over.parts(KEEP_BYTES / 8, 0);
        pool.put(over);
        assert_eq!(pool.kept_bytes(), kept);
        let mut newer = Scratch::default();
        newer.parts(KEEP_BYTES / 10, 0);
        pool.put(newer);
        assert!(pool.kept_bytes() <= KEEP_BYTES);
        assert!(pool.take(KEEP_BYTES / 10).factor.len() >= KEEP_BYTES / 10);
    }

    #[test]
    fn a_small_task_leaves_a_large_buffer_alone() {
        let pool = Pool::default();
        let mut large = pool.take(0);
        large.parts(4 << 20, 0);
        pool.put(large);
        assert_eq!(pool.take(10_000).factor.len(), 0);
        assert!(pool.take(3 << 20).factor.len() >= 3 << 20);
    }
}
