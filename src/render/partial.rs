//! A picture that was interrupted, in a file: what was asked for, and the sums so far.
//!
//! A line `rabbitry partial picture 1`, a line of JSON ([`Settings`]), then little-endian: for each tile how many of its
//! passes are in (u32), three f64 a pixel (rows from above), and the BLAKE3 hash of all before it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::task::ContentHash;

const MAGIC: &str = "rabbitry partial picture 1\n";

/// What two runs must have in common to be one picture.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Name and value, as they are said to people.
    pub(super) of_picture: BTreeMap<String, String>,
    /// The builds that computed it, and a worker of each.
    pub(super) builds: BTreeMap<u64, String>,
}

/// What the file holds.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) settings: Settings,
    pub(super) added: Vec<usize>,
    pub(super) sums: Vec<f64>,
}

/// Writes it.
pub(super) fn write(settings: &Settings, added: &[usize], sums: &[f64]) -> Vec<u8> {
    let mut bytes = MAGIC.as_bytes().to_vec();
    // Maps of text and numbers: nothing that has no JSON.
    bytes.extend(serde_json::to_vec(settings).unwrap_or_default());
    bytes.push(b'\n');
    bytes.extend(added.iter().flat_map(|added| u32::try_from(*added).unwrap_or(u32::MAX).to_le_bytes()));
    bytes.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    let hash = ContentHash::of(&bytes);
    bytes.extend(hash.0);
    bytes
}

/// Reads what a picture of these settings, with so many tiles and pixels, can go on with.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(bytes: &[u8], wanted: &Settings, tiles: usize, pixels: usize) -> Result<Partial, String> {
    let (all, hash) = bytes.split_last_chunk::<32>().ok_or("it is too short to be a partial picture")?;
    let rest = all.strip_prefix(MAGIC.as_bytes()).ok_or("it is no partial picture")?;
    if ContentHash::of(all).0 != *hash {
        return Err("it is damaged: its hash does not match".into());
    }
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or("it is damaged: it has no settings")?;
    let settings: Settings = serde_json::from_slice(&rest[..end]).map_err(|error| format!("its settings: {error}"))?;
    for (name, value) in &wanted.of_picture {
        let there = settings.of_picture.get(name).map_or("unknown", String::as_str);
        if there != value {
            return Err(format!("it was made with {name} {there}, and this is {name} {value}"));
        }
    }
    let numbers = &rest[end + 1..];
    if numbers.len() != tiles * 4 + pixels * 24 {
        return Err("it is damaged: it has another length than its settings say".into());
    }
    let (added, sums) = numbers.split_at(tiles * 4);
    let added =
        added.chunks_exact(4).map(|four| four.iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)));
    let sums: Vec<f64> = bytemuck::allocation::pod_collect_to_vec(sums);
    if sums.iter().any(|sum| !(sum.is_finite() && *sum >= 0.0)) {
        return Err("it is damaged: it has sums that are no numbers".into());
    }
    Ok(Partial { settings, added: added.collect(), sums })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(samples: &str) -> Settings {
        let of_picture = [("samples", samples), ("size", "2x1")].map(|(name, value)| (name.into(), value.into()));
        Settings { of_picture: of_picture.into(), builds: [(u64::MAX, "worker".to_owned())].into() }
    }

    fn file() -> Vec<u8> {
        write(&settings("64"), &[2, 70_000], &[0.0, 0.1, 0.2, 1e300, 4.0, 5.0])
    }

    #[test]
    fn what_was_written_comes_back() {
        let partial = read(&file(), &settings("64"), 2, 2).unwrap();
        assert_eq!(partial.settings, settings("64"));
        assert_eq!((partial.added, partial.sums), (vec![2, 70_000], vec![0.0, 0.1, 0.2, 1e300, 4.0, 5.0]));
    }

    #[test]
    fn another_picture_is_refused_by_name() {
        let error = read(&file(), &settings("32"), 2, 2).unwrap_err();
        assert_eq!(error, "it was made with samples 64, and this is samples 32");
        assert!(read(&file(), &settings("64"), 2, 3).unwrap_err().contains("length"));
    }

    proptest! {
        #[test]
        fn damage_is_noticed(at in 0..400usize, byte: u8, cut in 0..400usize) {
            let mut bytes = file();
            let at = at % bytes.len();
            let same = bytes[at] == byte;
            bytes[at] = byte;
            prop_assert_eq!(read(&bytes, &settings("64"), 2, 2).is_ok(), same);
            bytes.truncate(cut % bytes.len());
            prop_assert!(read(&bytes, &settings("64"), 2, 2).is_err());
        }
    }
}
