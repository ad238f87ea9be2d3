//! Every number of the configuration: one table that the checks, the example file and the reference share.

use std::ops::RangeInclusive;

/// One number of the configuration.
#[derive(Clone, Debug)]
pub struct Knob {
    /// The table that it stands in.
    pub section: &'static str,
    /// Its key there. The ending names the unit: `_ms`, `_bytes`; otherwise it is a count.
    pub key: &'static str,
    /// Used when the file does not have the key; none means no bound.
    pub default: Option<u64>,
    /// What is allowed.
    pub range: RangeInclusive<u64>,
    /// What it bounds.
    pub meaning: &'static str,
    /// What the default costs at most, or what a higher value risks.
    pub worst: &'static str,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
/// The largest whole number that TOML can hold.
const HUGE: u64 = i64::MAX as u64;

macro_rules! knobs {
    ($($name:ident: $section:literal $key:literal = $default:expr, $range:expr, $meaning:literal, $worst:literal;)*) => {
        $(pub(super) const $name: Knob = Knob {
            section: $section, key: $key, default: $default, range: $range, meaning: $meaning, worst: $worst,
        };)*
        /// All knobs, in the order of the example file.
        pub const KNOBS: &[Knob] = &[$($name),*];
    };
}

knobs! {
    MAX_RUNNING: "bounds" "max_running" = Some(64), 1..=16_384,
        "guests that run at once",
        "each may use its whole memory limit at the same time; above 10,000, Linux needs a vm.max_map_count of 6 for each";
    MAX_QUEUED: "bounds" "max_queued" = Some(1_000_000), 1..=100_000_000,
        "jobs that wait, over all queues",
        "about 1 KiB of disk for each waiting job";
    MAX_MODULE_BYTES: "bounds" "max_module_bytes" = Some(64 * MIB), KIB..=64 * MIB,
        "largest module",
        "compiling takes memory of many times the module's size";
    MAX_INPUT_BYTES: "bounds" "max_input_bytes" = Some(4 * GIB), 0..=HUGE,
        "largest standard input of a job",
        "as much disk for each input that is kept";
    MAX_LIFETIME_MS: "bounds" "max_lifetime_ms" = Some(24 * HOUR), SECOND..=30 * 24 * HOUR,
        "longest time from a job's not-before to its not-after",
        "job ids are remembered that long, to refuse replays: disk for each job of that time";
    CLOCK_SKEW_MS: "bounds" "clock_skew_ms" = Some(60 * SECOND), 0..=HOUR,
        "how far a client's clock may be off",
        "an expired job is still taken that much later";
    MAX_CONNECTIONS: "bounds" "max_connections" = Some(256), 1..=65_536,
        "connections at once",
        "about 1 MiB of buffers for each busy connection";
    MAX_CONNECTIONS_PER_KEY: "bounds" "max_connections_per_key" = Some(64), 1..=65_536,
        "connections at once of one key",
        "one key takes that share of max_connections";
    MAX_STREAMS: "bounds" "max_streams_per_connection" = Some(1024), 1..=65_536,
        "requests at once on one connection",
        "16 KiB of memory for the header of each";
    REQUEST_TIMEOUT_MS: "bounds" "request_timeout_ms" = Some(10 * SECOND), 100..=HOUR,
        "longest wait for a request's header, and between two pieces of its body",
        "a stalled client holds one stream that long";
    DRAIN_MS: "bounds" "drain_ms" = Some(30 * SECOND), 0..=24 * HOUR,
        "longest wait for running jobs when the host is told to stop",
        "the host takes that long to stop";
    COMPILE_MEMORY_BYTES: "bounds" "compile_memory_bytes" = Some(4 * GIB), 512 * MIB..=1024 * GIB,
        "most address space of a process that compiles a module; one that needs more is refused",
        "two such processes at once";
    COMPILE_MS: "bounds" "compile_ms" = Some(120 * SECOND), 100..=600 * SECOND,
        "longest compilation of a module; one that needs more is refused",
        "two modules that take it all keep other new modules waiting, and every core busy";
    COMPILE_CACHE_BYTES: "bounds" "compile_cache_bytes" = Some(4 * GIB), 0..=HUGE,
        "most disk for compiled modules; what was not used for longest goes first",
        "too little costs a compilation for each module after a restart";
    MEMORY_BYTES: "max_limits" "memory_bytes" = Some(GIB), 64 * KIB..=4 * GIB,
        "most linear memory and table space that a job may ask for",
        "times max_running";
    FUEL: "max_limits" "fuel" = None, 1..=HUGE,
        "most fuel that a job may ask for; when set, a job must ask for some",
        "without it, time alone bounds what a job computes";
    WALL_MS: "max_limits" "wall_ms" = Some(HOUR), 1..=30 * 24 * HOUR,
        "longest run that a job may ask for",
        "one of max_running places is taken that long";
    STDOUT_BYTES: "max_limits" "stdout_bytes" = Some(4 * GIB), 0..=HUGE,
        "most standard output that a job may ask for",
        "as much disk for each job that is kept";
    STDERR_BYTES: "max_limits" "stderr_bytes" = Some(256 * MIB), 0..=HUGE,
        "most standard error that a job may ask for",
        "as much disk for each job that is kept";
    CPU_MS: "max_limits" "cpu_ms" = None, 1..=30 * 24 * HOUR,
        "most processor time that a job may ask for; when set, a job whose wall time is longer must ask for less",
        "without it, wall time alone bounds what a job computes";
    DISK_BYTES: "max_limits" "disk_bytes" = Some(64 * GIB), 0..=HUGE,
        "most growth of files that a job may ask for",
        "as much disk for each job that runs, and for each in volumes that keep it";
    FILE_BYTES: "max_limits" "file_bytes" = Some(64 * GIB), 0..=HUGE,
        "largest file that a job may ask to make",
        "counts against disk_bytes, too";
    FILES: "max_limits" "files" = Some(1_000_000), 0..=100_000_000,
        "most files, directories and links that a job may ask to create",
        "an inode of the disk for each";
    HANDLES: "max_limits" "handles" = Some(1024), 1..=65_536,
        "most open files and other handles that a job may ask for",
        "a file descriptor of the host for each, times max_running";
    SOCKETS: "max_limits" "sockets" = Some(1024), 0..=65_536,
        "most sockets open at once that a job may ask for",
        "a file descriptor of the host for each, times max_running";
    HTTP_BYTES: "max_limits" "http_bytes" = Some(64 * GIB), 0..=HUGE,
        "most bytes of HTTP bodies that a job may ask for",
        "traffic; bodies are not kept";
    INSTANCES: "max_limits" "instances" = Some(64), 1..=64,
        "most core instances that a job may ask for; a component is made of several",
        "some KiB of memory for each";
    HOST_BUFFER_BYTES: "max_limits" "host_buffer_bytes" = Some(128 * MIB), 64 * KIB..=GIB,
        "most memory of the host for one call of a guest that a job may ask for",
        "times max_running";
}
