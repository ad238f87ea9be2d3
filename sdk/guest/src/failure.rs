//! Why a task did not do its work, and whose fault that was.

use std::fmt;
use std::io;
use std::path::Path;

/// Why a task ends without having done its work: a sentence, and the exit code that says whose fault it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Exit code of a task that could not do its work: a file, a directory, an output that broke.
    pub const FAILED: u8 = 1;
    /// Exit code of a task whose input is wrong: the same input fails again.
    pub const BAD_INPUT: u8 = 2;
    /// Exit code of a task that was called wrongly: the arguments want mending.
    pub const USAGE: u8 = 64;
    /// The largest exit code that is the task's own; those above belong to `strongroom run`.
    pub const MAX_CODE: u8 = 119;

    /// The task could not do its work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::with_code(Self::FAILED, message)
    }

    /// The input is wrong; say where, and what would be right.
    pub fn input(message: impl Into<String>) -> Self {
        Self::with_code(Self::BAD_INPUT, message)
    }

    /// The arguments are wrong; say which, and what would be right.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::with_code(Self::USAGE, message)
    }

    /// A failure with an exit code of the task's choice.
    ///
    /// A code of 0, or above [`Failure::MAX_CODE`], would tell the caller something untrue: it becomes
    /// [`Failure::FAILED`]. In a component that rustc 1.95 makes, every failure reaches the host as 1, since
    /// its libc still ends by the `exit` of WASI 0.2.0, which knows only success and failure.
    pub fn with_code(code: u8, message: impl Into<String>) -> Self {
        let code = if (1..=Self::MAX_CODE).contains(&code) { code } else { Self::FAILED };
        Self { code, message: message.into() }
    }

    /// The failure of using the file or directory `path`.
    ///
    /// WASI says "no such file" also where no directory was granted at all; this looks again, and then
    /// names the option that would grant one.
    pub fn at(path: &str, error: &io::Error) -> Self {
        Self::failed(match error.kind() {
            io::ErrorKind::NotFound if !is_granted(Path::new(path), |at| at.exists()) => {
                let guest = path.trim_start_matches("./").trim_start_matches('/');
                format!("{path}: no directory is granted there; grant one with --read HOSTDIR:/{guest}")
            }
            io::ErrorKind::NotFound => format!("{path}: no such file or directory"),
            io::ErrorKind::PermissionDenied => format!("{path}: permission denied"),
            _ => format!("{path}: {error}"),
        })
    }

    /// The exit code: 1 to [`Failure::MAX_CODE`].
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

/// Whether the path lies in a granted directory: then at least that directory exists for the guest.
fn is_granted(path: &Path, exists: impl Fn(&Path) -> bool) -> bool {
    path.ancestors().any(|at| {
        let here = Path::new(".");
        exists(if at.as_os_str().is_empty() { here } else { at })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red without the walk up: a missing file in a granted directory would be blamed on the grant.
    #[test]
    fn a_path_is_granted_when_something_above_it_is_there() {
        let sees = |there: &'static str| move |at: &Path| at == Path::new(there);
        assert!(is_granted(Path::new("/in/a/b.csv"), sees("/in")));
        assert!(is_granted(Path::new("/in"), sees("/")));
        assert!(is_granted(Path::new("a/b.csv"), sees(".")));
        assert!(!is_granted(Path::new("/in/a/b.csv"), sees("/docs")));
        assert!(!is_granted(Path::new("/in/a/b.csv"), |_| false));
    }
}
