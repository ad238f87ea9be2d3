//! What a job runs: module, arguments, input, the capabilities it asks for and the limits it accepts.
//!
//! Everything here is inside the signature. The host gives all of it or refuses; it never narrows silently.
//!
//! *Spec:* `docs/formats/job.md`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base64_bytes::Base64Bytes;
use crate::network::MAX_RULE_BYTES;
use crate::text::shown;
use crate::{Destination, Digest, HttpRule, Listener, Name};

/// Most arguments of a job.
pub const MAX_ARGS: usize = 1024;
/// Most environment variables of a job.
pub const MAX_ENV: usize = 1024;
/// Most directories that a job may ask for.
pub const MAX_MOUNTS: usize = 64;
/// Most labels of a job.
pub const MAX_LABELS: usize = 32;
/// Longest name and longest value of a label, in bytes each: they stand in every list of jobs.
pub const MAX_LABEL_BYTES: usize = 256;
/// Longest guest path or directory name, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// Longest sum of all paths of a job, in bytes: the audit record of the job holds them all, and must fit a log entry.
pub const MAX_PATHS_BYTES: usize = 16 * 1024;
/// Most destinations, most listeners, most HTTP rules and most secrets of a job, each.
pub const MAX_RULES: usize = 64;
/// Where a job with a scratch directory sees it.
pub const SCRATCH_PATH: &str = "/scratch";
/// What is here at the end of an attempt is kept.
pub const ARTIFACTS_PATH: &str = "/scratch/out";
/// Where secrets are given as files.
pub const SECRETS_PATH: &str = "/run/secrets";
/// Longest input that may stand in the envelope itself, in bytes; a longer one is a blob.
pub const MAX_INLINE_INPUT_BYTES: usize = 16 * 1024;

/// What to run and inside which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The module, by digest; the host must have been given its bytes.
    pub module: ModuleRef,
    /// Where the module is entered.
    pub entry: Entry,
    /// The guest's arguments after its own name.
    pub args: Vec<String>,
    /// The guest's environment. Nothing of the host's own environment is ever visible.
    pub env: BTreeMap<String, String>,
    /// The guest's standard input.
    pub input: Input,
    /// What the guest may touch.
    pub capabilities: Capabilities,
    /// What the guest may use up.
    pub limits: Limits,
    /// The queue to wait in.
    pub queue: Name,
    /// Higher starts earlier within its queue; −100 to 100.
    pub priority: i8,
    /// Whether the job may be run again after a crash of the host. If not, it ends `interrupted`.
    pub idempotent: bool,
    /// Free words for the people who look at the job later.
    pub labels: BTreeMap<String, String>,
}

/// A module by the SHA-256 and the length of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleRef {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub length: u64,
}

/// How a module is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// As a command: `_start` of a core module, `wasi:cli/run` of a component.
    Command,
}

/// Where standard input comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Input {
    /// Nothing: the guest sees the end at once.
    Empty,
    /// At most 16 KiB that stand in the envelope, in base64.
    Inline(Base64Bytes),
    /// Bytes that were given to the host before.
    #[serde(rename_all = "kebab-case")]
    Blob {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// Length in bytes.
        length: u64,
    },
}

/// What a job asks to touch. The default asks for nothing but clocks and randomness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Directories of the host, and where the guest sees them.
    pub mounts: Vec<Mount>,
    /// Wall clock and monotonic clock, coarse. Without it time stands in, the same on every host.
    pub clock: bool,
    /// Real randomness. Without it a stream seeded from the envelope stands in.
    pub random: bool,
    /// A private empty directory at [`SCRATCH_PATH`], gone when the attempt is over. Files that are under
    /// [`ARTIFACTS_PATH`] by then are kept as artifacts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scratch: bool,
    /// Where it may connect or send to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<Destination>,
    /// Where it may wait for connections or datagrams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<Listener>,
    /// HTTP requests that it may make.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpRule>,
    /// Secrets of the host that it may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            mounts: Vec::new(),
            clock: true,
            random: true,
            scratch: false,
            connect: Vec::new(),
            listen: Vec::new(),
            http: Vec::new(),
            secrets: Vec::new(),
        }
    }
}

/// A secret that the host keeps, and how the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretUse {
    /// Its name at the host.
    pub name: Name,
    /// How it is given.
    #[serde(rename = "as")]
    pub form: SecretForm,
}

/// How a guest sees a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretForm {
    /// As an environment variable of this name.
    Env(String),
    /// As a file of this name in [`SECRETS_PATH`].
    File(Name),
}

impl fmt::Display for SecretUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            SecretForm::Env(variable) => write!(f, "secret {} as variable {}", self.name, quoted(variable)),
            SecretForm::File(file) => write!(f, "secret {} as {SECRETS_PATH}/{file}", self.name),
        }
    }
}

/// One directory of the host inside the guest's tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The directory on the host's side.
    pub source: MountSource,
    /// Absolute path at which the guest sees it.
    pub path: String,
    /// What the guest may do there.
    pub access: Access,
}

/// A directory on the host's side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A volume that the host's configuration names.
    Volume(Name),
    /// A directory inside such a volume.
    VolumePath {
        /// The volume.
        volume: Name,
        /// Relative to it, `/` between parts; nothing on it may be a symbolic link.
        path: String,
    },
    /// An absolute path. Only for principals whom the host lets name its directories, such as its own user.
    Directory(String),
}

impl MountSource {
    /// Bytes of its name or path.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Volume(name) => name.as_str().len(),
            Self::VolumePath { volume, path } => volume.as_str().len() + path.len(),
            Self::Directory(path) => path.len(),
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "read",
            Access::ReadWrite => "write",
        };
        match &self.source {
            MountSource::Volume(name) => write!(f, "{access} volume {name} at {}", self.path),
            MountSource::VolumePath { volume, path } => {
                write!(f, "{access} volume {volume}, directory {path:?}, at {}", self.path)
            }
            MountSource::Directory(path) => write!(f, "{access} directory {path:?} at {}", self.path),
        }
    }
}

/// What a guest may do in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Look, change nothing.
    Read,
    /// Look and change.
    ReadWrite,
}

/// What a job may use up. Each bound is a maximum that the guest hits, never a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Linear memories and tables together, in bytes.
    pub memory_bytes: u64,
    /// Wasm instructions, roughly, in the engine's units; none: bounded by time only.
    pub fuel: Option<u64>,
    /// From the guest's first instruction to its end, in milliseconds.
    pub wall_ms: u64,
    /// Standard output, in bytes.
    pub stdout_bytes: u64,
    /// Standard error, in bytes.
    pub stderr_bytes: u64,
    /// Time on a processor, in milliseconds; none: bounded by wall time only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Growth of files, over all directories together, in bytes.
    #[serde(default = "Limits::disk_bytes", skip_serializing_if = "Limits::is_disk_bytes")]
    pub disk_bytes: u64,
    /// The largest file that it may make, in bytes.
    #[serde(default = "Limits::file_bytes", skip_serializing_if = "Limits::is_file_bytes")]
    pub file_bytes: u64,
    /// Files, directories and links that it may create, a count.
    #[serde(default = "Limits::files", skip_serializing_if = "Limits::is_files")]
    pub files: u32,
    /// Open files and other handles, a count.
    #[serde(default = "Limits::handles", skip_serializing_if = "Limits::is_handles")]
    pub handles: u32,
    /// Sockets and HTTP requests open at once, a count.
    #[serde(default = "Limits::sockets", skip_serializing_if = "Limits::is_sockets")]
    pub sockets: u32,
    /// All HTTP bodies, sent and received, in bytes.
    #[serde(default = "Limits::http_bytes", skip_serializing_if = "Limits::is_http_bytes")]
    pub http_bytes: u64,
    /// Core instances, a count; a component is made of several.
    #[serde(default = "Limits::instances", skip_serializing_if = "Limits::is_instances")]
    pub instances: u32,
    /// What one call may make the host allocate, in bytes.
    #[serde(default = "Limits::host_buffer_bytes", skip_serializing_if = "Limits::is_host_buffer_bytes")]
    pub host_buffer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            fuel: None,
            wall_ms: 5 * 60 * 1000,
            stdout_bytes: 1 << 30,
            stderr_bytes: 16 << 20,
            cpu_ms: None,
            disk_bytes: Self::disk_bytes(),
            file_bytes: Self::file_bytes(),
            files: Self::files(),
            handles: Self::handles(),
            sockets: Self::sockets(),
            http_bytes: Self::http_bytes(),
            instances: Self::instances(),
            host_buffer_bytes: Self::host_buffer_bytes(),
        }
    }
}

/// The values that a limit has when a body does not name it: part of the format, so that a signed body means the same for ever.
macro_rules! defaults {
    ($($name:ident $is:ident: $ty:ty = $value:expr;)*) => {
        impl Limits {
            $(
                const fn $name() -> $ty {
                    $value
                }

                #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
                const fn $is(value: &$ty) -> bool {
                    *value == $value
                }
            )*
        }
    };
}

defaults! {
    disk_bytes is_disk_bytes: u64 = 1 << 30;
    file_bytes is_file_bytes: u64 = 1 << 30;
    files is_files: u32 = 10_000;
    handles is_handles: u32 = 256;
    sockets is_sockets: u32 = 64;
    http_bytes is_http_bytes: u64 = 64 << 20;
    instances is_instances: u32 = 64;
    host_buffer_bytes is_host_buffer_bytes: u64 = 64 << 20;
}

/// What is wrong in a task that has the right shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct TaskError {
    field: String,
    problem: String,
}

fn fault(field: impl fmt::Display, problem: impl fmt::Display) -> TaskError {
    TaskError { field: field.to_string(), problem: problem.to_string() }
}

impl Task {
    /// Checks what the types alone do not say.
    ///
    /// # Errors
    /// Names the field and the rule that it breaks.
    pub fn check(&self) -> Result<(), TaskError> {
        check_args(&self.args)?;
        check_env(&self.env)?;
        check_input(&self.input)?;
        check_labels(&self.labels)?;
        if !(-100..=100).contains(&self.priority) {
            return Err(fault("priority", "must be from -100 to 100"));
        }
        self.capabilities.check()?;
        self.limits.check()
    }
}

impl Capabilities {
    fn check(&self) -> Result<(), TaskError> {
        at_most("capabilities.mounts", self.mounts.len(), MAX_MOUNTS)?;
        let bytes = self.mounts.iter().map(|mount| mount.path.len() + mount.source.len()).sum();
        at_most("capabilities.mounts, bytes of all paths", bytes, MAX_PATHS_BYTES)?;
        for (index, mount) in self.mounts.iter().enumerate() {
            let field = format!("capabilities.mounts[{index}]");
            check_path(&format!("{field}.path"), &mount.path)?;
            match &mount.source {
                MountSource::Directory(path) => check_path(&format!("{field}.source.directory"), path)?,
                MountSource::VolumePath { path, .. } => {
                    check_path(&format!("{field}.source.volume-path.path"), &format!("/{path}"))?;
                }
                MountSource::Volume(_) => {}
            }
            let taken = |by: &str| mount.path == by || mount.path.starts_with(&format!("{by}/"));
            if self.scratch && taken(SCRATCH_PATH) || !self.secrets.is_empty() && taken(SECRETS_PATH) {
                let problem = format_args!("{} is where the host puts scratch files and secrets", mount.path);
                return Err(fault(format_args!("{field}.path"), problem));
            }
            if self.mounts[..index].iter().any(|other| other.path == mount.path) {
                return Err(fault(
                    format_args!("{field}.path"),
                    format_args!("{} is taken by an earlier mount", mount.path),
                ));
            }
        }
        self.check_rules()
    }

    /// The audit record of the job holds every rule, and must fit a log entry.
    fn check_rules(&self) -> Result<(), TaskError> {
        let texts =
            |rules: &mut dyn Iterator<Item = String>| rules.map(|rule| rule.len()).collect::<Vec<_>>();
        let lists = [
            ("capabilities.connect", texts(&mut self.connect.iter().map(ToString::to_string))),
            ("capabilities.listen", texts(&mut self.listen.iter().map(ToString::to_string))),
            ("capabilities.http", texts(&mut self.http.iter().map(ToString::to_string))),
            ("capabilities.secrets", texts(&mut self.secrets.iter().map(ToString::to_string))),
        ];
        let mut bytes = 0;
        for (field, lengths) in &lists {
            at_most(field, lengths.len(), MAX_RULES)?;
            bytes += lengths.iter().sum::<usize>();
            if let Some(longest) = lengths.iter().max() {
                at_most(&format!("{field}, bytes of one"), *longest, MAX_RULE_BYTES)?;
            }
        }
        at_most("capabilities, bytes of all rules", bytes, MAX_PATHS_BYTES)?;
        for (index, secret) in self.secrets.iter().enumerate() {
            let field = format!("capabilities.secrets[{index}]");
            if let SecretForm::Env(variable) = &secret.form
                && (variable.is_empty() || variable.contains(['=', '\0']))
            {
                let problem = format_args!("\"{}\" cannot name a variable", quoted(variable));
                return Err(fault(format_args!("{field}.as.env"), problem));
            }
            if self.secrets[..index].iter().any(|other| other.form == secret.form) {
                return Err(fault(format_args!("{field}.as"), "is taken by an earlier secret"));
            }
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<(), TaskError> {
        for (field, value) in [("limits.memory_bytes", self.memory_bytes), ("limits.wall_ms", self.wall_ms)] {
            if value == 0 {
                return Err(fault(field, "must be more than 0"));
            }
        }
        if self.fuel == Some(0) {
            return Err(fault("limits.fuel", "must be more than 0; leave it out for no bound"));
        }
        if self.cpu_ms == Some(0) {
            return Err(fault("limits.cpu_ms", "must be more than 0; leave it out for no bound"));
        }
        Ok(())
    }
}

fn at_most(field: &str, count: usize, max: usize) -> Result<(), TaskError> {
    if count > max {
        Err(fault(field, format_args!("{count} where at most {max} are allowed")))
    } else {
        Ok(())
    }
}

pub(crate) fn check_args(args: &[String]) -> Result<(), TaskError> {
    at_most("args", args.len(), MAX_ARGS)?;
    match args.iter().position(|arg| arg.contains('\0')) {
        Some(index) => Err(fault(format_args!("args[{index}]"), "holds a NUL byte")),
        None => Ok(()),
    }
}

pub(crate) fn check_env(env: &BTreeMap<String, String>) -> Result<(), TaskError> {
    at_most("env", env.len(), MAX_ENV)?;
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(fault("env", format_args!("\"{}\" cannot name a variable", quoted(name))));
        }
        if value.contains('\0') {
            return Err(fault(format_args!("env.{}", quoted(name)), "holds a NUL byte"));
        }
    }
    Ok(())
}

pub(crate) fn check_input(input: &Input) -> Result<(), TaskError> {
    match input {
        Input::Inline(bytes) => at_most("input.inline", bytes.0.len(), MAX_INLINE_INPUT_BYTES),
        Input::Empty | Input::Blob { .. } => Ok(()),
    }
}

/// Labels are shown to people: they must be short and must not move a cursor.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), TaskError> {
    at_most("labels", labels.len(), MAX_LABELS)?;
    for (name, value) in labels {
        let field = format!("labels.{}", quoted(name));
        if name.is_empty() {
            return Err(fault("labels", "a label needs a name"));
        }
        at_most(&format!("{field}, bytes of the name"), name.len(), MAX_LABEL_BYTES)?;
        at_most(&format!("{field}, bytes of the value"), value.len(), MAX_LABEL_BYTES)?;
        if name.chars().chain(value.chars()).any(char::is_control) {
            return Err(fault(field, "holds a control character"));
        }
    }
    Ok(())
}

/// A name from the task, short enough for an error text.
fn quoted(name: &str) -> String {
    shown(name, 80)
}

/// A path that means one place without looking at a disk: absolute, without `.`, `..`, `//` and control characters.
fn check_path(field: &str, path: &str) -> Result<(), TaskError> {
    at_most(field, path.len(), MAX_PATH_BYTES)?;
    let Some(rest) = path.strip_prefix('/') else {
        return Err(fault(field, format_args!("{path:?} must be an absolute path")));
    };
    if path.chars().any(char::is_control) {
        return Err(fault(field, format_args!("{path:?} holds a control character")));
    }
    if !rest.is_empty() && rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(fault(field, format_args!("{path:?} must not hold an empty part, '.' or '..'")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task {
            module: ModuleRef { digest: Digest::of(b"module"), length: 6 },
            entry: Entry::Command,
            args: vec!["a".into()],
            env: BTreeMap::new(),
            input: Input::Empty,
            capabilities: Capabilities::default(),
            limits: Limits::default(),
            queue: Name::default_name(),
            priority: 0,
            idempotent: false,
            labels: BTreeMap::new(),
        }
    }

    fn mount(path: &str) -> Mount {
        Mount { source: MountSource::Directory("/data".into()), path: path.into(), access: Access::Read }
    }

    fn refused(change: impl FnOnce(&mut Task)) -> String {
        let mut task = task();
        change(&mut task);
        task.check().expect_err("must be refused").to_string()
    }

    #[test]
    fn an_ordinary_task_passes() {
        let mut task = task();
        task.capabilities.mounts = vec![mount("/"), mount("/a/b")];
        assert_eq!(task.check(), Ok(()));
    }

    #[test]
    fn each_rule_names_its_field() {
        assert_eq!(refused(|t| t.args = vec!["x".into(), "a\0".into()]), "args[1]: holds a NUL byte");
        assert_eq!(
            refused(|t| t.args = vec![String::new(); 1025]),
            "args: 1025 where at most 1024 are allowed"
        );
        assert_eq!(
            refused(|t| drop(t.env.insert("A=B".into(), String::new()))),
            "env: \"A=B\" cannot name a variable"
        );
        assert_eq!(refused(|t| drop(t.env.insert("A".into(), "\0".into()))), "env.A: holds a NUL byte");
        let text = refused(|t| drop(t.env.insert(format!("\u{1b}{}=", "x".repeat(9000)), String::new())));
        assert!(text.starts_with("env: \"\\u{1b}xxx") && text.len() < 200, "{text}");
        assert_eq!(
            refused(|t| drop(t.env.insert("\u{1b}".into(), "\0".into()))),
            "env.\\u{1b}: holds a NUL byte"
        );
        assert_eq!(refused(|t| t.priority = 101), "priority: must be from -100 to 100");
        assert_eq!(refused(|t| t.limits.memory_bytes = 0), "limits.memory_bytes: must be more than 0");
        assert!(refused(|t| t.limits.fuel = Some(0)).starts_with("limits.fuel: must be more than 0"));
        assert!(
            refused(|t| t.input = Input::Inline(Base64Bytes(vec![0; 16385])))
                .starts_with("input.inline: 16385")
        );
        let label = |name: &str, value: &str| {
            let (name, value) = (name.to_owned(), value.to_owned());
            refused(|t| drop(t.labels.insert(name, value)))
        };
        assert_eq!(label("", "x"), "labels: a label needs a name");
        assert_eq!(label("a", "\u{1b}[2J"), "labels.a: holds a control character");
        assert!(
            label("a", &"x".repeat(257)).starts_with("labels.a, bytes of the value: 257 where at most 256")
        );
        assert!(label(&"x".repeat(257), "").contains("bytes of the name: 257 where at most 256"));
        for wrong in ["a", "", "/a/../b", "/./a", "/a//b", "/a/", "/a\n"] {
            let text = refused(|t| t.capabilities.mounts = vec![mount(wrong)]);
            assert!(text.starts_with("capabilities.mounts[0].path: "), "{text}");
        }
        let text = refused(|t| t.capabilities.mounts = vec![mount("/a"), mount("/a")]);
        assert_eq!(text, "capabilities.mounts[1].path: /a is taken by an earlier mount");
    }
}
