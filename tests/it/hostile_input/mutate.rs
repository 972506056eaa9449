//! Inputs by chance: what is right, and then damaged the way that finds mistakes.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// No input is longer.
const LEN_MAX: usize = 4096;

/// Numbers at which readers err.
const NUMBERS: [u64; 14] =
    [0, 1, 2, 3, 7, 8, 255, 256, 65_535, 65_536, i32::MAX as u64, u32::MAX as u64, i64::MAX as u64, u64::MAX];

/// And as text.
const WORDS: [&str; 16] = [
    "0",
    "-1",
    "1e999",
    "-0.0",
    "NaN",
    "inf",
    "18446744073709551615",
    "9223372036854775808",
    "4294967296",
    "[",
    "]",
    "{}",
    "\"",
    ",",
    "\\",
    "\n",
];

/// Makes inputs, the same for the same seeds and number.
pub struct Inputs {
    seeds: Vec<Vec<u8>>,
    random: SmallRng,
}

impl Inputs {
    pub fn new(seeds: Vec<Vec<u8>>, number: u64) -> Self {
        assert!(!seeds.is_empty(), "there is something to begin with");
        Inputs { seeds, random: SmallRng::seed_from_u64(number) }
    }

    /// The next input: one in sixteen uniformly random, the others a seed with up to eight changes.
    pub fn next(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        if random.random_ratio(1, 16) {
            let len = random.random_range(0..300);
            return (0..len).map(|_| random.random()).collect();
        }
        let mut input = self.seeds[random.random_range(0..self.seeds.len())].clone();
        for _ in 0..random.random_range(0..=8) {
            let other = &self.seeds[random.random_range(0..self.seeds.len())];
            change(random, &mut input, other);
        }
        input.truncate(LEN_MAX);
        input
    }
}

fn change(random: &mut SmallRng, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.random_range(0..=input.len());
    match random.random_range(0..10) {
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.random();
            }
        }
        3 => input.truncate(at),
        4 => drop(input.drain(at..(at + random.random_range(1..16)).min(input.len()))),
        5 => {
            // A number over what is there, of any size and either order.
            let number = NUMBERS[random.random_range(0..NUMBERS.len())];
            let (bytes, size) = (number.to_le_bytes(), [1, 2, 4, 8][random.random_range(0..4)]);
            let reversed = random.random_bool(0.2);
            for (place, byte) in input.iter_mut().skip(at).take(size).enumerate() {
                *byte = if reversed { bytes[size - 1 - place] } else { bytes[place] };
            }
        }
        6 => {
            let word = WORDS[random.random_range(0..WORDS.len())].as_bytes();
            let end = (at + random.random_range(0..=word.len())).min(input.len());
            drop(input.splice(at..end, word.iter().copied()));
        }
        7 => {
            // A piece of the input once more, or many times.
            let piece = input[at..(at + random.random_range(1..40)).min(input.len())].to_vec();
            let piece = piece.repeat(if random.random_bool(0.1) { 50 } else { 1 });
            let to = random.random_range(0..=input.len());
            drop(input.splice(to..to, piece));
        }
        8 => {
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.insert(at, random.random()),
    }
}
