//! `strongroom receipt`: fetch a receipt, check it, run its job again. Checking needs the file and the host's key, nothing else: no
//! host, no network, no data directory.

mod replay;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::note::VerifierKey;
use strongroom_job::receipt::{MAX_RECEIPT_BYTES, Receipt, Verified};
use strongroom_job::succession::{KeyChain, KeyRole};
use strongroom_job::{GrantRecord, JobId, Limits, ModuleRef, Name, Outcome, OutputSummary, PublicKey, Usage};
use strongroom_sdk::Client;

use super::Common;
use super::console::{Console, stdout_failed};
use super::escape::line;
use super::exit::{Exit, Failure};
use super::key::statements_in;
use super::local::with_client;
use super::remote::RemoteArgs;
use super::view::time;

/// What to do with receipts.
#[derive(Debug, Subcommand)]
pub(super) enum ReceiptCommand {
    /// Fetch the receipt of a job that is over, checked
    Get(GetArgs),
    /// Check a receipt against the host's key, without the host
    Verify(VerifyArgs),
    /// Run the job of a receipt again, here, and say whether it ends in the same way
    Replay(replay::ReplayArgs),
}

#[derive(Args, Debug)]
pub(super) struct GetArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Its id
    #[arg(value_name = "JOB")]
    job: JobId,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Add the envelope that the job came in, with its arguments, variables and input: for `receipt replay`
    #[arg(long)]
    with_envelope: bool,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    trusted: TrustedArgs,
    /// A file that should be what the job left: stdout, stderr, result or artifacts/NAME
    #[arg(long, value_name = "OUTPUT=FILE", value_parser = named_file)]
    job_output: Vec<String>,
}

/// A receipt, and whom to believe.
#[derive(Args, Debug)]
pub(super) struct TrustedArgs {
    /// The receipt
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The key of the host that must have signed it
    #[arg(long, value_name = "KEY")]
    host_key: PublicKey,
    /// The log that must have the job's records, as in its log.pub [default: the one that the host signed for]
    #[arg(long, value_name = "VERIFIER-KEY")]
    log: Option<VerifierKey>,
    /// Statements by which these keys were replaced, before or after, as `strongroom key statement` prints them
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

pub(super) fn receipt(common: &Common, command: ReceiptCommand, console: &Console) -> Result<Exit, Failure> {
    match command {
        ReceiptCommand::Get(args) => {
            with_client(common, &args.remote, console, async |client| get(client, &args, console).await)
        }
        ReceiptCommand::Verify(args) => verify(&args, console),
        ReceiptCommand::Replay(args) => replay::replay(common, &args, console),
    }
}

async fn get(client: &Client, args: &GetArgs, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        path: String,
        #[serde(flatten)]
        proven: Proven<'a>,
    }
    let (receipt, proven) = client.receipt(args.job, args.with_envelope).await?;
    let bytes = receipt.to_bytes();
    let Some(path) = &args.output else {
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
        written.map_err(|error| stdout_failed(&error))?;
        return Ok(Exit::Status(0));
    };
    save(path, &bytes).map_err(|error| Failure::fault(format_args!("{}: {error}", path.display())))?;
    if console.json() {
        console.document(&Document { path: path.display().to_string(), proven: Proven::of(&proven) })?;
    } else {
        console.print(line(&format!("{}  {} bytes", path.display(), bytes.len())))?;
    }
    Ok(Exit::Status(0))
}

/// Writes the file whole or not at all.
fn save(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or_else(|| Path::new(".")))?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

fn verify(args: &VerifyArgs, console: &Console) -> Result<Exit, Failure> {
    let (proven, host_now) = args.trusted.believe()?;
    let outputs = proven.finished.outputs();
    let mut checked = Vec::new();
    for given in &args.job_output {
        // An artifact's name may hold the sign: the longest name that is there is meant.
        let named = outputs.iter().filter_map(|(name, recorded)| {
            let file = given.strip_prefix(name.as_str())?.strip_prefix('=')?;
            Some((name.as_str(), recorded, Path::new(file)))
        });
        let Some((name, recorded, path)) = named.max_by_key(|(name, ..)| name.len()) else {
            let there: Vec<&str> = outputs.iter().map(|(output, _)| output.as_str()).collect();
            let text = format!(
                "--job-output {given}: the receipt tells of no such output; it has {}",
                there.join(", ")
            );
            return Err(Failure::usage(text));
        };
        checked.push(name);
        let found = summary(path)?;
        if found != *recorded {
            let text = format!(
                "{}: not the {name} of job {}: {} bytes with {}, and the receipt tells of {} bytes with {}",
                path.display(),
                proven.admitted.job,
                found.length,
                found.digest,
                recorded.length,
                recorded.digest
            );
            return Err(Failure::no("other-output", text));
        }
    }
    let document = Proven { checked, host_now, ..Proven::of(&proven) };
    if console.json() {
        console.document(&document)?;
    } else {
        let mut text = words(&proven, &document.checked, args.trusted.log.is_some());
        if let Some(now) = host_now {
            // Whatever time the receipt tells of: the signer tells it.
            text.push_str(&format!(
                "\nreplaced   the host's key is {now} now; whoever has the secret of the one that signed this can sign others"
            ));
        }
        console.print(text)?;
    }
    Ok(Exit::Status(0))
}

impl TrustedArgs {
    /// Reads the receipt and believes it, or says what is wrong with it. Gives the host's key of now, too, when an earlier one signed.
    fn believe(&self) -> Result<(Verified, Option<PublicKey>), Failure> {
        let Self { file, host_key, log, keys } = self;
        let (mut hosts, mut logs) =
            (KeyChain::pinned(KeyRole::Host, *host_key), log.clone().map(KeyChain::from));
        if let Some(path) = keys {
            let statements = statements_in(path)?;
            let wrong = |error| Failure::no("bad-keys", format_args!("{}: {error}", path.display()));
            // A file about one of the two keys leaves the other as it is.
            let has = |role| statements.iter().any(|one| one.role() == role);
            if has(KeyRole::Host) {
                hosts = hosts.follow_own(&statements).map_err(wrong)?;
            }
            if has(KeyRole::Log) {
                logs = logs.map(|logs| logs.follow_own(&statements)).transpose().map_err(wrong)?;
            }
        }
        let unreadable = |error: std::io::Error| Failure::usage(format_args!("{}: {error}", file.display()));
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(MAX_RECEIPT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let wrong = |error| Failure::no("bad-receipt", format_args!("{}: {error}", file.display()));
        let receipt = Receipt::parse(&bytes).map_err(wrong)?;
        let proven = receipt.verify_by(&hosts, logs.as_ref()).map_err(wrong)?;
        let now = *hosts.current();
        let host_now = (now != proven.host).then_some(now);
        Ok((proven, host_now))
    }
}

/// Length and digest of a file.
fn summary(path: &Path) -> Result<OutputSummary, Failure> {
    crate::blobs::measure(path).map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
}

/// What a receipt proves, for programs.
#[derive(Serialize)]
struct Proven<'a> {
    job: JobId,
    host: PublicKey,
    /// The host's key of now, when an earlier one signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_now: Option<PublicKey>,
    log: String,
    log_size: u64,
    tenant: &'a Name,
    principal: PublicKey,
    module: ModuleRef,
    grant: &'a GrantRecord,
    limits: &'a Limits,
    admitted: Place,
    finished: Place,
    attempt: u32,
    outcome: &'a Outcome,
    usage: &'a Usage,
    outputs: Vec<Output>,
    envelope: bool,
    /// Outputs that files were compared with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checked: Vec<&'a str>,
}

#[derive(Serialize)]
struct Place {
    index: u64,
    time: strongroom_job::Timestamp,
}

#[derive(Serialize)]
struct Output {
    name: String,
    #[serde(flatten)]
    summary: OutputSummary,
}

impl<'a> Proven<'a> {
    fn of(proven: &'a Verified) -> Self {
        let Verified { host, log, checkpoint, admitted, finished, admitted_at, finished_at, body, .. } =
            proven;
        let place = |(index, time)| Place { index, time };
        let outputs = finished.outputs().into_iter().map(|(name, summary)| Output { name, summary });
        Self {
            job: admitted.job,
            host: *host,
            host_now: None,
            log: log.to_string(),
            log_size: checkpoint.size().get(),
            tenant: &admitted.tenant,
            principal: admitted.principal,
            module: admitted.module,
            grant: &admitted.grant,
            limits: &admitted.limits,
            admitted: place(*admitted_at),
            finished: place(*finished_at),
            attempt: finished.attempt,
            outcome: &finished.outcome,
            usage: &finished.usage,
            outputs: outputs.collect(),
            envelope: body.is_some(),
            checked: Vec::new(),
        }
    }
}

fn words(proven: &Verified, checked: &[&str], log_is_pinned: bool) -> String {
    let Verified { admitted, finished, admitted_at, finished_at, checkpoint, log, .. } = proven;
    let pinned = if log_is_pinned { "pinned" } else { "named by the host under its signature" };
    let mut text = format!(
        "the receipt is good\njob        {}, {}\nprincipal  {} of {}\nmodule     {}\nadmitted   {}, record {}\nended      {}, \
         record {}\nhost       {}\nlog        {log} ({pinned}), {} records",
        admitted.job,
        finished.outcome,
        admitted.principal,
        admitted.tenant,
        admitted.module.digest,
        time(admitted_at.1),
        admitted_at.0,
        time(finished_at.1),
        finished_at.0,
        proven.host,
        checkpoint.size(),
    );
    for (name, OutputSummary { length, digest }) in finished.outputs() {
        let checked = if checked.contains(&name.as_str()) { ", and so is the file" } else { "" };
        text.push('\n');
        text.push_str(&line(&format!("output     {name}: {length} bytes, {digest}{checked}")));
    }
    text.push_str(
        "\nchecked    the host's signature, both records against it, the log's signature, both proofs\nnot        whether the log \
         shows everybody the same: compare its checkpoint with others'",
    );
    text
}

/// `stdout=FILE`, `artifacts/report.txt=FILE`: which part is the name is known when the receipt is.
fn named_file(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok(text.to_owned()),
        _ => Err("write OUTPUT=FILE, such as stdout=out.txt or artifacts/report.txt=report.txt".into()),
    }
}
