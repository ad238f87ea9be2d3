//! Guests that misbehave, each in one way, as WAT.

use std::fmt::Write as _;

/// Copies standard input to standard output.
pub const CAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "_start") (loop $next
        (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (if (i32.load (i32.const 8)) (then
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (br $next))))))"#;

/// Writes a pattern to this descriptor without end.
pub fn floods(fd: u32) -> String {
    writes(fd, None)
}

/// Writes so many bytes of the pattern to this descriptor, and ends.
pub fn writes_bytes(fd: u32, count: u32) -> String {
    writes(fd, Some(count))
}

/// The pattern that [`floods`] and [`writes_bytes`] write: 4 KiB in which every byte occurs, over and over.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 4096 % 251) as u8).collect()
}

fn writes(fd: u32, count: Option<u32>) -> String {
    let data: String = pattern(4096).iter().map(|byte| format!("\\{byte:02x}")).collect();
    let more = if count.is_some() { "(i32.gt_u (local.get $left) (i32.const 0))" } else { "(i32.const 1)" };
    let left = count.unwrap_or(u32::MAX);
    // A whole pattern at a time, so that the next write begins where the pattern does.
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 8192) "{data}")
            (func (export "_start") (local $left i32) (local $now i32)
                (local.set $left (i32.const {left}))
                (loop $more
                    (local.set $now (i32.const 4096))
                    (if (i32.lt_u (local.get $left) (i32.const 4096)) (then (local.set $now (local.get $left))))
                    (i32.store (i32.const 0) (i32.const 8192))
                    (i32.store (i32.const 4) (local.get $now))
                    (if (call $write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))
                    (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 16))))
                    (br_if $more {more}))))"#
    )
}

/// Grows its memory by a megabyte at a time and writes to each; dies when there is no more.
pub const EATS: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "_start") (local $at i32)
        (loop $more
            (local.set $at (memory.grow (i32.const 16)))
            (if (i32.eq (local.get $at) (i32.const -1)) (then unreachable))
            (i32.store (i32.mul (local.get $at) (i32.const 65536)) (i32.const 1))
            (br $more))))"#;

/// Ends with 1 when any byte of its 4 MiB is not zero at the start, else leaves a secret in all of them and ends with 0.
/// The memory grows first, so that the secret also lies past what the module itself declares.
pub const LEAVES_SECRETS: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2)
    (func (export "_start") (local $at i32)
        (if (i32.eq (memory.grow (i32.const 62)) (i32.const -1)) (then (call $exit (i32.const 2))))
        (loop $look
            (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (call $exit (i32.const 1))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $look (i32.lt_u (local.get $at) (i32.const 4194304))))
        (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 4194304))))"#;

/// Counts to `rounds`, which takes about so many nanoseconds, and ends.
pub fn counts_to(rounds: u32) -> String {
    format!(
        r#"(module (memory (export "memory") 1) (func (export "_start") (local $n i32)
            (loop $more
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const {rounds}))))))"#
    )
}

/// Writes `text` to the new file `name` of its first directory, and ends with `code`.
pub fn leaves(name: &str, text: &str, code: u32) -> String {
    let (length, size) = (name.len(), text.len());
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 1024) "{name}")
            (data (i32.const 2048) "{text}")
            (func (export "_start")
                (if (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const {length}) (i32.const 1)
                        (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 512))
                    (then unreachable))
                (i32.store (i32.const 0) (i32.const 2048))
                (i32.store (i32.const 4) (i32.const {size}))
                (if (call $write (i32.load (i32.const 512)) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))
                (call $exit (i32.const {code}))))"#
    )
}

/// Appends to `name` in its first directory without end.
pub fn appends_to(name: &str) -> String {
    let length = name.len();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 1024) "{name}")
            (func (export "_start")
                (if (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const {length}) (i32.const 1)
                        (i64.const 64) (i64.const 64) (i32.const 1) (i32.const 512))
                    (then unreachable))
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const {length}))
                (loop $more
                    (if (call $write (i32.load (i32.const 512)) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))
                    (br $more))))"#
    )
}

/// One system call on a path. Descriptors are 3 for the first directory, 4 for the second.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Opens for reading.
    Read(u32, &'a str),
    /// Opens for writing.
    Write(u32, &'a str),
    /// Opens for writing and makes the file.
    Create(u32, &'a str),
    /// Opens for reading and cuts the file off, as some readers could once.
    Truncate(u32, &'a str),
    Mkdir(u32, &'a str),
    Unlink(u32, &'a str),
    Rename(u32, &'a str, u32, &'a str),
    Link(u32, &'a str, u32, &'a str),
    Symlink(&'a str, u32, &'a str),
}

/// Makes the calls one after the other, and writes the answer to each, one byte, to stdout. 0 means that it worked.
pub fn tries(calls: &[Call<'_>]) -> String {
    let mut strings = Vec::new();
    let mut body = String::new();
    for (step, call) in calls.iter().enumerate() {
        let mut string = |text: &str| {
            let at = 4096 + strings.len();
            strings.extend_from_slice(text.as_bytes());
            format!("(i32.const {at}) (i32.const {})", text.len())
        };
        let mut open = |fd: u32, path: &str, flags: u32, rights: u32| {
            format!(
                "(call $open (i32.const {fd}) (i32.const 1) {} (i32.const {flags}) (i64.const {rights}) \
                 (i64.const {rights}) (i32.const 0) (i32.const 2048))",
                string(path)
            )
        };
        let wat = match *call {
            Call::Read(fd, path) => open(fd, path, 0, 2),
            Call::Write(fd, path) => open(fd, path, 0, 64),
            Call::Create(fd, path) => open(fd, path, 1, 64),
            Call::Truncate(fd, path) => open(fd, path, 8, 2),
            Call::Mkdir(fd, path) => format!("(call $mkdir (i32.const {fd}) {})", string(path)),
            Call::Unlink(fd, path) => format!("(call $unlink (i32.const {fd}) {})", string(path)),
            Call::Rename(fd, old, to, new) => {
                format!("(call $rename (i32.const {fd}) {} (i32.const {to}) {})", string(old), string(new))
            }
            Call::Link(fd, old, to, new) => format!(
                "(call $link (i32.const {fd}) (i32.const 0) {} (i32.const {to}) {})",
                string(old),
                string(new)
            ),
            Call::Symlink(target, fd, path) => {
                format!("(call $symlink {} (i32.const {fd}) {})", string(target), string(path))
            }
        };
        let _ = writeln!(body, "(i32.store8 (i32.const {}) {wat})", 1024 + step);
    }
    let strings: String = strings.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 4096) "{strings}")
            (func (export "_start")
                {body}
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const {steps}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#,
        steps = calls.len()
    )
}

/// Copies the file `path` of the first directory to stdout; ends with the error's number when it cannot be opened.
pub fn shows(path: &str) -> String {
    let length = path.len();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 2)
            (data (i32.const 1024) "{path}")
            (func (export "_start") (local $error i32)
                (local.set $error (call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const {length})
                    (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 512)))
                (if (local.get $error) (then (call $exit (local.get $error))))
                (i32.store (i32.const 0) (i32.const 65536))
                (i32.store (i32.const 4) (i32.const 4096))
                (drop (call $read (i32.load (i32.const 512)) (i32.const 0) (i32.const 1) (i32.const 4)))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#
    )
}

/// Writes exactly these bytes to stdout and stderr, then traps in a function of this name.
pub fn traps_in(name: &[u8], output: &[u8]) -> String {
    let quoted = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 1024) "{output}")
            (func (@name "{name}") (export "fails") unreachable)
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const {length}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
                (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))
                (call 1)))"#,
        output = quoted(output),
        name = quoted(name),
        length = output.len(),
    )
}
