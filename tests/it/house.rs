//! The rules of the house that a compiler does not check: imports run one way, and some names have one place.

use std::path::{Path, PathBuf};

/// Who may import whom, beside itself. What is not listed may be imported by nobody in `src/`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("task", &[]),
    ("wire", &["task"]),
    ("broker", &[]),
    ("tasks", &["task"]),
    ("transport", &["wire", "broker", "task"]),
    ("directory", &["wire"]),
    ("worker", &["transport", "broker", "task", "wire"]),
    ("boss", &["transport", "broker", "task", "wire", "directory"]),
    // `task` for the errors of matrices.
    ("files", &["tasks", "task"]),
    // Not the broker: only what it says is wrong.
    ("bridge", &["boss", "render", "worker", "tasks", "files", "task", "directory", "broker"]),
    ("render", &["boss", "tasks", "task"]),
    // Workers of its own where none runs; `broker` for the embedded one.
    ("bench", &["boss", "worker", "tasks", "task", "directory", "broker"]),
    ("command", &["boss", "bench", "render", "tasks", "files", "task", "directory", "broker"]),
    // Only `bin/` imports these three, which is why they are in nobody's list.
    ("cli", &["boss", "bench", "bridge", "worker", "command", "task"]),
    ("health", &["worker"]),
    ("telemetry", &[]),
    // An overview: no logic, and nothing but modules.
    ("lib", &[]),
];

/// Lines of the longest file there may be.
const LINES_MAX: usize = 600;

/// A name, and the one file or folder below `src/` that may have it.
const ONE_PLACE: &[(&str, &str)] = &[
    ("lapin::", "broker/amqp/"),
    ("use lapin", "broker/amqp/"),
    ("lapack_sys", "tasks/solve/mkl/"),
    ("intel_mkl_src", "tasks/solve/mkl/"),
    ("ndarray_linalg", "tasks/solve/mkl/"),
    ("use faer", "tasks/solve/faer.rs"),
];

/// Words that stand alone, likewise.
const ONE_PLACE_WORDS: &[(&str, &str)] = &[("unsafe", "tasks/solve/mkl/")];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of the program in a file: no comments, no text in quotes, no tests (a `#[cfg(test)]` item ends the file, or
/// is one line).
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            match lines.peek() {
                Some(next) if next.trim_start().starts_with("mod ") && next.ends_with('{') => break,
                _ => drop(lines.next()),
            }
            continue;
        }
        let line = without_quotes(line);
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

fn without_quotes(line: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for c in line.chars() {
        if c == '"' && !escaped {
            quoted = !quoted;
        } else if !quoted {
            out.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    out
}

/// `tasks` of `tasks/solve/mod.rs`, `lib` of `lib.rs`.
fn module(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// The modules that code names below `crate::`, as `crate::x`, `crate::{x, y::z}` or by enough `super::`.
fn imports(file: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    // `a/b.rs` and `a/mod.rs` reach the crate's root by one more `super` than they have folders.
    let depth = file.split('/').count() - usize::from(file.ends_with("/mod.rs"));
    let up = format!("{}::", vec!["super"; depth].join("::"));
    for root in ["crate::", up.as_str()] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(first_segments(list)),
                None => found.push(identifier(rest)),
            }
        }
    }
    found.retain(|name| MAY_IMPORT.iter().any(|(module, _)| module == name));
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first segments of `a::b, c::{d, e}, f}`.
fn first_segments(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(identifier(list[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// What is wrong with a file of this path below `src/`.
fn violations(file: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut wrong = Vec::new();
    let own = module(file);
    match MAY_IMPORT.iter().find(|(module, _)| *module == own) {
        None => wrong.push(format!("{file}: tests/it/house.rs does not know the module {own}")),
        Some((_, may)) => {
            let foreign = imports(file, &code).into_iter().filter(|name| name != own && !may.contains(&name.as_str()));
            wrong.extend(foreign.map(|name| format!("{file}: {own} may not import {name}")));
        }
    }
    for (name, place) in ONE_PLACE {
        if code.contains(name) && !file.starts_with(place) {
            wrong.push(format!("{file}: {name} belongs into {place} only"));
        }
    }
    for (word, place) in ONE_PLACE_WORDS {
        if words(&code).any(|found| found == *word) && !file.starts_with(place) {
            wrong.push(format!("{file}: {word} belongs into {place} only"));
        }
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        wrong.push(format!("{file}: {lines} lines, at most {LINES_MAX} there may be"));
    }
    wrong
}

#[test]
fn the_sources_keep_the_rules_of_the_house() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "only {} files found", files.len());
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let file = path.strip_prefix(&root).expect("below src/").to_string_lossy().into_owned();
            violations(&file, &std::fs::read_to_string(path).expect("readable"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_broken_rule_is_found() {
    let broken = |file: &str, text: &str| violations(file, text).len();
    assert_eq!(broken("broker/mod.rs", "use crate::wire::TaskHead;"), 1);
    assert_eq!(broken("broker/amqp/mod.rs", "use crate::broker::Error; use crate::{task, wire::{self, Part}};"), 2);
    assert_eq!(broken("worker/session.rs", "use super::super::boss::Boss;"), 1);
    assert_eq!(broken("worker/mod.rs", "fn f() { super::boss::Boss::connect(); }"), 1);
    assert_eq!(broken("directory.rs", "use super::broker::Error;"), 1);
    assert_eq!(broken("boss/mod.rs", "let x: crate::worker::Options = crate::cli::options();"), 2);
    assert_eq!(broken("command/solve.rs", "use crate::telemetry;"), 1);
    assert_eq!(broken("boss/mod.rs", "use lapin::Channel;"), 2, "by name and by use");
    assert_eq!(broken("tasks/solve/lu.rs", "unsafe { lapack_sys::dgetrf_() }"), 2);
    assert_eq!(broken("wire/mod.rs", &"\n".repeat(LINES_MAX + 1)), 1);
    assert_eq!(broken("novelty/mod.rs", ""), 1, "a new module needs a line here");
}

#[test]
fn what_is_no_code_breaks_no_rule() {
    let fine = |file: &str, text: &str| assert_eq!(violations(file, text), Vec::<String>::new());
    fine("broker/mod.rs", "/// See [`crate::wire`]. // unsafe\nfn f() {}");
    fine("broker/mod.rs", "let text = \"crate::boss and unsafe \\\" lapin::\";");
    fine("directory.rs", "#[cfg(test)]\nmod tests {\n    use crate::task::WorkerRef;\n}");
    fine("tasks/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::task::Handler;");
    fine("worker/session.rs", "use super::{Worker, boss}; use crate::transport::{self, names};");
    fine("broker/amqp/mod.rs", "use lapin::Channel;");
    fine("tasks/solve/mkl/mod.rs", "unsafe { lapack_sys::dgetrf_() }");
    fine("lib.rs", "#![deny(unsafe_code)]\npub mod boss;");
}
