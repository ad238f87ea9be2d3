//! The host's configuration: one TOML file, checked as a whole before anything is opened.
//!
//! The road of a file: `raw` turns bytes into tables whose keys and values know their line; `checked` asks those
//! tables for each key that exists, refuses what is left over, and builds a [`Config`]; `sharing` does the same for what
//! queues and tenants share by, `forward` for where the audit log goes, `telemetry` for traces and metrics. `apart` holds its paths against the data directory. `knobs` has every number: default, range, unit, worst case. `settings` tells a whole
//! configuration back, for `strongroom config show`.
//!
//! *Owns:* `strongroom.toml`, its keys and its error texts.
//! *Never:* the environment. A variable that could widen a grant would be a grant that nobody wrote down.
//! *Spec:* `docs/reference/config.md`.

mod allow;
mod apart;
mod change;
mod checked;
mod confine;
mod example;
mod forward;
mod governs;
mod knobs;
mod narrowed;
mod raw;
mod roles;
mod roots;
mod rules;
mod settings;
mod sharing;
mod telemetry;
mod witnesses;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_job::cosignature::CosignerKey;
use strongroom_job::{Access, Destination, Digest, HttpRule, Limits, Listener, Name, PublicKey};
use strongroom_runtime::TlsRoots;

pub use crate::http::{ParsePrefixError, Prefix};
pub use allow::{AdminListener, AllowList};
pub use apart::OverlapError;
pub use change::{Diff, LockOut};
pub use confine::{Confine, Isolation};
pub use forward::{Begin, FileRules, Forward, ForwardTo, MAX_FORWARDS, ParseDestinationError, Server};
pub use governs::Governs;
pub use knobs::{KNOBS, Knob, RULES};
pub use narrowed::Narrowed;
pub use raw::Fault;
pub use roles::Roles;
pub use rules::{QueueRules, Rate, TenantRules};
pub use settings::Setting;
pub use telemetry::{Endpoint, ParseEndpointError, Telemetry};

/// Longest configuration file, in bytes: room for ten thousand principals.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Everything that a host is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the host listens, UDP.
    pub listen: SocketAddr,
    /// From where clients may connect; none: from anywhere.
    pub allow_from: Option<AllowList>,
    /// The name that the audit log signs its checkpoints under.
    pub log_origin: String,
    /// Who may connect. Names and keys are unique.
    pub principals: Vec<Principal>,
    /// Directories that jobs may ask for by name. Each was a directory when the file was read.
    pub volumes: BTreeMap<Name, Volume>,
    /// Queues that jobs may wait in; `default` is always one of them.
    pub queues: BTreeSet<Name>,
    /// The rules of those queues that have some. Each of them is one of `queues`.
    pub queue_rules: BTreeMap<Name, QueueRules>,
    /// What those tenants get that are named; any other has [`TenantRules::default`]. Each has a principal.
    pub tenants: BTreeMap<Name, TenantRules>,
    /// What this host is, in words of its operator: jobs may require it.
    pub labels: BTreeMap<String, String>,
    /// How much of everything.
    pub bounds: Bounds,
    /// How long jobs that are over are kept.
    pub retention: Retention,
    /// How the running host checks itself.
    pub check: Check,
    /// Where the log is served for reading, TCP; none: nowhere.
    pub serve_log: Option<SocketAddr>,
    /// From where it may be read; none: from anywhere.
    pub serve_log_allow_from: Option<AllowList>,
    /// Administration over TCP; none: over the socket in the data directory only.
    pub admin: Option<AdminListener>,
    /// Who is asked to cosign the log. Each has a key of its own.
    pub witnesses: Vec<Witness>,
    /// How many of them make a checkpoint one that is kept and shown; at least 1.
    pub witness_quorum: usize,
    /// Whom outgoing HTTPS of jobs trusts.
    pub http_roots: TlsRoots,
    /// The file that says so, if one does.
    pub http_ca_file: Option<PathBuf>,
    /// Where else the audit log goes. Names are unique.
    pub forwards: Vec<Forward>,
    /// The collector of traces and metrics; none: they go nowhere.
    pub telemetry: Option<Telemetry>,
    /// What is to happen where the kernel cannot confine the host.
    pub confine: Confine,
    /// The user that a host which is started as root becomes.
    pub run_as: Option<String>,
    /// Where guests run.
    pub isolation: Isolation,
    /// SHA-256 of the file's bytes, which the audit log records at each start.
    pub digest: Digest,
    /// Digests of the values in force, which the audit log records when they change.
    pub governs: Governs,
}

/// The holder of a key that the host knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What people call it.
    pub name: Name,
    /// The key that its connections and envelopes carry.
    pub key: PublicKey,
    /// In whose name its jobs run.
    pub tenant: Name,
    /// Volumes that its jobs may ask for, and how far at most.
    pub volumes: BTreeMap<Name, Access>,
    /// Whether its jobs may name any directory that the host's own user can open. For that user alone.
    pub any_directory: bool,
    /// Whether its jobs may ask for any network access. For the host's own user alone.
    pub any_network: bool,
    /// Where its jobs may connect or send to.
    pub connect: Vec<Destination>,
    /// Where its jobs may listen.
    pub listen: Vec<Listener>,
    /// HTTP requests that its jobs may make.
    pub http: Vec<HttpRule>,
    /// Secrets that its jobs may ask for.
    pub secrets: BTreeSet<Name>,
    /// What it may ask of the host. Once the host has a trust file, `operate` counts only if that names its key, too.
    pub roles: Roles,
    /// What its grant bounds, when it is a delegate of somebody; none of a principal that the file names.
    pub narrowed: Option<Box<Narrowed>>,
}

/// Somebody else's machine that cosigns the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What checks its cosignatures.
    pub key: CosignerKey,
    /// Where it is asked.
    pub url: Prefix,
}

/// A directory with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Absolute, without symbolic links at the time of the check.
    pub path: PathBuf,
    /// How far any job may go, whatever its principal is granted.
    pub access: Access,
}

/// Upper bounds. See [`KNOBS`] for the default, the range and the worst case of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Guests that run at once.
    pub max_running: usize,
    /// Jobs that wait, over all queues.
    pub max_queued: usize,
    /// Largest module, bytes.
    pub max_module_bytes: u64,
    /// Largest input, bytes.
    pub max_input_bytes: u64,
    /// Longest time from a job's not-before to its not-after.
    pub max_lifetime: Duration,
    /// How far a client's clock may be off.
    pub clock_skew: Duration,
    /// How far ahead a job may set the time of its start, and a series its end.
    pub max_schedule_ahead: Duration,
    /// Highest limits that a job may ask for. `fuel: None` sets no maximum and lets jobs run without a fuel limit;
    /// `Some(n)` makes a fuel limit of at most `n` compulsory.
    pub max_limits: Limits,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once of one key.
    pub max_connections_per_key: usize,
    /// Requests at once on one connection.
    pub max_streams_per_connection: u32,
    /// Longest wait for a request's header, and between two pieces of its body.
    pub request_timeout: Duration,
    /// Longest wait for running jobs when the host is told to stop.
    pub drain: Duration,
    /// Most memory of one compilation, bytes.
    pub compile_memory_bytes: u64,
    /// Longest compilation.
    pub compile_time: Duration,
    /// Most disk for compiled modules, bytes.
    pub compile_cache_bytes: u64,
    /// With less free on the data directory's disk, nothing new is taken; 0 takes it to the last byte.
    pub disk_reserve_bytes: u64,
    /// Processes in which guests run, where they do not run in the host's own.
    pub max_workers: usize,
    /// How long such a process is kept without a job.
    pub worker_idle: Duration,
}

/// How long jobs that are over are kept: the end of each, its output and its artifacts. A job goes when one of these says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Since its end.
    pub keep: Duration,
    /// Jobs of one tenant.
    pub jobs_per_tenant: usize,
    /// Output and artifacts of one tenant's jobs, bytes; none: no bound.
    pub bytes_per_tenant: Option<u64>,
}

/// How a running host checks its log and its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// From one check to the next; none: never.
    pub every: Option<Duration>,
    /// Most that is read in a second.
    pub bytes_per_second: u64,
}

/// Most memory (bytes) and time of a compilation where no configuration says anything.
pub(crate) fn compile_defaults() -> (u64, Duration) {
    let usual = |knob: &Knob| knob.default.unwrap_or(u64::MAX);
    (usual(&knobs::COMPILE_MEMORY_BYTES), Duration::from_millis(usual(&knobs::COMPILE_MS)))
}

/// Why a configuration is not used. Always the fault of the file's author, or of the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Cannot be read at all.
    #[error("{path}: cannot read the configuration: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Longer than any configuration needs to be.
    #[error("{path}: {length} bytes where a configuration may have {MAX_CONFIG_BYTES}")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// Read, and wrong at one place.
    #[error("{path}:{fault}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong there.
        fault: Fault,
    },
    /// Read, and not for a host in that directory.
    #[error("{path}: {error}")]
    Overlap {
        /// The file.
        path: PathBuf,
        /// What is not apart.
        error: OverlapError,
    },
}

/// Of a configuration, what is the same on every machine.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// The name of the audit log.
    pub log_origin: String,
    /// The bounds.
    pub bounds: Bounds,
}

impl Config {
    /// Reads and checks the file at `path`, and that every volume is a directory now.
    ///
    /// # Errors
    /// Names the file, the line, what is wrong and what would be right.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        Self::parse(&text).map_err(|fault| ConfigError::Wrong { path: path.into(), fault })
    }

    /// Checks the bytes of a configuration file. Relative paths are refused, so no working directory matters.
    ///
    /// # Errors
    /// The first fault, with its line.
    pub fn parse(text: &[u8]) -> Result<Self, Fault> {
        checked::check(text)
    }

    /// What the file at `path` says of the log and of bounds, wherever that is: volumes and certificates that it names need not be on this
    /// machine.
    ///
    /// # Errors
    /// As [`Config::load`], as far as those two go.
    pub fn elsewhere(path: &Path) -> Result<Elsewhere, ConfigError> {
        let text = read(path)?;
        checked::elsewhere(&text).map_err(|fault| ConfigError::Wrong { path: path.into(), fault })
    }

    /// Files of certificates that it names: they are read again with it.
    pub fn ca_files(&self) -> impl Iterator<Item = &Path> {
        let forwards = self.forwards.iter().filter_map(|forward| forward.ca_file.as_deref());
        let telemetry = self.telemetry.iter().filter_map(|telemetry| telemetry.ca_file.as_deref());
        self.http_ca_file.as_deref().into_iter().chain(forwards).chain(telemetry)
    }

    /// Every value that the bytes of a configuration file put in force, by a line of theirs or by default.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn settings(text: &[u8]) -> Result<Vec<Setting>, Fault> {
        settings::of(text, &Self::parse(text)?)
    }

    /// A configuration file of these settings, with a note at each where it came from.
    #[must_use]
    pub fn explained(settings: &[Setting]) -> String {
        settings::file(settings)
    }

    /// The bytes of the file at `path`, which may be no configuration.
    ///
    /// # Errors
    /// When it cannot be read or is longer than any configuration.
    pub fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
        read(path)
    }

    /// The commented file that `strongroom init` writes: every key with its default, and one principal, `owner`.
    #[must_use]
    pub fn example(owner: &PublicKey, log_origin: &str) -> String {
        example::text(owner, log_origin)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |error| ConfigError::Read { path: path.into(), error };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLong { path: path.into(), length });
    }
    std::fs::read(path).map_err(failed)
}
