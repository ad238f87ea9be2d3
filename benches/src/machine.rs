//! Where figures were taken, and what they cost: a figure without its machine says nothing.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The lock file of this build: which versions were measured.
const LOCK: &str = include_str!("../../Cargo.lock");
/// Writes of [`sync_floor`].
const SYNCS: usize = 200;
/// Between two writes of a [`DiskWatch`].
const EVERY: Duration = Duration::from_millis(20);
/// Clock ticks per second in `/proc/stat` and `/proc/self/stat`: 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Processor, cores, kernel and the versions of what is measured, one line each.
#[must_use]
pub fn describe() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let versions = ["strongroom", "wasmtime", "quinn", "sled", "ed25519-dalek"]
        .map(|name| format!("{name} {}", version(name)));
    format!(
        "processor {}, {cores} cores\nkernel     {}\nversions   {}{}\n",
        model.trim_start_matches(['\t', ' ', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
        versions.join(", "),
        if cfg!(debug_assertions) { "\nDEBUG BUILD: the figures mean nothing" } else { "" },
    )
}

/// The numbers that stand on the command line, in their order; these, when there are none.
///
/// # Errors
/// When something else than a number or an option is there.
pub fn numbers<T: FromStr + Clone>(unless: &[T]) -> Result<Vec<T>, T::Err> {
    let words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let numbers: Vec<T> = words.map(|word| word.parse()).collect::<Result<_, _>>()?;
    Ok(if numbers.is_empty() { unless.to_vec() } else { numbers })
}

/// Which version of a package this build has.
#[must_use]
pub fn version(name: &str) -> &'static str {
    let package = format!("name = \"{name}\"");
    let lines = LOCK.lines().zip(LOCK.lines().skip(1));
    // An older version that only a test uses stands before ours.
    let version = lines.filter(|(line, _)| *line == package).last();
    version.and_then(|(_, line)| line.split('"').nth(1)).unwrap_or("?")
}

/// Processor time of this process so far, in steps of 10 ms.
#[must_use]
pub fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name may hold anything; what follows its last parenthesis does not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS_PER_SECOND)
}

/// Processor time that the machine's hypervisor has given to somebody else so far while a processor of this machine had work, all processors together, in steps of 10 ms.
#[must_use]
pub fn stolen() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    // The first line is about all processors: its name, user, nice, system, idle, iowait, irq, softirq, steal.
    let ticks = stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse::<u64>().ok());
    Duration::from_millis(ticks.unwrap_or(0) * 1000 / TICKS_PER_SECOND)
}

/// Processor time of this thread so far, exactly: what `/proc` tells of a thread that runs is some milliseconds old.
#[must_use]
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The middle one of some values, of which there are an odd number.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median time of `fdatasync` after 4 KiB were appended in `dir`: no durable answer is faster.
///
/// # Panics
/// When the disk fails.
#[must_use]
pub fn sync_floor(dir: &Path) -> Duration {
    let mut file = File::create(dir.join("sync-floor")).expect("a writable directory");
    let mut times: Vec<Duration> = (0..SYNCS)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[7; 4096]).expect("room");
            file.sync_data().expect("a working disk");
            begun.elapsed()
        })
        .collect();
    percentile(&mut times, 50)
}

/// Watches the disk while something else is measured: fifty times a second it writes 4 KiB over the same 4 KiB and waits for `fdatasync`.
///
/// What a round's slowest jobs waited for may have been a disk that stood still for everybody.
#[derive(Debug)]
pub struct DiskWatch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl DiskWatch {
    /// Begins, with a file in `dir`.
    ///
    /// # Panics
    /// When the disk fails, or there is no thread.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut file = File::create(dir.join("disk-watch")).expect("a writable directory");
        let mut write = move || {
            let begun = Instant::now();
            file.rewind().and_then(|()| file.write_all(&[7; 4096])).expect("room");
            file.sync_data().expect("a working disk");
            begun.elapsed()
        };
        // The first one gets the room.
        write();
        let seen = Arc::clone(&over);
        let watch = move || {
            let mut longest = Duration::ZERO;
            loop {
                std::thread::sleep(EVERY);
                if seen.load(Ordering::Relaxed) {
                    return longest;
                }
                longest = longest.max(write());
            }
        };
        let thread = std::thread::Builder::new().name("disk-watch".into()).spawn(watch).expect("a thread");
        Self { over, thread }
    }

    /// Ends, and gives the longest time that one of them took.
    ///
    /// # Panics
    /// When the disk failed.
    #[must_use]
    pub fn longest(self) -> Duration {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("a working disk")
    }
}

/// Resident memory of a process, in bytes; zero where the system does not tell it this way.
#[must_use]
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() << 10
}

/// Bytes of all files under a directory, as they lie on the disk. A file that goes while it is looked at counts nothing.
///
/// # Errors
/// When the directory cannot be read.
pub fn disk_bytes(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// The value below which so many percent of `times` lie.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}
