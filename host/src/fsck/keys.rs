//! Keys: each can be read, by its owner alone, and what lies beside it is its other half.
//!
//! *Never:* prints anything of a secret key.

use std::fs;
use std::io::ErrorKind;

use strongroom_job::PublicKey;

use super::Report;
use crate::home::rotation::ROLES;
use crate::home::{Home, LockedHome};

/// The secret keys whose public halves lie beside them. Statements of keys that took another's place are looked at in [`look`].
const PAIRS: [&str; 3] = ["host", "log", "client"];
/// One line; a longer file is no key.
const MAX_PUBLIC_BYTES: u64 = 1024;

/// Whose signature the log must have: as the secret key says, or else as its public half does.
pub(super) fn of_log(home: &LockedHome) -> Option<PublicKey> {
    let secret = home.log_key().ok().map(|key| key.public());
    secret.or_else(|| public(home, "log").ok().flatten()?.trim_end().parse().ok())
}

pub(super) fn look(home: &Home, report: &mut Report) {
    let good = PAIRS.iter().filter(|name| pair(home, name, report)).count();
    report.checked.push(format!("keys: {} of {} can be read and fit their public halves", good, PAIRS.len()));
    if good < PAIRS.len() {
        report.mend.push("keys: put them back from a copy. Without log.key the log cannot go on, without host.key clients do not know the host; a .pub may be removed, and the next start writes it".into());
    }
    for role in ROLES {
        let problem = match home.is_rotating(role) {
            Ok(false) => continue,
            Ok(true) => format!(
                "a rotation of the {role} key was cut off: whoever locks the directory next, a start or `key rotate`, ends it"
            ),
            Err(error) => error.to_string(),
        };
        report.find("keys", problem);
    }
    match home.cache_key_if_made() {
        Ok(_) => {}
        Err(error) => report.find_stop("keys", error.to_string()),
    }
}

/// Whether a key is as it must be.
fn pair(home: &Home, name: &str, report: &mut Report) -> bool {
    let file = home.key_file(name);
    match fs::metadata(&file) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            report.find_stop("keys", format!("{}: it is no file", file.display()));
            return false;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let problem = format!(
                "{}: it is not there, and a start would make another key, which nobody knows",
                file.display()
            );
            report.find("keys", problem);
            return false;
        }
        Err(error) => {
            report.find_stop("keys", format!("{}: {error}", file.display()));
            return false;
        }
    }
    let secret = match home.key(name) {
        Ok(secret) => secret,
        Err(error) => {
            report.find_stop("keys", error.to_string());
            return false;
        }
    };
    match public(home, name) {
        Ok(Some(text)) if text.trim_end() == secret.public().to_string() => true,
        Ok(Some(_)) => {
            report.find("keys", format!("keys/{name}.pub is not the other half of keys/{name}.key"));
            false
        }
        Ok(None) => {
            report.notes.push(format!("keys/{name}.pub is not there; the next start writes it"));
            true
        }
        Err(error) => {
            report.find("keys", format!("keys/{name}.pub: {error}"));
            false
        }
    }
}

/// The public half as it lies there; none when it does not.
fn public(home: &Home, name: &str) -> std::io::Result<Option<String>> {
    let file = home.key_file(name).with_extension("pub");
    match fs::metadata(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(found) if found.is_file() && found.len() <= MAX_PUBLIC_BYTES => fs::read_to_string(file).map(Some),
        Ok(_) => Err(std::io::Error::new(ErrorKind::InvalidData, "this is no public key")),
    }
}
