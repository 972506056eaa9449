//! The kinds of task this program computes: one folder each, one line each in [`handlers`] and
//! [`describe`].
//!
//! A kind imports [`crate::task`] and nothing else of the crate: no message layout, no broker, no thread pool. Adding
//! one is its folder, its `pub mod` and its lines.

pub mod render;
pub mod solve;

use std::sync::Arc;

use crate::task::{Format, Handler, Kind, Task};

/// A handler of every kind, for a worker that may use `max_threads` threads. Calibrating them takes up to 0.3 s.
pub fn handlers(max_threads: usize) -> Vec<Arc<dyn Handler>> {
    vec![Arc::new(render::RenderHandler), Arc::new(solve::SolveHandler::new(max_threads))]
}

/// A task in a few words for people, from its parameters alone: bytes from outside. `None` if the kind is not known here, or
/// the parameters are not those of one.
pub fn describe(kind: &str, format: Format, params: &[u8]) -> Option<String> {
    let is = |known: Kind| known.as_str() == kind;
    if is(solve::System::KIND) {
        solve::describe(format, params)
    } else if is(render::TileTask::KIND) {
        render::describe(format, params)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn system(params: Vec<u8>) -> Option<String> {
        describe("solve", Format::Binary, &params)
    }

    #[test]
    fn a_system_is_told_by_its_shapes_and_its_method() {
        let square = solve::System::random(3, 2, 0).encode(Format::Binary).unwrap().blob.params;
        assert_eq!(system(square.clone()).as_deref(), Some("A 3 x 3, B 3 x 2, method auto"));
        let json = describe("solve", Format::Json, &square);
        assert_eq!(json.as_deref(), Some("A 3 x 3, B 3 x 2, method auto, JSON"));
        assert_eq!(describe("solve", Format::Json, &[]).as_deref(), Some("JSON"));
        let mut truncated = square.clone();
        truncated.pop();
        assert_eq!(system(truncated), None);
        assert_eq!(describe("bake", Format::Binary, &square), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_described_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..160), json: bool) {
            let format = if json { Format::Json } else { Format::Binary };
            for kind in ["solve", "render"] {
                let _ = describe(kind, format, &bytes);
            }
        }

        #[test]
        fn a_right_length_and_any_bytes_are_described_or_not(solve: [u8; 29], render in proptest::collection::vec(any::<u8>(), 130)) {
            let _ = describe("solve", Format::Binary, &solve);
            let _ = describe("render", Format::Binary, &render);
        }
    }
}
