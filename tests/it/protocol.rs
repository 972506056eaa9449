//! The example in docs/protocol.md is what the code writes.

use std::path::Path;

use rabbitry::task::Format;
use rabbitry::wire::{self, TaskHead};

/// The bytes of the first block marked `hex` that starts like a task head. What follows a `#` is a comment.
fn example(text: &str) -> Option<Vec<u8>> {
    let blocks = text.split("```hex\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut bytes = blocks.map(|block| {
        let digits: String = block.lines().flat_map(|line| line.split('#').next()).flat_map(str::chars).collect();
        let digits: Vec<u8> = digits.chars().filter(|c| !c.is_whitespace()).map(hex).collect();
        assert!(digits.len().is_multiple_of(2), "an odd number of hexadecimal digits");
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>()
    });
    bytes.find(|bytes| wire::is::<TaskHead>(bytes))
}

fn hex(digit: char) -> u8 {
    digit.to_digit(16).unwrap_or_else(|| panic!("{digit:?} is no hexadecimal digit")) as u8
}

#[test]
fn the_hex_example_is_a_task_head_to_the_byte() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let bytes = example(&text).expect("docs/protocol.md has a ```hex block with a task head");
    let head: TaskHead = wire::decode(&bytes).expect("a task head and nothing after it");
    assert_eq!(wire::encode(&head), bytes, "written again it is the same");
    assert_eq!((head.kind.as_str(), head.attempt, head.format), ("solve", 0, Format::Binary));
    assert_eq!(head.params.len(), 29, "the parameters of solve");
    let field = |at: usize| u64::from_le_bytes(head.params[at..at + 8].try_into().expect("8 bytes"));
    let (m, n, nrhs) = (field(0), field(8), field(16));
    assert_eq!((m, n), (2, 2), "a 2 x 2 system");
    assert_eq!(head.payload_bytes, (n * n + n * nrhs) * 8, "A and B");
    assert!(head.pull_from.is_none(), "its payload is in the body");
}

#[test]
fn comments_and_spaces_are_no_bytes() {
    let head = "52 42 54 54 # magic\n\n0100# version\n";
    assert_eq!(example(&format!("text\n```hex\n{head}```\nmore")), Some(b"RBTT\x01\x00".to_vec()));
    assert_eq!(example("```hex\n00\n```"), None, "not a task head");
    assert_eq!(example("no block"), None);
}
