//! The host of a data directory: the one that serves it already, or else one that is embedded here for a while.
//!
//! Whoever holds the directory's lock is its host. So the lock is asked first: if it is free, this process becomes the
//! host; if not, the holder's `live.json` says where it listens. Between the two there are moments when the lock is
//! held and nobody answers, because the holder is starting or stopping: then both are asked again, for a bounded time.
//! The embedded host listens on loopback and is reached over QUIC with signed envelopes, like any other.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use strongroom_sdk::{Client, Error, Identity};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::home::{Home, HomeError, LockedHome};
use crate::host::{Ended, Host, Stop as Ending};

use super::console::Console;
use super::directory::config;
use super::exit::{Exit, Failure};
use super::remote::{RemoteArgs, try_local};
use super::serve::{compiler, open_many_files};
use super::signal::Stop;
use super::{Common, with_runtime};

/// Longest wait for a host that is starting or stopping: longer than the longest job that a stopping host may have to
/// finish by default.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// The first pause between two looks; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// No pause is longer.
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// How long an embedded host goes on taking other clients' jobs after its own work is done. Afterwards newcomers wait
/// until it has finished what it took, so that nobody can keep it for ever.
const STAY_OPEN: Duration = Duration::from_secs(5 * 60);
/// How long it then works off what it took. What is left is durable, and the next host's.
const WORK_OFF: Duration = Duration::from_secs(24 * 3600);
/// How long it tries to end in order when it is told to leave at once.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A connection to the directory's host.
pub(super) struct Local {
    pub(super) client: Client,
    home: Home,
    embedded: Option<Host>,
}

/// Does `work` with the host that `remote` names, or with the directory's, embedded if nobody serves it.
pub(super) fn with_client(
    common: &Common,
    remote: &RemoteArgs,
    console: &Console,
    work: impl AsyncFnOnce(&Client) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    if remote.names_a_host() {
        return with_runtime(async {
            let client = remote.connect(common).await?;
            let result = work(&client).await;
            client.close().await;
            result
        });
    }
    let home = common.home()?;
    let config = config(&home)?;
    let identity = remote.identity(&home)?;
    with_runtime(async {
        let mut stop = Stop::listen()?;
        let local = Local::reach(&home, &config, &identity, console).await?;
        let result = tokio::select! {
            result = work(&local.client) => result,
            failure = local.failed() => Err(failure),
            () = stop.asked() => Err(Failure::cancelled("stopped")),
        };
        let left = local.leave(&mut stop, console).await;
        both(result, left, console)
    })
}

/// What came of a command, and of the host that it had inside: one that failed decides the exit status, and what the command itself failed of
/// is told first.
pub(super) fn both<T>(
    result: Result<T, Failure>,
    left: Result<(), Failure>,
    console: &Console,
) -> Result<T, Failure> {
    let Err(failed) = left else { return result };
    if let Err(failure) = &result
        && failure.message != failed.message
    {
        console.fail(failure);
    }
    Err(failed)
}

enum Holder {
    Us(LockedHome),
    Another(Client),
}

impl Local {
    /// Connects to the directory's host, after becoming it when there is none.
    pub(super) async fn reach(
        home: &Home,
        config: &Config,
        identity: &Identity,
        console: &Console,
    ) -> Result<Self, Failure> {
        let mut last = None;
        let holder = timeout(PATIENCE, look(home, identity, console, &mut last)).await;
        match holder.unwrap_or_else(|_| Err(never_answered(home, last)))? {
            Holder::Another(client) => Ok(Self { client, home: home.clone(), embedded: None }),
            Holder::Us(locked) => Self::embed(locked, config.clone(), identity).await,
        }
    }

    async fn embed(locked: LockedHome, mut config: Config, identity: &Identity) -> Result<Self, Failure> {
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // It is gone in a moment; the log's readers have the host that stays.
        config.serve_log = None;
        let home = locked.clone();
        open_many_files();
        let host = Box::pin(Host::start(locked, config, compiler()?)).await.map_err(Failure::from)?;
        let live =
            home.live()?.ok_or_else(|| Failure::fault("the embedded host did not say where it listens"))?;
        match try_local(&live, *host.public_key(), identity).await {
            Ok(client) => Ok(Self { client, home, embedded: Some(host) }),
            Err(error) => {
                host.stop(Ending::Running(AT_ONCE)).await;
                Err(error.into())
            }
        }
    }

    /// Waits for the embedded host's failure; for ever when the host is somebody else's.
    pub(super) async fn failed(&self) -> Failure {
        match &self.embedded {
            Some(host) => Failure::fault(format_args!("the host had to stop: {}", host.failed().await)),
            None => std::future::pending().await,
        }
    }

    /// Waits until nobody holds the directory any more; for ever when the host is ours.
    ///
    /// A killed host says no goodbye, and a quiet connection to it looks alive for a long time. Its lock does not.
    pub(super) async fn orphaned(&self) {
        while self.embedded.is_some() || self.home.lock().is_err() {
            sleep(MAX_PAUSE).await;
        }
    }

    /// Whether the host lives in this process.
    pub(super) const fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Leaves. An embedded host first finishes what it took from others, unless the user asks again to stop.
    ///
    /// # Errors
    /// When the embedded host could not write its state or its log to the end.
    pub(super) async fn leave(self, stop: &mut Stop, console: &Console) -> Result<(), Failure> {
        self.client.close().await;
        let Some(host) = self.embedded else { return Ok(()) };
        let idle = tokio::select! {
            idle = timeout(STAY_OPEN, idle(&host, console)) => idle.is_ok(),
            () = stop.asked() => return in_order(host.stop(Ending::Running(AT_ONCE)).await),
            // A host that cannot keep its promises finishes nothing.
            _ = host.failed() => return in_order(host.stop(Ending::Running(AT_ONCE)).await),
        };
        if !idle {
            console.say("taking no more jobs of others");
        }
        match end(host, Ending::Everything(WORK_OFF), stop).await {
            Some(ended) => in_order(ended),
            None => {
                console.say("left at once; what was running is judged at the next start");
                Ok(())
            }
        }
    }
}

/// A host that failed while it ended did not end well, whatever else went well.
pub(super) fn in_order(ended: Ended) -> Result<(), Failure> {
    match ended {
        Ended::InOrder => Ok(()),
        Ended::Failed(reason) => Err(Failure::fault(format_args!("the host had to stop: {reason}"))),
    }
}

/// Ends a host in order; `None` when the user asked again before it was done, so that the process should go at once.
pub(super) async fn end(host: Host, how: Ending, stop: &mut Stop) -> Option<Ended> {
    let mut ending = Box::pin(host.stop(how));
    tokio::select! {
        ended = &mut ending => Some(ended),
        () = stop.asked() => {
            // Destructors would wait for what the user does not want to wait for. On disk is what a crash leaves, and
            // every start can go on from that.
            std::mem::forget(ending);
            None
        }
    }
}

/// Waits until nothing is queued or running, and then for those who will ask how it ended.
async fn idle(host: &Host, console: &Console) {
    /// Jobs that end by themselves in this time are not worth a word.
    const UNNOTICED: Duration = Duration::from_millis(500);
    /// Time for another client to fetch its job's end; one that comes later becomes the host and asks itself.
    const LINGER: Duration = Duration::from_millis(250);
    if timeout(Duration::ZERO, host.idle()).await.is_ok() {
        return;
    }
    if timeout(UNNOTICED, host.idle()).await.is_err() {
        console.say("waiting for jobs that others gave to this host; Ctrl-C leaves at once");
        host.idle().await;
    }
    sleep(LINGER).await;
    host.idle().await;
}

async fn look(
    home: &Home,
    identity: &Identity,
    console: &Console,
    last: &mut Option<Error>,
) -> Result<Holder, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let live = match home.lock() {
            Ok(locked) => return Ok(Holder::Us(locked)),
            Err(HomeError::Held { live, .. }) => live,
            Err(error) => return Err(error.into()),
        };
        if let Some(live) = live {
            // Each time: it may be replaced between two hosts.
            match try_local(&live, home.host_key()?.public(), identity).await {
                Ok(client) => return Ok(Holder::Another(client)),
                Err(error) if !may_pass(&error) => return Err(error.into()),
                Err(error) => *last = Some(error),
            }
        }
        if pause < MAX_PAUSE && pause * 2 >= MAX_PAUSE {
            console.say(format_args!(
                "waiting for the host that is starting or stopping in {}",
                home.dir().display()
            ));
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Whether a failed attempt may end otherwise when it is made again, perhaps with another host of the same directory.
///
/// A wrong key too: an address that outlived its host may belong to anybody, and the next look finds the right one.
pub(super) fn may_pass(error: &Error) -> bool {
    let unreachable =
        matches!(error, Error::NotReachable { .. } | Error::TimedOut { .. } | Error::WrongHostKey { .. });
    unreachable || error.is_temporary()
}

fn never_answered(home: &Home, last: Option<Error>) -> Failure {
    let dir = home.dir().display();
    let reason = last.map_or_else(|| "it never said where it listens".into(), |error| error.to_string());
    Failure::fault(format_args!("another host holds {dir} and cannot be reached: {reason}"))
}
