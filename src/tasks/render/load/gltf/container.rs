//! The two parts of a .glb, and the JSON that is the whole of a .gltf.
//!
//! `gltf` reads a .glb too, but subtracts from lengths before it looks at them. It can check a document, but indexes by
//! numbers that it has not checked yet while it does, and refuses attributes that an application has added. So its types
//! are filled here, and whoever follows an index in them asks whether it leads anywhere.

use gltf::json::Root;

/// An object of two bytes, `{}`, becomes a struct of up to 300. There may be as many as the text has bytes for, at this
/// many each, and some more: those that an exporter writes have 40 and up.
const BYTES_PER_OBJECT: usize = 24;
const OBJECTS_AT_LEAST: usize = 1 << 14;

/// The JSON and the binary chunk of a .glb.
///
/// # Errors
/// It is not one, or damaged.
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], Option<&[u8]>), String> {
    let rest = bytes.strip_prefix(b"glTF").ok_or("it is not a .glb: it does not begin with \"glTF\"")?;
    let (version, rest) = number(rest)?;
    if version != 2 {
        return Err(format!("it is of glTF version {version}; version 2 is read"));
    }
    let (length, rest) = number(rest)?;
    let truncated = || format!("it is {} bytes, and says it is {length}: it is truncated, save it again", bytes.len());
    let length = (length as usize).checked_sub(bytes.len() - rest.len()).ok_or_else(truncated)?;
    let mut rest = rest.get(..length).ok_or_else(truncated)?;
    let (mut json, mut binary) = (None, None);
    while !rest.is_empty() {
        let chunk = Chunk::first(rest)?;
        match &chunk.kind {
            b"JSON" if json.is_none() => json = Some(chunk.bytes),
            b"BIN\0" if binary.is_none() => binary = Some(chunk.bytes),
            // Other chunks are to be skipped.
            _ => {}
        }
        rest = chunk.rest;
    }
    Ok((json.ok_or("it has no JSON chunk: it is damaged, save it again")?, binary))
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), String> {
    let (number, rest) = bytes.split_first_chunk().ok_or("it ends within its head: it is truncated, save it again")?;
    Ok((u32::from_le_bytes(*number), rest))
}

struct Chunk<'a> {
    kind: [u8; 4],
    bytes: &'a [u8],
    rest: &'a [u8],
}

impl Chunk<'_> {
    fn first(bytes: &[u8]) -> Result<Chunk<'_>, String> {
        let (length, rest) = number(bytes)?;
        let (kind, rest) = rest.split_first_chunk().ok_or("it ends within the head of a chunk: save it again")?;
        let truncated = || format!("a chunk of {length} bytes goes beyond its end: it is damaged, save it again");
        let (bytes, rest) = rest.split_at_checked(length as usize).ok_or_else(truncated)?;
        Ok(Chunk { kind: *kind, bytes, rest })
    }
}

/// Reads the JSON of a scene.
///
/// # Errors
/// The line, or what is wrong with it.
pub(super) fn root(json: &[u8]) -> Result<Root, String> {
    let objects = json.iter().filter(|byte| **byte == b'{').count();
    if objects > OBJECTS_AT_LEAST + json.len() / BYTES_PER_OBJECT {
        return Err(format!("its JSON holds {objects} objects in {} bytes: that is no scene", json.len()));
    }
    Root::from_slice(json).map_err(|error| format!("its JSON is not a scene's ({})", shortened(&error.to_string())))
}

/// An error that may quote any text of the file: its beginning, and its end, which has the line.
fn shortened(error: &str) -> String {
    const MAX: usize = 100;
    let count = error.chars().count();
    if count <= 2 * MAX {
        return error.to_owned();
    }
    let (begin, end) = (error.chars().take(MAX), error.chars().skip(count - MAX));
    begin.chain("...".chars()).chain(end).collect()
}
