//! `strongroom trust`: make, sign, check and install the file that says who operates a host.
//!
//! An operator needs the file and a key, not the host: drafts go from one to the next by whatever means, and cannot be changed on their way
//! without it being seen. Only `install` touches a host's directory.
//! *Spec:* `docs/formats/trust.md`.

mod install;
mod new;
mod show;
mod sign;
mod verify;

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use strongroom_job::note::KeyName;
use strongroom_job::trust::{
    MAX_TRUST_FILE_BYTES, Missing, SignedTrust, TrustBody, TrustDraft, TrustFileError,
};
use strongroom_job::{Digest, PublicKey, Timestamp};

use super::Common;
use super::console::Console;
use super::escape::line;
use super::exit::{Exit, Failure};
use super::view::time;
use crate::clock::Clock;

/// What to do with a trust file.
#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Make a first or a next version, which operators sign then
    New(new::NewArgs),
    /// Add your signature to the last version of a file
    Sign(sign::SignArgs),
    /// Show what a file says, who signed it and who must
    Show(show::ShowArgs),
    /// Check a file: every version of it, and that the last one is valid now
    Verify(verify::VerifyArgs),
    /// Put a file in force for the host of the data directory, which must not run
    Install(install::InstallArgs),
}

pub(super) fn trust(common: &Common, command: &TrustCommand, console: &Console) -> Result<Exit, Failure> {
    match command {
        TrustCommand::New(args) => new::new(common, args, console),
        TrustCommand::Sign(args) => sign::sign(common, args, console),
        TrustCommand::Show(args) => show::show(args, console),
        TrustCommand::Verify(args) => verify::verify(args, console),
        TrustCommand::Install(args) => install::install(common, args, console),
    }
}

/// A file's bytes, at most a few more than any trust file has.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error| Failure::usage(format_args!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_TRUST_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// A path whose directory can be opened, to make the file's name durable.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
}

/// A file that may still lack signatures under its last version.
fn draft(path: &Path, log: Option<&KeyName>) -> Result<TrustDraft, Failure> {
    TrustDraft::parse(&read(path)?, log).map_err(|error| wrong(path, &error))
}

/// The file is not what it should be.
fn wrong(path: &Path, error: &TrustFileError) -> Failure {
    Failure::no("bad-trust-file", format_args!("{}: {error}", path.display()))
}

/// What a file says, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    file: String,
    log: &'a str,
    /// Whether the last version has every signature that it must have.
    complete: bool,
    expired: bool,
    missing: Lack,
    versions: Vec<Version<'a>>,
}

#[derive(Serialize)]
struct Version<'a> {
    version: u64,
    digest: Digest,
    expires: Timestamp,
    threshold: u64,
    operators: &'a [PublicKey],
    signed: Vec<&'a PublicKey>,
}

/// Signatures of the last version.
#[derive(Serialize)]
struct Lack {
    own: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Count>,
}

#[derive(Serialize)]
struct Count {
    signed: u64,
    threshold: u64,
}

impl<'a> Shown<'a> {
    fn of(path: &Path, draft: &'a TrustDraft) -> Result<Self, Failure> {
        let missing = draft.missing().map_err(|error| wrong(path, &error))?;
        let count = |(signed, threshold)| Count { signed, threshold };
        let Missing { own, before } = missing;
        let version = |signed: &'a SignedTrust| {
            let body = signed.body();
            Version {
                version: body.version(),
                digest: body.digest(),
                expires: body.expires(),
                threshold: body.threshold(),
                operators: body.operators(),
                signed: signed.signers().collect(),
            }
        };
        let last = draft.last().body();
        Ok(Self {
            file: path.display().to_string(),
            log: last.log().as_str(),
            complete: missing.is_nothing(),
            expired: last.has_expired(Clock::default().now()),
            missing: Lack { own: count(own), before: before.map(count) },
            versions: draft.before().iter().chain([draft.last()]).map(version).collect(),
        })
    }

    fn print(&self, console: &Console) -> Result<(), Failure> {
        if console.json() { console.document(self) } else { console.print(self.words()) }
    }

    fn words(&self) -> String {
        let mut text = line(&format!("{}: the trust file of the host whose log is {}", self.file, self.log));
        let mut add = |name: &str, words: String| {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{name:<9} {}", line(&words));
        };
        for Version { version, digest, expires, threshold, operators, .. } in &self.versions {
            let (until, operators) = (time(*expires), operators.len());
            add(
                "version",
                format!("{version}  {digest}, until {until}, {threshold} of {operators} must sign"),
            );
        }
        let mut versions = self.versions.iter().rev();
        let (last, before) = (versions.next(), versions.next());
        if let Some(version) = last {
            let signed =
                |key: &PublicKey| if version.signed.contains(&key) { "signed" } else { "has not signed" };
            for key in version.operators {
                add("operator", format!("{key}  {}", signed(key)));
            }
            let left = before.iter().flat_map(|before| before.operators);
            for key in left.filter(|key| !version.operators.contains(key)) {
                add("leaves", format!("{key}  {}", signed(key)));
            }
        }
        let lack = |of: &str, Count { signed, threshold }: &Count| {
            format!("{signed} of {of} signed, {threshold} must")
        };
        let own = lack("its own operators", &self.missing.own);
        let missing = match &self.missing.before {
            Some(before) => format!("{own}; {}", lack("the operators of the version before", before)),
            None => own,
        };
        add(if self.complete { "complete" } else { "missing" }, missing);
        if self.expired {
            add("expired", "its operators may do nothing any more".into());
        }
        text
    }
}

/// One version, for sentences.
fn name(body: &TrustBody) -> String {
    format!("version {} ({})", body.version(), body.digest())
}
