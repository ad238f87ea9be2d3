//! What a service keeps of the environment that somebody started it with.
//!
//! Libraries read variables: the C library where names are looked up and how memory is given out, the loader which code comes first,
//! the thread pool how many threads there are. None of that is the configuration's, so none of it is kept: a service whose environment has
//! anything but [`KEPT`] starts this program again, in the same process, with nothing else. To take variables away in here would come too
//! late for the loader, and nobody may do it beside threads.
//!
//! *Never:* a setting. What is kept says where the data directory is, whom to tell that the host serves, and whether there are colours.
//! *Spec:* the table of variables in `docs/reference/cli.md`.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::exit::Failure;

/// The variables that mean something to a service.
const KEPT: [&str; 10] = [
    // Where the user's data is.
    "HOME",
    "XDG_DATA_HOME",
    // What the service manager says: whom to tell, how often, and which sockets are open already.
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    // Colours.
    "NO_COLOR",
];

/// Leaves everything behind that is not [`KEPT`]. To be called before anything is opened and while there is one thread. Returns when
/// there is nothing to leave, which is so the second time.
///
/// # Errors
/// When the program cannot be started again.
pub(super) fn leave_behind() -> Result<(), Failure> {
    #[expect(clippy::disallowed_methods, reason = "it is looked at in order not to be looked at by anybody")]
    let all: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let known = |name: &OsStr| KEPT.iter().any(|kept| name == *kept);
    if all.iter().all(|(name, _)| known(name)) {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    again.arg0(arguments.next().unwrap_or_else(|| "strongroom".into())).args(arguments);
    again.env_clear().envs(all.into_iter().filter(|(name, _)| known(name)));
    // The process stays: its number, its open files, whoever waits for it.
    Err(failed(&again.exec()))
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::fault(format_args!(
        "cannot start again without the variables of the environment ({error}). Start it with none, such as by env -i"
    ))
}
