//! `strongroom witness`: cosigns the checkpoints of other hosts' logs. Needs no host and makes none.

use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use strongroom_job::SecretKey;
use strongroom_job::cosignature::CosignerKey;
use strongroom_job::note::{KeyName, VerifierKey};
use strongroom_job::succession::{KeyChain, KeyRole, Succession};
use strongroom_sdk::Identity;

use crate::home::place::{directory, link_new, private_directory, sole_use, write_new};
use crate::witness::{MEMORY, Witness};

use super::console::Console;
use super::environment::leave_behind;
use super::exit::{Exit, Failure};
use super::log::{self, Format, Level};
use super::signal::Stop;
use super::{Common, with_runtime};

/// Longest file of log keys, in bytes: room for all that a witness may know.
const MAX_KEYS_BYTES: u64 = 8 << 20;

/// Cosign the checkpoints of other hosts' logs, until told to stop.
#[derive(Args, Debug)]
pub(super) struct WitnessArgs {
    /// Listen here
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7444")]
    listen: SocketAddr,
    /// Sign under this name [default: at the first start, one made of the key; then the one that it has]
    #[arg(long, value_name = "NAME")]
    name: Option<KeyName>,
    /// A log to cosign: its verifier key, or a file with one in each line, such as a log's log.pub. Lines that are statements about keys
    /// lead on from a verifier key that is named somewhere: a log's `keys`
    #[arg(long = "log", value_name = "KEY|FILE", required = true)]
    logs: Vec<String>,
    /// How much to log, on standard error
    #[arg(long = "log-level", value_name = "LEVEL", value_enum, default_value_t = Level::Info)]
    level: Level,
    /// How to write the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Pretty)]
    log_format: Format,
}

/// What is said once it listens.
#[derive(Serialize)]
struct Listening {
    listening: SocketAddr,
    witness_key: String,
    logs: usize,
    pid: u32,
}

pub(super) fn witness(common: &Common, args: &WitnessArgs, console: &Console) -> Result<Exit, Failure> {
    leave_behind()?;
    log::start(args.level.at_least(console.verbose()), args.log_format, console.stderr_is_terminal());
    let Some(dir) = &common.dir else {
        return Err(Failure::usage(
            "name the witness's own directory with --dir; a host's is no place for it",
        ));
    };
    if dir.join("strongroom.toml").exists() {
        let text = format_args!("{}: a host's data directory. Name another with --dir", dir.display());
        return Err(Failure::usage(text));
    }
    let (mut named, mut statements) = (Vec::new(), Vec::new());
    for argument in &args.logs {
        keys_of(argument, &mut named, &mut statements)?;
    }
    let logs = followed(named, &statements)?;
    let dir = directory(dir)?;
    // Two witnesses of one directory would each cosign a history.
    let held = sole_use(&dir.join("lock"))?;
    let Some(held) = held else {
        let text = format_args!("{}: another witness runs there", dir.display());
        return Err(Failure::fault(text));
    };
    let (name, key) = own_key(&dir, args.name.as_ref())?;
    let served = with_runtime(until_stopped(&dir, name, key, logs, args.listen, console));
    drop(held);
    served
}

async fn until_stopped(
    dir: &Path,
    name: KeyName,
    key: SecretKey,
    logs: Vec<KeyChain>,
    listen: SocketAddr,
    console: &Console,
) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let known = logs.len();
    let witness = Witness::start(dir, name, key, logs, listen).await;
    let witness =
        witness.map_err(|error| Failure::fault(format_args!("the witness cannot start: {error}")))?;
    let (listening, witness_key) = (witness.address(), witness.key().to_string());
    tracing::info!(address = %listening, key = %witness_key, logs = known, "witnessing");
    if console.json() {
        console.document(&Listening { listening, witness_key, logs: known, pid: std::process::id() })?;
    }
    stop.asked().await;
    witness.stop().await;
    tracing::info!("stopped");
    Ok(Exit::Status(0))
}

/// Each log by its last key, as far as statements lead from the named one.
fn followed(named: Vec<VerifierKey>, statements: &[Succession]) -> Result<Vec<KeyChain>, Failure> {
    let of = |one: &Succession, log: &VerifierKey| one.role() == KeyRole::Log && one.origin() == log.name();
    if let Some(one) = statements.iter().find(|one| !named.iter().any(|log| of(one, log))) {
        let (role, origin) = (one.role(), one.origin());
        let text = format!(
            "--log: a statement about the {role} key of {origin} leads nowhere: no verifier key of that log is named"
        );
        return Err(Failure::usage(text));
    }
    let follow = |log: VerifierKey| {
        let own: Vec<_> = statements.iter().filter(|one| of(one, &log)).cloned().collect();
        let name = log.name().clone();
        let chain = KeyChain::of_log(&log).follow(&own);
        chain.map_err(|error| Failure::usage(format_args!("--log: the keys of {name}: {error}")))
    };
    named.into_iter().map(follow).collect()
}

/// The keys that an argument names: itself, or the lines of a file; and the statements about keys among those.
fn keys_of(
    named: &str,
    logs: &mut Vec<VerifierKey>,
    statements: &mut Vec<Succession>,
) -> Result<(), Failure> {
    if let Ok(key) = named.parse() {
        logs.push(key);
        return Ok(());
    }
    let wrong = |problem: &dyn std::fmt::Display| Failure::usage(format_args!("--log {named}: {problem}"));
    let metadata = std::fs::metadata(named).map_err(|error| {
        wrong(&format_args!("neither a verifier key (name+id+key) nor a file that can be read: {error}"))
    })?;
    if metadata.len() > MAX_KEYS_BYTES {
        return Err(wrong(&format_args!("longer than {MAX_KEYS_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(named).map_err(|error| wrong(&error))?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.starts_with('{') {
            let statement = Succession::parse(line.as_bytes());
            statements.push(statement.map_err(|error| wrong(&format_args!("line {number}: {error}")))?);
        } else if !line.is_empty() && !line.starts_with('#') {
            let key = line.parse().map_err(|error| wrong(&format_args!("line {number}: {error}")))?;
            logs.push(key);
        }
    }
    Ok(())
}

/// Whether the memory of the witness whose key is in `dir` is there. Without it, it would cosign any second history.
fn is_remembered(dir: &Path) -> Result<(), Failure> {
    let memory = dir.join(MEMORY);
    if memory.is_dir() {
        return Ok(());
    }
    Err(Failure::fault(format_args!(
        "{}: gone, and with it what this witness cosigned. Restore its newest state; or move witness.key and witness.pub away, and it begins          as another witness",
        memory.display()
    )))
}

/// The witness's name and key, made at the first start. Each file appears whole; a crash between the two leaves a key that gets its
/// name at the next start.
fn own_key(dir: &Path, wanted: Option<&KeyName>) -> Result<(KeyName, SecretKey), Failure> {
    let (file, public) = (dir.join("witness.key"), dir.join("witness.pub"));
    if file.exists() {
        is_remembered(dir)?;
    } else {
        // Before the key: where that is and this is not, it was lost.
        private_directory(&dir.join(MEMORY))?;
        let fresh = tempfile::tempdir_in(dir).map_err(|error| Failure::fault(format_args!("{error}")))?;
        let fresh = fresh.path().join("key");
        Identity::generate()?.save(&fresh)?;
        link_new(&fresh, &file)?;
    }
    let key = Identity::load(&file)?.secret().clone();
    let name = match wanted {
        Some(name) => name.clone(),
        None => {
            let made = format!("strongroom.invalid/witness/{}", hex::encode(&key.public().as_bytes()[..8]));
            made.parse().map_err(|error| Failure::fault(format_args!("{made}: {error}")))?
        }
    };
    write_new(&public, format!("{}\n", CosignerKey::new(name, key.public())).as_bytes())?;
    let text = std::fs::read_to_string(&public).unwrap_or_default();
    let wrong = |problem: String| Failure::usage(format_args!("{}: {problem}", public.display()));
    let own: CosignerKey = text.trim_end().parse().map_err(|error| wrong(format!("{error}")))?;
    if *own.key() != key.public() {
        return Err(wrong("the key of another witness than witness.key's".into()));
    }
    match wanted {
        Some(wanted) if wanted != own.name() => Err(wrong(format!(
            "this witness is called {}; who knows it by that name would not know {wanted}",
            own.name()
        ))),
        _ => Ok((own.name().clone(), key)),
    }
}
