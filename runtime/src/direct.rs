//! Stdin, stdout and stderr of a preview 1 guest, without a detour.
//!
//! wasmtime-wasi reaches a stream through two tables, two boxed futures and two copies: a quarter of what a small job takes.
//! What is plain goes straight to the pipe: a standard descriptor that still means what it meant at the start, and bytes or
//! room that are there already. All else goes wasmtime-wasi's way, which knows every error and does the waiting.
//!
//! *Never:* waits, or answers with an error of its own.

use std::future::ready;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use wasmtime::{Caller, Extern, ModuleExport};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self, WasiSnapshotPreview1 as _};
use wasmtime_wasi::p2::StreamError;
use wiggle::GuestMemory;

use crate::pipes::{Pipes, lock};
use crate::quantity::ByteSize;
use crate::sandbox::Guest;
use crate::stdio::MAX_CHUNK;

/// The field that preview 1 functions are imported from.
const PREVIEW1: &str = "wasi_snapshot_preview1";
/// Most buffers of one call that are looked at here.
const MAX_BUFFERS: u32 = 16;
/// The size of a buffer's address and length in guest memory.
const BUFFER: u32 = 8;

const STDIN: i32 = 0;
const STDOUT: i32 = 1;
const STDERR: i32 = 2;

type Answer<'a> = Box<dyn Future<Output = wasmtime::Result<i32>> + Send + 'a>;
/// Descriptor, buffers, how many, and where the guest wants to be told how many bytes went through.
type Call = (i32, i32, i32, i32);

/// One guest's way to its streams.
pub(crate) struct Direct {
    pipes: Arc<Pipes>,
    /// Where its memory is among what it exports.
    memory: Option<ModuleExport>,
    /// None of the three was closed or renumbered. Flags are for files: none of the three takes any.
    untouched: bool,
    /// Bytes that one call may make the host hold.
    budget: usize,
}

impl Direct {
    pub(crate) fn new(pipes: &Arc<Pipes>, memory: Option<ModuleExport>, budget: ByteSize) -> Self {
        Self { pipes: Arc::clone(pipes), memory, untouched: true, budget: budget.as_usize() }
    }

    /// The guest did something to `descriptor` that may change what the number means.
    pub(crate) fn touch(&mut self, descriptor: u32) {
        self.untouched &= descriptor > STDERR.unsigned_abs();
    }
}

/// Puts the short way in front of `fd_read` and `fd_write`.
pub(crate) fn link(linker: &mut wasmtime::Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(PREVIEW1, "fd_read", fd_read)?;
    linker.func_wrap_async(PREVIEW1, "fd_write", fd_write)?;
    Ok(())
}

fn fd_read(mut caller: Caller<'_, Guest>, call: Call) -> Answer<'_> {
    if let Some(answer) = read(&mut caller, call) {
        return Box::new(ready(answer));
    }
    Box::new(async move {
        let (mut memory, guest) = world(&mut caller)?;
        let (fd, buffers, count, told) = call;
        wasi_snapshot_preview1::fd_read(guest, &mut memory, fd, buffers, count, told).await
    })
}

fn fd_write(mut caller: Caller<'_, Guest>, call: Call) -> Answer<'_> {
    if let Some(answer) = write(&mut caller, call) {
        return Box::new(ready(answer));
    }
    Box::new(async move {
        let (mut memory, guest) = world(&mut caller)?;
        let (fd, buffers, count, told) = call;
        wasi_snapshot_preview1::fd_write(guest, &mut memory, fd, buffers, count, told).await
    })
}

/// What wasmtime-wasi's own way needs.
fn world<'a>(caller: &'a mut Caller<'_, Guest>) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Guest)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        wasmtime::bail!("missing required memory export");
    };
    let (bytes, guest) = memory.data_and_store_mut(caller);
    let budget = guest.direct().budget;
    guest.set_hostcall_fuel(budget);
    Ok((GuestMemory::Unshared(bytes), guest))
}

/// `None` where the long way must be gone.
fn read(caller: &mut Caller<'_, Guest>, call: Call) -> Option<wasmtime::Result<i32>> {
    if call.0 != STDIN {
        return None;
    }
    let (memory, guest) = plain(caller)?;
    let direct = guest.direct();
    let (buffer, told) = places(memory, call, direct.budget)?;
    let mut stdin = lock(&direct.pipes.stdin);
    if stdin.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending() {
        return None;
    }
    let bytes = match stdin.read(buffer.len()) {
        Ok(bytes) => bytes,
        Err(StreamError::Closed) => Bytes::new(),
        Err(error) => return Some(Err(failure(error))),
    };
    memory.get_mut(buffer)?.get_mut(..bytes.len())?.copy_from_slice(&bytes);
    tell(memory, told, bytes.len())
}

fn write(caller: &mut Caller<'_, Guest>, call: Call) -> Option<wasmtime::Result<i32>> {
    if call.0 != STDOUT && call.0 != STDERR {
        return None;
    }
    let (memory, guest) = plain(caller)?;
    let direct = guest.direct();
    let (buffer, told) = places(memory, call, direct.budget.min(MAX_CHUNK))?;
    let bytes = memory.get(buffer)?;
    let out = if call.0 == STDOUT { &direct.pipes.stdout } else { &direct.pipes.stderr };
    let mut out = lock(out);
    if out.poll_room(&mut Context::from_waker(Waker::noop())).is_pending() {
        return None;
    }
    if let Err(error) = out.write(Bytes::copy_from_slice(bytes)) {
        return Some(Err(failure(error)));
    }
    let written = bytes.len();
    tell(memory, told, written)
}

fn failure(error: StreamError) -> wasmtime::Error {
    match error {
        StreamError::Trap(error) | StreamError::LastOperationFailed(error) => error,
        StreamError::Closed => wasmtime::format_err!("the stream is closed"),
    }
}

/// The guest with its memory, if the short way may be gone.
fn plain<'a>(caller: &'a mut Caller<'_, Guest>) -> Option<(&'a mut [u8], &'a mut Guest)> {
    let direct = caller.data_mut().direct();
    let export = direct.memory.filter(|_| direct.untouched)?;
    let memory = caller.get_module_export(&export)?.into_memory()?;
    Some(memory.data_and_store_mut(caller))
}

/// The first buffer that is not empty, and the place of the answer; nothing if any of it is out of the ordinary.
fn places(memory: &[u8], (_, buffers, count, told): Call, budget: usize) -> Option<(Range<usize>, usize)> {
    let (buffers, count, told) = (buffers.cast_unsigned(), count.cast_unsigned(), told.cast_unsigned());
    if count > MAX_BUFFERS || !buffers.is_multiple_of(4) || !told.is_multiple_of(4) {
        return None;
    }
    let told = usize::try_from(told).ok()?;
    memory.get(told..told.checked_add(4)?)?;
    for at in (0..count).map(|index| u64::from(buffers) + u64::from(index * BUFFER)) {
        let at = usize::try_from(at).ok()?;
        let (start, length) = (word(memory, at)?, word(memory, at.checked_add(4)?)?);
        if length > 0 {
            let held = usize::try_from(count * BUFFER).ok()?.checked_add(length)?;
            let end = start.checked_add(length).filter(|end| *end <= memory.len() && held <= budget)?;
            return Some((start..end, told));
        }
    }
    None
}

fn word(memory: &[u8], at: usize) -> Option<usize> {
    let bytes = memory.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

/// Answers with success. The place was looked at before anything was done.
fn tell(memory: &mut [u8], told: usize, bytes: usize) -> Option<wasmtime::Result<i32>> {
    let bytes = u32::try_from(bytes).ok()?.to_le_bytes();
    memory.get_mut(told..told.checked_add(4)?)?.copy_from_slice(&bytes);
    Some(Ok(0))
}
