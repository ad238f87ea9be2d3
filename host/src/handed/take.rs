//! Takes what was handed over, once: descriptors from 3 on, which the environment announces to one process.
//!
//! *Owns:* three variables and those descriptors. *Never:* takes what was meant for another process, or what is not open.
//! *Bound:* 16 descriptors.
//! *Spec:* `sd_listen_fds(3)`: `LISTEN_PID` is the process that they are for, `LISTEN_FDS` their number, `LISTEN_FDNAMES` their names.
#![allow(unsafe_code, reason = "a number becomes a descriptor that is owned; the variables that say so go")]

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use super::Handed;

const PROCESS: &str = "LISTEN_PID";
const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";
/// The first that is handed over.
const FIRST: i32 = 3;
/// More than a host could have a use for.
const MOST: i32 = 16;
/// What the manager calls one without a name.
const UNNAMED: &str = "unknown";

/// Whether this process has taken them: what was handed over has one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why they cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// The number is none.
    #[error(
        "{COUNT} is {0:?}, and must be a number from 0 to {MOST}. A service manager sets it when it hands sockets over; if none does, take {PROCESS} and \
         {COUNT} out of the environment"
    )]
    Count(OsString),
    /// There are fewer.
    #[error(
        "{COUNT} says that {count} sockets were handed over, and descriptor {number} is not open. Whoever started this process sets it wrongly, or closed it"
    )]
    NotOpen {
        /// Their number.
        count: i32,
        /// The one that is missing.
        number: i32,
    },
    /// The system refused.
    #[error("descriptor {number}, which was handed over, cannot be kept from other programs: {error}")]
    Flags {
        /// Which.
        number: i32,
        /// What the system said.
        error: rustix::io::Errno,
    },
}

/// What was handed over to this process; nothing the second time. To be called first: another part might have opened one of these numbers.
///
/// # Errors
/// When the environment announces to this process what is not there.
pub(crate) fn handed_over() -> Result<Vec<Handed>, TakeError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "which sockets there are; what may be listened at is in the configuration, and is held against them"
    )]
    let [process, count, names] = [PROCESS, COUNT, NAMES].map(std::env::var_os);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    forget();
    let is_for_us = process.as_ref().and_then(|pid| pid.to_str()?.parse().ok()) == Some(std::process::id());
    let Some(count) = count.filter(|_| is_for_us) else { return Ok(Vec::new()) };
    let number =
        count.to_str().and_then(|text| text.parse().ok()).filter(|number| (0..=MOST).contains(number));
    let count: i32 = number.ok_or(TakeError::Count(count))?;
    let names = names.map(|names| names.to_string_lossy().into_owned()).unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let numbers = FIRST..FIRST + count;
    // All are there before one of them is owned.
    if let Some(number) = numbers.clone().find(|number| !is_open(*number)) {
        return Err(TakeError::NotOpen { count, number });
    }
    numbers.map(|number| take(number, names.next().unwrap_or(UNNAMED).to_owned())).collect()
}

fn is_open(number: i32) -> bool {
    // SAFETY: it is looked at and not kept; where it is not open, the kernel says just that.
    let found = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfd(found).is_ok()
}

fn take(number: i32, name: String) -> Result<Handed, TakeError> {
    // SAFETY: it is open, and the environment says to this very process that it was opened for it before the process began, so no other part of it
    // is its owner; `TAKEN` sees to it that this is done once.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // Compilers are not handed anything.
    fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(|error| TakeError::Flags { number, error })?;
    Ok(Handed { number, name, socket })
}

/// Takes the variables away, so that nobody reads them twice. With a second thread, they stay: they name this process, and programs that it starts
/// get no environment.
fn forget() {
    let threads = std::fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count);
    if threads != 1 {
        return;
    }
    for name in [PROCESS, COUNT, NAMES] {
        // SAFETY: this is the only thread, so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}
