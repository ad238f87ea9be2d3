//! What operators ordered of principals, by the log in a data directory: the same as the host there has it, as far as the log is published.
//!
//! *Never:* asks the host, or opens its state: that is the host's alone while it runs. *Bound:* a bundle of the log, and what a host keeps.

use std::path::Path;

use strongroom_job::merkle::LeafIndex;
use strongroom_job::principal::SignedCommand;
use strongroom_job::{Event, Record};

use super::exit::Failure;
use crate::admission::command::Commands;
use crate::audit::read::LogReader;

/// What every record of a command holds, and few others.
const KIND: &[u8] = b"\"principal-changed\"";

/// Every command that counts, by the log below this directory; none when no host was ever here.
pub(super) fn ordered(directory: &Path) -> Result<Commands, Failure> {
    let mut commands = Commands::default();
    let dir = directory.join("audit");
    if !dir.join("checkpoint").exists() {
        return Ok(commands);
    }
    let log = LogReader::open(&dir, None).map_err(|error| wrong(&dir, error))?;
    for entry in log.entries(LeafIndex::new(0), log.checkpoint().size().next_index()) {
        let (index, entry) = entry.map_err(|error| wrong(&dir, error))?;
        if !entry.windows(KIND.len()).any(|part| part == KIND) {
            continue;
        }
        let bad = |error: &dyn std::fmt::Display| wrong(&dir, format_args!("entry {index}: {error}"));
        let record = Record::from_leaf(&entry).map_err(|error| bad(&error))?;
        if let Event::PrincipalChanged { forgets, payload, signature, .. } = record.event {
            let signed = SignedCommand::from_parts(&payload, &signature).map_err(|error| bad(&error))?;
            commands.follow(signed, index.get(), &forgets);
        }
    }
    Ok(commands)
}

fn wrong(dir: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::no("bad-log", format_args!("{}: {error}", dir.display()))
}
