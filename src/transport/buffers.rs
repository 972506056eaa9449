//! Large buffers that are used again: fresh memory costs a page fault every 4 KiB, as much time as the transfer itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// Free buffers, up to a number of bytes.
#[derive(Debug)]
pub struct Buffers {
    free: Mutex<Free>,
    keep_bytes: usize,
}

#[derive(Debug, Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    /// A buffer was taken or given since the last [`Buffers::trim`].
    used: bool,
}

impl Buffers {
    /// A pool that keeps at most `keep_bytes` of free buffers.
    pub fn new(keep_bytes: usize) -> Arc<Self> {
        Arc::new(Buffers { free: Mutex::default(), keep_bytes })
    }

    /// A buffer of `len` bytes with whatever was in it. A kept one if one of this length up to twice it is there (a
    /// longer one would hold memory for nothing); else fresh zero pages, which the system gives only when written to.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut free = self.lock();
        free.used = true;
        let fits = |buffer: &Vec<u8>| (len..=len.saturating_mul(2)).contains(&buffer.len());
        let best = (0..free.buffers.len()).filter(|&i| fits(&free.buffers[i])).min_by_key(|&i| free.buffers[i].len());
        let bytes = best.map(|i| free.buffers.swap_remove(i));
        drop(free);
        Buffer { bytes: bytes.unwrap_or_else(|| vec![0; len]), len, home: Arc::downgrade(self) }
    }

    /// Gives memory back to the system if nothing was taken or given since the last call.
    pub fn trim(&self) {
        let mut free = self.lock();
        if !std::mem::take(&mut free.used) {
            free.buffers = Vec::new();
        }
    }

    fn put(&self, buffer: Vec<u8>) {
        let mut free = self.lock();
        free.used = true;
        let kept: usize = free.buffers.iter().map(Vec::len).sum();
        if kept.saturating_add(buffer.len()) <= self.keep_bytes {
            free.buffers.push(buffer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // The list is whole after every statement: a panic elsewhere does not spoil it.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer on loan; it goes back when dropped, also as [`Bytes`].
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    home: Weak<Buffers>,
}

impl Buffer {
    /// Shared and read-only from now on, without a copy.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.put(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_bytes_are_dropped() {
        let pool = Buffers::new(1 << 20);
        let mut buffer = pool.take(1000);
        buffer.as_mut()[0] = 7;
        let bytes = buffer.into_bytes();
        let half = bytes.slice(..500);
        drop(bytes);
        assert_eq!(pool.lock().buffers.len(), 0);
        drop(half);
        assert_eq!(pool.lock().buffers.len(), 1);
        assert_eq!(pool.take(600).as_ref()[0], 7, "the same memory");
    }

    #[test]
    fn a_much_longer_buffer_is_not_wasted_on_a_short_payload() {
        let pool = Buffers::new(1 << 20);
        drop(pool.take(1000));
        assert_eq!(pool.take(499).as_ref().len(), 499);
        assert_eq!(pool.lock().buffers.len(), 2, "a buffer of its own");
    }

    #[test]
    fn no_more_is_kept_than_allowed_and_nothing_when_idle() {
        let pool = Buffers::new(1500);
        let (a, b) = (pool.take(1000), pool.take(1000));
        drop((a, b));
        assert_eq!(pool.lock().buffers.len(), 1);
        pool.trim();
        assert_eq!(pool.lock().buffers.len(), 1, "just used");
        pool.trim();
        assert_eq!(pool.lock().buffers.len(), 0);
    }
}
