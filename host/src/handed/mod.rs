//! Sockets that the service manager made and handed over, so that they are there before the host is, and stay while it is started again.
//!
//! The manager decides nothing by it: each must be what the configuration names, by kind, address, mode and owner, or the host does not start. What
//! was not handed over, the host makes itself, as ever.
//!
//! *Owns:* what was handed over, until whoever listens takes it. *Never:* believes a name: which socket is which is asked of the kernel.
//! *Spec:* `docs/reference/config.md`, "Sockets of the service manager"; `sd_listen_fds(3)`.

mod take;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketAddrUnix, SocketType, getpeername, getsockname};

use crate::admin::SOCKET;
use crate::config::Config;

pub(crate) use take::{TakeError, handed_over};

/// What the mode of the socket for administration must be.
const MODE: u32 = 0o600;

/// A descriptor that was handed over, and what the manager calls it.
#[derive(Debug)]
pub(crate) struct Handed {
    number: i32,
    name: String,
    socket: OwnedFd,
}

/// Which listener has which socket.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// UDP, for jobs.
    pub(crate) jobs: Option<OwnedFd>,
    /// The socket in the data directory.
    pub(crate) admin: Option<OwnedFd>,
    /// TCP, of `[admin]`.
    pub(crate) shown: Option<OwnedFd>,
}

/// Why the host does not start with what it was handed.
#[derive(Debug, thiserror::Error)]
#[error("the service manager handed over {name:?} (descriptor {number}), {what}: {problem}")]
pub(crate) struct SocketError {
    name: String,
    number: i32,
    what: String,
    problem: String,
}

/// What the kernel says of a socket.
enum Kind {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    Unix(PathBuf),
    Other(&'static str),
}

impl Sockets {
    /// Finds a listener of `config` and of the data directory `dir` for each.
    ///
    /// # Errors
    /// When one is not what the configuration names, or is a second one of its kind.
    pub(crate) fn sort(handed: Vec<Handed>, config: &Config, dir: &Path) -> Result<Self, SocketError> {
        let mut sockets = Self::default();
        for Handed { number, name, socket } in handed {
            let kind = Kind::of(&socket);
            let (place, problem) = match &kind {
                Kind::Udp(found) => (&mut sockets.jobs, is_for_jobs(&socket, *found, config)),
                Kind::Tcp(found) => (&mut sockets.shown, is_shown(*found, config)),
                Kind::Unix(found) => (&mut sockets.admin, is_for_administration(found, dir)),
                Kind::Other(_) => (&mut sockets.jobs, Err(NOT_OURS.to_owned())),
            };
            let twice = place.is_some().then(|| "there is one of that kind already".to_owned());
            match problem.and(twice.map_or(Ok(()), Err)) {
                Ok(()) => *place = Some(socket),
                Err(problem) => return Err(SocketError { name, number, what: kind.to_string(), problem }),
            }
        }
        Ok(sockets)
    }

    /// In words, for the log; none when nothing was handed over.
    pub(crate) fn names(&self) -> Option<String> {
        let Self { jobs, admin, shown } = self;
        let all = [("jobs", jobs), ("admin.sock", admin), ("[admin]", shown)];
        let names: Vec<&str> =
            all.into_iter().filter_map(|(name, socket)| socket.as_ref().map(|_| name)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

const NOT_OURS: &str = "a host listens at a UDP socket (ListenDatagram=) for jobs, at a unix socket (ListenStream=) for administration, and, if [admin] \
    says so, at TCP. Take this one out of the socket unit";

impl Kind {
    fn of(socket: &OwnedFd) -> Self {
        let (Ok(kind), Ok(address)) = (socket_type(socket), getsockname(socket)) else {
            return Self::Other("which is no socket");
        };
        let listens = socket_acceptconn(socket).unwrap_or(false);
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            return match kind {
                SocketType::DGRAM => Self::Udp(address),
                SocketType::STREAM if listens => Self::Tcp(address),
                SocketType::STREAM => Self::Other("a TCP socket that does not listen"),
                _ => Self::Other("an internet socket that is neither UDP nor TCP"),
            };
        }
        match SocketAddrUnix::try_from(address) {
            Ok(_) if kind != SocketType::STREAM || !listens => {
                Self::Other("a unix socket that is not a listening stream")
            }
            Ok(address) => {
                let path = address.path_bytes().unwrap_or_default();
                Self::Unix(Path::new(std::ffi::OsStr::from_bytes(path)).to_owned())
            }
            Err(_) => Self::Other("a socket that is neither of the internet nor a unix socket"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "UDP {address}"),
            Self::Tcp(address) => write!(f, "TCP {address}"),
            Self::Unix(path) => write!(f, "the unix socket {}", path.display()),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Port 0 in the configuration is any port.
fn is_at(found: SocketAddr, wanted: SocketAddr) -> bool {
    found.ip() == wanted.ip() && (wanted.port() == 0 || found.port() == wanted.port())
}

fn is_for_jobs(socket: &OwnedFd, found: SocketAddr, config: &Config) -> Result<(), String> {
    let wanted = config.listen;
    if !is_at(found, wanted) {
        return Err(format!(
            "the host is to listen at {wanted} (`listen`). Make them the same: ListenDatagram={wanted} in the socket unit, or `listen` in the configuration"
        ));
    }
    match getpeername(socket) {
        Err(Errno::NOTCONN) => Ok(()),
        _ => Err("it is connected to one address, and would hear nobody else".into()),
    }
}

fn is_shown(found: SocketAddr, config: &Config) -> Result<(), String> {
    let Some(admin) = &config.admin else {
        return Err("the configuration has no [admin], so nothing is shown over TCP. Take it out of the socket unit, or put [admin] in".into());
    };
    let wanted = admin.listen;
    if is_at(found, wanted) {
        return Ok(());
    }
    Err(format!(
        "administration is to listen at {wanted} (`admin.listen`). Make them the same: ListenStream={wanted} in the socket unit, or the configuration"
    ))
}

fn is_for_administration(found: &Path, dir: &Path) -> Result<(), String> {
    let wanted = dir.join(SOCKET);
    let real = |path: &Path| Some((path.parent()?.canonicalize().ok()?, path.file_name()?.to_owned()));
    if real(found).is_none_or(|found| Some(found) != real(&wanted)) {
        return Err(format!(
            "administration is at {}. Write in the socket unit: ListenStream={}",
            wanted.display(),
            wanted.display()
        ));
    }
    let metadata =
        found.symlink_metadata().map_err(|error| format!("its name cannot be looked at: {error}"))?;
    if !metadata.file_type().is_socket() {
        return Err("something else has its name now. Start the socket unit again".into());
    }
    let mode = metadata.mode() & 0o777;
    if mode != MODE {
        return Err(format!(
            "its mode is {mode:04o}, and others could connect. Write in the socket unit: SocketMode=0600"
        ));
    }
    let (owner, ours) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != ours {
        return Err(format!(
            "it belongs to user {owner}, and this host is user {ours}. Write in the socket unit: SocketUser= with the host's user"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_configured_one_and_port_0_is_any_port() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (found, wanted, is) in [
            ("127.0.0.1:7433", "127.0.0.1:7433", true),
            ("127.0.0.1:7433", "127.0.0.1:0", true),
            ("127.0.0.1:7433", "127.0.0.1:7434", false),
            ("0.0.0.0:7433", "127.0.0.1:7433", false),
            ("[::]:7433", "0.0.0.0:7433", false),
            ("0.0.0.0:7433", "127.0.0.1:0", false),
        ] {
            assert_eq!(is_at(at(found), at(wanted)), is, "{found} for {wanted}");
        }
    }
}
