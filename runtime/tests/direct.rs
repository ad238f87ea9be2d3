//! The short way to stdin, stdout and stderr (`direct.rs`) answers as the long way does, wasmtime-wasi's own.
//!
//! A guest that renumbers stderr to where it is already has changed nothing, and is sent the long way from then on: so each
//! call can be made both ways, and compared.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use common::syscalls::{BADF, IMPORTS, NOMEM, OK};
use common::{Ran, bounded, command, module, run, run_with};
use strongroom_runtime::{
    ByteSize, CancelToken, Grant, LimitKind, Limits, MAX_CHUNK, Module, Outcome, OutputSink, Report, Sandbox,
    Stdio, TrapKind,
};
use tokio::io::{AsyncRead, ReadBuf};

/// Where the guest's memory ends.
const END: u32 = 5 << 16;
/// Where the guest has bytes to write, and room for what it reads.
const DATA: u32 = 1 << 16;
/// Where it has its list of buffers, and the answer, if the case does not say otherwise.
const LIST: u32 = 1024;
const TOLD: u32 = 16;

/// What takes the short way away.
const AROUND: &str = "(if (call $fd_renumber (i32.const 2) (i32.const 2)) (then unreachable))";

#[derive(Clone, Copy)]
enum Call {
    Read,
    Write,
}

/// One call with its arguments.
struct Case {
    call: Call,
    /// Address and length of each buffer.
    list: Vec<(u32, u32)>,
    at: u32,
    count: u32,
    told: u32,
}

impl Case {
    fn new(call: Call, list: &[(u32, u32)]) -> Self {
        Self { call, list: list.to_vec(), at: LIST, count: u32::try_from(list.len()).unwrap(), told: TOLD }
    }

    fn write(list: &[(u32, u32)]) -> Self {
        Self::new(Call::Write, list)
    }

    fn read(list: &[(u32, u32)]) -> Self {
        Self::new(Call::Read, list)
    }

    /// A guest that makes the call after `first`, copies what it read to stderr, and ends with the error code and, above it,
    /// the count that it was told.
    fn guest(&self, first: &str) -> String {
        let (name, number) = match self.call {
            Call::Read => ("fd_read", 0),
            Call::Write => ("fd_write", 1),
        };
        let list: String = (0..)
            .zip(&self.list)
            .map(|(index, (address, length))| {
                let at = self.at + 8 * index;
                format!(
                    "(i32.store (i32.const {at}) (i32.const {address})) (i32.store (i32.const {}) (i32.const {length}))",
                    at + 4
                )
            })
            .collect();
        let show = match (self.call, self.list.iter().find(|(_, length)| *length > 0)) {
            (Call::Read, Some((address, _))) => format!(
                "(i32.store (i32.const 0) (i32.const {address})) (i32.store (i32.const 4) (local.get $told))
                 (if (i32.gt_s (local.get $told) (i32.const 0))
                    (then (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))))"
            ),
            _ => String::new(),
        };
        command(&format!(
            "(local $errno i32) (local $told i32)
             (drop (memory.grow (i32.const 4)))
             (loop $fill
                (i32.store8 offset={DATA} (local.get $told) (i32.rem_u (local.get $told) (i32.const 251)))
                (br_if $fill (i32.lt_u
                    (local.tee $told (i32.add (local.get $told) (i32.const 1)))
                    (i32.const {}))))
             (i32.store (i32.const {TOLD}) (i32.const -1))
             {list}
             {first}
             (local.set $errno
                (call ${name} (i32.const {number}) (i32.const {}) (i32.const {}) (i32.const {})))
             (local.set $told (i32.load (i32.const {TOLD})))
             {show}
             (call $proc_exit (i32.or (local.get $errno) (i32.shl (local.get $told) (i32.const 8))))",
            END - DATA,
            self.at,
            self.count,
            self.told,
        ))
    }

    /// The end of the run, however the call was made: that both ways lead there was asserted.
    fn both_ways(&self, limits: &Limits) -> Ran {
        let input = || Stdio::null().stdin_bytes("a few bytes");
        let [short, long] = ["", AROUND]
            .map(|first| run_with(&module(&self.guest(first)), &Grant::none(), limits, input()).unwrap());
        assert_eq!(short.outcome(), long.outcome());
        assert_eq!((&short.stderr, short.stdout.len()), (&long.stderr, long.stdout.len()));
        assert!(short.stdout == long.stdout);
        assert_eq!(
            (short.report.usage.stdin, short.report.usage.stdout),
            (long.report.usage.stdin, long.report.usage.stdout)
        );
        short
    }

    /// [`Case::both_ways`], where the call is answered: with this code, and this count unless it is an error.
    fn answers(&self, errno: u8, told: Option<u32>) -> Ran {
        let ran = self.both_ways(&Limits::default());
        let told = told.unwrap_or(u32::MAX) << 8;
        assert_eq!(ran.outcome(), &Outcome::Exited((told | u32::from(errno)).cast_signed()));
        ran
    }
}

/// What the guest finds at [`DATA`] and after it.
fn data(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn plain_calls_are_answered_alike() {
    let ran = Case::write(&[(DATA, 300)]).answers(OK, Some(300));
    assert_eq!(ran.stdout, data(300));
    let ran = Case::read(&[(DATA, 300)]).answers(OK, Some(11));
    assert_eq!(ran.stderr, b"a few bytes");
    let ran = Case::read(&[(DATA, 5), (DATA + 5, 300)]).answers(OK, Some(5));
    assert_eq!(ran.stderr, b"a few");
}

// Red without `length > 0` in `places`.
#[test]
fn only_the_first_buffer_with_something_in_it_counts() {
    let ran = Case::write(&[(0, 0), (u32::MAX, 0), (DATA, 7), (DATA + 7, 7)]).answers(OK, Some(7));
    assert_eq!(ran.stdout, data(7));
    let ran = Case::read(&[(0, 0), (u32::MAX, 0), (DATA, 7)]).answers(OK, Some(7));
    assert_eq!(ran.stderr, b"a few b");

    let mut many = vec![(0, 0); 40];
    many.push((DATA, 9));
    assert_eq!(Case::write(&many).answers(OK, Some(9)).stdout, data(9));
    assert_eq!(Case::read(&many).answers(OK, Some(9)).stderr, b"a few byt");
    // What comes after the first one is not looked at, not even where it would be outside memory.
    let first = |case: Case| Case { at: END - 8, count: 3, ..case };
    assert_eq!(first(Case::write(&[(DATA, 9)])).answers(OK, Some(9)).stdout, data(9));
    assert_eq!(first(Case::read(&[(DATA, 9)])).answers(OK, Some(9)).stderr, b"a few byt");
}

#[test]
fn to_write_nothing_or_to_read_into_nothing_is_answered_alike() {
    for list in [&[][..], &[(DATA, 0)], &[(u32::MAX, 0); 20]] {
        assert_eq!(Case::write(list).answers(OK, Some(0)).stdout, b"");
        assert_eq!(Case::read(list).both_ways(&Limits::default()).report.usage.stdin, ByteSize::bytes(0));
    }
    Case { at: END - 4, ..Case::write(&[]) }.answers(OK, Some(0));
}

// Red without `set_hostcall_fuel` in `world`: the long way then has nothing to work with.
#[test]
fn a_long_write_is_taken_whole() {
    // In pieces or at once.
    for length in [4096, 4097, 65_536, 65_537, 200_000] {
        assert!(Case::write(&[(DATA, length)]).answers(OK, Some(length)).stdout == data(length));
    }
}

// Red without each of these in `places`: what is asked of the answer's place (what was written is written again the long way, or
// the answer is put where it may not be), what is asked of the list's, and the buffer's end within memory (what was read is lost).
#[test]
fn what_does_not_lie_in_memory_ends_the_run_alike() {
    let write = || Case::write(&[(DATA, 5)]);
    let read = || Case::read(&[(DATA, 5)]);
    // The long way, too, looks at the answer's place only when it has something to put there.
    for told in [2, 17, END - 3, END, u32::MAX - 3, u32::MAX] {
        let ran = Case { told, ..write() }.both_ways(&Limits::default());
        assert!(ran.stdout.len() <= 5, "{told}: {:?}", ran.stdout);
        assert_eq!(stopped(&ran), ran.stdout.len() == 5, "{told}: {:?}", ran.outcome());
        Case { told, ..read() }.both_ways(&Limits::default());
    }
    for case in [write(), read()] {
        assert!(stopped(&Case { at: LIST + 2, ..case }.both_ways(&Limits::default())));
    }
    for at in [END - 6, END - 4, END, u32::MAX - 7, u32::MAX] {
        let misplaced = |case: Case| Case { at, count: 1, list: Vec::new(), ..case };
        let ran = misplaced(write()).both_ways(&Limits::default());
        assert_eq!(ran.stdout, b"", "{at}");
        assert_eq!(misplaced(read()).both_ways(&Limits::default()).report.usage.stdin, ByteSize::bytes(0));
    }
    // A list that begins in memory, empty buffers first, and ends outside.
    let ran = Case { at: END - 8, count: 3, ..Case::write(&[(0, 0)]) }.both_ways(&Limits::default());
    assert!(stopped(&ran) && ran.stdout.is_empty());

    for address in [END - 4, END, u32::MAX - 2, u32::MAX] {
        let ran = Case::write(&[(address, 5)]).both_ways(&Limits::default());
        assert!(stopped(&ran) && ran.stdout.is_empty(), "{address}: {:?}", ran.outcome());
    }
    Case::write(&[(DATA, u32::MAX)]).both_ways(&Limits::default());
    // There is room for what is read, if not for what could be.
    let ran = Case::read(&[(END - 20, 1000)]).answers(OK, Some(11));
    assert_eq!(ran.stderr, b"a few bytes");
    assert!(stopped(&Case::read(&[(END - 5, 1000)]).both_ways(&Limits::default())));
}

fn stopped(ran: &Ran) -> bool {
    matches!(ran.outcome(), Outcome::Trapped { kind: TrapKind::HostCall, .. })
}

// Red without `MAX_BUFFERS` (a count that overflows takes the host down in a build that checks, and past the budget in one that
// does not), and without `budget`.
#[test]
fn what_a_call_may_make_the_host_hold_is_kept_to() {
    for count in [0x1000_0000, 0x1fff_ffff, 0x2000_0000, 0x2000_0001, 0x7fff_ffff, u32::MAX] {
        Case { count, ..Case::write(&[(DATA, 5)]) }.answers(NOMEM, None);
        Case { count, ..Case::read(&[(DATA, 5)]) }.answers(NOMEM, None);
    }
    let limits = Limits { host_buffer: ByteSize::bytes(1000), ..Limits::default() };
    for case in [Case::write, Case::read] {
        // The list is held as well.
        for (list, fits) in [
            (&[(DATA, 992)][..], true),
            (&[(DATA, 993)], false),
            (&[(0, 0), (0, 0), (DATA, 976)], true),
            (&[(0, 0), (0, 0), (DATA, 977)], false),
            (&[(DATA, 200_000)], false),
        ] {
            let ran = case(list).both_ways(&limits);
            let refused = Outcome::Exited((u32::MAX << 8 | u32::from(NOMEM)).cast_signed());
            assert_eq!(*ran.outcome() != refused, fits, "{list:?}: {:?}", ran.outcome());
            let usage = &ran.report.usage;
            assert_eq!(usage.stdin.as_u64() + usage.stdout.as_u64() > 0, fits);
        }
    }
}

#[test]
fn a_program_without_memory_is_told_so() {
    for fields in ["", r#"(func (export "memory"))"#, "(memory 1)"] {
        for (name, number) in [("fd_write", 1), ("fd_read", 0)] {
            let wat = format!(
                r#"(module {IMPORTS} {fields} (func (export "_start")
                    (drop (call ${name} (i32.const {number}) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
            );
            let ran = run(&module(&wat), &Grant::none(), &Limits::default());
            let Outcome::Trapped { kind: TrapKind::HostCall, message } = ran.outcome() else {
                panic!("{:?}", ran.outcome());
            };
            assert!(message.contains("missing required memory export"), "{message}");
        }
    }
}

#[test]
fn a_write_past_the_output_limit_ends_the_run_at_the_limit() {
    let limits = Limits { stdout: ByteSize::bytes(100), ..Limits::default() };
    let exceeded = |used| Outcome::Exceeded { limit: LimitKind::Stdout, allowed: 100, used };
    Case::write(&[(DATA, 100)]).both_ways(&limits);
    let ran = Case::write(&[(DATA, 101)]).both_ways(&limits);
    assert_eq!((ran.outcome(), &ran.stdout), (&exceeded(101), &data(100)));
    // The long way writes in smaller pieces; the short one knows what was asked for.
    let ran = run(&module(&Case::write(&[(DATA, 50_000)]).guest("")), &Grant::none(), &limits);
    assert_eq!((ran.outcome(), &ran.stdout), (&exceeded(50_000), &data(100)));
    assert_eq!(ran.report.usage.stdout, ByteSize::bytes(100));
}

/// Calls `fd_write` or `fd_read` of `number` after `first`; ends with its answer. What was read goes to stderr.
fn after(first: &str, name: &str, number: u32) -> String {
    command(&format!(
        r#"(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 5))
           (i32.store (i32.const 64) (i32.const 0x21212121)) (i32.store8 (i32.const 68) (i32.const 33))
           (i32.store8 (i32.const 128) (i32.const 102))
           {first}
           (i32.store (i32.const 132) (call ${name} (i32.const {number}) (i32.const 0) (i32.const 1) (i32.const 8)))
           (if (i32.eqz (i32.load (i32.const 132))) (then
              (i32.store (i32.const 4) (i32.load (i32.const 8)))
              (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))))
           (call $proc_exit (i32.load (i32.const 132)))"#
    ))
}

/// Opens the file "f" of the first directory as number 4, for reading and writing.
const OPEN: &str = "
    (if (call $path_open (i32.const 3) (i32.const 1) (i32.const 128) (i32.const 1) (i32.const 0)
        (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 8)) (then unreachable))";

fn close(number: u32) -> String {
    format!("(if (call $fd_close (i32.const {number})) (then unreachable))")
}

fn renumber(from: u32, to: u32) -> String {
    format!("(if (call $fd_renumber (i32.const {from}) (i32.const {to})) (then unreachable))")
}

// Red without `touch` in `fd_close`.
#[test]
fn what_was_closed_stays_closed() {
    for (name, number) in [("fd_write", 1), ("fd_read", 0)] {
        let module = module(&after(&close(number), name, number));
        let ran = run_with(&module, &Grant::none(), &Limits::default(), Stdio::null().stdin_bytes("input"));
        let ran = ran.unwrap();
        assert_eq!(ran.outcome(), &Outcome::Exited(BADF.into()), "{name}");
        assert_eq!((ran.stdout, ran.stderr), (Vec::new(), Vec::new()), "{name}");
        assert_eq!(ran.report.usage.stdin, ByteSize::bytes(0));
    }
    let module = module(&after(&close(2), "fd_write", 2));
    let ran = run(&module, &Grant::none(), &Limits::default());
    assert_eq!((ran.outcome(), &*ran.stderr), (&Outcome::Exited(BADF.into()), &b""[..]));
}

// Red without either `touch` in `fd_renumber`.
#[test]
fn a_number_means_what_was_put_there() {
    let ran = |first: &str, name, number| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "of the file").unwrap();
        let grant = Grant::none().write_dir(dir.path(), "/d");
        let stdio = Stdio::null().stdin_bytes("input");
        let ran = run_with(&module(&after(first, name, number)), &grant, &Limits::default(), stdio).unwrap();
        (ran, std::fs::read_to_string(dir.path().join("f")).unwrap())
    };
    let onto = |number| format!("{OPEN}{}", renumber(4, number));

    let (written, file) = ran(&onto(1), "fd_write", 1);
    assert_eq!((written.outcome(), &*file), (&Outcome::Exited(0), "!!!!!e file"));
    assert_eq!((&*written.stdout, &*written.stderr), (&b""[..], &b"!!!!!"[..]));

    let (read, _) = ran(&onto(0), "fd_read", 0);
    assert_eq!((read.outcome(), &*read.stderr), (&Outcome::Exited(0), &b"of th"[..]));
    assert_eq!(read.report.usage.stdin, ByteSize::bytes(0));

    let (swapped, _) = ran(&renumber(2, 1), "fd_write", 1);
    assert_eq!((&*swapped.stdout, &*swapped.stderr), (&b""[..], &b"!!!!!"[..]));

    // The number that was taken away is nobody's.
    for (from, name) in [(1, "fd_write"), (0, "fd_read")] {
        let (gone, file) = ran(&format!("{OPEN}{}", renumber(from, 4)), name, from);
        assert_eq!((gone.outcome(), &*file), (&Outcome::Exited(BADF.into()), "of the file"), "{name}");
        assert_eq!((gone.stdout, gone.stderr), (Vec::new(), Vec::new()));
    }
}

/// Only what is a file can be given flags, so that the three streams need not be looked at again after that.
#[test]
fn a_stream_cannot_be_given_flags() {
    let flags = "(if (i32.ne (call $fd_fdstat_set_flags (i32.const 1) (i32.const 4)) (i32.const 8)) (then unreachable))";
    let ran = run(&module(&after(flags, "fd_write", 1)), &Grant::none(), &Limits::default());
    assert_eq!((ran.outcome(), &*ran.stdout), (&Outcome::Exited(0), &b"!!!!!"[..]));
}

/// Gives its bytes three at a time, and only when asked for the third time.
struct Slow {
    bytes: Vec<u8>,
    at: usize,
    asked: u32,
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.asked += 1;
        if !self.asked.is_multiple_of(3) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let end = (self.at + 3).min(self.bytes.len());
        buf.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

const OFTEN: u32 = 10;

/// Takes the first chunk at once, and each after it only when asked often enough.
struct Full {
    seen: Arc<Mutex<Vec<u8>>>,
    asked: u32,
}

impl OutputSink for Full {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.asked += 1;
        if !self.asked.is_multiple_of(OFTEN) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        assert_eq!(self.asked % OFTEN, 0, "a chunk before the sink was ready");
        assert!(!chunk.is_empty() && chunk.len() <= MAX_CHUNK);
        self.asked += 1;
        self.seen.lock().unwrap().extend_from_slice(&chunk);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Reads up to 8 bytes and writes `length` that begin with them, until the input ends.
fn echo(length: u32) -> Module {
    module(&command(&format!(
        "(loop $again
            (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8))
            (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (if (i32.eqz (i32.load (i32.const 8))) (then (return)))
            (i32.store (i32.const 4) (i32.const {length}))
            (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (if (i32.ne (i32.load (i32.const 8)) (i32.const {length})) (then unreachable))
            (br $again))"
    )))
}

/// Runs `module` between `stdio`'s input and a sink that is full most of the time: its end, and what the sink was given.
fn into_full(module: Module, stdio: Stdio) -> (Report, Vec<u8>) {
    let seen = Arc::default();
    let sink = Full { seen: Arc::clone(&seen), asked: OFTEN - 1 };
    let report = bounded(async move {
        let (grant, limits, never) = (Grant::none(), Limits::default(), CancelToken::never());
        Sandbox::run(&module, &grant, &limits, stdio.stdout(sink), &never).await.unwrap()
    });
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (report, seen)
}

// Red when `poll_ready` of stdin is asked and not listened to: the input then ends at its first pause.
#[test]
fn a_slow_source_is_waited_for() {
    let bytes = data(900);
    let source = Slow { bytes: bytes.clone(), at: 0, asked: 0 };
    let (report, seen) = into_full(echo(2000), Stdio::null().stdin(source));
    assert_eq!(report.outcome, Outcome::Exited(0));
    assert_eq!(seen.len(), 300 * 2000, "300 reads of three bytes, as many writes");
    let echoed: Vec<u8> = seen.chunks(2000).flat_map(|chunk| &chunk[..3]).copied().collect();
    assert!(echoed == bytes);
    assert_eq!((report.usage.stdin.as_u64(), report.usage.stdout.as_u64()), (900, 600_000));
}

// Red when `poll_room` of stdout is asked and not listened to: what there is no room for piles up until the run is stopped.
#[test]
fn a_full_sink_is_waited_for() {
    let bytes = data(800);
    let (report, seen) = into_full(echo(8000), Stdio::null().stdin_bytes(bytes.clone()));
    assert_eq!((report.outcome, seen.len()), (Outcome::Exited(0), 100 * 8000));
    let echoed: Vec<u8> = seen.chunks(8000).flat_map(|chunk| &chunk[..8]).copied().collect();
    assert!(echoed == bytes);
}

// Red without `MAX_CHUNK` in `write`.
#[test]
fn a_sink_is_given_no_more_than_a_chunk() {
    let guest = module(&Case::write(&[(DATA, 200_000)]).guest(""));
    let (report, seen) = into_full(guest, Stdio::null());
    assert_eq!(report.outcome, Outcome::Exited(200_000 << 8));
    assert!(seen == data(200_000));
}
