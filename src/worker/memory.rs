//! How many bytes tasks may take, and who has them. Reserved before a payload is fetched.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::task::TaskError;
use crate::transport::buffers::Buffers;

/// A semaphore counts to 2^32 at a time; in KiB that is 4 TiB.
const UNIT: u64 = 1024;

/// A number of bytes for payloads and work space, shared first come, first served. Clones are the same bytes: give one
/// to several workers of a process, and together they stay within it.
#[derive(Clone, Debug)]
pub struct Memory {
    limit_bytes: u64,
    units: Arc<Semaphore>,
    /// With the bytes, or each worker that shares them would keep a quarter of them for itself.
    buffers: Arc<Buffers>,
}

impl Memory {
    /// `limit_bytes` to share.
    pub fn new(limit_bytes: u64) -> Self {
        let units = usize::try_from(limit_bytes / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        // One payload that computes and one fetched ahead, at most a quarter of what may be used.
        let buffers = Buffers::new(usize::try_from(limit_bytes / 4).unwrap_or(usize::MAX));
        Memory { limit_bytes, units: Arc::new(Semaphore::new(units)), buffers }
    }

    /// What nobody has reserved, to the KiB.
    pub fn available_bytes(&self) -> u64 {
        (self.units.available_permits() as u64).saturating_mul(UNIT)
    }

    /// All there is to share.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Where received payloads are written.
    pub(super) fn buffers(&self) -> &Arc<Buffers> {
        &self.buffers
    }

    /// Whether a task of this size can ever run here.
    pub(super) fn check(&self, needed_bytes: u64) -> Result<(), TaskError> {
        if needed_bytes.div_ceil(UNIT) <= (self.limit_bytes / UNIT).min(u64::from(u32::MAX)) {
            Ok(())
        } else {
            Err(TaskError::TooLarge { needed_bytes, limit_bytes: self.limit_bytes })
        }
    }

    /// Waits for its turn. Given back when dropped.
    pub(super) async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit, TaskError> {
        Ok(self.reserve_two(0, bytes).await?.1)
    }

    /// Waits for its turn for both at once, to be given back one by one.
    pub(super) async fn reserve_two(
        &self,
        first_bytes: u64,
        second_bytes: u64,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), TaskError> {
        let first_units = first_bytes.div_ceil(UNIT);
        let units = first_units.saturating_add(second_bytes.div_ceil(UNIT));
        self.check(units.saturating_mul(UNIT))?;
        // What was checked fits into 32 bits. The semaphore is never closed.
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let mut all = self.units.clone().acquire_many_owned(units).await.map_err(|_| TaskError::Shutdown)?;
        let first = all.split(first_units as usize).ok_or(TaskError::Shutdown)?;
        Ok((first, all))
    }
}

impl Default for Memory {
    /// 70 % of what is free now.
    fn default() -> Self {
        Memory::new(default_limit_bytes())
    }
}

/// 70 % of what is free, at least 64 MiB.
pub(super) fn default_limit_bytes() -> u64 {
    (free_bytes() / 10 * 7).max(64 << 20)
}

/// What the system (or the container) has free now.
pub fn free_bytes() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let host = system.available_memory();
    system.cgroup_limits().map_or(host, |cgroup| host.min(cgroup.free_memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_can_never_fit_is_refused_and_the_rest_waits() {
        let memory = Memory::new(100 << 10);
        assert_eq!(
            memory.reserve(101 << 10).await.unwrap_err(),
            TaskError::TooLarge { needed_bytes: 101 << 10, limit_bytes: 100 << 10 }
        );
        let first = memory.reserve(60 << 10).await.unwrap();
        let second = memory.reserve(60 << 10);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_ok());
    }
}
