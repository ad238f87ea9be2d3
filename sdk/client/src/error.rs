//! What can go wrong, whose fault it is, and how to mend it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_job::{
    BodyError, CloseCode, Digest, EnvelopeError, JobId, JobState, OutputStream, PublicKey, Refusal,
};

/// Why a call of the SDK failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody answered, or the address is none.
    #[error(
        "cannot reach a host at {address}: {reason}. Check that it runs and that its UDP port is open from here"
    )]
    NotReachable {
        /// Whom we called.
        address: String,
        /// What happened.
        reason: String,
    },

    /// Somebody else answered. Nothing was sent to them.
    #[error("{}", wrong_host_key(.address, .expected, .found))]
    WrongHostKey {
        /// Whom we called.
        address: String,
        /// The key that was pinned.
        expected: Box<PublicKey>,
        /// The key that answered.
        found: Box<PublicKey>,
    },

    /// The host does not know our key.
    #[error(
        "the host at {address} does not know our key. Ask its operator to add a principal with the key {key} to its \
         configuration"
    )]
    KeyNotAccepted {
        /// Whom we called.
        address: String,
        /// Our key.
        key: Box<PublicKey>,
    },

    /// No key is known for this host, so nothing can be trusted.
    #[error(
        "the key of the host {address} is not known: {} does not name it. Ask its operator for the key (`strongroom init` \
         prints it) and pass it as --host-key ed25519:…",
        .file.display()
    )]
    UnknownHost {
        /// Whom we wanted to call.
        address: String,
        /// The file that does not name it.
        file: PathBuf,
    },

    /// The host ended the connection or the stream, and said why.
    #[error("the host at {address} {}", closed(*.code))]
    Closed {
        /// Whom we called.
        address: String,
        /// Why.
        code: CloseCode,
    },

    /// The connection broke. The request may or may not have been carried out; repeating it is safe.
    #[error(
        "the connection to {address} was lost: {reason}. Try again: a repeated request is carried out once"
    )]
    Lost {
        /// Whom we called.
        address: String,
        /// What happened.
        reason: String,
    },

    /// The host is connected but did not answer in time.
    #[error("the host at {address} did not {what} within {} s. Try again, or allow more time", .after.as_secs())]
    TimedOut {
        /// Whom we called.
        address: String,
        /// What we waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },

    /// The host understood and said no.
    #[error("refused ({}): {}", .0.code, .0)]
    Refused(#[from] Refusal),

    /// The host did not keep to the protocol: its fault, or not the same version.
    #[error("the host at {address} broke the protocol: {detail}. Check that both sides run the same version")]
    Protocol {
        /// Whom we called.
        address: String,
        /// What it did.
        detail: String,
    },

    /// The job breaks a rule of its format; it was not sent.
    #[error("the job was not sent: {0}")]
    InvalidJob(#[from] BodyError),

    /// A name, address or amount of the job is malformed; it was not sent.
    #[error("the job was not sent: {field}: {problem}")]
    InvalidField {
        /// Which part of the job.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// The envelope is none, or this client may not send it; it was not sent.
    #[error("the envelope was not sent: {0}")]
    InvalidEnvelope(Box<EnvelopeError>),

    /// The envelope is signed for another host; it was not sent.
    #[error("the envelope was not sent: it is signed for the host {audience}, not for the one at {address}")]
    WrongAudience {
        /// Whom we are connected to.
        address: String,
        /// For whom it is signed.
        audience: Box<PublicKey>,
    },

    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// A key file or a list of known hosts is not what it should be.
    #[error("{}: {problem}", .path.display())]
    BadFile {
        /// Which.
        path: PathBuf,
        /// What is wrong and how to mend it.
        problem: String,
    },

    /// The job is not over, so what is only known then cannot be had.
    #[error("job {job} is {state}, not over: wait for its end first")]
    NotOver {
        /// Which.
        job: JobId,
        /// How it stands.
        state: JobState,
    },

    /// The job cannot be run once more; nothing was sent.
    #[error("job {job} is not run again: {problem}")]
    NotAgain {
        /// Which.
        job: JobId,
        /// Why not.
        problem: String,
    },

    /// What came is not what the job wrote.
    #[error(
        "{stream:?} of job {job} is not what the host recorded: {found_length} bytes with {found_digest} came, \
         {expected_length} bytes with {expected_digest} were recorded. Do not use it; fetch it again"
    )]
    OutputMismatch {
        /// Whose output.
        job: JobId,
        /// Which stream.
        stream: OutputStream,
        /// Bytes recorded.
        expected_length: u64,
        /// Their SHA-256.
        expected_digest: Digest,
        /// Bytes that came, with those before the offset.
        found_length: u64,
        /// SHA-256 of what came.
        found_digest: Digest,
    },

    /// What came is not what the job left.
    #[error(
        "artifact {name:?} of job {job} is not what the host recorded: {found_length} bytes with {found_digest} came, \
         {expected_length} bytes with {expected_digest} were recorded. Do not use it; fetch it again"
    )]
    ArtifactMismatch {
        /// Whose artifact.
        job: JobId,
        /// Its name.
        name: String,
        /// Bytes recorded.
        expected_length: u64,
        /// Their SHA-256.
        expected_digest: Digest,
        /// Bytes that came, with those before the offset.
        found_length: u64,
        /// SHA-256 of what came.
        found_digest: Digest,
    },

    /// The host's receipt for a job does not prove what it should.
    #[error(
        "the receipt of job {job} proves nothing: {problem}. The host is at fault, or not the same version: keep what it sent"
    )]
    BadReceipt {
        /// Whose.
        job: JobId,
        /// The first thing that is wrong.
        problem: String,
    },

    /// Statements about keys do not lead on from a key that is pinned here; the file is as it was.
    #[error("{}: no pinned key was replaced: {problem}", .file.display())]
    NotFollowed {
        /// The list of known hosts.
        file: PathBuf,
        /// Why not.
        problem: String,
    },

    /// The system gave no random bytes.
    #[error("the system's random source failed: {0}")]
    Random(getrandom::Error),
}

impl Error {
    /// Whether the same call may succeed later without being changed. [`Retry`](crate::Retry) repeats these.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.code.is_temporary(),
            Self::Lost { .. } => true,
            Self::Closed { code, .. } => matches!(
                code,
                CloseCode::Done
                    | CloseCode::ShuttingDown
                    | CloseCode::TooManyConnections
                    | CloseCode::TooSlow
                    | CloseCode::HostFault
            ),
            _ => false,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Loud, because a person has to stop and think here.
fn wrong_host_key(address: &str, expected: &PublicKey, found: &PublicKey) -> String {
    format!(
        "\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@   THE HOST AT {address} IS NOT THE ONE YOU TRUST
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Somebody may be answering in its place. Nothing was sent to them.
  pinned key:   {expected}
  answered by:  {found}
If its key was replaced, its operator has a statement by the pinned key that says so: ask for the output of `strongroom key statement
host`, and follow it with `strongroom key accept FILE`. If the host was set up anew, ask for the new key over another channel, then
replace the pinned one."
    )
}

const fn closed(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Done => "closed the connection. Try again",
        CloseCode::ShuttingDown => "is shutting down. Try again when it is back",
        CloseCode::TooManyConnections => {
            "has no connection left for this key. Close some, or share one `Client` among tasks"
        }
        CloseCode::KeyRevoked => "no longer accepts our key. Ask its operator",
        CloseCode::Protocol => "says that we broke the protocol. Check that both sides run the same version",
        CloseCode::TooSlow => "gave up: our bytes came too slowly. Try again over a better network",
        CloseCode::NotNeeded => "wants no more of this stream",
        CloseCode::HostFault => {
            "failed in the middle of its answer, by its own fault. Try again; its log says more"
        }
    }
}
