//! The files that a scene refers to: in its own folder or below, and nothing else.
//!
//! A name in a scene came from whoever wrote it. Were it followed anywhere, a scene could put the boss's own files into
//! a picture or into a message.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::shown;

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is not the scene's to name.
    Refused(String),
    /// It is not there.
    Missing(String),
}

impl From<Unread> for String {
    fn from(unread: Unread) -> String {
        match unread {
            Unread::Refused(reason) | Unread::Missing(reason) => reason,
        }
    }
}

/// The folder of a scene; or none, for a scene that came by itself.
pub(super) struct Folder {
    /// Without symbolic links.
    root: Option<PathBuf>,
}

impl Folder {
    /// The folder that a file is in.
    ///
    /// # Errors
    /// It cannot be found.
    pub(super) fn of(file: &Path) -> io::Result<Folder> {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Folder { root: Some(parent.canonicalize()?) })
    }

    /// No files at all.
    pub(super) fn none() -> Folder {
        Folder { root: None }
    }

    /// Where a relative path leads, without symbolic links.
    ///
    /// # Errors
    /// It leads out of the folder, or nowhere.
    pub(super) fn find(&self, name: &str) -> Result<PathBuf, Unread> {
        let Some(root) = &self.root else {
            let reason = format!("it refers to the file {}; a scene sent by itself holds everything", shown(name));
            return Err(Unread::Refused(reason));
        };
        let outside = || {
            let name = shown(name);
            Unread::Refused(format!(
                "it refers to {name}: only files in its own folder and below are read, by their relative path"
            ))
        };
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        let scheme = name.split('/').next().is_some_and(|first| first.contains(':'));
        let strange = name.is_empty() || name.contains(['\0', '\\']);
        if strange || scheme || !Path::new(name).components().all(inside) {
            return Err(outside());
        }
        let path = root.join(name).canonicalize().map_err(|error| unreadable(name, &error))?;
        if !path.starts_with(root) {
            return Err(outside());
        }
        Ok(path)
    }

    /// The bytes of a file, by its relative path.
    ///
    /// # Errors
    /// It is outside the folder, or cannot be read.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Unread> {
        let path = self.find(name)?;
        // A pipe or a device could be waited for, or read, for ever.
        match path.metadata() {
            Ok(data) if !data.is_file() => {
                Err(Unread::Refused(format!("it refers to {}, which is not a file", shown(name))))
            }
            Ok(_) => std::fs::read(path).map_err(|error| unreadable(name, &error)),
            Err(error) => Err(unreadable(name, &error)),
        }
    }
}

fn unreadable(name: &str, error: &io::Error) -> Unread {
    let name = shown(name);
    Unread::Missing(format!("it refers to the file {name}, which cannot be read ({error}): put it beside the scene"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene_in(folder: &Path) -> Folder {
        std::fs::create_dir_all(folder.join("scene/textures")).unwrap();
        std::fs::write(folder.join("secret"), "s").unwrap();
        std::fs::write(folder.join("scene/a b..c"), "a").unwrap();
        std::fs::write(folder.join("scene/textures/b"), "b").unwrap();
        Folder::of(&folder.join("scene/scene.obj")).unwrap()
    }

    fn refusal(folder: &Folder, name: &str) -> String {
        folder.read(name).unwrap_err().into()
    }

    #[test]
    fn files_beside_the_scene_and_below_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let folder = scene_in(temp.path());
        assert_eq!(folder.read("a b..c").unwrap(), b"a");
        assert_eq!(folder.read("./textures/b").unwrap(), b"b");
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let folder = scene_in(temp.path());
        let absolute = temp.path().join("secret").display().to_string();
        let names =
            ["../secret", "textures/../../secret", "textures/../a b..c", &absolute, "file:secret", "http://x/y"];
        for name in names.into_iter().chain(["C:\\secret", "..\\secret", "", "a\0b", ".."]) {
            let reason = refusal(&folder, name);
            assert!(reason.contains("only files in its own folder and below are read"), "{name}: {reason}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_that_leaves_the_folder_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let folder = scene_in(temp.path());
        let link = |target: &Path, name: &str| {
            std::os::unix::fs::symlink(target, temp.path().join("scene").join(name)).unwrap();
        };
        link(&temp.path().join("secret"), "out");
        link(temp.path(), "up");
        link(&temp.path().join("scene/textures"), "in");
        assert!(refusal(&folder, "out").contains("only files in its own folder"));
        assert!(refusal(&folder, "up/secret").contains("only files in its own folder"));
        assert_eq!(folder.read("in/b").unwrap(), b"b");
    }

    #[test]
    fn what_is_missing_or_no_file_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let folder = scene_in(temp.path());
        let reason = refusal(&folder, "none.png");
        assert!(reason.starts_with("it refers to the file \"none.png\", which cannot be read"), "{reason}");
        assert!(refusal(&folder, "textures").contains("which is not a file"));
        assert!(refusal(&Folder::none(), "a b..c").contains("a scene sent by itself holds everything"));
    }
}
