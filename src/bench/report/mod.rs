//! The report of a run in four forms: a table for the terminal, and in a folder `report.json`, `report.csv` and
//! `report.html`; and the comparison of two of them.
//!
//! All forms are made from [`Report`] alone. Nothing here measures, and nothing knows a broker or a solver.

mod columns;
mod compare;
mod csv;
mod figures;
mod format;
mod html;
mod plot;
#[cfg(test)]
mod sample;
mod sheets;
mod sound;
mod summary;
mod text;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

pub use self::compare::{Comparison, compare};
pub use self::text::table;
use crate::bench::model::{Report, SCHEMA};

/// A report is some hundred kilobytes; a file above this is none, and is not read into memory to find that out.
const LARGEST: u64 = 64 << 20;

/// Writes `report.json`, `report.csv` and `report.html` into a folder, which is made if need be, and gives their paths.
/// A file that is there is replaced when the new one is whole, not before.
///
/// # Errors
/// In words, with the path and what to do, if one of them can't be made.
pub fn write(report: &Report, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let report = sound::sound(report);
    let mut json = serde_json::to_string_pretty(&report).map_err(|error| format!("no JSON of the report: {error}"))?;
    json.push('\n');
    // All of them are put together before the first is written: a fault in one form leaves no mixture of two runs.
    let files = [("report.json", json), ("report.csv", csv::text(&report)?), ("report.html", html::page(&report)?)];
    fs::create_dir_all(folder).map_err(|error| {
        format!("{}: the folder can't be made: {error}; name one that you may write to", folder.display())
    })?;
    files.into_iter().map(|(name, text)| replace(&folder.join(name), &text)).collect()
}

/// The text of `report.json`, on one line.
///
/// # Errors
/// In words.
pub fn json(report: &Report) -> Result<String, String> {
    serde_json::to_string(&sound::sound(report)).map_err(|error| format!("no JSON of the report: {error}"))
}

fn replace(path: &Path, text: &str) -> Result<PathBuf, String> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let put = || -> io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(text.as_bytes())?;
        // The name must not be there before the bytes are, should the machine lose its power.
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    put().map_err(|error| {
        // Best effort: what could not be written may not be there, and the error above is the one to tell.
        let _ = fs::remove_file(&partial);
        let shown = path.display();
        format!("{shown}: can't be written: {error}; check that there is room and that the folder may be written to")
    })?;
    Ok(path.to_owned())
}

/// Reads the `report.json` of an earlier run.
///
/// # Errors
/// In words, with the path and what to do, if it can't be read, is no report, or is one of another schema.
pub fn read(path: &Path) -> Result<Report, String> {
    read_report(path).map_err(|reason| format!("{}: {reason}", path.display()))
}

fn read_report(path: &Path) -> Result<Report, String> {
    if path.is_dir() {
        return Err("is a folder; name the report.json in it".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    file.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read (permission denied)".to_owned(),
        _ => format!("can't be read: {error}"),
    })?;
    if bytes.len() as u64 > LARGEST {
        return Err("is larger than 64 MiB, which no report is; name the report.json of an earlier run".to_owned());
    }
    parse(&bytes)
}

/// The part of every schema that says which one it is.
#[derive(Deserialize)]
struct Version {
    schema: u64,
}

fn parse(bytes: &[u8]) -> Result<Report, String> {
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| {
        format!(
            "is not JSON ({}); name the report.json of an earlier run, not its .csv or .html",
            format::plain(&error.to_string())
        )
    })?;
    // An array would do for a struct, too, its first element for the schema.
    let object = bytes.trim_ascii_start().starts_with(b"{");
    let version = serde_json::from_slice(bytes).ok().filter(|_| object);
    let Some(Version { schema }) = version else {
        return Err("is JSON, but no report of `boss bench`: it has no number `schema`; name a report.json".to_owned());
    };
    if schema != u64::from(SCHEMA) {
        return Err(format!(
            "is a report of schema {schema}, and this program reads schema {SCHEMA}; compare with the version of `boss` that \
             wrote it, or measure anew"
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "says that it is a report of schema {SCHEMA}, but is not: {}. A `null` where a number belongs stands for one \
             that was not finite; measure anew",
            format::plain(&error.to_string())
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.json");
        fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        error
    }

    fn edited(edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut value = serde_json::to_value(sample::report()).unwrap();
        edit(&mut value);
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        let paths = write(&sample::report(), &inner).unwrap();
        let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["report.json", "report.csv", "report.html"]);
        assert_eq!(read(&paths[0]).unwrap(), sample::report());
    }

    #[test]
    fn nothing_but_the_three_files_is_left() {
        let folder = tempfile::tempdir().unwrap();
        write(&sample::report(), folder.path()).unwrap();
        write(&sample::empty(), folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert_eq!(read(&folder.path().join("report.json")).unwrap(), sample::empty());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = write(&sample::empty(), &file.join("inner")).unwrap_err();
        assert!(error.contains("file/inner: the folder can't be made"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_no_partial_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("report.json")).unwrap();
        let error = write(&sample::empty(), folder.path()).unwrap_err();
        assert!(error.contains("report.json: can't be written"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_report_of_another_schema_is_refused_by_name() {
        let error = refused(&edited(|value| value["schema"] = 7.into()));
        assert!(error.contains("schema 7, and this program reads schema 1"), "{error}");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        assert!(refused(b"part,n\n").contains("is not JSON"));
        assert!(refused(b"").contains("is not JSON"));
        assert!(refused(b"{\"a\": 1}").contains("no report of `boss bench`"));
        assert!(refused(b"[1, 2]").contains("no report of `boss bench`"));
        assert!(refused(&edited(|value| value["pool"] = 3.into())).contains("but is not: invalid type"));
    }

    #[test]
    fn a_null_where_a_number_belongs_is_refused_with_words() {
        let error = refused(&edited(|value| value["pool"][0]["efficiency"]["median"] = serde_json::Value::Null));
        assert!(error.contains("stands for one that was not finite"), "{error}");
    }

    #[test]
    fn a_path_without_a_report_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().contains("is a folder; name the report.json in it"));
        assert!(read(&folder.path().join("none.json")).unwrap_err().contains("there is no such file"));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.json");
        File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(read(&path).unwrap_err().contains("is larger than 64 MiB"));
    }
}
