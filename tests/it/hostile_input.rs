//! Bytes that nobody would send, for every reader of bytes from outside: the targets of fuzz/, on inputs made from their
//! seeds by chance. A failure says how to see it again.

mod mutate;
#[path = "../../fuzz/src/readers/mod.rs"]
mod readers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use readers::{TARGETS, Target, memory};

/// Inputs of one target.
const INPUTS: u64 = 50_000;

/// The seed of the inputs; drawn, unless it is given.
const SEED: &str = "RABBITRY_FUZZ_SEED";

/// A file with the one input to be read.
const FILE: &str = "RABBITRY_FUZZ_FILE";

macro_rules! targets {
    ($($name:ident: $target:literal,)*) => {
        $(#[test]
        fn $name() {
            withstands(readers::target($target));
        })*

        #[test]
        fn every_target_has_a_test_and_a_program_for_cargo_fuzz() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$($target),*]);
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("the manifest of fuzz/");
            for name in names {
                assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
                assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
            }
        }
    };
}

targets! {
    any_message_to_a_worker_is_tasks_or_an_error: "head",
    any_head_of_an_outcome_is_one_or_an_error: "outcome",
    any_word_to_all_is_one_or_an_error: "control",
    any_sign_of_life_is_one_or_an_error: "heartbeat",
    parts_in_any_order_are_the_answer_or_an_error: "part",
    any_parameters_are_a_plan_or_an_error: "params",
    any_json_is_the_system_it_says_or_an_error: "json_task",
    any_json_is_the_solution_it_says_or_an_error: "json_answer",
    any_npy_is_the_matrix_it_says_or_an_error: "npy",
    any_mtx_is_the_matrix_it_says_or_an_error: "mtx",
    any_bytes_are_a_scene_that_can_be_rendered_or_an_error: "scene",
    any_glb_is_a_scene_or_an_error: "glb",
    any_obj_is_a_scene_or_an_error: "obj",
    any_simple_text_is_a_scene_or_an_error: "simple",
}

fn withstands(target: &Target) {
    if let Ok(file) = std::env::var(FILE) {
        let input = std::fs::read(&file).unwrap_or_else(|error| panic!("{FILE}: {file}: {error}"));
        return (target.read)(&input);
    }
    let given = std::env::var(SEED).ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().unwrap_or_else(|_| panic!("{SEED} is no number")));
    let result = try_all(target, seed, &inputs_folder());
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let memory::Peak { held, input, allowed } = memory::closest();
    println!("{}: seed {seed}, {held} of {allowed} bytes at most for an input of {input}", target.name);
}

fn inputs_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// Reads inputs until one fails, which is then kept in a file.
fn try_all(target: &Target, seed: u64, folder: &Path) -> Result<(), String> {
    let mut inputs = mutate::Inputs::new((target.seeds)(), seed);
    for number in 0..INPUTS {
        let input = inputs.next();
        if catch_unwind(AssertUnwindSafe(|| (target.read)(&input))).is_err() {
            let file = folder.join(format!("hostile-{}-{seed}", target.name));
            std::fs::write(&file, &input).map_err(|error| format!("{}: {error}", file.display()))?;
            return Err(format!(
                "target {}, seed {seed}, input {number} of {} bytes failed as above. To see it again: {FILE}={} cargo \
                 test --test it -- --exact hostile_input::{}",
                target.name,
                input.len(),
                file.display(),
                std::thread::current().name().unwrap_or_default().trim_start_matches("hostile_input::"),
            ));
        }
    }
    Ok(())
}

#[test]
fn a_reader_that_panics_or_takes_too_much_is_found_and_its_input_kept() {
    fn seeds() -> Vec<Vec<u8>> {
        vec![b"harmless".to_vec()]
    }
    fn panics(input: &[u8]) {
        assert!(!input.starts_with(b"\xff"), "a byte that it does not like");
    }
    fn believes(input: &[u8]) {
        let bound = memory::Bound { per_byte: 1, beside: 100 };
        let claimed = usize::from(*input.first().unwrap_or(&0)) * 1000;
        memory::within(bound, input.len(), || drop(std::hint::black_box(vec![0_u8; claimed])));
    }
    let folder = tempfile::tempdir().expect("a folder");
    for read in [panics, believes] {
        let target = Target { name: "broken", read, seeds };
        let failure = try_all(&target, 1, folder.path()).expect_err("found");
        assert!(failure.contains("target broken, seed 1, input "), "{failure}");
        let kept = std::fs::read(folder.path().join("hostile-broken-1")).expect("the input");
        assert!(catch_unwind(|| read(&kept)).is_err(), "the kept input fails again");
    }
}
