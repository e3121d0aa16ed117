//! Peers, run by their own Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// What a peer needed, and what it reached.
#[derive(Debug, Deserialize)]
pub struct Peer {
    pub name: String,
    pub seconds: f64,
    pub value: Option<f64>,
}

/// The Python that has them, and the script that runs them.
pub struct Peers {
    pub python: PathBuf,
    pub script: PathBuf,
}

impl Peers {
    /// Runs the peers of one kind of work on an array.
    pub fn run(&self, work: &str, array: &Path, rest: &[&str]) -> Result<Vec<Peer>, Box<dyn std::error::Error>> {
        let output = Command::new(&self.python).arg(&self.script).arg(work).arg(array).args(rest).output()?;
        if !output.status.success() {
            return Err(format!("the peers of {work} failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).map_err(Into::into)).collect()
    }
}
