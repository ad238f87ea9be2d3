//! Compiled modules: whether each is this host's own.
//!
//! What is not is a note and no finding. The host never runs it: it asks the same question of each file before it does, and throws away
//! what fails. And a power cut leaves such files, since nothing in this directory is synced.

use super::Report;
use crate::compile::Cache;
use crate::home::Home;

const HARMLESS: &str = "harmless, for no host runs it: it compiles the module anew";

pub(super) fn look(home: &Home, report: &mut Report) {
    let dir = home.cache();
    let is_empty = std::fs::read_dir(&dir).map(|mut names| names.next().is_none());
    let key = match (is_empty, home.cache_key_if_made()) {
        (Err(error), _) => return report.unchecked.push(format!("compiled modules: cache: {error}")),
        // What is wrong with the key, `keys` tells.
        (Ok(false), Err(_)) => {
            return report
                .unchecked
                .push("compiled modules: keys/cache.key, which vouches for them, is of no use".into());
        }
        (Ok(false), Ok(None)) => {
            let note = "cache: there are compiled modules, and no keys/cache.key that vouches for them";
            return report.notes.push(format!("{note}; {HARMLESS}"));
        }
        (Ok(true), _) => return report.checked.push("compiled modules: there are none".into()),
        (Ok(false), Ok(Some(key))) => key,
    };
    let mut notes = Vec::new();
    let checked = Cache::check(&dir, &key, &mut |path, error| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        notes.push(format!("cache/{name}: {error}; {HARMLESS}"));
    });
    match checked {
        Ok(good) => {
            let bad = notes.len();
            let others = if bad > 0 { format!("; {bad} others are not") } else { String::new() };
            report.checked.push(format!("the MAC of each compiled module: {good} are this host's{others}"));
        }
        Err(error) => report.unchecked.push(format!("compiled modules: cache: {error}")),
    }
    report.note_all(notes);
}
