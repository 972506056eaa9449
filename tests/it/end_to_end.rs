//! Boss, broker and workers together, in one process, on both brokers.

mod abandoned;
mod delivery;
mod refusals;
mod round_trips;
mod sharing;
