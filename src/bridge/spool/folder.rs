//! The spool's folder: its names, its lock, and files that are whole or not there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::SpoolError;
use super::file;
use crate::task::TaskId;

/// The name of the lock file.
pub const LOCK: &str = "spool.lock";

/// The file with the name of whoever submits the tasks.
const OWNER: &str = "boss.id";

/// No such name is longer, with the end of its line.
const OWNER_MAX_BYTES: u64 = 256;

/// The two sorts of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// A task without an outcome.
    Task,
    /// A task with one.
    Outcome,
}

impl Sort {
    fn extension(self) -> &'static str {
        match self {
            Sort::Task => "task",
            Sort::Outcome => "outcome",
        }
    }

    /// What the payload in such a file is called.
    pub fn payload(self) -> &'static str {
        match self {
            Sort::Task => "the payload",
            Sort::Outcome => "the answer",
        }
    }
}

/// What a name in the folder stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    /// A file of the spool.
    Whole(TaskId, Sort),
    /// One that was being written.
    Partial,
    /// The lock, the owner's name, or one set aside.
    Ours,
    /// Not the spool's.
    Foreign,
}

impl Name {
    /// Reads a name.
    pub fn of(name: &str) -> Self {
        let whole = |name: &str| {
            let (id, extension) = name.split_once('.')?;
            let sort = [Sort::Task, Sort::Outcome].into_iter().find(|sort| sort.extension() == extension)?;
            let parsed: TaskId = id.parse().ok()?;
            // The parser takes capitals, too; a file of that name is none of ours.
            (parsed.to_string() == id).then_some((parsed, sort))
        };
        if let Some((id, sort)) = whole(name) {
            Name::Whole(id, sort)
        } else if name.strip_suffix(".tmp").and_then(whole).is_some() {
            Name::Partial
        } else if name == LOCK
            || name.strip_suffix(".tmp").unwrap_or(name) == OWNER
            || name.strip_suffix(".damaged").and_then(whole).is_some()
        {
            Name::Ours
        } else {
            Name::Foreign
        }
    }
}

/// A folder that nobody else has for as long as this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// [`SpoolError::Taken`], or what the system says.
    pub fn take(path: &Path) -> Result<Self, SpoolError> {
        let failed = |error| SpoolError::io("make the folder", path, &error);
        make(path).map_err(failed)?;
        // The bridge may change its working directory.
        let path = path.canonicalize().map_err(failed)?;
        let lock = lock(&path)?;
        Ok(Folder { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of whoever submits the tasks, as far as there is a text of any sense.
    ///
    /// # Errors
    /// What the system says.
    pub fn owner(&self) -> Result<Option<String>, SpoolError> {
        let path = self.path.join(OWNER);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(OWNER_MAX_BYTES).read_to_string(&mut text)) {
            Ok(_) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // No text.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(SpoolError::io("read", &path, &error)),
        }
    }

    /// Keeps the name of whoever submits the tasks; it is on the disk when this returns.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_owner(&self, name: &str) -> Result<(), SpoolError> {
        let path = self.path.join(OWNER);
        let partial = with_suffix(&path, ".tmp");
        let written = create(&partial).and_then(|mut file| {
            writeln!(file, "{name}")?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            sync(&self.path)
        });
        written.map_err(|error| SpoolError::io("write", &path, &error))
    }

    /// Where a task's file is, if it is there.
    pub fn file(&self, id: TaskId, sort: Sort) -> PathBuf {
        self.path.join(format!("{id}.{}", sort.extension()))
    }

    /// Writes a file that is there, whole and on the disk, when this returns; see [`file::write`].
    ///
    /// # Errors
    /// What the system says, or [`SpoolError::Interrupted`] if it is no longer `wanted`. The file is then not there.
    pub fn write(
        &self,
        id: TaskId,
        sort: Sort,
        head: &[u8],
        payload: Vec<Bytes>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), SpoolError> {
        let path = self.file(id, sort);
        let partial = with_suffix(&path, ".tmp");
        let failed = |doing, path: &Path, error: io::Error| {
            // What went wrong before matters more; a start removes what is left.
            let _ = fs::remove_file(path);
            match error.kind() {
                io::ErrorKind::Interrupted => SpoolError::Interrupted,
                _ => SpoolError::io(doing, path, &error),
            }
        };
        create(&partial)
            .and_then(|out| file::write(out, head, payload, wanted))
            .map_err(|error| failed("write", &partial, error))?;
        fs::rename(&partial, &path).map_err(|error| failed("give its name to", &partial, error))?;
        sync(&self.path).map_err(|error| failed("sync the name of", &path, error))
    }

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// What the system says.
    pub fn unlink(&self, id: TaskId, sort: Sort) -> Result<(), SpoolError> {
        let path = self.file(id, sort);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SpoolError::io("remove", &path, &error)),
            _ => Ok(()),
        }
    }

    /// Renames a damaged file, so that nobody takes it for a task and somebody may look at it. False if that can't be done.
    pub fn set_aside(&self, path: &Path, reason: &str) -> bool {
        let aside = with_suffix(path, ".damaged");
        let (file, renamed) = (path.display(), fs::rename(path, &aside));
        match &renamed {
            Ok(()) => tracing::warn!(%file, reason, "a damaged file was set aside as .damaged; check the disk"),
            Err(error) => tracing::warn!(%file, reason, %error, "a damaged file can't be set aside; remove it"),
        }
        renamed.is_ok()
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a folder, and what is missing above it, for this user alone; on the disk when it returns.
fn make(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    for folder in missing {
        match folder.parent() {
            Some(above) if !above.as_os_str().is_empty() => sync(above)?,
            _ => sync(Path::new("."))?,
        }
    }
    Ok(())
}

/// Brings the names in a folder to the disk.
fn sync(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder can't be opened, and its names need no help.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn create(path: &Path) -> io::Result<File> {
    options().truncate(true).open(path)
}

/// Locks a folder for as long as the file given back is open. The system lets go of it if the process dies.
fn lock(folder: &Path) -> Result<File, SpoolError> {
    let path = folder.join(LOCK);
    let failed = |error| SpoolError::io("lock", &path, &error);
    // Not emptied before it is ours: it may hold the other's process id.
    let mut file = options().read(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
            let owner = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            return Err(SpoolError::Taken { folder: folder.to_owned(), owner });
        }
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}
