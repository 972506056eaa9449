//! What reads bytes from outside, each as a function of bytes that checks what comes out.
//!
//! A target panics if its reader does, if the reader holds more memory than its input justifies ([`memory`]), if what it
//! read is not what the bytes say, or if an error does not say enough. cargo-fuzz calls the targets with inputs that it
//! finds by coverage, tests/it/hostile_input with inputs that it makes from the [`Target::seeds`].

mod input;
mod matrix_files;
pub mod memory;
mod params;
mod parts;
mod records;
mod scenes;
mod seeds;
mod systems;

/// A reader under test.
pub struct Target {
    /// As `cargo fuzz run` names it.
    pub name: &'static str,
    /// Reads an input and checks what came of it. Panics at a defect.
    pub read: fn(&[u8]),
    /// Inputs that are right, or nearly.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "head", read: records::head, seeds: seeds::heads },
    Target { name: "outcome", read: records::outcome, seeds: seeds::outcomes },
    Target { name: "control", read: records::control, seeds: seeds::controls },
    Target { name: "heartbeat", read: records::heartbeat, seeds: seeds::heartbeats },
    Target { name: "part", read: parts::part, seeds: seeds::parts },
    Target { name: "params", read: params::params, seeds: seeds::params },
    Target { name: "json_task", read: systems::task, seeds: seeds::json_tasks },
    Target { name: "json_answer", read: systems::answer, seeds: seeds::json_answers },
    Target { name: "npy", read: matrix_files::npy, seeds: seeds::npy },
    Target { name: "mtx", read: matrix_files::mtx, seeds: seeds::mtx },
    Target { name: "scene", read: scenes::blob, seeds: seeds::scenes },
    Target { name: "glb", read: scenes::glb, seeds: seeds::glb },
    Target { name: "obj", read: scenes::obj, seeds: seeds::obj },
    Target { name: "simple", read: scenes::simple, seeds: seeds::simple },
];

/// The target of this name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target {name:?}"))
}

/// An error must say something, and must not repeat the input at length.
fn says_enough(message: &str) {
    assert!(message.len() >= 10, "an error says too little: {message:?}");
    assert!(message.len() <= 1000, "an error of {} bytes: {message:?}", message.len());
}
