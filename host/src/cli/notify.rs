//! Words to the service manager: when the host serves, that it is well, and that it stops.
//!
//! *Owns:* three variables of the environment, by which a manager says where it listens and how often it wants to hear of us. They are told
//! something and decide nothing. *Never:* waits for the manager, or fails because of it. *Spec:* `sd_notify(3)`.

use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::host::Host;

/// Where the manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The longest silence that it bears, microseconds, and the process that this is meant for.
const SILENCE: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];
/// We speak so many times in that time: one answer may be late.
const TIMES: u32 = 3;
/// The shortest time between two words, whatever the manager asks for.
const SHORTEST: Duration = Duration::from_millis(100);
/// What a stop may take beside the drain, until the watchdog bites.
const LAST_THINGS: Duration = Duration::from_secs(60);

/// A manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Manager {
    socket: Option<UnixDatagram>,
    every: Option<Duration>,
}

impl Manager {
    /// The one that started this process. To be called before the host confines itself: an abstract socket cannot be reached afterwards.
    pub(super) fn of_this_process() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "whom to tell that the host serves decides nothing about it"
        )]
        let variable = |name| std::env::var_os(name);
        let number = |name| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        let Some(address) = variable(SOCKET) else { return Self::default() };
        let [silence, process] = SILENCE;
        let is_for_us = number(process).is_none_or(|pid| pid == u64::from(std::process::id()));
        let every = number(silence).filter(|silence| *silence > 0 && is_for_us);
        let every = every.map(|silence| (Duration::from_micros(silence) / TIMES).max(SHORTEST));
        match connect(&address.into_vec()) {
            Ok(socket) => Self { socket: Some(socket), every },
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told that the host serves ({SOCKET})");
                Self::default()
            }
        }
    }

    /// From now on clients are served.
    pub(super) fn serving(&self, what: &str) {
        self.tell(&format!("READY=1\nSTATUS=serving, {what}\n"));
    }

    /// From now on no new jobs are taken; running ones may take so long. Nobody asks whether the host is well while it ends: the whole stop
    /// has one bound.
    pub(super) fn stopping(&self, drain: Duration) {
        let silence = drain.saturating_add(LAST_THINGS).as_micros();
        self.tell(&format!(
            "STOPPING=1\nWATCHDOG_USEC={silence}\nSTATUS=stopping, running jobs may finish\n"
        ));
    }

    /// Tells, as often as the manager wants to hear it, that the host is well, as long as it is. Never ends.
    pub(super) async fn keep_telling(&self, host: &Host) {
        let Some(every) = self.every else { return std::future::pending().await };
        let mut turns = tokio::time::interval(every);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            // One that stands still keeps us waiting here, and the manager in silence.
            if host.is_well().await {
                self.tell("WATCHDOG=1\n");
            }
        }
    }

    fn tell(&self, words: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(words.as_bytes())
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// A path, or, behind an `@`, a name of the abstract kind.
fn connect(address: &[u8]) -> io::Result<UnixDatagram> {
    let address = match address {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
        _ => return Err(io::Error::other("it is neither a path nor begins with @")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read is not waited for.
    socket.set_nonblocking(true)?;
    Ok(socket)
}
