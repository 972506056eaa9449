//! The readers of bytes from outside as targets for cargo-fuzz. What they are and check is in [`readers`], which the
//! integration tests use as well; how they are run is in docs/fuzzing.md.

pub mod readers;

use std::fs;
use std::path::Path;

use readers::{Target, memory};

/// Begins a run: puts the target's seeds into the corpus that the command line names.
///
/// # Panics
/// If there is no such target, or the corpus can't be written.
pub fn begin(name: &str) -> &'static Target {
    let target = readers::target(name);
    let corpus = std::env::args().skip(1).find(|argument| !argument.starts_with('-') && Path::new(argument).is_dir());
    if let Some(corpus) = corpus {
        for (place, seed) in (target.seeds)().iter().enumerate() {
            let path = Path::new(&corpus).join(format!("seed-{place}"));
            fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
    target
}

/// Reads one input, and says so if no other has brought the reader closer to what it may hold.
pub fn read(target: &Target, input: &[u8]) {
    let before = memory::closest().share();
    (target.read)(input);
    let peak = memory::closest();
    if peak.share() > before {
        let memory::Peak { held, input, allowed } = peak;
        eprintln!("memory: {} held {held} bytes for an input of {input}, {allowed} allowed", target.name);
    }
}

/// The body of a program under fuzz_targets/, of the target that has the program's name.
#[macro_export]
macro_rules! fuzz {
    () => {
        static TARGET: std::sync::OnceLock<&$crate::readers::Target> = std::sync::OnceLock::new();

        libfuzzer_sys::fuzz_target!(
            init: {
                TARGET.get_or_init(|| $crate::begin(env!("CARGO_BIN_NAME")));
            },
            |input: &[u8]| $crate::read(TARGET.get().expect("begun"), input)
        );
    };
}
