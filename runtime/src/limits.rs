//! How much a guest may use. Every limit is on.

use std::fmt;
use std::time::Duration;

use crate::quantity::{ByteSize, Fuel};

/// The bounds of one run. [`Limits::default`] suits an ordinary command-line program.
///
/// Two more bounds belong to the engine, because they are compiled in: the guest's call stack and the largest
/// memory any job may ask for (see [`EngineConfig`](crate::EngineConfig)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memories and tables of the guest, summed. Default 128 MiB. A growth past it fails in the guest
    /// (`memory.grow` answers -1); a guest that then traps ends `Exceeded`. One `memory.fill` over the whole of it
    /// is the longest that a kill can be delayed (about 30 ms for each 256 MiB).
    pub memory: ByteSize,
    /// Instructions, counted exactly. Default none: wall time bounds the work, because counting slows a
    /// computing guest down. Needs a module compiled with [`Metering::Fuel`](crate::Metering).
    pub fuel: Option<Fuel>,
    /// From the call of `run` to its end, waiting included. Default 30 s.
    pub wall: Duration,
    /// Bytes written to stdout; what fits is delivered, the rest is not. Default 16 MiB.
    pub stdout: ByteSize,
    /// Bytes written to stderr; what fits is delivered, the rest is not. Default 1 MiB.
    pub stderr: ByteSize,
    /// Core instances in one run; a core module is one, a component several. Default 64.
    pub instances: u32,
    /// Tables in one run. Default 32.
    pub tables: u32,
    /// Linear memories in one run. Default 4. Each takes one of the engine's slots.
    pub memories: u32,
    /// Entries in the guest's table of host resources: open files, directories, streams, pollables. Default 256.
    pub handles: u32,
    /// Host memory that one call of the guest may make the host allocate, for a read or a write for
    /// example. Default 64 MiB. Preview 1 calls past it answer `ENOMEM`; components trap.
    pub host_buffer: ByteSize,
    /// Random bytes in one call. Default 1 MiB.
    pub random: ByteSize,
    /// Time of the guest on a processor, to a tick of the engine (2 ms); waiting is not included, nor what helper threads do
    /// for its files. Default none: wall time bounds it.
    pub cpu: Option<Duration>,
    /// Bytes by which the guest may make files grow, over all directories together; what it deletes is not given back.
    /// Default 1 GiB. Overwriting costs nothing, a hole costs its length. Of a write past it the part that fits is written,
    /// and one of which nothing fits fails in the guest with "quota exceeded".
    pub disk: ByteSize,
    /// Largest size to which the guest may make one file grow. Default 1 GiB. A write past it is cut in the same way,
    /// and then fails in the guest with "file too large".
    pub file_size: ByteSize,
    /// Files, directories and links that the guest may create; what it deletes is not given back. Default
    /// 10,000. One more fails in the guest with "quota exceeded".
    pub files: u32,
    /// Sockets open at once, HTTP requests in flight included. Default 64.
    pub sockets: u32,
    /// Bytes of all HTTP bodies, requests and responses summed. Default 64 MiB.
    pub http_body: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(128),
            fuel: None,
            wall: Duration::from_secs(30),
            stdout: ByteSize::mib(16),
            stderr: ByteSize::mib(1),
            instances: 64,
            tables: 32,
            memories: 4,
            handles: 256,
            host_buffer: ByteSize::mib(64),
            random: ByteSize::mib(1),
            cpu: None,
            disk: ByteSize::gib(1),
            file_size: ByteSize::gib(1),
            files: 10_000,
            sockets: 64,
            http_body: ByteSize::mib(64),
        }
    }
}

/// Which limit a run went past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitKind {
    /// [`Limits::memory`], in bytes.
    Memory,
    /// [`Limits::fuel`], in units of fuel.
    Fuel,
    /// [`Limits::wall`], in milliseconds.
    Wall,
    /// [`Limits::stdout`], in bytes.
    Stdout,
    /// [`Limits::stderr`], in bytes.
    Stderr,
    /// [`Limits::instances`], a count.
    Instances,
    /// [`Limits::tables`], a count.
    Tables,
    /// [`Limits::memories`], a count.
    Memories,
    /// [`Limits::handles`], a count.
    Handles,
    /// [`Limits::host_buffer`], in bytes.
    HostBuffer,
    /// [`Limits::cpu`], in milliseconds.
    Cpu,
    /// [`Limits::disk`], in bytes.
    Disk,
    /// [`Limits::file_size`], in bytes.
    FileSize,
    /// [`Limits::files`], a count.
    Files,
    /// [`Limits::sockets`], a count.
    Sockets,
    /// [`Limits::http_body`], in bytes.
    HttpBody,
}

impl LimitKind {
    /// A stable lower-case name, for logs and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fuel => "fuel",
            Self::Wall => "wall",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Instances => "instances",
            Self::Tables => "tables",
            Self::Memories => "memories",
            Self::Handles => "handles",
            Self::HostBuffer => "host-buffer",
            Self::Cpu => "cpu",
            Self::Disk => "disk",
            Self::FileSize => "file-size",
            Self::Files => "files",
            Self::Sockets => "sockets",
            Self::HttpBody => "http-body",
        }
    }

    /// The unit of the numbers in `Exceeded`; empty for a count.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Memory
            | Self::Stdout
            | Self::Stderr
            | Self::HostBuffer
            | Self::Disk
            | Self::FileSize
            | Self::HttpBody => "bytes",
            Self::Fuel => "units of fuel",
            Self::Wall | Self::Cpu => "milliseconds",
            Self::Instances | Self::Tables | Self::Memories | Self::Handles | Self::Files | Self::Sockets => {
                ""
            }
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
