//! What goes wrong between programs and an embedded broker, and when: a plan, and the dice that follow it. Pure: no I/O, no
//! clock, no state but a counter. The same seed gives the same throws.
//!
//! What may happen is what a RabbitMQ and a network do, and no more:
//!
//! - Everything takes its time, mostly little, now and then seconds: calls, messages, confirms, deliveries, acks. What one
//!   publisher sends keeps its order, and so do the deliveries of one queue; different queues overtake each other.
//! - A connection is cut. Of what was on its way in each direction some arrives, in order, and the rest does not. Either end
//!   may notice later than the other: until then it talks to nobody, and the broker keeps what belongs to the connection.
//! - A consumer's channel is closed, as after `consumer_timeout`: what it held goes back, the connection lives.
//! - A message comes twice, as if its publisher had lost a connection before the confirm, and sent it again.
//! - The broker restarts: all connections and all transient messages are gone, and for some time nobody can connect.
//! - The broker has an alarm, and takes no message until it is over. Acks go on.
//! - A connect fails, or takes long.

use std::time::Duration;

/// What may go wrong, how often, and by which dice.
///
/// Rates are in how many of 10,000 movements something happens; a movement is a message, a delivery, an ack or a call on its
/// way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultPlan {
    /// Of the dice.
    pub seed: u64,
    /// A connection is cut.
    pub cuts: u32,
    /// Of 100 cuts, those that one of both ends notices late.
    pub unnoticed_percent: u32,
    /// A consumer's channel is closed.
    pub channel_deaths: u32,
    /// A message that was published through an exchange is there twice.
    pub duplicates: u32,
    /// After so many there are no more: of what is put back before each death of a worker, each time a share doubled, there would be
    /// more than the deaths can end.
    pub duplicates_max: u32,
    /// The broker restarts.
    pub restarts: u32,
    /// The broker has an alarm.
    pub alarms: u32,
    /// A connect fails. Of 10,000 connects.
    pub refusals: u32,
    /// A movement takes up to [`FaultPlan::slow_max`].
    pub slow: u32,
    /// The longest that anything takes on its way.
    pub slow_max: Duration,
    /// After so many cuts, channel deaths, restarts and alarms there are no more. Slow ways go on.
    pub faults_max: u32,
    /// What goes as one message, in bytes.
    pub inline_max_bytes: usize,
}

impl FaultPlan {
    /// Everything takes a little time, and nothing goes wrong.
    pub fn calm(seed: u64) -> Self {
        FaultPlan {
            seed,
            cuts: 0,
            unnoticed_percent: 0,
            channel_deaths: 0,
            duplicates: 0,
            duplicates_max: 50,
            restarts: 0,
            alarms: 0,
            refusals: 0,
            slow: 0,
            slow_max: Duration::from_secs(8),
            faults_max: u32::MAX,
            inline_max_bytes: 64 << 10,
        }
    }

    /// A plan drawn from a seed: some sorts of faults and not others, rarely or often. A sort that is always there would
    /// hide what goes wrong without it.
    pub fn seeded(seed: u64) -> Self {
        // Not the throws that follow.
        let mut dice = Dice::new(FaultPlan::calm(!seed));
        let mut rate = |max: u64| if dice.below(2) == 0 { 0 } else { 1 + dice.below(max) as u32 };
        FaultPlan {
            cuts: rate(100),
            unnoticed_percent: rate(100),
            channel_deaths: rate(50),
            duplicates: rate(1000),
            restarts: rate(10),
            alarms: rate(20),
            refusals: rate(4000),
            slow: rate(300),
            faults_max: 5 + rate(40),
            ..FaultPlan::calm(seed)
        }
    }
}

/// What befalls a movement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Its connection is cut, and so much later its program and the broker notice.
    Cut {
        near: Duration,
        far: Duration,
    },
    ChannelDeath,
    /// The broker is away for so long.
    Restart(Duration),
    /// It takes no messages for so long.
    Alarm(Duration),
}

/// Throws by a plan.
#[derive(Debug)]
pub(super) struct Dice {
    plan: FaultPlan,
    thrown: u64,
    left: u32,
    duplicates_left: u32,
}

impl Dice {
    pub(super) fn new(plan: FaultPlan) -> Self {
        Dice { left: plan.faults_max, duplicates_left: plan.duplicates_max, plan, thrown: 0 }
    }

    /// From now on nothing goes wrong; all still takes its time.
    pub(super) fn calm(&mut self) {
        self.left = 0;
        self.plan = FaultPlan { inline_max_bytes: self.plan.inline_max_bytes, ..FaultPlan::calm(self.plan.seed) };
    }

    pub(super) fn inline_max_bytes(&self) -> usize {
        self.plan.inline_max_bytes
    }

    /// A number below `bound`, which is far below 2^64; 0 if that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.thrown += 1;
        mix(mix(self.plan.seed).wrapping_add(self.thrown)) % bound.max(1)
    }

    fn happens(&mut self, of_10_000: u32) -> bool {
        self.below(10_000) < u64::from(of_10_000)
    }

    fn up_to(&mut self, max: Duration) -> Duration {
        Duration::from_millis(self.below(max.as_millis() as u64 + 1))
    }

    /// How long something is on its way.
    pub(super) fn way(&mut self) -> Duration {
        if self.plan.slow > 0 && self.happens(self.plan.slow) {
            return self.up_to(self.plan.slow_max);
        }
        match self.below(100) {
            0..70 => Duration::ZERO,
            70..95 => Duration::from_millis(1 + self.below(4)),
            _ => Duration::from_millis(1 + self.below(60)),
        }
    }

    /// What befalls a movement, if anything; `consumed` is one of a consumer with acks.
    pub(super) fn fault(&mut self, consumed: bool) -> Option<Fault> {
        if self.left == 0 {
            return None;
        }
        let mut throw = self.below(10_000) as u32;
        let mut is = |rate: u32| {
            let hit = throw < rate;
            throw = throw.wrapping_sub(rate);
            hit
        };
        let plan = self.plan.clone();
        let fault = if is(plan.cuts) {
            self.cut()
        } else if is(plan.restarts) {
            Fault::Restart(self.up_to(Duration::from_secs(10)))
        } else if is(plan.alarms) {
            Fault::Alarm(self.up_to(Duration::from_secs(60)))
        } else if consumed && is(plan.channel_deaths) {
            Fault::ChannelDeath
        } else {
            return None;
        };
        self.left -= 1;
        Some(fault)
    }

    fn cut(&mut self) -> Fault {
        let (mut near, mut far) = (Duration::ZERO, Duration::ZERO);
        if self.below(100) < u64::from(self.plan.unnoticed_percent) {
            // Two to three heartbeats of 10 s.
            let late = self.up_to(Duration::from_secs(30));
            if self.below(2) == 0 { near = late } else { far = late }
        }
        Fault::Cut { near, far }
    }

    /// How much later than at once the broker sees the death of a program.
    pub(super) fn crash_noticed(&mut self) -> Duration {
        if self.below(4) == 0 { self.up_to(Duration::from_secs(30)) } else { Duration::ZERO }
    }

    /// Whether a message comes twice.
    pub(super) fn duplicates(&mut self) -> bool {
        let twice = self.duplicates_left > 0 && self.plan.duplicates > 0 && self.happens(self.plan.duplicates);
        self.duplicates_left -= u32::from(twice);
        twice
    }

    /// How long a connect takes, and whether it fails.
    pub(super) fn connect(&mut self) -> (Duration, bool) {
        let refused = self.plan.refusals > 0 && self.happens(self.plan.refusals);
        (self.way(), refused)
    }
}

/// A hash of one number: the finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(plan: FaultPlan, movements: u32) -> Vec<Option<Fault>> {
        let mut dice = Dice::new(plan);
        (0..movements).map(|_| dice.fault(true)).collect()
    }

    #[test]
    fn a_seed_is_a_plan_and_its_throws() {
        let of = |seed| faults(FaultPlan::seeded(seed), 10_000);
        for seed in 0..100 {
            assert_eq!(FaultPlan::seeded(seed), FaultPlan::seeded(seed));
            assert_eq!(of(seed), of(seed));
        }
        let plans: Vec<FaultPlan> = (0..100).map(|seed| FaultPlan { seed: 0, ..FaultPlan::seeded(seed) }).collect();
        assert!(plans.iter().any(|plan| plan.cuts == 0) && plans.iter().any(|plan| plan.cuts > 50));
        assert!((1..100).all(|other| plans[other] != plans[0]));
    }

    #[test]
    fn faults_come_at_their_rate_until_there_are_enough() {
        let plan = FaultPlan { cuts: 100, channel_deaths: 300, ..FaultPlan::calm(7) };
        let thrown = faults(plan.clone(), 100_000);
        let deaths = thrown.iter().filter(|fault| **fault == Some(Fault::ChannelDeath)).count();
        let cuts = thrown.iter().flatten().count() - deaths;
        assert!((900..1100).contains(&cuts) && (2800..3200).contains(&deaths), "{cuts} cuts, {deaths} deaths");
        let few = faults(FaultPlan { faults_max: 5, ..plan }, 100_000);
        assert_eq!(few.iter().flatten().count(), 5);
        assert_eq!(faults(FaultPlan::calm(7), 10_000).iter().flatten().count(), 0);
    }

    #[test]
    fn ways_are_short_and_now_and_then_long() {
        let mut dice = Dice::new(FaultPlan { slow: 100, ..FaultPlan::calm(3) });
        let ways: Vec<Duration> = (0..100_000).map(|_| dice.way()).collect();
        let slow = ways.iter().filter(|way| **way > Duration::from_millis(60)).count();
        assert!((900..1100).contains(&slow), "{slow}");
        assert!(ways.iter().all(|way| *way <= Duration::from_secs(8)));
        dice.calm();
        assert!((0..100_000).all(|_| dice.way() <= Duration::from_millis(60)));
    }
}
