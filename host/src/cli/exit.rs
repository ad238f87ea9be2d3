//! Exit codes, and the errors that lead to them.
//!
//! *Spec:* `docs/reference/cli.md`; design: 0–119 are the guest's, 120–126 are Strongroom's, 1 is a check's "no".

use std::fmt;

use serde::Serialize;
use strongroom_job::{Limit, Outcome, Refusal, RefusalCode};

use crate::config::ConfigError;
use crate::confine::{ConfineError, UserError};
use crate::forward::TrustError;
use crate::handed::{SocketError, TakeError};
use crate::home::HomeError;
use crate::host::StartError;

/// The highest exit status of a guest that is passed on. A guest that ends with a higher one, or with a negative one,
/// makes `strongroom` exit with this: never with a code that says something about Strongroom, and never with success.
pub(super) const MAX_GUEST_CODE: u8 = 119;

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It worked; or the guest's own status, 0 to 119.
    Status(u8),
    /// The answer to a question is no: the log does not verify.
    No,
    /// The host refused, and nothing ran.
    Refused,
    /// The guest hit a limit other than time.
    Limit,
    /// The guest trapped.
    Trapped,
    /// Somebody stopped it.
    Cancelled,
    /// The guest hit its time limit.
    TimedOut,
    /// The host, the network or this machine failed.
    Fault,
    /// The command line, or a file that it names, is wrong.
    Usage,
}

impl Exit {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Status(code) => code,
            Self::No => 1,
            Self::Refused => 120,
            Self::Limit => 121,
            Self::Trapped => 122,
            Self::Cancelled => 123,
            Self::TimedOut => 124,
            Self::Fault => 125,
            Self::Usage => 126,
        }
    }

    /// How a job's outcome shows in the exit status.
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Exited { code } => match u8::try_from(*code) {
                Ok(code) if code <= MAX_GUEST_CODE => Self::Status(code),
                _ => Self::Status(MAX_GUEST_CODE),
            },
            Outcome::Trapped { .. } => Self::Trapped,
            Outcome::Exceeded { limit: Limit::WallTime, .. } => Self::TimedOut,
            Outcome::Exceeded { .. } => Self::Limit,
            Outcome::Cancelled | Outcome::Unmet { .. } | Outcome::Replaced { .. } => Self::Cancelled,
            Outcome::Expired => Self::TimedOut,
            Outcome::Interrupted | Outcome::Faulted { .. } => Self::Fault,
        }
    }
}

/// An error on its way to the user.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    #[serde(skip)]
    pub(super) exit: Exit,
    /// Whether the user need not be told: they did it themselves.
    #[serde(skip)]
    pub(super) quiet: bool,
    /// For programs.
    code: String,
    /// For people: what, whose fault, how to mend it.
    pub(super) message: String,
    /// What was asked for and is not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

impl Failure {
    fn new(exit: Exit, code: impl fmt::Display, message: impl fmt::Display) -> Self {
        let (code, message) = (code.to_string(), message.to_string());
        Self { exit, quiet: false, code, message, missing: Vec::new() }
    }

    /// The command line is wrong.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// This machine or the network failed.
    pub(super) fn fault(message: impl fmt::Display) -> Self {
        Self::new(Exit::Fault, "fault", message)
    }

    /// Nobody reads the result any more, as behind `| head`.
    pub(super) fn unread() -> Self {
        Self { quiet: true, ..Self::new(Exit::Fault, "unread", "nobody reads standard output") }
    }

    /// Refused before or by a host.
    pub(super) fn refused(code: RefusalCode, message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, code, message)
    }

    /// A check's answer is no.
    pub(super) fn no(code: &str, message: impl fmt::Display) -> Self {
        Self::new(Exit::No, code, message)
    }

    /// The same failure, with what it is about in front.
    pub(super) fn about(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The user stopped it.
    pub(super) fn cancelled(message: impl fmt::Display) -> Self {
        Self::new(Exit::Cancelled, "cancelled", message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for missing in &self.missing {
            write!(f, "\n  not granted: {missing}")?;
        }
        Ok(())
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        Self::new(Exit::Fault, "data-directory", error)
    }
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Self::new(Exit::Fault, "wrong-user", error)
    }
}

impl From<ConfineError> for Failure {
    fn from(error: ConfineError) -> Self {
        Self::new(Exit::Fault, "not-confined", error)
    }
}

impl From<TakeError> for Failure {
    fn from(error: TakeError) -> Self {
        Self::new(Exit::Fault, "wrong-socket", error)
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        Self::new(Exit::Fault, "wrong-socket", error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Usage, "config", error)
    }
}

impl From<crate::telemetry::TrustError> for Failure {
    fn from(error: crate::telemetry::TrustError) -> Self {
        Self::new(Exit::Usage, "config", error)
    }
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        Self::new(Exit::Usage, "config", error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Home(error) => error.into(),
            error => Self::new(Exit::Fault, "not-started", format_args!("the host cannot start: {error}")),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let exit = if refusal.code.is_host_fault() { Exit::Fault } else { Exit::Refused };
        let message = format!("refused ({}): {}", refusal.code, refusal.message);
        Self { missing: refusal.missing, ..Self::new(exit, refusal.code, message) }
    }
}

impl From<strongroom_sdk::Error> for Failure {
    fn from(error: strongroom_sdk::Error) -> Self {
        use strongroom_sdk::Error;
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::WrongHostKey { .. } => Self::new(Exit::Fault, "wrong-host-key", error),
            Error::UnknownHost { .. } => Self::new(Exit::Usage, "unknown-host", error),
            Error::KeyNotAccepted { .. } => Self::new(Exit::Refused, "unknown-key", error),
            Error::InvalidJob(_) | Error::InvalidField { .. } => Self::usage(error),
            Error::NotOver { .. } | Error::NotAgain { .. } => {
                Self::new(Exit::Refused, RefusalCode::WrongState, error)
            }
            error => Self::fault(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(outcome: &Outcome) -> u8 {
        Exit::of(outcome).code()
    }

    #[test]
    fn a_guest_can_pass_on_0_to_119_and_imitate_nothing_else() {
        for status in 0..=119 {
            assert_eq!(code(&Outcome::Exited { code: status }), u8::try_from(status).unwrap());
        }
        // Red with `code as u8`: 256 would be success, 125 a fault of the host.
        for status in [120, 125, 126, 127, 255, 256, 512, i32::MAX, -1, -256, i32::MIN] {
            assert_eq!(code(&Outcome::Exited { code: status }), 119, "{status}");
        }
    }

    #[test]
    fn every_other_outcome_has_its_code() {
        let exceeded = |limit| Outcome::Exceeded { limit, allowed: 1, used: 2 };
        assert_eq!(code(&exceeded(Limit::Memory)), 121);
        assert_eq!(code(&exceeded(Limit::Stdout)), 121);
        assert_eq!(code(&exceeded(Limit::WallTime)), 124);
        assert_eq!(code(&Outcome::Trapped { reason: "unreachable".into() }), 122);
        assert_eq!(code(&Outcome::Cancelled), 123);
        let job = strongroom_job::JobId::from_bytes([0; 16]);
        assert_eq!(code(&Outcome::Unmet { job }), 123);
        assert_eq!(code(&Outcome::Replaced { by: job }), 123);
        assert_eq!(code(&Outcome::Expired), 124);
        assert_eq!(code(&Outcome::Interrupted), 125);
        assert_eq!(code(&Outcome::Faulted { reason: "disk".into() }), 125);
    }

    #[test]
    fn a_refusal_lists_what_is_missing() {
        let mut refusal = Refusal::new(RefusalCode::NotGranted, "asks for more than it may have");
        refusal.missing = vec!["write volume data at /data".into()];
        let failure = Failure::from(refusal);
        assert_eq!(failure.exit.code(), 120);
        let text = "refused (not-granted): asks for more than it may have\n  \
                    not granted: write volume data at /data";
        assert_eq!(failure.to_string(), text);
        assert_eq!(Failure::from(Refusal::new(RefusalCode::HostFault, "disk")).exit.code(), 125);
    }
}
