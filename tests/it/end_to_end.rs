//! Boss, broker and workers together, in one process, on both brokers.

mod abandoned;
mod away;
mod cancel;
mod delivery;
// faer cannot be stopped within a factorisation, and does not say how far it is.
#[cfg(feature = "mkl")]
mod factorisation;
mod kept;
mod progress;
mod refusals;
mod round_trips;
mod shared;
mod sharing;
mod times;
