//! `strongroom serve`: the daemon. The first request to stop drains, the second ends at once.

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;
use strongroom_job::PublicKey;

use crate::compile::Compiler;
use crate::config::Config;
use crate::home::{Home, LockedHome};
use crate::host::{Ended, Host, Reloaded, Stop as Ending};

use super::console::Console;
use super::directory::{config, unlocked};
use super::exit::{Exit, Failure};
use super::local::{end, in_order};
use super::log::{self, Format, Level};
use super::signal::{Reload, Stop};
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
    with_runtime(until_stopped(locked, config, args.listen, console))
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

async fn until_stopped(
    home: LockedHome,
    config: Config,
    listen: Option<SocketAddr>,
    console: &Console,
) -> Result<Exit, Failure> {
    let (mut stop, mut reload) = (Stop::listen()?, Reload::listen()?);
    let unlocked = Home::clone(&home);
    let drain = config.bounds.drain;
    let dir = home.dir().to_owned();
    open_many_files();
    let host = Box::pin(Host::start(home, config, compiler()?)).await?;
    let (address, key) = (host.local_addr(), *host.public_key());
    tracing::info!(%address, host_key = %key, dir = %dir.display(), "serving");
    if let Some(address) = host.log_addr() {
        tracing::info!(%address, "the log is served for reading");
    }
    if console.json() {
        let (log, pid) = (host.log_addr(), std::process::id());
        console.document(&Listening { listening: address, host_key: key, log, pid })?;
    }
    let failed = tokio::select! {
        () = stop.asked() => None,
        reason = host.failed() => Some(reason),
        () = reload_when_asked(&host, &unlocked, listen, &mut reload) => None,
    };
    tracing::info!(?drain, "stopping: no new jobs, running ones may finish");
    let Some(ended) = end(host, Ending::Running(drain), &mut stop).await else {
        return Err(Failure::fault("stopped at once; what was running is judged at the next start"));
    };
    in_order(failed.map_or(ended, Ended::Failed))?;
    tracing::info!("stopped");
    Ok(Exit::Status(0))
}

/// Reads the configuration again at each SIGHUP. What is wrong with it changes nothing, and is an error in the host's log.
async fn reload_when_asked(host: &Host, home: &Home, listen: Option<SocketAddr>, reload: &mut Reload) {
    loop {
        reload.asked().await;
        let reloaded = match unlocked(home).and_then(|()| config(home)) {
            Ok(mut config) => {
                if let Some(listen) = listen {
                    config.listen = listen;
                }
                host.reload(config).await.map_err(|error| format!("{}: {error}", home.config().display()))
            }
            Err(failure) => Err(failure.message),
        };
        match reloaded {
            Ok(Reloaded { diff, closed, stopped }) => {
                tracing::info!(%diff, closed, stopped, "the configuration was read again and is in force");
            }
            Err(error) => tracing::error!(%error, "the configuration is not in force: nothing was changed"),
        }
    }
}
