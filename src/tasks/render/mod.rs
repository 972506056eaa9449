//! A tile of a picture: path tracing of a scene that many tasks share.
//!
//! Invariant: what a tile comes to depends on its parameters and its scene alone, to the bit: not on the size of the tile,
//! the number of threads, the worker, or the attempt.

pub mod scene;
