//! Files of scenes, read by the boss: glTF 2.0, Wavefront OBJ, and the text format `simple.txt`.
//!
//! A file came from outside, and so did every name in it. It may refer to files in its own folder and below, to nothing
//! else; no count in it is believed before it is compared with the bytes that are there; and what comes out has passed
//! [`Scene::check`]. What a file holds and a picture will not show is said in [`Loaded::warnings`], once each.

mod folder;
mod framing;
mod gltf;
mod image;
mod obj;
mod simple;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::Path;

use super::scene::{Camera, Scene};
use folder::Folder;

pub use framing::framing;

/// Triangles of a scene, those of a mesh that is placed many times counted each time, and its vertices likewise. With the
/// tree over them they are several GB, which is what a worker can hold; a small file could otherwise ask for any amount.
const MAX_TRIANGLES: usize = 50_000_000;
const MAX_VERTICES: usize = 50_000_000;

/// Nobody reads more, and a file can give cause for any number.
const MAX_WARNINGS: usize = 100;

/// A scene from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Has passed [`Scene::check`].
    pub scene: Scene,
    /// Those in the file, in its order. If there are none, [`framing`] makes one up.
    pub cameras: Vec<Camera>,
    /// What the file holds and the picture will not show, once each.
    pub warnings: Vec<String>,
}

/// A file that is not a scene.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no reader for it.
    #[error("{file} is not a scene that can be read: .gltf, .glb, .obj and .txt (the simple format) are")]
    Format {
        /// As it was named.
        file: String,
    },
    /// Could not be read at all.
    #[error("{file} cannot be read: {source}")]
    Io {
        /// As it was named.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Was read, and something is wrong with it.
    #[error("{file}: {reason}")]
    Invalid {
        /// As it was named.
        file: String,
        /// Where, what, and what to do.
        reason: String,
    },
}

/// Reads a scene from a file, by its extension, and the files it refers to in the same folder or below.
///
/// # Errors
/// The file and what is wrong with it.
pub fn file(path: &Path) -> Result<Loaded, LoadError> {
    let file = path.display().to_string();
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let read: fn(&[u8], &Folder) -> Result<Loaded, String> = match extension.as_deref() {
        Some("gltf") => gltf::json,
        Some("glb") => gltf::binary,
        Some("obj") => obj::parse,
        Some("txt") => |bytes, _| simple::parse(bytes),
        _ => return Err(LoadError::Format { file }),
    };
    let contents = std::fs::read(path).and_then(|bytes| Ok((bytes, Folder::of(path)?)));
    let (bytes, folder) = contents.map_err(|source| LoadError::Io { file: file.clone(), source })?;
    read(&bytes, &folder).and_then(checked).map_err(|reason| LoadError::Invalid { file, reason })
}

/// Reads a scene that came without a file system: a .glb that refers to no other file, or the simple format.
///
/// # Errors
/// What is wrong with it.
pub fn bytes(bytes: &[u8]) -> Result<Loaded, LoadError> {
    let loaded = match bytes {
        [b'g', b'l', b'T', b'F', ..] => gltf::binary(bytes, &Folder::none()),
        _ => simple::parse(bytes).map_err(|reason| match bytes.trim_ascii_start() {
            [b'{', ..] => "this looks like a .gltf, which needs its files: save it as .glb and send that".to_owned(),
            _ => format!("{reason} (what can be sent is a .glb, or text in the simple format)"),
        }),
    };
    loaded.and_then(checked).map_err(|reason| LoadError::Invalid { file: "the scene".to_owned(), reason })
}

fn checked(loaded: Loaded) -> Result<Loaded, String> {
    loaded.scene.check()?;
    Ok(loaded)
}

/// What is not supported, once each, in the order in which it was met.
#[derive(Default)]
struct Warnings {
    said: BTreeSet<String>,
    list: Vec<String>,
}

impl Warnings {
    fn say(&mut self, warning: impl Into<String>) {
        let mut warning = warning.into();
        match self.list.len().cmp(&MAX_WARNINGS) {
            Ordering::Less => {}
            Ordering::Equal => warning = "more is not supported, which is not listed".to_owned(),
            Ordering::Greater => return,
        }
        if self.said.insert(warning.clone()) {
            self.list.push(warning);
        }
    }

    fn say_if(&mut self, holds: bool, warning: &str) {
        if holds {
            self.say(warning);
        }
    }
}

/// A name from a file in a message: quoted, escaped, and no longer than a line.
fn shown(name: &str) -> String {
    const MAX: usize = 60;
    match name.char_indices().nth(MAX) {
        Some((end, _)) => format!("{:?}...", &name[..end]),
        None => format!("{name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        super::bytes(bytes).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_extension_says_what_can_be_read() {
        let reason = file(Path::new("a/b.stl")).unwrap_err().to_string();
        assert_eq!(
            reason,
            "a/b.stl is not a scene that can be read: .gltf, .glb, .obj and .txt (the simple format) are"
        );
        assert!(matches!(file(Path::new("scene")), Err(LoadError::Format { .. })));
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let reason = file(&folder.path().join("none.glb")).unwrap_err().to_string();
        assert!(reason.contains("none.glb cannot be read: "), "{reason}");
        std::fs::create_dir(folder.path().join("folder.obj")).unwrap();
        assert!(matches!(file(&folder.path().join("folder.obj")), Err(LoadError::Io { .. })));
    }

    #[test]
    fn a_body_is_a_glb_or_simple_text() {
        assert_eq!(bytes(b"sphere 0 0 0 1").unwrap().scene.spheres.len(), 1);
        assert!(refusal(b"glTF").contains("the scene: "));
        assert!(refusal(b" {\"asset\": {}}").contains("save it as .glb"));
        assert!(refusal(b"v 0 0 0\n").contains("what can be sent is a .glb, or text in the simple format"));
        assert!(refusal(b"").contains("no geometry"));
    }

    #[test]
    fn a_file_is_read_by_its_extension_in_any_case() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scene.TXT");
        std::fs::write(&path, "sphere 0 0 -1 0.5").unwrap();
        assert_eq!(file(&path).unwrap().scene.spheres.len(), 1);
        std::fs::write(&path, "sphere 0 0 -1 0").unwrap();
        assert!(file(&path).unwrap_err().to_string().ends_with("radius is 0; it must be above 0 (line 1)"));
    }

    #[test]
    fn a_long_name_is_shown_in_part() {
        assert_eq!(shown("a\nb"), "\"a\\nb\"");
        assert_eq!(shown(&"é".repeat(100)), format!("\"{}\"...", "é".repeat(60)));
    }
}
