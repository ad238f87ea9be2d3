//! `strongroom serve`: the daemon. The first request to stop drains, the second ends at once.

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;
use strongroom_job::PublicKey;

use crate::compile::Compiler;
use crate::config::Config;
use crate::home::LockedHome;
use crate::host::{Ended, Host, Stop as Ending};

use super::console::Console;
use super::directory::config;
use super::exit::{Exit, Failure};
use super::local::{end, in_order};
use super::log::{self, Format, Level};
use super::signal::Stop;
use super::{Common, with_runtime};

/// Serve jobs until told to stop.
#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    /// Listen here instead of at the configured address
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// How much to log, on standard error
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Level::Info)]
    log: Level,
    /// How to write the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Pretty)]
    log_format: Format,
}

/// What `--json` says once the host listens.
#[derive(Serialize)]
struct Listening {
    listening: SocketAddr,
    host_key: PublicKey,
    /// Where the log is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<SocketAddr>,
    /// Where metrics and health are, besides the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<SocketAddr>,
    pid: u32,
}

pub(super) fn serve(common: &Common, args: &ServeArgs, console: &Console) -> Result<Exit, Failure> {
    log::start(args.log.at_least(console.verbose()), args.log_format, console.stderr_is_terminal());
    let home = common.home()?;
    let mut config = config(&home)?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let locked = home.lock()?;
    with_runtime(until_stopped(locked, config, console))
}

/// This very program compiles the modules of the hosts that it starts.
pub(super) fn compiler() -> Result<Compiler, Failure> {
    Compiler::this_program()
        .map_err(|error| Failure::fault(format_args!("cannot find this program: {error}")))
}

/// Lets this process open as many files as it may: each guest has some, and each of its sockets is one. What the system allows
/// by default is from a time when programs could not deal with more.
pub(super) fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

async fn until_stopped(home: LockedHome, config: Config, console: &Console) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let drain = config.bounds.drain;
    let dir = home.dir().to_owned();
    open_many_files();
    let mut host = Box::pin(Host::start(home, config, compiler()?)).await?;
    if let Err(error) = host.administer().await {
        drop(end(host, Ending::Running(drain), &mut stop).await);
        return Err(Failure::fault(format_args!("the host cannot start: {error}")));
    }
    let (address, key) = (host.local_addr(), *host.public_key());
    tracing::info!(%address, host_key = %key, dir = %dir.display(), "serving");
    if let Some(address) = host.log_addr() {
        tracing::info!(%address, "the log is served for reading");
    }
    if let Some(address) = host.admin_addr() {
        tracing::info!(%address, "metrics and health are shown");
    }
    if console.json() {
        let (log, admin, pid) = (host.log_addr(), host.admin_addr(), std::process::id());
        console.document(&Listening { listening: address, host_key: key, log, admin, pid })?;
    }
    let failed = tokio::select! {
        () = stop.asked() => None,
        reason = host.failed() => Some(reason),
    };
    tracing::info!(?drain, "stopping: no new jobs, running ones may finish");
    let Some(ended) = end(host, Ending::Running(drain), &mut stop).await else {
        return Err(Failure::fault("stopped at once; what was running is judged at the next start"));
    };
    in_order(failed.map_or(ended, Ended::Failed))?;
    tracing::info!("stopped");
    Ok(Exit::Status(0))
}
