//! What a job may use up.
//!
//! *Spec:* `docs/formats/job.md`.

use serde::{Deserialize, Serialize};

use crate::task::{TaskError, fault};

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

impl Limits {
    pub(crate) fn check(&self) -> Result<(), TaskError> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    // Red when a default of a field that a body may leave out changes: signed bodies would change their meaning.
    #[test]
    fn a_body_that_names_five_limits_means_the_same_for_ever() {
        let five = r#"{"memory_bytes":268435456,"fuel":null,"wall_ms":300000,"stdout_bytes":1073741824,"stderr_bytes":16777216}"#;
        let limits: Limits = serde_json::from_str(five).unwrap();
        assert_eq!(limits, Limits::default());
        assert_eq!(serde_json::to_string(&limits).unwrap(), five);
        let rest = (limits.cpu_ms, limits.disk_bytes, limits.file_bytes, limits.files, limits.handles);
        assert_eq!(rest, (None, 1 << 30, 1 << 30, 10_000, 256));
        let rest = (limits.sockets, limits.http_bytes, limits.instances, limits.host_buffer_bytes);
        assert_eq!(rest, (64, 64 << 20, 64, 64 << 20));
    }

    #[test]
    fn a_bound_of_nothing_is_named() {
        let refused = |limits: Limits| limits.check().unwrap_err().to_string();
        let nothing = Limits { memory_bytes: 0, ..Limits::default() };
        assert_eq!(refused(nothing), "limits.memory_bytes: must be more than 0");
        let nothing = Limits { cpu_ms: Some(0), ..Limits::default() };
        assert_eq!(refused(nothing), "limits.cpu_ms: must be more than 0; leave it out for no bound");
        // No file, no socket, no body: as good a wish as any.
        let none = Limits { files: 0, sockets: 0, http_bytes: 0, disk_bytes: 0, ..Limits::default() };
        assert_eq!(none.check(), Ok(()));
    }
}
