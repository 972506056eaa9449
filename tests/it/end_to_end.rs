//! Boss, broker and workers together, in one process, on both brokers.

mod abandoned;
mod cancel;
mod delivery;
mod progress;
mod refusals;
mod round_trips;
mod sharing;
