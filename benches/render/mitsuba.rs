//! Mitsuba in a process of its own, behind `mitsuba_render.py` and its protocol of lines.
//!
//! It lives from one round to the next: its start, the loading of scenes and the compilation of kernels are in no figure.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Ended when dropped: its stdin ends then.
pub struct Mitsuba {
    child: Child,
    /// `None` only while it is being dropped.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub version: String,
}

/// A picture of it.
#[derive(Deserialize)]
pub struct Answer {
    /// CPU time of all its threads.
    pub seconds: f64,
    pub mean: [f64; 3],
}

#[derive(Deserialize)]
struct Identity {
    version: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Mitsuba {
    /// Starts a variant that `make mitsuba` has set up. Fetches nothing: a bench should not go to the network.
    ///
    /// # Errors
    /// Why there is none.
    pub fn start(variant: &str, scenes: &Path) -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/mitsuba/venv/bin/python");
        if !python.exists() {
            return Err("Mitsuba is not set up on this machine; run `python3 tests/mitsuba/mitsuba_venv.py`".into());
        }
        let mut command = Command::new(&python);
        command.arg("-B").arg(root.join("benches/render/mitsuba_render.py")).arg(variant).arg(scenes);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", python.display()))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its stdout is piped"));
        let mut mitsuba = Mitsuba { child, requests, answers, version: String::new() };
        mitsuba.version = mitsuba.read::<Identity>()?.version;
        Ok(mitsuba)
    }

    /// A picture of `side` x `side` pixels.
    ///
    /// # Errors
    /// What it says is wrong, or that it has ended.
    pub fn render(&mut self, name: &str, side: u32, spp: u32, seed: u64) -> Result<Answer, String> {
        let requests = self.requests.as_mut().expect("open until it is dropped");
        // Of a program that is gone the missing answer tells.
        let _ = writeln!(requests, "{name} {side} {spp} {seed}").and_then(|()| requests.flush());
        self.read()
    }

    fn read<T: DeserializeOwned>(&mut self) -> Result<T, String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("it has ended".into());
        }
        if let Ok(Refusal { error }) = serde_json::from_str(&line) {
            // Dr.Jit's own words for an LLVM that is not there do not say how to get one.
            let hint = "an llvm variant needs libLLVM.so (Debian: apt-get install libllvm19, or the version there is), \
                        or its path in DRJIT_LIBLLVM_PATH";
            return Err(if error.to_lowercase().contains("llvm") { format!("{error}; {hint}") } else { error });
        }
        serde_json::from_str(&line).map_err(|error| format!("its answer is none of the protocol ({error}): {line}"))
    }
}

impl Drop for Mitsuba {
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
