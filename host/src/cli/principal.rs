//! `strongroom principal`: add a principal of a running host, take one out, put another key in its place, list them.
//!
//! Each but `list` signs one command and hands it in. *Spec:* `docs/formats/principal.md`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::principal::{CommandBody, CommandId, Entry};
use strongroom_job::{Name, PrincipalSource, PrincipalView, PublicKey, Role, Timestamp};
use strongroom_sdk::Client;

use super::Common;
use super::console::Console;
use super::exit::{Exit, Failure};
use super::local::with_client;
use super::remote::RemoteArgs;
use super::rights::{self, RightsArgs};
use super::view::columns;
use crate::clock::Clock;

/// How long a command that is handed in at once may be on its way, and how far clocks may be apart.
const WINDOW: Duration = Duration::from_millis(WINDOW_MS);
const WINDOW_MS: u64 = 600_000;

/// What to do with principals.
#[derive(Debug, Subcommand)]
pub(super) enum PrincipalCommand {
    /// Let a key in that the configuration does not name
    Add(Box<AddArgs>),
    /// Take a key out at once, also one that the configuration names
    Revoke(KeyArgs),
    /// Let a key in again that was taken out and that the configuration names
    Restore(KeyArgs),
    /// Put another key in the place of a principal's, with the same name and rights
    Rotate(RotateArgs),
    /// List the principals of a host, and keys that were taken out
    List(ListArgs),
}

#[derive(Args, Debug)]
pub(super) struct AddArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Its public key
    #[arg(value_name = "KEY")]
    key: PublicKey,
    /// What it is called
    #[arg(long, value_name = "NAME")]
    name: Name,
    /// In whose name its jobs run
    #[arg(long, value_name = "NAME", default_value = "default")]
    tenant: Name,
    /// A role that it gets: view, submit, operate or admin; once for each [default: view and submit]
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
    #[command(flatten)]
    rights: RightsArgs,
}

#[derive(Args, Debug)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The public key
    #[arg(value_name = "KEY")]
    key: PublicKey,
}

#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The key that goes
    #[arg(value_name = "OLD")]
    old: PublicKey,
    /// The key that comes
    #[arg(value_name = "NEW")]
    new: PublicKey,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

/// What a command orders.
enum Order {
    Revoke(PublicKey),
    Restore(PublicKey),
    Add(Entry),
    Rotate { old: PublicKey, new: PublicKey },
}

pub(super) fn principal(
    common: &Common,
    command: PrincipalCommand,
    console: &Console,
) -> Result<Exit, Failure> {
    let (remote, order) = match command {
        PrincipalCommand::Add(args) => {
            let entry = entry(&args);
            (args.remote, Order::Add(entry))
        }
        PrincipalCommand::Revoke(KeyArgs { remote, key }) => (remote, Order::Revoke(key)),
        PrincipalCommand::Restore(KeyArgs { remote, key }) => (remote, Order::Restore(key)),
        PrincipalCommand::Rotate(RotateArgs { remote, old, new }) => (remote, Order::Rotate { old, new }),
        PrincipalCommand::List(ListArgs { remote }) => {
            return with_client(common, &remote, console, async |client| {
                show(&client.principals().await?, console)
            });
        }
    };
    let home = common.home()?;
    let (identity, audience) = (remote.identity(&home)?, remote.audience(&home)?);
    let now = Clock::default().now();
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Failure::fault(format_args!("the system gives no random bytes: {error}")))?;
    let earlier = Timestamp::from_millis(now.as_millis().saturating_sub(WINDOW_MS));
    let window = (earlier, now.saturating_add(WINDOW));
    let mut body = CommandBody::new(CommandId::from_bytes(id), audience, identity.public(), window);
    with_client(common, &remote, console, async |client| {
        match order {
            Order::Revoke(key) => body.revoke = Some(key),
            Order::Restore(key) => body.restore = Some(key),
            Order::Add(entry) => body.add = Some(Box::new(entry)),
            Order::Rotate { old, new } => {
                body.revoke = Some(old);
                body.add = Some(Box::new(Entry { key: new, ..as_it_is(client, &old).await? }));
            }
        }
        let signed = body.sign(identity.secret()).map_err(Failure::usage)?;
        show(&client.change_principal(&signed).await?, console)
    })
}

fn entry(args: &AddArgs) -> Entry {
    Entry {
        key: args.key,
        name: args.name.clone(),
        tenant: args.tenant.clone(),
        roles: rights::roles(&args.roles),
        volumes: args.rights.volumes.iter().cloned().collect(),
        connect: args.rights.connect.clone(),
        listen: args.rights.listen.clone(),
        http: args.rights.http.clone(),
        secrets: rights::sorted(&args.rights.secrets),
    }
}

/// What the host says of the principal whose key is to go.
async fn as_it_is(client: &Client, key: &PublicKey) -> Result<Entry, Failure> {
    let all = client.principals().await?;
    let found = all.into_iter().find(|view| view.key == *key && !view.revoked);
    let Some(view) = found else {
        return Err(Failure::usage(format_args!(
            "{key} is no principal of this host: look at `strongroom principal list`"
        )));
    };
    view.entry.map(|entry| *entry).ok_or_else(|| {
        Failure::usage(format_args!(
            "{key} may do what no command can give (any_directory, any_network, or long lists): change its key in the configuration"
        ))
    })
}

#[derive(Serialize)]
struct All<'a> {
    principals: &'a [PrincipalView],
}

fn show(principals: &[PrincipalView], console: &Console) -> Result<Exit, Failure> {
    if console.json() {
        console.document(&All { principals })?;
    } else {
        console.print(table(principals))?;
    }
    Ok(Exit::Status(0))
}

fn table(principals: &[PrincipalView]) -> String {
    let mut rows = vec![["KEY", "NAME", "TENANT", "ROLES", "BY", "IN"].map(String::from)];
    for view in principals {
        let roles: Vec<&str> = view.roles.iter().map(|role| role.as_str()).collect();
        let name = |name: &Option<Name>| name.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let by = match view.source {
            Some(PrincipalSource::File) => "file",
            Some(PrincipalSource::Command) => "command",
            None => "-",
        };
        rows.push([
            view.key.to_string(),
            name(&view.name),
            name(&view.tenant),
            if roles.is_empty() { "-".to_owned() } else { roles.join(",") },
            by.to_owned(),
            if view.revoked { "no" } else { "yes" }.to_owned(),
        ]);
    }
    columns(&rows)
}
