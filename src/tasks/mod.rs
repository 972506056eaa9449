//! The kinds of task this program computes: one folder each, one line each in [`handlers`].
//!
//! A kind imports [`crate::task`] and nothing else of the crate: no message layout, no broker, no thread pool. Adding
//! one is its folder, its `pub mod` and its line.

pub mod render;
pub mod solve;

use std::sync::Arc;

use crate::task::Handler;

/// A handler of every kind, for a worker that may use `max_threads` threads. Calibrating them takes up to 0.3 s.
pub fn handlers(max_threads: usize) -> Vec<Arc<dyn Handler>> {
    vec![Arc::new(render::RenderHandler), Arc::new(solve::SolveHandler::new(max_threads))]
}
