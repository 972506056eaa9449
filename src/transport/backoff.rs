//! How long to wait before connecting again.

use std::time::Duration;

use crate::task::ambient;

/// 0.1 s doubling to 3 s, with jitter so that a fleet does not come back as one.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait.
    #[expect(clippy::should_implement_trait, reason = "endless, and no iterator is needed")]
    pub fn next(&mut self) -> Duration {
        let base = Duration::from_millis(100 << self.failures.min(5)).min(Duration::from_secs(3));
        self.failures = self.failures.saturating_add(1);
        base.mul_f64(0.5 + 0.5 * ambient::random::<f64>())
    }
}
