//! Whom this directory trusts, and who has what is in it: known hosts, destinations of the log, witnesses.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use strongroom_job::note::{MAX_NOTE_BYTES, NoteError};

use super::Report;
use crate::audit::read::LogReader;
use crate::audit::verify::Verified;
use crate::config::Config;
use crate::cosigning::contradiction::{Place, contradicts};
use crate::forward::{Status, statuses};
use crate::home::Home;

pub(super) fn look(home: &Home, config: Option<&Config>, log: Option<&Verified>, report: &mut Report) {
    trusted(home, report);
    match (config, log) {
        (Some(config), Some(log)) => {
            forwarded(home, config, log, report);
            cosigned(config, log, report);
            contradicted(home, config, log, report);
        }
        (config, _)
            if config.is_none_or(|config| !config.forwards.is_empty() || !config.witnesses.is_empty()) =>
        {
            report
                .unchecked
                .push("destinations and witnesses of the log: without log or configuration".into());
        }
        _ => {}
    }
}

/// Files that say whom to trust. Each further one has its line here.
fn trusted(home: &Home, report: &mut Report) {
    match home.check_known_hosts() {
        Ok(()) => report.checked.push("known_hosts: every line".into()),
        Err(error) => {
            report.find("known_hosts", error.to_string());
            report.mend.push(
                "known_hosts: mend or remove the line; clients of this directory trust nobody meanwhile"
                    .into(),
            );
        }
    }
}

/// Each destination's place is one in this log, which still begins as it did when that was sent.
fn forwarded(home: &Home, config: &Config, log: &Verified, report: &mut Report) {
    match statuses(home.dir(), Some(log.verifier.key()), &config.forwards) {
        Ok(statuses) => {
            let count = statuses.iter().filter(|status| !status.unread).count();
            for Status { name, problem, stuck, unread, .. } in statuses {
                let problem = format!("{name}: {}", problem.unwrap_or_default());
                if stuck {
                    report.find("forward", problem);
                } else if unread {
                    report.unchecked.push(format!("forward: {problem}"));
                }
            }
            if count > 0 {
                report
                    .checked
                    .push(format!("{count} destinations of the log: how far each is, against the log"));
            }
        }
        Err(error) => report.unchecked.push(format!("destinations of the log: {error}")),
    }
}

/// Which of the configured witnesses signed the cosigned checkpoint. That the log begins with it, the log's check has shown.
fn cosigned(config: &Config, log: &Verified, report: &mut Report) {
    let Some(cosigned) = log.cosigned.as_ref().filter(|_| !config.witnesses.is_empty()) else { return };
    let mut count = 0;
    for witness in &config.witnesses {
        match witness.key.find(cosigned) {
            Ok(_) => count += 1,
            // A witness may be new, or slow.
            Err(NoteError::NotSigned { .. }) => {}
            Err(error) => report.find("cosigned", format!("audit/checkpoint.cosigned: {error}")),
        }
    }
    let (size, all) = (cosigned.size(), config.witnesses.len());
    report
        .checked
        .push(format!("audit/checkpoint.cosigned: {count} of {all} witnesses signed {size} records"));
}

/// Proofs that the log's key signed another history, as the host kept them from witnesses.
fn contradicted(home: &Home, config: &Config, log: &Verified, report: &mut Report) {
    let log = match LogReader::open(&home.audit(), Some(log.verifier.key())) {
        Ok(log) => log,
        Err(error) => return report.unchecked.push(format!("contradictions: {error}")),
    };
    for witness in &config.witnesses {
        let (name, place) = (witness.key.name(), Place::of(home.dir(), &witness.key));
        let proof = place.proof();
        let shown = match read(&proof) {
            Ok(bytes) => contradicts(&bytes, &log).map(|theirs| *theirs.head()),
            Err(error) if error.kind() == ErrorKind::NotFound && place.is_used() => {
                report.notes.push(format!(
                    "contradictions: {name} said that it has seen another history, and showed no proof"
                ));
                continue;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return report.unchecked.push(format!("{}: {error}", proof.display())),
        };
        match shown {
            Some(head) => report.find(
                "cosigned",
                format!(
                    "the log's key signed another history of {} records, with root {}, as {name} showed: {}",
                    head.size,
                    head.root,
                    proof.display()
                ),
            ),
            None => report.notes.push(format!("{}: it does not contradict this log", proof.display())),
        }
    }
}

/// A file, as far as it can be a checkpoint.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_NOTE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
