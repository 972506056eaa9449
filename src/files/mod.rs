//! Matrices in files: NumPy's `.npy` and dense Matrix Market `.mtx`, chosen by the extension; and pictures to be written.
//!
//! For the command line; no task kind and no queue. Files come from outside: any bytes give a matrix or an [`Error`]
//! that names the file and what to do, never a panic, and never more memory than the file's real size justifies.
//! NaN and infinity are read as they are: whether a system may hold them is for the system to say.

mod mtx;
pub(crate) mod npy;
pub mod picture;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::tasks::solve::Matrix;

/// A file that could not be read or written, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .path.display())]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

/// The formats of matrices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// NumPy's, for one array.
    Npy,
    /// Matrix Market, dense.
    Mtx,
}

fn kind(path: &Path) -> Result<Kind, String> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "npy" => Ok(Kind::Npy),
        "mtx" => Ok(Kind::Mtx),
        "npz" => Err("an .npz archive holds several arrays; save the one you mean with numpy.save".to_owned()),
        _ => Err("unknown extension: use .npy (NumPy) or .mtx (Matrix Market)".to_owned()),
    }
}

/// Reads a matrix; a 1-D `.npy` gives a vector. An f64 array in native byte order is not copied after it is read.
///
/// # Errors
/// [`Error`] if the file can't be read, is malformed, or holds something else than a dense real vector or matrix.
pub fn read(path: impl AsRef<Path>) -> Result<Matrix, Error> {
    let path = path.as_ref();
    read_kind(path).map_err(|reason| Error { path: path.to_owned(), reason })
}

fn read_kind(path: &Path) -> Result<Matrix, String> {
    let kind = kind(path)?;
    if path.is_dir() {
        return Err("is a directory; name a file".to_owned());
    }
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read (permission denied)".to_owned(),
        _ => format!("can't be read: {error}"),
    })?;
    parse(kind, Bytes::from(bytes))
}

/// Reads a matrix from the bytes of a file, as [`read()`].
///
/// # Errors
/// What is wrong with the bytes, and what to do.
pub fn parse(kind: Kind, bytes: Bytes) -> Result<Matrix, String> {
    match kind {
        Kind::Npy => npy::parse(bytes),
        Kind::Mtx => mtx::parse(&bytes),
    }
}

/// Writes a matrix so that [`read()`] gives the same bits again. A `.npy` keeps the order, and 1-D for a vector. A file
/// that is there is replaced when the new one is whole, not before.
///
/// # Errors
/// [`Error`] if the extension is unknown or the file can't be written.
pub fn write(path: impl AsRef<Path>, matrix: &Matrix) -> Result<(), Error> {
    let path = path.as_ref();
    let kind = kind(path).map_err(|reason| Error { path: path.to_owned(), reason })?;
    replace(path, |file| match kind {
        Kind::Npy => npy::write(file, matrix),
        Kind::Mtx => mtx::write(file, matrix),
    })
}

/// Writes a file beside its place, and puts it there when it is whole.
///
/// # Errors
/// [`Error`] if that fails; what was there before is there still.
pub fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<fs::File>) -> io::Result<()>) -> Result<(), Error> {
    let replace = || {
        let partial = partial(path);
        let file = fs::File::create(&partial).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "can't be written: its folder does not exist".to_owned(),
            _ => format!("can't be written: {error}"),
        })?;
        let mut file = BufWriter::new(file);
        write(&mut file).and_then(|()| file.flush()).and_then(|()| fs::rename(&partial, path)).map_err(|error| {
            // It may not be there; what went wrong before matters more.
            let _ = fs::remove_file(&partial);
            format!("can't be written: {error}")
        })
    };
    replace().map_err(|reason| Error { path: path.to_owned(), reason })
}

/// Where a file is written before it takes its place: beside it, so that it need not be moved between disks.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    path.with_file_name(name)
}

/// Whether [`write`] knows the extension and the folder is there: to be asked before an hour's work, not after.
///
/// # Errors
/// [`Error`] if not.
pub fn check_output(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    kind(path).map_err(|reason| Error { path: path.to_owned(), reason })?;
    check_folder(path)
}

/// Whether a file can be in this place.
fn check_folder(path: &Path) -> Result<(), Error> {
    let refuse = |reason: &str| Err(Error { path: path.to_owned(), reason: reason.to_owned() });
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match () {
        () if path.is_dir() => refuse("is a directory; name a file"),
        () if !folder.is_dir() => refuse("can't be written: its folder does not exist"),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        let message = read(path).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        message
    }

    #[test]
    fn what_is_no_matrix_file_is_named_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder.npy")).unwrap();
        fs::write(at("empty.npy"), b"").unwrap();
        fs::write(at("empty.mtx"), b"").unwrap();
        assert!(refusal(&at("missing.npy")).contains("no such file"));
        assert!(refusal(&at("folder.npy")).contains("directory"));
        assert!(refusal(&at("a.csv")).contains("use .npy (NumPy) or .mtx"));
        assert!(refusal(&at("noextension")).contains("use .npy"));
        assert!(refusal(&at("a.npz")).contains("numpy.save"));
        assert!(refusal(&at("empty.npy")).contains("not a .npy file"));
        assert!(refusal(&at("empty.mtx")).contains("%%MatrixMarket"));
        let matrix = Matrix::vector(vec![1.0]);
        assert!(write(at("no/such/folder.npy"), &matrix).unwrap_err().to_string().contains("folder does not exist"));
        assert!(write(at("a.txt"), &matrix).is_err());
        assert!(check_output("X.NPY").is_ok());
    }

    #[test]
    fn both_kinds_give_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x.npy", "x.mtx"] {
            let path = folder.path().join(name);
            let matrix = Matrix::from(ndarray::array![[0.1, -2.5e-300, 3.0], [4.0, 5e-324, f64::MAX]]);
            write(&path, &matrix).unwrap();
            assert_eq!(read(&path).unwrap(), matrix);
        }
    }
}
