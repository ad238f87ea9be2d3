//! `strongroom grant new`: signs a grant, into a file that its giver hands to the host or to an operator.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};
use strongroom_job::delegation::{Ceilings, DelegationBody, GrantId};
use strongroom_job::strict;
use strongroom_job::{Name, PublicKey, Role, Timestamp};
use strongroom_sdk::When;

use super::show;
use crate::cli::Common;
use crate::cli::amount::{duration, size};
use crate::cli::console::Console;
use crate::cli::exit::{Exit, Failure};
use crate::cli::plan::when;
use crate::cli::remote::RemoteArgs;
use crate::cli::rights::{self, RightsArgs};
use crate::clock::Clock;
use crate::home::place;

#[derive(Args, Debug)]
pub(in crate::cli) struct NewArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The file to make; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Public key of the delegate: who gets it
    #[arg(long, value_name = "KEY")]
    to: PublicKey,
    /// What the delegate is called, in refusals and lists
    #[arg(long, value_name = "NAME")]
    name: Name,
    /// Until when: a time such as 2027-12-01T08:00:00+01:00, or so long from now, such as +30d; at most 366 days
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: When,
    /// Not before this time [default: from now on]
    #[arg(long, value_name = "WHEN", value_parser = when)]
    from: Option<When>,
    /// Your own tenant on that host
    #[arg(long, value_name = "NAME", default_value = "default")]
    tenant: Name,
    /// A role that the delegate gets: view, submit or operate; once for each [default: view and submit]
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
    /// A queue that its jobs may wait in; once for each [default: all of yours]
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<Name>,
    #[command(flatten)]
    rights: RightsArgs,
    /// A highest limit of its jobs, by its name in a job's limits, such as memory_bytes=64MiB or wall_ms=30s; once for each
    #[arg(long = "max", value_name = "LIMIT=AMOUNT", value_parser = limit)]
    max: Vec<(String, u64)>,
    /// A label that each of its jobs must carry; once for each
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How many further grants may hang below this one, one under the other
    #[arg(long, value_name = "N", default_value_t = 0)]
    further: u8,
}

pub(super) fn new(common: &Common, args: &NewArgs, console: &Console) -> Result<Exit, Failure> {
    let home = common.home()?;
    let identity = args.remote.identity(&home)?;
    let now = Clock::default().now();
    let at = |when| match when {
        When::At(at) => at,
        When::In(delay) => now.saturating_add(delay),
    };
    let (from, until) = (args.from.map_or(now, at), at(args.until));
    if until <= now {
        return Err(Failure::usage("--until has passed: the grant could never be used"));
    }
    let audience = args.remote.audience(&home)?;
    let body = body(args, audience, identity.public(), (from, until))?;
    let signed = body.sign(identity.secret()).map_err(Failure::usage)?;
    let path = std::path::absolute(&args.file);
    let path = path.map_err(|error| Failure::usage(format_args!("{}: {error}", args.file.display())))?;
    let mut bytes = signed.to_bytes();
    bytes.push(b'\n');
    if !place::write_new(&path, &bytes)? {
        let file = args.file.display();
        return Err(Failure::usage(format_args!("{file} exists: name a file that does not")));
    }
    show(&signed, console)
}

fn body(
    args: &NewArgs,
    audience: PublicKey,
    delegator: PublicKey,
    window: (Timestamp, Timestamp),
) -> Result<DelegationBody, Failure> {
    let roles = rights::roles(&args.roles);
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Failure::fault(format_args!("the system gives no random bytes: {error}")))?;
    let names = (args.name.clone(), args.tenant.clone());
    let keys = (delegator, args.to);
    let body = DelegationBody::new(GrantId::from_bytes(id), audience, keys, names, window, &roles);
    let limits: Map<String, Value> =
        args.max.iter().map(|(limit, most)| (limit.clone(), (*most).into())).collect();
    let limits = Value::Object(limits).to_string();
    let max_limits: Ceilings = strict::parse(limits.as_bytes(), limits.len())
        .map_err(|error| Failure::usage(format_args!("--max: {error}")))?;
    Ok(DelegationBody {
        further: args.further,
        queues: (!args.queues.is_empty()).then(|| rights::sorted(&args.queues)),
        volumes: args.rights.volumes.iter().cloned().collect(),
        connect: args.rights.connect.clone(),
        listen: args.rights.listen.clone(),
        http: args.rights.http.clone(),
        secrets: rights::sorted(&args.rights.secrets),
        max_limits,
        labels: args.labels.iter().cloned().collect(),
        ..body
    })
}

/// A limit's amount: bytes and times may have a unit.
fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, amount) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?}: expected LIMIT=AMOUNT, such as wall_ms=30s"))?;
    let plain: Result<u64, _> = amount.parse();
    let amount = match plain {
        Ok(amount) => amount,
        Err(_) if name.ends_with("_bytes") => size(amount)?,
        Err(_) if name.ends_with("_ms") => u64::try_from(duration(amount)?.as_millis()).unwrap_or(u64::MAX),
        Err(error) => return Err(format!("{text:?}: {error}")),
    };
    Ok((name.to_owned(), amount))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?}: expected NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
