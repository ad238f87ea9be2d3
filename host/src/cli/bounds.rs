//! The options that say what a guest may use up.

use std::time::Duration;

use clap::Args;
use strongroom_sdk::Job;

use super::amount::{duration, size};

/// Shared by `run` and `submit`.
#[derive(Args, Clone, Debug)]
pub(super) struct BoundArgs {
    /// Most memory [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Longest run, from the guest's first instruction [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Most time on a processor [default: no bound]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    cpu: Option<Duration>,
    /// Most instructions, in the engine's units [default: no bound]
    #[arg(long, value_name = "UNITS")]
    fuel: Option<u64>,
    /// Most standard output [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    stdout_limit: Option<u64>,
    /// Most standard error [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    stderr_limit: Option<u64>,
    /// Most growth of files, over all directories together [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    disk: Option<u64>,
    /// Largest file that it may make [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    file_size: Option<u64>,
    /// Most files, directories and links that it may create [default: 10000]
    #[arg(long, value_name = "N")]
    files: Option<u32>,
    /// Most open files and other handles [default: 256]
    #[arg(long, value_name = "N")]
    handles: Option<u32>,
    /// Most sockets and HTTP requests open at once [default: 64]
    #[arg(long, value_name = "N")]
    sockets: Option<u32>,
    /// Most bytes of HTTP bodies, sent and received [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    http_limit: Option<u64>,
    /// Most core instances, of which a component has several [default: 64]
    #[arg(long, value_name = "N")]
    instances: Option<u32>,
    /// Most memory of the host for one call of the guest [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    host_buffer: Option<u64>,
}

impl BoundArgs {
    /// Sets what was said; the rest stays at its default.
    pub(super) fn add_to(&self, job: Job) -> Job {
        fn set<T: Copy>(job: Job, value: Option<T>, with: fn(Job, T) -> Job) -> Job {
            match value {
                Some(value) => with(job, value),
                None => job,
            }
        }
        let job = set(job, self.memory, Job::memory);
        let job = set(job, self.timeout, Job::timeout);
        let job = set(job, self.cpu, Job::cpu);
        let job = set(job, self.fuel, Job::fuel);
        let job = set(job, self.stdout_limit, Job::stdout_limit);
        let job = set(job, self.stderr_limit, Job::stderr_limit);
        let job = set(job, self.disk, Job::disk);
        let job = set(job, self.file_size, Job::file_size);
        let job = set(job, self.files, Job::files);
        let job = set(job, self.handles, Job::handles);
        let job = set(job, self.sockets, Job::sockets);
        let job = set(job, self.http_limit, Job::http_limit);
        let job = set(job, self.instances, Job::instances);
        set(job, self.host_buffer, Job::host_buffer)
    }
}
