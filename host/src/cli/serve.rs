//! `strongroom serve`: the daemon. The first request to stop drains, the second ends at once.

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;
use strongroom_job::PublicKey;

use crate::compile::Compiler;
use crate::config::Config;
use crate::confine::{Confinement, Enforced, Plan, become_user, confine};
use crate::handed::{Sockets, handed_over};
use crate::home::{Home, LockedHome};
use crate::host::{Ended, Host, Reloaded, Stop as Ending};
use crate::secrets::in_shared_memory;

use super::console::Console;
use super::directory::{config, unlocked};
use super::environment::leave_behind;
use super::exit::{Exit, Failure};
use super::local::{end, in_order};
use super::log::{self, Format, Level};
use super::notify::Manager;
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
    /// Serve although this is root, where there is no other user
    #[arg(long)]
    as_root: bool,
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
    /// What this process has given up.
    confinement: Confinement,
}

pub(super) fn serve(common: &Common, args: &ServeArgs, console: &Console) -> Result<Exit, Failure> {
    leave_behind()?;
    // Before anything is opened: nothing of this process may have taken one of their numbers.
    let handed = handed_over()?;
    log::start(args.log.at_least(console.verbose()), args.log_format, console.stderr_is_terminal());
    let dir = common.directory()?;
    let path = dir.join("strongroom.toml");
    // Read twice: the first time, who reads it may be root, and all that is taken from it is whom to become.
    let run_as = if path.exists() { Config::load(&path)?.run_as } else { None };
    become_user(run_as.as_deref(), args.as_root, &dir)?;
    Home::check_guarded(&dir)?;
    let home = common.home()?;
    let mut config = config(&home)?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let sockets = Sockets::sort(handed, &config, home.dir())?;
    let locked = home.lock()?;
    open_many_files();
    strongroom_runtime::open_kernel_files();
    let plan = Plan::of(home.dir(), &config, in_shared_memory(home.dir()).as_deref());
    let manager = Manager::of_this_process();
    // There is one thread until here.
    let confined = confine(plan, config.confine)?;
    let told = Told { confinement: confined.confinement(), manager: &manager, listen: args.listen };
    with_runtime(until_stopped(locked, config, sockets, told, console))
}

/// What is known of a host before it is one.
struct Told<'a> {
    confinement: &'a Confinement,
    manager: &'a Manager,
    /// In place of the configured address.
    listen: Option<SocketAddr>,
}

/// Says what this process has not given up.
fn tell(confinement: &Confinement) {
    let Confinement { files, any_directory, calls } = confinement;
    if *files != Enforced::Whole || *calls != Enforced::Whole {
        tracing::warn!(
            ?files,
            system_calls = ?calls,
            "this kernel cannot confine the host as far as it should be (Landlock, seccomp): the sandbox is what keeps guests in"
        );
    }
    if let Some(principal) = any_directory {
        tracing::warn!(
            %principal,
            "this principal may name any directory, so nearly all files stay open to this process: give it volumes in place of any_directory"
        );
    }
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
    sockets: Sockets,
    Told { confinement, manager, listen }: Told<'_>,
    console: &Console,
) -> Result<Exit, Failure> {
    let (mut stop, mut reload) = (Stop::listen()?, Reload::listen()?);
    let unlocked = Home::clone(&home);
    let drain = config.bounds.drain;
    let dir = home.dir().to_owned();
    if let Some(listeners) = sockets.names() {
        tracing::info!(%listeners, "these sockets were made by the service manager");
    }
    let mut host = Box::pin(Host::start_on(home, config, compiler()?, sockets)).await?;
    if let Err(error) = host.administer().await {
        drop(end(host, Ending::Running(drain), &mut stop).await);
        return Err(Failure::fault(format_args!("the host cannot start: {error}")));
    }
    let (address, key) = (host.local_addr(), *host.public_key());
    tracing::info!(%address, host_key = %key, dir = %dir.display(), "serving");
    tell(confinement);
    if let Some(address) = host.log_addr() {
        tracing::info!(%address, "the log is served for reading");
    }
    if let Some(address) = host.admin_addr() {
        tracing::info!(%address, "metrics and health are shown");
    }
    if console.json() {
        let (log, admin, pid) = (host.log_addr(), host.admin_addr(), std::process::id());
        let confinement = confinement.clone();
        console.document(&Listening { listening: address, host_key: key, log, admin, pid, confinement })?;
    }
    manager.serving(&format!("{address}"));
    let failed = tokio::select! {
        () = stop.asked() => None,
        () = manager.keep_telling(&host) => None,
        reason = host.failed() => Some(reason),
        () = reload_when_asked(&host, &unlocked, listen, &mut reload) => None,
    };
    manager.stopping(drain);
    tracing::info!(?drain, "stopping: no new jobs, running ones may finish");
    let Some(ended) = end(host, Ending::Running(drain), &mut stop).await else {
        return Err(Failure::fault("stopped at once; what was running is judged at the next start"));
    };
    in_order(failed.map_or(ended, Ended::Failed))?;
    tracing::info!("stopped");
    Ok(Exit::Status(0))
}

/// Reads the configuration again at each SIGHUP, and whenever somebody asks for it at the socket. What is wrong with it changes nothing, and is an
/// error in the host's log and for who asked.
async fn reload_when_asked(host: &Host, home: &Home, listen: Option<SocketAddr>, reload: &mut Reload) {
    loop {
        let asks = tokio::select! {
            () = reload.asked() => None,
            ask = host.asked_to_reload() => Some(ask),
        };
        let reloaded = match unlocked(home).and_then(|()| config(home)) {
            Ok(mut config) => {
                if let Some(listen) = listen {
                    config.listen = listen;
                }
                host.reload(config).await.map_err(|error| format!("{}: {error}", home.config().display()))
            }
            Err(failure) => Err(failure.message),
        };
        match &reloaded {
            Ok(Reloaded { diff, closed, stopped }) => {
                tracing::info!(%diff, closed, stopped, "the configuration was read again and is in force");
            }
            Err(error) => tracing::error!(%error, "the configuration is not in force: nothing was changed"),
        }
        if let Some(ask) = asks {
            ask.answer(reloaded.map(Reloaded::told));
        }
    }
}
