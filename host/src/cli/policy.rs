//! `strongroom policy`: what a configuration lets whom do, asked of the file and of what the log says that operators ordered over it. *Never:* a judge of
//! its own: every yes and no is admission's.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::delegation::DelegationBody;
use strongroom_job::{Context, Envelope, JobBody, JobId, Name, PublicKey, Timestamp, sign_job};
use strongroom_sdk::Identity;

use super::Common;
use super::config::{FileArgs, checked};
use super::console::Console;
use super::exit::{Exit, Failure};
use super::grant;
use super::ordered::ordered;
use super::task::{BareName, TaskArgs};
use crate::admission::command::Commands;
use crate::admission::delegation::meet;
use crate::admission::{self, Answer, Policy};
use crate::clock::Clock;
use crate::config::{Config, Principal};
use crate::home::Home;

/// How long the job would be valid, where the host allows it: the client's default.
const LIFETIME: std::time::Duration = std::time::Duration::from_hours(1);

/// What to ask of a policy.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Say whether a host would start with a configuration, whether it locks anybody out, and what roles it gives
    Check(FileArgs),
    /// Say why a host would take a job of a principal, or refuse it: every question that it asks, and the answer
    Explain(Box<ExplainArgs>),
}

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// Whose job, by its name in the configuration
    #[arg(value_name = "PRINCIPAL")]
    principal: Name,
    /// Configuration to ask [default: that of the data directory]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A grant that it gave, or that hangs below the one before: the job is then the last delegate's; once for each, from the top
    #[arg(long = "grant", value_name = "FILE")]
    grants: Vec<PathBuf>,
    #[command(flatten)]
    task: TaskArgs,
}

/// Who is at the end of a chain of grants below a principal; none without grants.
fn delegate(root: &Principal, grants: &[PathBuf], asked: &Asked<'_>) -> Result<Option<Principal>, Failure> {
    let mut who: Option<Principal> = None;
    for file in grants {
        let signed = grant::read(file)?;
        let body = signed.body();
        let giver = who.as_ref().unwrap_or(root);
        if let Some(problem) = asked.problem(body) {
            return Err(Failure::no("bad-grant", format_args!("{}: {problem}", file.display())));
        }
        let next = meet(giver, body).ok_or_else(|| {
            Failure::no(
                "bad-grant",
                format_args!(
                    "{}: it gives nothing to anybody: {} did not sign it, is of another tenant, may give nothing on, or has none of its roles",
                    file.display(),
                    giver.name
                ),
            )
        })?;
        who = Some(next);
    }
    Ok(who)
}

/// What every grant is held against.
struct Asked<'a> {
    host: PublicKey,
    commands: &'a Commands,
    now: Timestamp,
}

impl Asked<'_> {
    /// Why a grant is worth nothing, whoever gave it.
    fn problem(&self, body: &DelegationBody) -> Option<String> {
        let Self { host, commands, now } = self;
        if body.audience != *host {
            return Some(format!(
                "it is for the host {}, and the one of this directory is {host}",
                body.audience
            ));
        }
        if *now < body.not_before {
            return Some(format!(
                "it begins at {}, and is worth nothing before",
                body.not_before.to_rfc3339()
            ));
        }
        if body.not_after <= *now {
            return Some(format!("its time was up at {}", body.not_after.to_rfc3339()));
        }
        let out = commands.is_revoked(&body.delegate);
        out.then(|| format!("a command of an operator took its delegate {} out", body.delegate))
    }
}

#[derive(Serialize)]
struct Roles<'a> {
    name: &'a Name,
    tenant: &'a Name,
    roles: String,
}

#[derive(Serialize)]
struct Explained<'a> {
    principal: &'a Name,
    tenant: &'a Name,
    allowed: bool,
    answers: Vec<Answered<'a>>,
}

#[derive(Serialize)]
struct Answered<'a> {
    asks: &'a str,
    allowed: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a strongroom_job::Refusal>,
}

pub(super) fn policy(common: &Common, command: PolicyCommand, console: &Console) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Check(args) => check(common, &args, console),
        PolicyCommand::Explain(args) => explain(common, *args, console),
    }
}

fn check(common: &Common, args: &FileArgs, console: &Console) -> Result<Exit, Failure> {
    let (file, config) = checked(common, args)?;
    let config = ordered(&common.directory()?)?.over(&config);
    config
        .lets_in(|_| true)
        .map_err(|error| Failure::no("locked-out", format_args!("{}: {error}", file.display())))?;
    let of = |who: &Principal| who.roles.to_string();
    if console.json() {
        let roles = config.principals.iter().map(|who| Roles {
            name: &who.name,
            tenant: &who.tenant,
            roles: of(who),
        });
        console.document(&roles.collect::<Vec<_>>())?;
        return Ok(Exit::Status(0));
    }
    console.print(format_args!("{}: a host starts with it, and it locks nobody out", file.display()))?;
    for who in &config.principals {
        console.print(format_args!("{} of tenant {}: {}", who.name, who.tenant, of(who)))?;
    }
    Ok(Exit::Status(0))
}

fn explain(common: &Common, args: ExplainArgs, console: &Console) -> Result<Exit, Failure> {
    let ExplainArgs { principal, config: file, grants, task } = args;
    let home = Home::open(&common.directory()?)?;
    let (file, config) = checked(common, &FileArgs { file })?;
    let commands = ordered(home.dir())?;
    let out = config.principals.iter().find(|who| who.name == principal).map(|who| who.key);
    let config = commands.over(&config);
    let Some(who) = config.principals.iter().find(|who| who.name == principal) else {
        if let Some(key) = out.filter(|key| commands.is_revoked(key)) {
            return Err(Failure::no(
                "revoked",
                format_args!(
                    "{principal} may do nothing: a command of an operator took its key {key} out (record {})",
                    commands.record(&key).unwrap_or_default()
                ),
            ));
        }
        let known: Vec<&str> = config.principals.iter().map(|who| who.name.as_str()).collect();
        return Err(Failure::usage(format_args!(
            "{}: no principal is called {principal}; it names: {}",
            file.display(),
            known.join(", ")
        )));
    };
    let asked = Asked { host: home.host_key()?.public(), commands: &commands, now: Clock::default().now() };
    let below = delegate(who, &grants, &asked)?;
    let who = below.as_ref().unwrap_or(who);
    let answers = answers(&home, &config, who, task)?;
    let allowed = answers.iter().all(|answer| answer.answer.is_ok());
    let exit = if allowed { Exit::Status(0) } else { Exit::Refused };
    if console.json() {
        let answered = |answer| {
            let Answer { asks, answer }: &Answer = answer;
            Answered { asks, allowed: answer.is_ok(), refusal: answer.as_ref().err() }
        };
        let answers = answers.iter().map(answered).collect();
        console.document(&Explained { principal: &who.name, tenant: &who.tenant, allowed, answers })?;
        return Ok(exit);
    }
    if let Some(narrowed) = who.narrowed.as_deref() {
        let chain: Vec<String> = narrowed.chain.iter().map(|key| key.short()).collect();
        let (name, from, until) = (&who.name, narrowed.from.to_rfc3339(), narrowed.until.to_rfc3339());
        let roles = who.roles;
        console.print(format_args!(
            "{name} has what all of {} leave it, from {from} until {until}: {roles}",
            chain.join(" → ")
        ))?;
    }
    for Answer { asks, answer } in &answers {
        match answer {
            Ok(()) => console.print(format_args!("yes  {asks}"))?,
            Err(refusal) => {
                console.print(format_args!("NO   {asks}: {}: {}", refusal.code, refusal.message))?;
                for missing in &refusal.missing {
                    console.print(format_args!("     - {missing}"))?;
                }
            }
        }
    }
    let verdict = if allowed { "allowed" } else { "refused" };
    console.print(format_args!(
        "{verdict}: a job of {} under {}. Only a host that runs knows whether it has the module and the input, whether the tenant has \
         room, and whether the queue is open",
        who.name,
        file.display()
    ))?;
    Ok(exit)
}

/// What admission answers to the job that the options describe, as if this principal had signed it now.
fn answers(home: &Home, config: &Config, who: &Principal, task: TaskArgs) -> Result<Vec<Answer>, Failure> {
    let prepared = task.prepare(BareName::Volume, home)?;
    let (module, input) = prepared.described()?;
    let task = prepared.job(module, None).task(input)?;
    let (host, now) = (home.host_key()?.public(), Clock::default().now());
    let context = Context {
        audience: host,
        tenant: who.tenant.clone(),
        issued_at: now,
        not_before: now,
        not_after: now.saturating_add(LIFETIME.min(config.bounds.max_lifetime)),
        salt: JobId::from_bytes([0; 16]),
    };
    // Nobody here has the principal's key. No answer depends on it: who signed has been found by it already.
    let stand_in = Identity::generate()?;
    let signed = sign_job(&JobBody::new(JobId::from_bytes([0; 16]), context, task), stand_in.secret());
    let signed =
        signed.map_err(|error| Failure::usage(format_args!("no such job can be signed: {error}")))?;
    let verified =
        Envelope::parse(signed.as_bytes()).and_then(|envelope| envelope.verify(&stand_in.public()));
    let verified =
        verified.map_err(|error| Failure::usage(format_args!("no such job can be sent: {error}")))?;
    let policy = Policy { host: &host, config };
    let answers = verified.iter().map(|job| admission::explain(job, who, &policy, now));
    Ok(answers.flatten().collect())
}
