//! Input and output stream: nothing is held whole, a slow end slows the guest, a broken end is the host's fault.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use common::{bounded, command, module, probe, run, run_with};
use strongroom_runtime::{
    ByteSize, CancelToken, Collect, Grant, HostFault, Limits, MAX_CHUNK, Module, Outcome, OutputSink, Report,
    Sandbox, Stdio, WriteSink,
};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// What is streamed through; far more than all buffers together.
const LONG: u64 = 64 << 20;
/// Most that may be between the source and the sink: what was read ahead, one buffer of the guest, what waits for the sink.
const IN_FLIGHT: u64 = 8 * MAX_CHUNK as u64;

/// Copies stdin to stdout with buffers of 32 KiB.
const CAT: &str = "
    (local $n i32) (local $at i32)
    (drop (memory.grow (i32.const 1)))
    (loop $again
        (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 32768))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $proc_exit (i32.const 1))))
        (local.set $n (i32.load (i32.const 8)))
        (if (i32.eqz (local.get $n)) (then (return)))
        (local.set $at (i32.const 65536))
        (loop $rest
            (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $n))
            (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $proc_exit (i32.const 2))))
            (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
            (br_if $rest (local.tee $n (i32.sub (local.get $n) (i32.load (i32.const 8))))))
        (br $again))";

fn cat() -> Module {
    module(&command(CAT))
}

fn long() -> Limits {
    Limits { stdout: ByteSize::bytes(LONG), ..Limits::default() }
}

/// The byte at a place of the stream: every run of 251 differs from its neighbours.
fn pattern(at: u64) -> u8 {
    ((at % 251) ^ (at / 65_536 % 256)) as u8
}

/// Counts what left the source and what reached the sink.
#[derive(Clone, Default)]
struct Flow {
    read: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Flow {
    fn note(&self) {
        let held = self.read.load(Ordering::SeqCst) - self.written.load(Ordering::SeqCst);
        self.most.fetch_max(held, Ordering::SeqCst);
    }
}

struct Fountain(Flow);

impl AsyncRead for Fountain {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let at = self.0.read.load(Ordering::SeqCst);
        let n = (buf.remaining() as u64).min(LONG - at).min(50_000);
        for place in at..at + n {
            buf.put_slice(&[pattern(place)]);
        }
        self.0.read.store(at + n, Ordering::SeqCst);
        self.0.note();
        Poll::Ready(Ok(()))
    }
}

/// Checks every byte, is not ready every other time it is asked, and is given nothing that it was not ready for.
struct Picky {
    flow: Flow,
    asked: u64,
    ready: bool,
}

impl OutputSink for Picky {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.asked += 1;
        if self.asked % 2 == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        assert!(std::mem::take(&mut self.ready), "a chunk before the sink was ready");
        assert!(!chunk.is_empty() && chunk.len() <= MAX_CHUNK, "a chunk of {}", chunk.len());
        let at = self.flow.written.load(Ordering::SeqCst);
        assert!(
            chunk.iter().zip(at..).all(|(&byte, place)| byte == pattern(place)),
            "wrong bytes after {at}"
        );
        self.flow.written.store(at + chunk.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// Red without: `poll_room` waiting for the sink in `stdout.rs` (the sink is then sent chunks it did not ask for, or they pile up).
#[test]
fn a_long_stream_passes_through_without_being_held() {
    let flow = Flow::default();
    let report = {
        let flow = flow.clone();
        let module = cat();
        bounded(async move {
            let stdio =
                Stdio::null().stdin(Fountain(flow.clone())).stdout(Picky { flow, asked: 0, ready: false });
            Sandbox::run(&module, &Grant::none(), &long(), stdio, &CancelToken::never()).await.unwrap()
        })
    };
    assert_eq!(report.outcome, Outcome::Exited(0));
    assert_eq!(flow.written.load(Ordering::SeqCst), LONG);
    assert_eq!((report.usage.stdin, report.usage.stdout), (ByteSize::bytes(LONG), ByteSize::bytes(LONG)));
    let most = flow.most.load(Ordering::SeqCst);
    assert!(most <= IN_FLIGHT, "{most} bytes were held at once");
    assert!(report.usage.peak_memory < ByteSize::mib(1));
}

#[test]
fn input_in_memory_reaches_the_guest_whole() {
    let input: Vec<u8> = (0..300_000).map(pattern).collect();
    let ran = run_with(&cat(), &Grant::none(), &Limits::default(), Stdio::null().stdin_bytes(input.clone()))
        .unwrap();
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    assert!(ran.stdout == input);
}

#[test]
fn a_component_streams_too() {
    let input = "so it goes\n".repeat(50_000);
    let grant = Grant::none().args(["probe", "upper"]);
    let source = io::Cursor::new(input.clone().into_bytes());
    let ran = run_with(&probe(), &grant, &Limits::default(), Stdio::null().stdin(source)).unwrap();
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    assert_eq!(ran.text(), input.to_uppercase());
    assert_eq!(ran.report.usage.stdin, ByteSize::bytes(input.len() as u64));
}

#[test]
fn stdin_ends_and_stays_ended() {
    let ran = run(&cat(), &Grant::none(), &Limits::default());
    assert_eq!((ran.outcome(), ran.stdout.len()), (&Outcome::Exited(0), 0));
    let twice = command(
        "(i32.store (i32.const 4) (i32.const 64))
         (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
         (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
         (call $proc_exit (i32.load (i32.const 8)))",
    );
    let ran = run_with(
        &module(&twice),
        &Grant::none(),
        &Limits::default(),
        Stdio::null().stdin(tokio::io::empty()),
    );
    assert_eq!(ran.unwrap().outcome(), &Outcome::Exited(0));
}

#[test]
fn a_pipe_takes_the_output_as_it_comes() {
    let module = cat();
    let input: Vec<u8> = (0..300_000).map(pattern).collect();
    let expected = input.clone();
    let got = bounded(async move {
        let (near, mut far) = tokio::io::duplex(1000);
        let stdio = Stdio::null().stdin_bytes(input).stdout(WriteSink::new(near));
        let (grant, limits, never) = (Grant::none(), Limits::default(), CancelToken::never());
        let mut got = Vec::new();
        let (report, read) =
            tokio::join!(Sandbox::run(&module, &grant, &limits, stdio, &never), far.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(report.unwrap().outcome, Outcome::Exited(0));
        got
    });
    assert!(got == expected);
}

/// Fails, or panics, at its second chunk.
struct Broken {
    chunks: u32,
    panics: bool,
}

impl OutputSink for Broken {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, _: Bytes) -> io::Result<()> {
        self.chunks += 1;
        assert!(!(self.panics && self.chunks == 2), "the sink panics on purpose");
        if self.chunks == 2 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Panics or fails when everything should be stored.
struct BrokenEnd {
    panics: bool,
}

impl OutputSink for BrokenEnd {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, _: Bytes) -> io::Result<()> {
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        assert!(!self.panics, "the end panics on purpose");
        Poll::Ready(Err(io::ErrorKind::StorageFull.into()))
    }
}

struct BrokenSource {
    panics: bool,
}

impl AsyncRead for BrokenSource {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        assert!(!self.panics, "the source panics on purpose");
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

fn with(stdio: impl FnOnce() -> Stdio + Send + 'static) -> Result<Report, HostFault> {
    let module = cat();
    bounded(async move {
        let (grant, limits) = (Grant::none(), Limits::default());
        Sandbox::run(&module, &grant, &limits, stdio(), &CancelToken::never()).await
    })
}

#[test]
fn a_broken_sink_is_the_hosts_fault() {
    let input = || Stdio::null().stdin_bytes(vec![0; 100_000]);
    let fault = with(move || input().stdout(Broken { chunks: 0, panics: false })).unwrap_err();
    assert!(
        matches!(&fault, HostFault::Stdout(error) if error.kind() == io::ErrorKind::StorageFull),
        "{fault:?}"
    );
    let fault = with(move || input().stdout(BrokenEnd { panics: false })).unwrap_err();
    assert!(matches!(&fault, HostFault::Stdout(_)), "{fault:?}");
    let fault = with(move || input().stderr(BrokenEnd { panics: false })).unwrap_err();
    assert!(matches!(&fault, HostFault::Stderr(_)), "{fault:?}");
}

#[test]
fn a_broken_source_is_the_hosts_fault() {
    let fault = with(|| Stdio::null().stdin(BrokenSource { panics: false })).unwrap_err();
    assert!(
        matches!(&fault, HostFault::Stdin(error) if error.kind() == io::ErrorKind::ConnectionReset),
        "{fault:?}"
    );
}

// Red without: `catch_unwind` in `drive.rs` (the panic then takes the caller's task with it).
#[test]
fn a_panic_in_host_code_fails_one_run_only() {
    let input = || Stdio::null().stdin_bytes(vec![0; 100_000]);
    let panics: [Box<dyn FnOnce() -> Stdio + Send>; 3] = [
        Box::new(move || input().stdout(Broken { chunks: 0, panics: true })),
        Box::new(move || input().stdout(BrokenEnd { panics: true })),
        Box::new(|| Stdio::null().stdin(BrokenSource { panics: true })),
    ];
    for stdio in panics {
        let module = cat();
        let (fault, lived) = bounded(async move {
            let (grant, limits, never) = (Grant::none(), Limits::default(), CancelToken::never());
            let (out, collected) = Collect::new();
            let other = Stdio::null().stdin_bytes("lives").stdout(out);
            let (failed, lived) = tokio::join!(
                Sandbox::run(&module, &grant, &limits, stdio(), &never),
                Sandbox::run(&module, &grant, &limits, other, &never)
            );
            assert_eq!(lived.unwrap().outcome, Outcome::Exited(0));
            (failed.unwrap_err(), collected.take())
        });
        assert!(
            matches!(&fault, HostFault::Panic { message } if message.contains("on purpose")),
            "{fault:?}"
        );
        assert_eq!(lived, b"lives");
    }
}

#[test]
fn output_arrives_while_the_guest_still_runs() {
    // The guest prints, then waits for input that comes only after the print was seen.
    let wat = command(
        r#"(i32.store8 (i32.const 64) (i32.const 33))
           (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1))
           (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
           (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
           (call $proc_exit (i32.load8_u (i32.const 64)))"#,
    );
    let module = module(&wat);
    let outcome = bounded(async move {
        let (near, mut far) = tokio::io::duplex(64);
        let (answer, question) = tokio::io::duplex(64);
        let stdio = Stdio::null().stdin(question).stdout(WriteSink::new(near));
        let (grant, limits, never) = (Grant::none(), Limits::default(), CancelToken::never());
        let (report, ()) = tokio::join!(Sandbox::run(&module, &grant, &limits, stdio, &never), async {
            let mut seen = [0];
            far.read_exact(&mut seen).await.unwrap();
            let mut answer = answer;
            tokio::io::AsyncWriteExt::write_all(&mut answer, &[seen[0] + 1]).await.unwrap();
        });
        report.unwrap().outcome
    });
    assert_eq!(outcome, Outcome::Exited(34));
}
