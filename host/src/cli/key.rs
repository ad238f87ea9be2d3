//! `strongroom key`: replace the key of a host or of its log, hand on the statements that say so, and follow those of others.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use strongroom_job::succession::{KeyRole, MAX_SUCCESSIONS_BYTES, Succession};
use strongroom_job::{Digest, PublicKey, Timestamp};
use strongroom_sdk::{Followed, KnownHosts};

use super::Common;
use super::console::Console;
use super::directory::config;
use super::escape::line;
use super::exit::{Exit, Failure};
use super::view::time;
use crate::clock::Clock;
use crate::home::{Home, HomeError};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a new key in the place of one, signed for by both. No host may serve the directory
    Rotate(RoleArgs),
    /// Show the public keys of the host and of its log, and those before them
    Show,
    /// Print the statements by which a key was replaced, for those who pinned an earlier one
    Statement(RoleArgs),
    /// Follow statements of a host: pin its last key where an earlier one is pinned in known_hosts
    Accept(AcceptArgs),
}

#[derive(Args, Debug)]
pub(super) struct RoleArgs {
    /// Which key
    #[arg(value_name = "host|log", hide_possible_values = true)]
    role: Role,
}

#[derive(Args, Debug)]
pub(super) struct AcceptArgs {
    /// What `strongroom key statement host` printed; - for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

/// A role, as a word of the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Role {
    /// The key by which clients know the host
    Host,
    /// The key that signs the log
    Log,
}

impl From<Role> for KeyRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Host => Self::Host,
            Role::Log => Self::Log,
        }
    }
}

pub(super) fn key(common: &Common, command: KeyCommand, console: &Console) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Rotate(RoleArgs { role }) => rotate(&open(common)?, role.into(), console),
        KeyCommand::Show => show(&open(common)?, console),
        KeyCommand::Statement(RoleArgs { role }) => statement(&open(common)?, role.into(), console),
        KeyCommand::Accept(AcceptArgs { file }) => accept(&common.home()?, &file, console),
    }
}

/// Makes nothing: a mistyped directory must not get keys of its own.
fn open(common: &Common) -> Result<Home, Failure> {
    Ok(Home::open(&common.directory()?)?)
}

/// One statement, for programs.
#[derive(Serialize)]
struct Replaced {
    key: KeyRole,
    old: PublicKey,
    new: PublicKey,
    time: Timestamp,
    statement: Digest,
}

impl Replaced {
    fn of(one: &Succession) -> Self {
        let (old, new) = (*one.old_key(), *one.new_key());
        Self { key: one.role(), old, new, time: one.time(), statement: one.digest() }
    }
}

fn rotate(home: &Home, role: KeyRole, console: &Console) -> Result<Exit, Failure> {
    let config = config(home)?;
    let origin = config
        .log_origin
        .parse()
        .map_err(|error| Failure::usage(format_args!("{}: log_origin: {error}", home.config().display())))?;
    let locked = match home.lock() {
        Err(HomeError::Held { dir, live }) => {
            let by = live.map_or_else(String::new, |live| format!(" (process {})", live.pid));
            let text = format!(
                "{}: a host serves it{by}, with the key that is to be replaced. Stop it, rotate, and start it again",
                dir.display()
            );
            return Err(Failure::fault(text));
        }
        locked => locked?,
    };
    let done = locked.rotate_key(role, &origin, Clock::default().now())?;
    if console.json() {
        console.document(&Replaced::of(&done))?;
        return Ok(Exit::Status(0));
    }
    let pinned = match role {
        KeyRole::Host => {
            "clients     pin the old key. Give them the output of `strongroom key statement host`; they follow it with\n            \
             `strongroom key accept FILE`"
        }
        KeyRole::Log => {
            "readers     of the log pin the old key. They find the statement beside it, as `keys`\nwitnesses   know the old key: \
             give their operators the output of `strongroom key statement log`"
        }
    };
    console.print(format_args!(
        "the {role} key was replaced\nold         {}\nnew         {}\n{pinned}\nbackups     of keys/{role}.key hold the old secret: destroy them",
        done.old_key(),
        done.new_key()
    ))?;
    Ok(Exit::Status(0))
}

/// A key and its line, for programs.
#[derive(Serialize)]
struct Shown {
    key: PublicKey,
    replaced: Vec<Replaced>,
}

fn show(home: &Home, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Document {
        dir: String,
        host: Shown,
        log: Shown,
    }
    let shown = |role| -> Result<Shown, Failure> {
        let chain = home.key_chain(role)?;
        let replaced = home.successions(role)?.iter().map(Replaced::of).collect();
        Ok(Shown { key: *chain.pin(), replaced })
    };
    let (host, log) = (shown(KeyRole::Host)?, shown(KeyRole::Log)?);
    if console.json() {
        console.document(&Document { dir: home.dir().display().to_string(), host, log })?;
        return Ok(Exit::Status(0));
    }
    let mut text = format!("{}", home.dir().display());
    for (name, Shown { key, replaced }) in [("host", host), ("log", log)] {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{name:<5} {key}");
        for one in replaced.iter().rev() {
            let _ = write!(text, "\n      {} until {}", one.old, time(one.time));
            if one.new != key && replaced.last().is_some_and(|last| last.statement == one.statement) {
                let _ = write!(
                    text,
                    ", when {} was to follow: the rotation was cut off, the next start ends it",
                    one.new
                );
            }
        }
    }
    console.print(text)?;
    Ok(Exit::Status(0))
}

fn statement(home: &Home, role: KeyRole, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Document {
        key: KeyRole,
        statements: Vec<Succession>,
    }
    let statements = home.successions(role)?;
    if statements.is_empty() {
        let text = format_args!(
            "{}: the {role} key was never replaced, so there is no statement",
            home.dir().display()
        );
        return Err(Failure::no("never-replaced", text));
    }
    if console.json() {
        console.document(&Document { key: role, statements })?;
    } else {
        console.print(String::from_utf8_lossy(&Succession::to_file(&statements)).trim_end())?;
    }
    Ok(Exit::Status(0))
}

fn accept(home: &Home, file: &Path, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Pinned<'a> {
        host: &'a str,
        old: PublicKey,
        new: PublicKey,
    }
    #[derive(Serialize)]
    struct Document<'a> {
        known_hosts: String,
        log: String,
        accepted: Vec<Pinned<'a>>,
    }
    let statements = statements_in(file)?;
    let path = home.known_hosts();
    let refused = |error: strongroom_sdk::Error| match error {
        error @ strongroom_sdk::Error::NotFollowed { .. } => Failure::no("not-followed", error),
        error => error.into(),
    };
    let followed = KnownHosts::load(&path)?.follow(&statements).map_err(refused)?;
    let log = statements
        .iter()
        .find(|one| one.role() == KeyRole::Host)
        .map(|one| one.origin().to_string())
        .unwrap_or_default();
    if console.json() {
        let accepted = followed.iter().map(|Followed { address, old, new }| Pinned {
            host: address,
            old: *old,
            new: *new,
        });
        let known_hosts = path.display().to_string();
        console.document(&Document { known_hosts, log, accepted: accepted.collect() })?;
        return Ok(Exit::Status(0));
    }
    if followed.is_empty() {
        console.print(format_args!("{}: the last key is pinned already", path.display()))?;
    }
    for Followed { address, old, new } in followed {
        let text = format!(
            "{address}  {new}, in the place of {old}; signed by both, for the host whose log is {log}"
        );
        console.print(line(&text))?;
    }
    Ok(Exit::Status(0))
}

/// The statements in a file, each checked.
pub(super) fn statements_in(file: &Path) -> Result<Vec<Succession>, Failure> {
    let wrong = |problem: &dyn std::fmt::Display| {
        Failure::usage(format_args!("{}: not a file of statements about keys: {problem}", file.display()))
    };
    let mut bytes = Vec::new();
    let most = MAX_SUCCESSIONS_BYTES as u64 + 1;
    let read = match file.as_os_str() == "-" {
        true => io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|opened| opened.take(most).read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::usage(format_args!("{}: {error}", file.display())))?;
    Succession::parse_file(&bytes).map_err(|error| wrong(&error))
}
