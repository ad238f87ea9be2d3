//! Why a destination stopped for good, so that whoever asks how far it is learns it: one line in a file.
//!
//! *Owns:* `forward/NAME.problem`. It is there from the moment at which a destination needs somebody to the next start.
//! *Never:* decides anything: the next start tries again. *Spec:* `docs/formats/forwarding.md`.

use std::io;
use std::path::{Path, PathBuf};

use strongroom_job::Name;

use super::kept;
use crate::home::place;

/// Longest text, in characters: each has at most four bytes, and all fit into [`kept::MAX_BYTES`].
const MAX_CHARS: usize = 1000;

fn path(home: &Path, name: &Name) -> PathBuf {
    kept::path(home, name, "problem")
}

/// Keeps `problem`. The host's own log has it whatever becomes of this.
pub(super) fn save(home: &Path, name: &Name, problem: &str) {
    let line: String = problem.chars().filter(|each| !each.is_control()).take(MAX_CHARS).collect();
    if let Err(error) = place::replace(&path(home, name), format!("{line}\n").as_bytes()) {
        tracing::warn!(destination = %name, %error, "what is wrong with the destination cannot be kept");
    }
}

/// Forgets what was kept of an earlier start.
pub(super) fn clear(home: &Path, name: &Name) {
    match std::fs::remove_file(path(home, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(destination = %name, %error, "an old problem of the destination cannot be forgotten");
        }
        _ => {}
    }
}

/// What was kept; none when the destination goes on, or was never begun.
pub(super) fn load(home: &Path, name: &Name) -> Option<String> {
    match kept::read(&path(home, name)) {
        Ok(text) => text.map(|text| text.trim_end().to_owned()),
        Err(trouble) => Some(trouble.to_string()),
    }
}
