//! A guest that is a list of preview 1 system calls, and prints the answer to each.

use strongroom_runtime::{Grant, Limits, Outcome};

use super::{module, run};

/// Every import that the tests call, with its type.
pub const IMPORTS: &str = r#"
(import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_remove_directory" (func $path_remove_directory (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_link" (func $path_link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_readlink" (func $path_readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_filestat_get" (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_filestat_set_times" (func $path_filestat_set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_filestat_set_times" (func $fd_filestat_set_times (param i32 i64 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $fd_filestat_set_size (param i32 i64) (result i32)))
(import "wasi_snapshot_preview1" "fd_allocate" (func $fd_allocate (param i32 i64 i64) (result i32)))
(import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_tell" (func $fd_tell (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_sync" (func $fd_sync (param i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_datasync" (func $fd_datasync (param i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_advise" (func $fd_advise (param i32 i64 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $fd_fdstat_set_flags (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
"#;

pub const OK: u8 = 0;
pub const BADF: u8 = 8;
pub const DQUOT: u8 = 19;
pub const EXIST: u8 = 20;
pub const FBIG: u8 = 22;
pub const INVAL: u8 = 28;
pub const NOENT: u8 = 44;
pub const NOMEM: u8 = 48;
pub const NOTDIR: u8 = 54;
pub const PERM: u8 = 63;

pub const CREATE: i32 = 1;
pub const DIRECTORY: i32 = 2;
pub const TRUNCATE: i32 = 8;

/// `whence` of [`Script::seek`].
pub const FROM_START: i32 = 0;
pub const FROM_HERE: i32 = 1;
pub const FROM_END: i32 = 2;

const READ_RIGHT: i64 = 1 << 1;
const WRITE_RIGHT: i64 = 1 << 6;

/// Where opened descriptors are kept; answers are in front of it.
const FDS: usize = 1024;
/// An I/O vector, a count, and a buffer for statistics.
const IOVEC: usize = 2048;
const COUNT: usize = 2064;
const STAT: usize = 2080;
/// Paths.
const STRINGS: usize = 4096;
/// What reads fill.
const BUFFER: usize = 32768;

/// A descriptor: a fixed one, or one that an earlier step opened.
#[derive(Clone, Copy, Debug)]
pub enum Fd {
    Number(i32),
    Opened(usize),
}

/// The first and the second granted directory.
pub const FIRST: Fd = Fd::Number(3);
pub const SECOND: Fd = Fd::Number(4);

impl Fd {
    fn wat(self) -> String {
        match self {
            Self::Number(number) => format!("(i32.const {number})"),
            Self::Opened(slot) => format!("(i32.load (i32.const {}))", FDS + 4 * slot),
        }
    }
}

/// The list under construction. Each method adds one call, and its answer to the output.
#[derive(Default)]
pub struct Script {
    body: String,
    strings: Vec<u8>,
    steps: usize,
    opened: usize,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    fn string(&mut self, text: &str) -> String {
        let at = STRINGS + self.strings.len();
        self.strings.extend_from_slice(text.as_bytes());
        format!("(i32.const {at}) (i32.const {})", text.len())
    }

    fn step(&mut self, call: &str) -> &mut Self {
        self.body += &format!("(i32.store8 (i32.const {}) {call})\n", self.steps);
        self.steps += 1;
        self
    }

    /// Opens `path`; the descriptor is the answer, whether it works or not (then it is 0).
    pub fn open(&mut self, dir: Fd, path: &str, oflags: i32, write: bool) -> Fd {
        self.open_with(dir, 1, path, oflags, write)
    }

    /// [`Script::open`] with the lookup flags (1 follows a symlink at the end).
    pub fn open_with(&mut self, dir: Fd, lookup: i32, path: &str, oflags: i32, write: bool) -> Fd {
        let slot = self.opened;
        self.opened += 1;
        let rights = if write { READ_RIGHT | WRITE_RIGHT } else { READ_RIGHT };
        let (fd, path, out) = (dir.wat(), self.string(path), FDS + 4 * slot);
        self.step(&format!(
            "(call $path_open {fd} (i32.const {lookup}) {path} (i32.const {oflags}) (i64.const {rights}) (i64.const {rights}) (i32.const 0) (i32.const {out}))"
        ));
        Fd::Opened(slot)
    }

    pub fn write(&mut self, fd: Fd, text: &str) -> &mut Self {
        let string = self.string(text);
        let (at, len) =
            string.split_once(") (").map(|(at, len)| (format!("{at})"), format!("({len}"))).unwrap();
        self.body +=
            &format!("(i32.store (i32.const {IOVEC}) {at}) (i32.store (i32.const {}) {len})\n", IOVEC + 4);
        let fd = fd.wat();
        self.step(&format!("(call $fd_write {fd} (i32.const {IOVEC}) (i32.const 1) (i32.const {COUNT}))"))
    }

    pub fn pwrite(&mut self, fd: Fd) -> &mut Self {
        self.vector(BUFFER, 1);
        let fd = fd.wat();
        self.step(&format!(
            "(call $fd_pwrite {fd} (i32.const {IOVEC}) (i32.const 1) (i64.const 0) (i32.const {COUNT}))"
        ))
    }

    pub fn read(&mut self, fd: Fd, len: usize) -> &mut Self {
        self.vector(BUFFER, len);
        let fd = fd.wat();
        self.step(&format!("(call $fd_read {fd} (i32.const {IOVEC}) (i32.const 1) (i32.const {COUNT}))"))
    }

    fn vector(&mut self, at: usize, len: usize) {
        self.body += &format!(
            "(i32.store (i32.const {IOVEC}) (i32.const {at})) (i32.store (i32.const {}) (i32.const {len}))\n",
            IOVEC + 4
        );
    }

    pub fn close(&mut self, fd: Fd) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call $fd_close {fd})"))
    }

    pub fn mkdir(&mut self, dir: Fd, path: &str) -> &mut Self {
        let (fd, path) = (dir.wat(), self.string(path));
        self.step(&format!("(call $path_create_directory {fd} {path})"))
    }

    pub fn rmdir(&mut self, dir: Fd, path: &str) -> &mut Self {
        let (fd, path) = (dir.wat(), self.string(path));
        self.step(&format!("(call $path_remove_directory {fd} {path})"))
    }

    pub fn unlink(&mut self, dir: Fd, path: &str) -> &mut Self {
        let (fd, path) = (dir.wat(), self.string(path));
        self.step(&format!("(call $path_unlink_file {fd} {path})"))
    }

    pub fn rename(&mut self, from: Fd, old: &str, to: Fd, new: &str) -> &mut Self {
        let (from, old, to, new) = (from.wat(), self.string(old), to.wat(), self.string(new));
        self.step(&format!("(call $path_rename {from} {old} {to} {new})"))
    }

    pub fn link(&mut self, from: Fd, old: &str, to: Fd, new: &str) -> &mut Self {
        let (from, old, to, new) = (from.wat(), self.string(old), to.wat(), self.string(new));
        self.step(&format!("(call $path_link {from} (i32.const 0) {old} {to} {new})"))
    }

    pub fn symlink(&mut self, target: &str, dir: Fd, path: &str) -> &mut Self {
        let (target, dir, path) = (self.string(target), dir.wat(), self.string(path));
        self.step(&format!("(call $path_symlink {target} {dir} {path})"))
    }

    pub fn readlink(&mut self, dir: Fd, path: &str) -> &mut Self {
        let (fd, path) = (dir.wat(), self.string(path));
        self.step(&format!(
            "(call $path_readlink {fd} {path} (i32.const {BUFFER}) (i32.const 256) (i32.const {COUNT}))"
        ))
    }

    pub fn stat(&mut self, dir: Fd, path: &str) -> &mut Self {
        let (fd, path) = (dir.wat(), self.string(path));
        self.step(&format!("(call $path_filestat_get {fd} (i32.const 1) {path} (i32.const {STAT}))"))
    }

    pub fn set_times(&mut self, dir: Fd, path: &str) -> &mut Self {
        let (fd, path) = (dir.wat(), self.string(path));
        self.step(&format!(
            "(call $path_filestat_set_times {fd} (i32.const 1) {path} (i64.const 1) (i64.const 1) (i32.const 5))"
        ))
    }

    pub fn set_times_of(&mut self, fd: Fd) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call $fd_filestat_set_times {fd} (i64.const 1) (i64.const 1) (i32.const 5))"))
    }

    pub fn set_size(&mut self, fd: Fd, size: u64) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call $fd_filestat_set_size {fd} (i64.const {size}))"))
    }

    pub fn allocate(&mut self, fd: Fd, size: u64) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call $fd_allocate {fd} (i64.const 0) (i64.const {size}))"))
    }

    pub fn readdir(&mut self, fd: Fd) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!(
            "(call $fd_readdir {fd} (i32.const {BUFFER}) (i32.const 1024) (i64.const 0) (i32.const {COUNT}))"
        ))
    }

    /// Writes `bytes` bytes of the buffer at the position.
    pub fn write_bytes(&mut self, fd: Fd, bytes: usize) -> &mut Self {
        self.vector(BUFFER, bytes);
        let fd = fd.wat();
        self.step(&format!("(call $fd_write {fd} (i32.const {IOVEC}) (i32.const 1) (i32.const {COUNT}))"))
    }

    /// Writes `bytes` bytes of the buffer at `offset`.
    pub fn pwrite_at(&mut self, fd: Fd, bytes: usize, offset: u64) -> &mut Self {
        self.vector(BUFFER, bytes);
        let fd = fd.wat();
        self.step(&format!(
            "(call $fd_pwrite {fd} (i32.const {IOVEC}) (i32.const 1) (i64.const {offset}) (i32.const {COUNT}))"
        ))
    }

    pub fn pread_at(&mut self, fd: Fd, bytes: usize, offset: u64) -> &mut Self {
        self.vector(BUFFER, bytes);
        let fd = fd.wat();
        self.step(&format!(
            "(call $fd_pread {fd} (i32.const {IOVEC}) (i32.const 1) (i64.const {offset}) (i32.const {COUNT}))"
        ))
    }

    /// Answers with the position, of which [`Script::count`] tells the lower half.
    pub fn seek(&mut self, fd: Fd, offset: i64, whence: i32) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!(
            "(call $fd_seek {fd} (i64.const {offset}) (i32.const {whence}) (i32.const {COUNT}))"
        ))
    }

    pub fn tell(&mut self, fd: Fd) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call $fd_tell {fd} (i32.const {COUNT}))"))
    }

    /// A call of one descriptor and no more: `fd_sync`, `fd_datasync`.
    pub fn call(&mut self, function: &str, fd: Fd) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call ${function} {fd})"))
    }

    pub fn advise(&mut self, fd: Fd) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call $fd_advise {fd} (i64.const 0) (i64.const 4096) (i32.const 1))"))
    }

    pub fn renumber(&mut self, from: Fd, to: Fd) -> &mut Self {
        let (from, to) = (from.wat(), to.wat());
        self.step(&format!("(call $fd_renumber {from} {to})"))
    }

    /// `fd_prestat_get`.
    pub fn prestat(&mut self, number: i32) -> &mut Self {
        self.step(&format!("(call $fd_prestat_get (i32.const {number}) (i32.const {STAT}))"))
    }

    /// `fd_fdstat_set_flags`: 1 is "append".
    pub fn set_flags(&mut self, fd: Fd, flags: i32) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call $fd_fdstat_set_flags {fd} (i32.const {flags}))"))
    }

    /// The attributes of `fd`: its length is then what [`Script::length`] tells.
    pub fn stat_of(&mut self, fd: Fd) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call $fd_filestat_get {fd} (i32.const {STAT}))"))
    }

    /// `fd_fdstat_get`, of which [`Script::length`] tells something that is the same everywhere.
    pub fn fdstat(&mut self, fd: Fd) -> &mut Self {
        let fd = fd.wat();
        self.step(&format!("(call $fd_fdstat_get {fd} (i32.const {}))", STAT + 32))
    }

    /// Adds to the output the four bytes that the last call left as its count.
    pub fn count(&mut self) -> &mut Self {
        self.four_bytes(COUNT)
    }

    /// Adds to the output the lower four bytes of the length that was last asked for.
    pub fn length(&mut self) -> &mut Self {
        self.four_bytes(STAT + 32)
    }

    /// Adds to the output four of the bytes that were last read.
    pub fn content(&mut self) -> &mut Self {
        self.four_bytes(BUFFER)
    }

    /// Adds to the output what kind of file [`Script::stat_of`] found: 4 is a regular one.
    pub fn kind(&mut self) -> &mut Self {
        self.body +=
            &format!("(i32.store8 (i32.const {}) (i32.load8_u (i32.const {})))\n", self.steps, STAT + 16);
        self.steps += 1;
        self
    }

    fn four_bytes(&mut self, at: usize) -> &mut Self {
        self.body += &format!("(i32.store (i32.const {}) (i32.load (i32.const {at})))\n", self.steps);
        self.steps += 4;
        self
    }

    /// Ends there, with nothing printed.
    pub fn exit(&mut self, status: i32) -> &mut Self {
        self.body += &format!("(call $proc_exit (i32.const {status}))\n");
        self
    }

    /// Makes the calls under `grant`, and returns the answer to each.
    pub fn answers(&self, grant: &Grant) -> Vec<u8> {
        let ran = run(&module(&self.wat()), grant, &Limits::default());
        assert_eq!(ran.outcome(), &Outcome::Exited(0), "{}", self.body);
        ran.stdout
    }

    pub fn wat(&self) -> String {
        let strings: String = self.strings.iter().map(|byte| format!("\\{byte:02x}")).collect();
        format!(
            r#"(module {IMPORTS}
                (memory (export "memory") 2)
                (data (i32.const {STRINGS}) "{strings}")
                (func (export "_start")
                    {body}
                    (i32.store (i32.const {IOVEC}) (i32.const 0))
                    (i32.store (i32.const {length}) (i32.const {steps}))
                    (drop (call $fd_write (i32.const 1) (i32.const {IOVEC}) (i32.const 1) (i32.const {COUNT})))))"#,
            body = self.body,
            length = IOVEC + 4,
            steps = self.steps,
        )
    }
}
