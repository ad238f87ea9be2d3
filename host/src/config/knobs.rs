//! Every number of the configuration: one table that the checks, the example file and the reference share.

use std::ops::RangeInclusive;

/// One number of the configuration.
#[derive(Clone, Debug)]
pub struct Knob {
    /// The table that it stands in; of [`RULES`], the table of tables.
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
const DAY: u64 = 24 * HOUR;
/// The largest whole number that TOML can hold.
const HUGE: u64 = i64::MAX as u64;

macro_rules! knobs {
    ($(#[$doc:meta])* $table:ident;
     $($name:ident: $section:literal $key:literal = $default:expr, $range:expr, $meaning:literal, $worst:literal;)*) => {
        $(pub(super) const $name: Knob = Knob {
            section: $section, key: $key, default: $default, range: $range, meaning: $meaning, worst: $worst,
        };)*
        $(#[$doc])*
        pub const $table: &[Knob] = &[$($name),*];
    };
}

knobs! {
    /// The numbers of the host itself, in the order of the example file.
    KNOBS;
    MAX_RUNNING: "bounds" "max_running" = Some(64), 1..=16_384,
        "guests that run at once",
        "each may use its whole memory limit at the same time; above 10,000, Linux needs a vm.max_map_count of 6 for each";
    MAX_QUEUED: "bounds" "max_queued" = Some(1_000_000), 1..=100_000_000,
        "jobs that wait, over all queues",
        "about 1 KiB of disk for each waiting job; 150 KiB for one whose body is as long as can be";
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
    MAX_SCHEDULE_AHEAD_MS: "bounds" "max_schedule_ahead_ms" = Some(366 * DAY), 0..=3660 * DAY,
        "how far ahead a job may set the time of its start, and a series its end",
        "its place among max_queued is taken that long";
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
    DISK_RESERVE_BYTES: "bounds" "disk_reserve_bytes" = Some(256 * MIB), 0..=HUGE,
        "with less free on the data directory's disk, new jobs and uploads are refused (`busy`), while running ones end; the state is not written anew and no backup is made on it (the state leaves 128 MiB in any case); 0 for no reserve",
        "too little, and what runs fills the disk, which ends the host";
    MAX_WORKERS: "bounds" "max_workers" = Some(64), 1..=16_384,
        "with `isolation = \"process\"`: processes in which guests run; a job that would need one more waits, and keeps its place of max_running",
        "some 8 MiB of memory and 300 GiB of address space for each, and what its guests take";
    WORKER_IDLE_MS: "bounds" "worker_idle_ms" = Some(60 * SECOND), 100..=DAY,
        "with `isolation = \"process\"`: how long such a process is kept without a job, at most half as long again",
        "its memory is taken that much longer";
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
    KEEP_MS: "retention" "keep_ms" = Some(30 * DAY), 60 * SECOND..=3660 * DAY,
        "how long a job that is over is kept: its end, its output and its artifacts",
        "as much disk for each job of that time";
    KEEP_JOBS: "retention" "keep_jobs_per_tenant" = Some(1_000_000), 1..=100_000_000,
        "jobs that are over and kept, for each tenant; the oldest go first",
        "about 1 KiB of disk for each, 150 KiB for one whose body was as long as can be, besides what it left";
    KEEP_BYTES: "retention" "keep_bytes_per_tenant" = None, MIB..=HUGE,
        "output and artifacts of jobs that are over, for each tenant; those of the oldest go first",
        "without it, all that keep_ms and keep_jobs_per_tenant let stand";
    CHECK_EVERY_MS: "check" "every_ms" = Some(DAY), 0..=366 * DAY,
        "time between two checks that the running host makes of its log and its files; 0: none. Less than 1 s counts as 1 s",
        "damage that nobody comes across is noticed that much later; each check is a record";
    CHECK_BYTES: "check" "bytes_per_second" = Some(32 * MIB), 64 * KIB..=HUGE,
        "most that a check reads in one second",
        "a lower one makes checks of much data long, and a stop of the host begins them again; a higher one takes the disk from jobs";
}

knobs! {
    /// The numbers in the rules of a queue and of a tenant, each of which may have its own.
    RULES;
    QUEUE_MAX_RUNNING: "queue_rules" "max_running" = None, 1..=16_384,
        "jobs of the queue that run at once",
        "without it, all of max_running";
    QUEUE_MAX_RUNNING_PER_TENANT: "queue_rules" "max_running_per_tenant" = None, 1..=16_384,
        "jobs of the queue and of one tenant that run at once",
        "without it, tenants share by weight alone";
    QUEUE_MAX_RUNNING_PER_GROUP: "queue_rules" "max_running_per_group" = None, 1..=16_384,
        "jobs of the queue, of one tenant and of one group (`plan.group`) that run at once",
        "without it, groups have no effect";
    QUEUE_BURST: "queue_rules" "burst" = None, 1..=1_000_000,
        "most starts at once under `rate`; left out: as many as come in one second, and at least 1",
        "so many jobs start at once after a quiet time, and when the host starts";
    TENANT_WEIGHT: "tenants" "weight" = Some(1), 1..=1000,
        "its part of the host's time while others wait, too: with 3, three times as much as a tenant with 1",
        "others wait longer by as much";
    TENANT_MAX_RUNNING: "tenants" "max_running" = None, 1..=16_384,
        "its jobs that run at once, in all queues",
        "without it, all of max_running while nobody else waits";
    TENANT_MAX_QUEUED: "tenants" "max_queued" = None, 1..=100_000_000,
        "its jobs that are not over, waiting or running; one more is refused (`queue-full`)",
        "without it, one tenant can take all of the host's max_queued";
    TENANT_MAX_STORED_BYTES: "tenants" "max_stored_bytes" = None, MIB..=HUGE,
        "what the host keeps for it: modules, inputs, outputs, artifacts; more is refused (`quota-reached`)",
        "what its running jobs leave comes on top, as far as their limits go, and the jobs themselves, up to 150 KiB each";
    TENANT_MAX_MODULES: "tenants" "max_modules" = None, 1..=1_000_000,
        "modules that the host keeps for it; one more is refused (`quota-reached`)",
        "without it, max_module_bytes of disk and a compilation for each";
    TENANT_CPU_SECONDS: "tenants" "cpu_seconds_per_day" = None, 1..=16_384 * 86_400,
        "processor time of its jobs from midnight to midnight, UTC; further jobs are refused (`quota-reached`)",
        "what its running jobs still use comes on top, as far as their limits go";
}
