//! What the core takes from its surroundings: chance and clocks. One place, so that a simulation can give it others.
//!
//! Must not touch: what chance and time are used for. Without a [`Simulation`] it is the thread's random generator and the
//! system's clocks. A simulation holds for one thread: what other threads do is none of its.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::distr::{Distribution, StandardUniform};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The wall clock at the start of a simulation: some day, the same for all.
const SIMULATED_START: Duration = Duration::from_secs(2_000_000_000);

thread_local! {
    static SIMULATED: RefCell<Option<Simulated>> = const { RefCell::new(None) };
}

struct Simulated {
    chance: SmallRng,
    start: Instant,
}

/// While it lives, all chance on this thread follows from a seed, and both clocks follow tokio's, which a test may pause.
/// For one runtime on one thread; a second one on the same thread takes the place of the first.
#[derive(Debug)]
pub struct Simulation {
    /// It ends on the thread that it holds for.
    not_send: PhantomData<*const ()>,
}

impl Simulation {
    /// Begins here and now: inside the runtime whose clock it follows.
    pub fn begin(seed: u64) -> Self {
        let simulated = Simulated { chance: SmallRng::seed_from_u64(seed), start: now() };
        SIMULATED.with_borrow_mut(|it| *it = Some(simulated));
        Simulation { not_send: PhantomData }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        SIMULATED.with_borrow_mut(|it| *it = None);
    }
}

/// A random number.
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    SIMULATED.with_borrow_mut(|it| match it {
        Some(simulated) => simulated.chance.random(),
        None => rand::random(),
    })
}

/// The monotonic clock that timers follow: in a runtime whose time is paused not the system's.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Since 1970-01-01 UTC as this process knows it: the machine's wall clock when it was first asked for, and the time since.
/// Who sets that clock meanwhile moves no deadline.
pub fn unix_time() -> Duration {
    static FIRST: LazyLock<(Duration, Instant)> =
        LazyLock::new(|| (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), Instant::now()));
    match simulated_time() {
        Some(since) => SIMULATED_START + since,
        None => FIRST.0.saturating_add(FIRST.1.elapsed()),
    }
}

/// How long the simulation has lasted, if there is one.
pub(super) fn simulated_time() -> Option<Duration> {
    SIMULATED.with_borrow(|it| it.as_ref().map(|simulated| now().saturating_duration_since(simulated.start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulation_repeats_its_chance_and_its_clocks_and_leaves_nothing_behind() {
        let simulate = async |seed| {
            let _simulation = Simulation::begin(seed);
            let before = (random::<u128>(), unix_time(), super::super::monotonic_ns());
            tokio::time::sleep(Duration::from_secs(86_400)).await;
            (before, random::<u64>(), unix_time(), super::super::monotonic_ns())
        };
        let first = simulate(7).await;
        assert_eq!(first.2 - first.0.1, Duration::from_secs(86_400));
        assert_eq!(first.3 - first.0.2, 86_400_000_000_000);
        assert_eq!(simulate(7).await, first);
        assert_ne!(simulate(8).await.1, first.1);
        assert_ne!(random::<u64>(), random::<u64>());
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        assert!(unix_time().abs_diff(wall) < Duration::from_secs(60));
    }
}
