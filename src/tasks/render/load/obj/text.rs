//! The lines of an OBJ, checked before `tobj` reads them.
//!
//! `tobj` gives no line numbers; it multiplies indices without asking whether that overflows; it copies the name of an
//! object for each change of material, so that a long name becomes any amount of memory; it reads a library each time
//! it is named; and it leaves out the normals of some corners of a mesh without saying of which. So it is given lines
//! without names of objects, each library once, and faces whose corners all have all three indices, in range.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::super::{MAX_TRIANGLES, MAX_VERTICES, Warnings, shown};

/// The corner's texture coordinates and normal if it has none: they are put before those of the file.
const FIRST: &str = "mtllib all\nvt 0 0\nvn 0 0 0\n";

/// An OBJ that can be given to `tobj`.
#[derive(Default)]
pub(super) struct Text {
    /// Lines of `v`, `vt`, `vn`, `f` and `usemtl`, after a `mtllib` that stands for all libraries.
    pub lines: String,
    /// Material libraries, each once.
    pub libraries: Vec<String>,
    /// Names of materials that faces may use.
    pub materials: BTreeSet<String>,
    pub has_normals: bool,
    pub has_uvs: bool,
}

/// Counts of what the lines so far define.
#[derive(Default)]
struct Counts {
    positions: usize,
    uvs: usize,
    normals: usize,
    corners: usize,
    triangles: usize,
}

/// Checks the lines of an OBJ.
///
/// # Errors
/// The line, the word, and what is wrong with it.
pub(super) fn prepare(obj: &str, warnings: &mut Warnings) -> Result<Text, String> {
    let mut text = Text { lines: FIRST.to_owned(), ..Text::default() };
    let (mut counts, mut libraries, mut is_smooth) = (Counts::default(), BTreeSet::new(), false);
    let mut lines = obj.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let at_line = |reason: String| format!("line {}: {reason}", number + 1);
        // A line may go on.
        let mut joined = String::new();
        let mut part = line;
        while let Some(begun) = part.trim_end().strip_suffix('\\') {
            joined.push_str(begun);
            joined.push(' ');
            part = lines.next().map_or("", |(_, next)| next);
        }
        joined.push_str(if joined.is_empty() { "" } else { part });
        let line = if joined.is_empty() { line } else { &joined };
        let (keyword, rest) = super::words(line);
        match keyword {
            "" | "o" | "g" => {}
            "v" => {
                warnings.say_if(rest.split_whitespace().count() > 4, "colors of vertices are ignored");
                counts.positions += 1;
                vector(&mut text.lines, "v", 3, 3, rest).map_err(at_line)?;
            }
            "vt" => {
                counts.uvs += 1;
                vector(&mut text.lines, "vt", 1, 2, rest).map_err(at_line)?;
            }
            "vn" => {
                counts.normals += 1;
                vector(&mut text.lines, "vn", 3, 3, rest).map_err(at_line)?;
            }
            "f" => face(&mut text.lines, rest, &mut counts).map_err(at_line)?,
            "usemtl" if rest.is_empty() => return Err(at_line("usemtl without a name".to_owned())),
            "usemtl" => {
                text.lines.extend(["usemtl ", rest, "\n"]);
                if !text.materials.contains(rest) {
                    text.materials.insert(rest.to_owned());
                }
            }
            "mtllib" if libraries.insert(rest.to_owned()) => text.libraries.push(rest.to_owned()),
            "mtllib" => {}
            "s" => is_smooth |= !matches!(rest, "off" | "0"),
            "l" | "p" => warnings.say("lines and points are not shown"),
            other => warnings.say(format!("lines that begin with {} are ignored", shown(other))),
        }
        if counts.corners > MAX_VERTICES || counts.triangles > MAX_TRIANGLES || counts.positions > MAX_VERTICES {
            return Err(at_line(format!("the scene has more than {MAX_TRIANGLES} triangles or corners of them")));
        }
    }
    (text.has_uvs, text.has_normals) = (counts.uvs > 0, counts.normals > 0);
    warnings.say_if(is_smooth && !text.has_normals, "smoothing groups are ignored: without normals, faces are flat");
    Ok(text)
}

/// At least `least` numbers; the first `len` of them, and 0 for those that are not there.
fn vector(lines: &mut String, keyword: &str, least: usize, len: usize, rest: &str) -> Result<(), String> {
    let mut words = rest.split_whitespace();
    lines.push_str(keyword);
    for place in 0..len {
        let word = match words.next() {
            Some(word) => word,
            None if place >= least => "0",
            None => return Err(format!("{keyword} needs {least} numbers, and has {place}")),
        };
        if !word.parse::<f32>().is_ok_and(f32::is_finite) {
            return Err(format!("{} is not a number", shown(word)));
        }
        lines.extend([" ", word]);
    }
    lines.push('\n');
    Ok(())
}

fn face(lines: &mut String, rest: &str, counts: &mut Counts) -> Result<(), String> {
    lines.push('f');
    let mut corners = 0;
    for corner in rest.split_whitespace() {
        let wrong = || format!("{} is not a corner of a face: v, v/vt, v//vn or v/vt/vn", shown(corner));
        let mut parts = corner.split('/');
        let mut part = |name: &str, count: usize| match parts.next() {
            None | Some("") => Ok(None),
            Some(word) => index(word.parse().map_err(|_| wrong())?, count)
                .map(Some)
                .ok_or_else(|| format!("{} is not one of the {count} {name} before it", shown(word))),
        };
        let position = part("vertices (v)", counts.positions)?.ok_or_else(wrong)?;
        let (uv, normal) = (part("texture coordinates (vt)", counts.uvs)?, part("normals (vn)", counts.normals)?);
        if parts.next().is_some() {
            return Err(wrong());
        }
        let (uv, normal) = (uv.map_or(1, |uv| uv + 1), normal.map_or(1, |normal| normal + 1));
        write!(lines, " {position}/{uv}/{normal}").map_err(|error| error.to_string())?;
        corners += 1;
    }
    if corners < 3 {
        return Err(format!("a face has at least 3 corners, not {corners}"));
    }
    lines.push('\n');
    counts.corners += corners;
    counts.triangles += corners - 2;
    Ok(())
}

/// An index from 1; from -1 it counts backwards.
fn index(index: i64, count: usize) -> Option<usize> {
    let from_1 = match index {
        0.. => usize::try_from(index).ok()?,
        _ => (count + 1).checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
    };
    (1..=count).contains(&from_1).then_some(from_1)
}
