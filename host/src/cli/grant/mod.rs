//! `strongroom grant`: give some of your rights to another key, look at what was given, end it.
//!
//! `new` and `show` need no host: a grant is a file that its giver signs. A host takes it by `add`.
//! *Spec:* `docs/formats/delegation.md`.

mod new;

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::GrantView;
use strongroom_job::delegation::{DelegationBody, GrantId, MAX_DELEGATION_ENVELOPE_BYTES, SignedDelegation};
use strongroom_sdk::Client;

use super::Common;
use super::console::Console;
use super::escape::line;
use super::exit::{Exit, Failure};
use super::local::with_client;
use super::remote::RemoteArgs;
use super::view::{columns, time};

/// What to do with grants.
#[derive(Debug, Subcommand)]
pub(super) enum GrantCommand {
    /// Sign a grant for another key, into a file
    New(Box<new::NewArgs>),
    /// Show what a grant's file gives, and to whom; checks the signature
    Show(FileArgs),
    /// Give a host a grant that you signed, so that its delegate may connect
    Add(AddArgs),
    /// List the grants of your tenant
    List(ListArgs),
    /// End a grant that you gave, and all that hang below it, at once
    Revoke(RevokeArgs),
}

#[derive(Args, Debug)]
pub(super) struct FileArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct AddArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Its id
    #[arg(value_name = "GRANT")]
    grant: GrantId,
}

pub(super) fn grant(common: &Common, command: GrantCommand, console: &Console) -> Result<Exit, Failure> {
    match command {
        GrantCommand::New(args) => new::new(common, &args, console),
        GrantCommand::Show(FileArgs { file }) => show(&read(&file)?, console),
        GrantCommand::Add(AddArgs { remote, file: FileArgs { file } }) => {
            let signed = read(&file)?;
            with_client(common, &remote, console, async |client| add(client, &signed, console).await)
        }
        GrantCommand::List(ListArgs { remote }) => {
            with_client(common, &remote, console, async |client| list(client, console).await)
        }
        GrantCommand::Revoke(RevokeArgs { remote, grant }) => {
            with_client(common, &remote, console, async |client| revoke(client, grant, console).await)
        }
    }
}

/// The grant in a file, whose signature is good.
pub(super) fn read(path: &Path) -> Result<SignedDelegation, Failure> {
    let unreadable = |error| Failure::usage(format_args!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_DELEGATION_ENVELOPE_BYTES as u64 + 2).read_to_end(&mut bytes).map_err(unreadable)?;
    SignedDelegation::parse(bytes.trim_ascii_end())
        .map_err(|error| Failure::no("bad-grant", format_args!("{}: {error}", path.display())))
}

/// A grant, for programs: the body as it was signed.
#[derive(Serialize)]
struct Document<'a> {
    digest: strongroom_job::Digest,
    grant: &'a DelegationBody,
}

fn show(signed: &SignedDelegation, console: &Console) -> Result<Exit, Failure> {
    let body = signed.body();
    if console.json() {
        console.document(&Document { digest: signed.digest(), grant: body })?;
    } else {
        console.print(words(body))?;
    }
    Ok(Exit::Status(0))
}

fn words(body: &DelegationBody) -> String {
    let mut text = format!("grant     {}", body.id);
    let mut add = |name: &str, words: String| {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{name:<9} {}", line(&words));
    };
    add("from", body.delegator.to_string());
    add("to", format!("{}, called {}", body.delegate, body.name));
    add("host", body.audience.to_string());
    add("tenant", body.tenant.to_string());
    add("time", format!("from {} until {}", time(body.not_before), time(body.not_after)));
    let roles: Vec<&str> = body.roles.iter().map(|role| role.as_str()).collect();
    add("roles", roles.join(", "));
    add("further", format!("{} grants may hang below it", body.further));
    for queue in body.queues.iter().flatten() {
        add("queue", queue.to_string());
    }
    for (volume, access) in &body.volumes {
        let access = if *access == strongroom_job::Access::Read { "read" } else { "write" };
        add("volume", format!("{volume}, {access}"));
    }
    body.connect.iter().for_each(|to| add("connect", to.to_string()));
    body.listen.iter().for_each(|at| add("listen", at.to_string()));
    body.http.iter().for_each(|rule| add("http", rule.to_string()));
    body.secrets.iter().for_each(|secret| add("secret", secret.to_string()));
    let limits = serde_json::to_value(&body.max_limits).unwrap_or_default();
    for (limit, most) in limits.as_object().into_iter().flatten() {
        add("at most", format!("{limit} {most}"));
    }
    for (label, value) in &body.labels {
        add("label", format!("{label}={value}"));
    }
    text
}

async fn add(client: &Client, signed: &SignedDelegation, console: &Console) -> Result<Exit, Failure> {
    let view = client.add_grant(signed).await?;
    if console.json() {
        console.document(&view)?;
    } else {
        let GrantView { grant, name, delegate, not_after, log_index, .. } = &view;
        let until = time(*not_after);
        console
            .print(format_args!("grant {grant} for {name} ({delegate}) until {until}, record {log_index}"))?;
    }
    Ok(Exit::Status(0))
}

#[derive(Serialize)]
struct All<'a> {
    grants: &'a [GrantView],
}

async fn list(client: &Client, console: &Console) -> Result<Exit, Failure> {
    let grants = client.grants().await?;
    if console.json() {
        console.document(&All { grants: &grants })?;
    } else {
        console.print(table(&grants))?;
    }
    Ok(Exit::Status(0))
}

fn table(grants: &[GrantView]) -> String {
    let mut rows = vec![["GRANT", "NAME", "FROM", "TO", "ROLES", "UNTIL", "IN FORCE"].map(String::from)];
    for view in grants {
        let roles: Vec<&str> = view.roles.iter().map(|role| role.as_str()).collect();
        rows.push([
            view.grant.to_string(),
            view.name.to_string(),
            view.delegator.short(),
            view.delegate.short(),
            roles.join(","),
            time(view.not_after),
            if view.in_force { "yes" } else { "no" }.to_owned(),
        ]);
    }
    columns(&rows)
}

async fn revoke(client: &Client, grant: GrantId, console: &Console) -> Result<Exit, Failure> {
    let ended = client.revoke_grant(grant).await?;
    if console.json() {
        console.document(&All { grants: &ended })?;
    } else {
        for GrantView { grant, name, delegate, .. } in &ended {
            console.print(format_args!("ended: grant {grant} for {name} ({delegate})"))?;
        }
    }
    Ok(Exit::Status(0))
}
