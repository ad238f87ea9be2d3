//! [`Job`]: what to run, said step by step.

mod asks;
mod bounds;
mod plan;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use asks::Asks;
use plan::Plans;
pub use plan::{Repeats, Retries, When};
use strongroom_job::{
    Access, Base64Bytes, Capabilities, Entry, Input, Limits, ModuleRef, Mount, MountSource, Name, Task,
    Timestamp,
};

use crate::{Error, Source, clock};

/// How long a job may wait to be accepted when it does not say, unless the host allows less.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// Longest input that [`Job::stdin_bytes`] puts into the envelope.
///
/// A host writes that down twice in its state, in base64, and each of them several times over: with 16 jobs in flight, 8 KiB that are pushed instead double the
/// rate. A job alone ends up to half a millisecond later for it (`docs/benchmarks.md`, payload). What is pushed is a file of its own at the host: it counts as
/// what the tenant has stored, and is forgotten when no job has named it for as long as the host keeps such. The format allows
/// [`MAX_INLINE_INPUT_BYTES`](strongroom_job::MAX_INLINE_INPUT_BYTES), by [`Job::input`].
pub const INLINE_INPUT_BYTES: usize = 2 << 10;

/// A job before it is signed: a module, and by default nothing but clocks and randomness.
///
/// No file, no directory, no network, no variable of this machine's or the host's environment. Each call below adds one
/// thing; what the host does not grant is refused as a whole, never left out silently.
#[derive(Clone, Debug)]
#[must_use = "a job does nothing until it is submitted"]
pub struct Job {
    module: ModuleRef,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    stdin: Stdin,
    mounts: Vec<(Place, String, Access)>,
    asks: Asks,
    deterministic: bool,
    limits: Limits,
    queue: Option<String>,
    priority: i8,
    idempotent: bool,
    labels: BTreeMap<String, String>,
    plans: Plans,
    lifetime: Option<Duration>,
}

/// Where standard input comes from, before the host has it.
#[derive(Clone, Debug)]
pub(crate) enum Stdin {
    /// Can stand in the envelope as it is.
    Ready(Input),
    /// Has to be pushed first.
    Push(Source),
}

/// A directory on the host's side, its name not checked yet.
#[derive(Clone, Debug)]
enum Place {
    Volume(String),
    Directory(String),
}

impl Job {
    /// A job that runs `module` with no argument, no variable, no input and no directory, in the host's default queue, with the
    /// default limits: 256 MiB of memory, 5 minutes, 1 GiB of standard output, 16 MiB of standard error.
    pub fn new(module: ModuleRef) -> Self {
        Self {
            module,
            args: Vec::new(),
            env: BTreeMap::new(),
            stdin: Stdin::Ready(Input::Empty),
            mounts: Vec::new(),
            asks: Asks::default(),
            deterministic: false,
            limits: Limits::default(),
            queue: None,
            priority: 0,
            idempotent: false,
            labels: BTreeMap::new(),
            plans: Plans::default(),
            lifetime: None,
        }
    }

    /// Adds an argument after the guest's own name.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the guest's environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Standard input from memory: up to [`INLINE_INPUT_BYTES`] travel in the envelope, more is pushed when the job is signed.
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.stdin = if bytes.len() <= INLINE_INPUT_BYTES {
            Stdin::Ready(Input::Inline(Base64Bytes(bytes)))
        } else {
            Stdin::Push(bytes.into())
        };
        self
    }

    /// Standard input from a file, pushed when the job is signed. To show progress, use
    /// [`push_input`](crate::Client::push_input) and [`input`](Self::input).
    pub fn stdin_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.stdin = Stdin::Push(Source::path(path));
        self
    }

    /// Standard input that the host already has, from [`push_input`](crate::Client::push_input).
    pub fn input(mut self, input: Input) -> Self {
        self.stdin = Stdin::Ready(input);
        self
    }

    /// Lets the guest read a volume that the host's configuration names, or a directory in it, at the absolute guest path `at`.
    ///
    /// ```
    /// # use strongroom_sdk::{Digest, Job, ModuleRef};
    /// # let module = ModuleRef { digest: Digest::of(b""), length: 0 };
    /// let job = Job::new(module).read_volume("papers", "/papers").read_volume("data/2026/june", "/in");
    /// ```
    pub fn read_volume(self, volume: impl Into<String>, at: impl Into<String>) -> Self {
        self.mount(Place::Volume(volume.into()), at.into(), Access::Read)
    }

    /// Lets the guest read and change a volume that the host's configuration names, or a directory in it.
    pub fn write_volume(self, volume: impl Into<String>, at: impl Into<String>) -> Self {
        self.mount(Place::Volume(volume.into()), at.into(), Access::ReadWrite)
    }

    /// Lets the guest read a directory of the host, by absolute path. Hosts grant this to few, such as their own user.
    pub fn read_dir(self, directory: impl Into<String>, at: impl Into<String>) -> Self {
        self.mount(Place::Directory(directory.into()), at.into(), Access::Read)
    }

    /// Lets the guest read and change a directory of the host, by absolute path.
    pub fn write_dir(self, directory: impl Into<String>, at: impl Into<String>) -> Self {
        self.mount(Place::Directory(directory.into()), at.into(), Access::ReadWrite)
    }

    /// The queue to wait in.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Higher starts earlier within its queue; −100 to 100.
    pub const fn priority(mut self, priority: i8) -> Self {
        self.priority = priority;
        self
    }

    /// The job may be run again after a crash of the host. Without this it then ends `interrupted`.
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// No clock and no randomness: the guest gets stand-ins that depend on the signed job alone.
    pub const fn deterministic(mut self) -> Self {
        self.deterministic = true;
        self
    }

    /// A word for the people who look at the job later.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// How long after signing the host may *accept* the job; [`DEFAULT_LIFETIME`] or the host's maximum when this is not said.
    ///
    /// That is all it bounds: once accepted, the job waits for its time, its retries and its turn for as long as its plan says.
    /// See [`at`](Self::at) and [`expires_at`](Self::expires_at).
    pub const fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    fn mount(mut self, place: Place, at: String, access: Access) -> Self {
        self.mounts.push((place, at, access));
        self
    }

    pub(crate) const fn said_lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    pub(crate) const fn stdin(&self) -> &Stdin {
        &self.stdin
    }

    pub(crate) fn lifetime_within(said: Option<Duration>, host_maximum: Duration) -> Duration {
        said.unwrap_or(DEFAULT_LIFETIME.min(host_maximum))
    }

    /// The task as it will be signed, with `input` in place of what had to be pushed.
    ///
    /// # Errors
    /// A name that is none, such as a queue's.
    pub fn task(&self, input: Input) -> Result<Task, Error> {
        self.task_at(input, clock::now())
    }

    /// The task as it is signed at `now`.
    pub(crate) fn task_at(&self, input: Input, now: Timestamp) -> Result<Task, Error> {
        let queue = match &self.queue {
            Some(queue) => name("queue", queue)?,
            None => Name::default_name(),
        };
        let mounts = self.mounts.iter().map(|(place, path, access)| {
            let source = match place {
                Place::Volume(volume) => match volume.split_once('/') {
                    None => MountSource::Volume(name("volume", volume)?),
                    Some((volume, path)) => {
                        MountSource::VolumePath { volume: name("volume", volume)?, path: path.to_owned() }
                    }
                },
                Place::Directory(directory) => MountSource::Directory(directory.clone()),
            };
            Ok(Mount { source, path: path.clone(), access: *access })
        });
        Ok(Task {
            module: self.module,
            entry: Entry::Command,
            args: self.args.clone(),
            env: self.env.clone(),
            input,
            capabilities: self.asks.add_to(Capabilities {
                mounts: mounts.collect::<Result<_, Error>>()?,
                clock: !self.deterministic,
                random: !self.deterministic,
                ..Capabilities::default()
            })?,
            limits: self.limits.clone(),
            queue,
            priority: self.priority,
            idempotent: self.idempotent,
            labels: self.labels.clone(),
            plan: self.plans.at(now),
        })
    }
}

fn name(field: &'static str, text: &str) -> Result<Name, Error> {
    text.parse().map_err(|problem: strongroom_job::ParseNameError| self::field(field, problem))
}

fn field(field: &'static str, problem: impl std::fmt::Display) -> Error {
    Error::InvalidField { field, problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use strongroom_job::Digest;

    use super::*;

    fn module() -> ModuleRef {
        ModuleRef { digest: Digest::of(b"module"), length: 6 }
    }

    #[test]
    fn a_new_job_asks_for_nothing_but_time_and_chance() {
        let task = Job::new(module()).task(Input::Empty).unwrap();
        assert_eq!(task.capabilities, Capabilities::default());
        assert_eq!(task.limits, Limits::default());
        assert_eq!((task.args.len(), task.env.len(), task.labels.len()), (0, 0, 0));
        assert!(!task.idempotent);
    }

    #[test]
    fn every_word_reaches_the_task() {
        let job = Job::new(module())
            .arg("a")
            .args(["b", "c"])
            .env("K", "V")
            .read_volume("docs", "/docs")
            .write_dir("/srv/out", "/out")
            .write_volume("docs/a/b", "/b")
            .queue("night")
            .priority(-5)
            .idempotent()
            .deterministic()
            .label("team", "red");
        let task = job.task(Input::Empty).unwrap();
        assert_eq!(task.args, ["a", "b", "c"]);
        assert_eq!(task.env["K"], "V");
        let mounts: Vec<String> = task.capabilities.mounts.iter().map(ToString::to_string).collect();
        assert_eq!(
            mounts,
            [
                "read volume docs at /docs",
                "write directory \"/srv/out\" at /out",
                "write volume docs, directory \"a/b\", at /b"
            ]
        );
        assert!(!task.capabilities.clock && !task.capabilities.random);
        assert_eq!((task.queue.as_str(), task.priority, task.idempotent), ("night", -5, true));
        assert_eq!(task.labels["team"], "red");
    }

    #[test]
    fn a_bad_name_is_named() {
        let error = Job::new(module()).queue("No Queue").task(Input::Empty).unwrap_err();
        assert!(error.to_string().starts_with("the job was not sent: queue: \"No Queue\""), "{error}");
    }

    #[test]
    fn only_small_input_travels_in_the_envelope() {
        let small = Job::new(module()).stdin_bytes(vec![0; INLINE_INPUT_BYTES]);
        assert!(matches!(small.stdin(), Stdin::Ready(Input::Inline(_))));
        let large = Job::new(module()).stdin_bytes(vec![0; INLINE_INPUT_BYTES + 1]);
        assert!(matches!(large.stdin(), Stdin::Push(_)));
    }

    #[test]
    fn an_unsaid_lifetime_fits_the_host_and_a_said_one_is_kept() {
        let minute = Duration::from_secs(60);
        assert_eq!(Job::lifetime_within(None, minute), minute);
        assert_eq!(Job::lifetime_within(None, Duration::MAX), DEFAULT_LIFETIME);
        let said = Job::new(module()).lifetime(minute * 2).said_lifetime();
        assert_eq!(Job::lifetime_within(said, minute), minute * 2);
    }
}
