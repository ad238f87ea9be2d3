//! What a job may use up.

use std::time::Duration;

use super::Job;

impl Job {
    /// The most memory, in bytes: linear memories and tables together.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.limits.memory_bytes = bytes;
        self
    }

    /// The longest run, from the guest's first instruction to its end; a part of a millisecond counts as a whole one.
    pub fn timeout(mut self, wall: Duration) -> Self {
        self.limits.wall_ms = whole_millis(wall);
        self
    }

    /// The most work, in the engine's units, roughly one per instruction.
    pub fn fuel(mut self, units: u64) -> Self {
        self.limits.fuel = Some(units);
        self
    }

    /// The most time on a processor; a part of a millisecond counts as a whole one. Unlike [`timeout`](Self::timeout) it does
    /// not go on while the guest waits.
    pub fn cpu(mut self, time: Duration) -> Self {
        self.limits.cpu_ms = Some(whole_millis(time));
        self
    }

    /// The most standard output, in bytes.
    pub fn stdout_limit(mut self, bytes: u64) -> Self {
        self.limits.stdout_bytes = bytes;
        self
    }

    /// The most standard error, in bytes.
    pub fn stderr_limit(mut self, bytes: u64) -> Self {
        self.limits.stderr_bytes = bytes;
        self
    }

    /// By how much files may grow, over all directories together, in bytes; 1 GiB when this is not said.
    pub fn disk(mut self, bytes: u64) -> Self {
        self.limits.disk_bytes = bytes;
        self
    }

    /// The largest file that the guest may make, in bytes; 1 GiB when this is not said.
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.limits.file_bytes = bytes;
        self
    }

    /// The most files, directories and links that the guest may create; 10,000 when this is not said.
    pub fn files(mut self, count: u32) -> Self {
        self.limits.files = count;
        self
    }

    /// The most open files and other handles; 256 when this is not said.
    pub fn handles(mut self, count: u32) -> Self {
        self.limits.handles = count;
        self
    }

    /// The most sockets and HTTP requests open at once; 64 when this is not said.
    pub fn sockets(mut self, count: u32) -> Self {
        self.limits.sockets = count;
        self
    }

    /// The most bytes of HTTP bodies, sent and received together; 64 MiB when this is not said.
    pub fn http_limit(mut self, bytes: u64) -> Self {
        self.limits.http_bytes = bytes;
        self
    }

    /// The most core instances, of which a component has several; 64 when this is not said.
    pub fn instances(mut self, count: u32) -> Self {
        self.limits.instances = count;
        self
    }

    /// What one call of the guest may make the host allocate, in bytes; 64 MiB when this is not said.
    pub fn host_buffer(mut self, bytes: u64) -> Self {
        self.limits.host_buffer_bytes = bytes;
        self
    }
}

/// Rounded up, so that a short timeout never becomes none.
pub(super) fn whole_millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use strongroom_job::{Digest, Input, Limits, ModuleRef};

    use super::*;

    #[test]
    fn every_bound_reaches_the_task() {
        let job = Job::new(ModuleRef { digest: Digest::of(b"module"), length: 6 })
            .memory(1 << 20)
            .timeout(Duration::from_micros(1500))
            .fuel(7)
            .stdout_limit(8)
            .stderr_limit(9)
            .cpu(Duration::from_nanos(1_000_001))
            .disk(10)
            .file_size(11)
            .files(12)
            .handles(13)
            .sockets(14)
            .http_limit(15)
            .instances(16)
            .host_buffer(17);
        let limits = Limits {
            memory_bytes: 1 << 20,
            fuel: Some(7),
            wall_ms: 2,
            stdout_bytes: 8,
            stderr_bytes: 9,
            cpu_ms: Some(2),
            disk_bytes: 10,
            file_bytes: 11,
            files: 12,
            handles: 13,
            sockets: 14,
            http_bytes: 15,
            instances: 16,
            host_buffer_bytes: 17,
        };
        assert_eq!(job.task(Input::Empty).unwrap().limits, limits);
    }
}
