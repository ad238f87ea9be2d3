//! What a guest says of its own work: how far it has come, and a result beside its output.
//!
//! Every guest may say it, whatever it was granted: it learns nothing by that, and reaches nobody but who asked for the run. A
//! core module imports the two functions as the component ABI would lower them, so that one declaration serves both kinds.
//!
//! *Owns:* the newest progress and the newest result of a run. *Never:* queues, logs or waits; passes on a character that steers
//! a terminal. *Bound:* [`MAX_PROGRESS_TEXT`] and [`MAX_RESULT`], however often the guest calls. *Spec:* `sdk/wit/report.wit`.

use tokio::sync::watch;
use wasmtime::component::{WasmList, WasmStr};
use wasmtime::{Caller, ModuleExport, StoreContextMut};

use crate::quantity::ByteSize;
use crate::sandbox::Guest;
use crate::verdict::harmless;

/// Most bytes of a progress text, as UTF-8; what is longer is cut between two characters.
pub const MAX_PROGRESS_TEXT: usize = 200;
/// Largest result; a larger one is not taken, and the guest is told so.
pub const MAX_RESULT: ByteSize = ByteSize::kib(64);

/// The interface, and the module that core modules import its functions from.
pub(crate) const INTERFACE: &str = "strongroom:job/report@0.1.0";
pub(crate) const PROGRESS: &str = "progress";
pub(crate) const SET_RESULT: &str = "set-result";

/// More is taken as this.
const ALL: u8 = 100;
/// Bytes of the longest character, less the one that it begins with.
const REST_OF_A_CHARACTER: usize = 3;

/// Answers of `set-result`, as the component ABI lowers a `result` without values.
const TAKEN: i32 = 0;
const REFUSED: i32 = 1;

/// How far a guest says that it has come. Nobody checks that it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    percent: u8,
    text: String,
}

impl Progress {
    /// What a guest says with `percent` (more than 100 is 100) and `text`, which is cut and cleaned as [`Progress::text`] tells.
    pub fn new(percent: u32, text: &[u8]) -> Self {
        Self { percent: u8::try_from(percent).map_or(ALL, |percent| percent.min(ALL)), text: shown(text) }
    }

    /// 0 to 100.
    pub fn percent(&self) -> u8 {
        self.percent
    }

    /// One line of at most [`MAX_PROGRESS_TEXT`] bytes without control characters; may be empty.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// No character gets shorter by being replaced, so what lies beyond the bound is never looked at.
fn shown(text: &[u8]) -> String {
    let seen = &text[..text.len().min(MAX_PROGRESS_TEXT + REST_OF_A_CHARACTER)];
    let mut shown = String::with_capacity(seen.len());
    for char in String::from_utf8_lossy(seen).chars().map(harmless) {
        if shown.len() + char.len_utf8() > MAX_PROGRESS_TEXT {
            break;
        }
        shown.push(char);
    }
    shown
}

/// What one guest has said so far.
pub(crate) struct Said {
    progress: Option<watch::Sender<Option<Progress>>>,
    result: Option<Vec<u8>>,
    /// Where a core module's memory is among what it exports.
    memory: Option<ModuleExport>,
}

impl Said {
    pub(crate) fn new(
        progress: Option<watch::Sender<Option<Progress>>>,
        memory: Option<ModuleExport>,
    ) -> Self {
        Self { progress, result: None, memory }
    }

    pub(crate) fn take_result(&mut self) -> Option<Vec<u8>> {
        self.result.take()
    }

    /// Takes the place of what was said before. Who watches is woken by a change only.
    fn progress(&self, percent: u32, text: &[u8]) {
        let Some(newest) = &self.progress else { return };
        let progress = Progress::new(percent, text);
        newest.send_if_modified(|newest| {
            let changed = newest.as_ref() != Some(&progress);
            if changed {
                *newest = Some(progress);
            }
            changed
        });
    }

    /// Takes the place of the result before it, which stays if this one is too large.
    fn set_result(&mut self, bytes: &[u8]) -> Result<(), ()> {
        if !fits(bytes.len()) {
            return Err(());
        }
        let result = self.result.get_or_insert_default();
        result.clear();
        result.extend_from_slice(bytes);
        Ok(())
    }
}

fn fits(length: usize) -> bool {
    length <= MAX_RESULT.as_usize()
}

/// Adds the two functions for core modules.
pub(crate) fn link_core(linker: &mut wasmtime::Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(
        INTERFACE,
        PROGRESS,
        |mut caller: Caller<'_, Guest>, percent: i32, at: i32, length: i32| {
            let (text, guest) = given(&mut caller, PROGRESS, at, length)?;
            guest.said().progress(percent.cast_unsigned(), text);
            Ok(())
        },
    )?;
    linker.func_wrap(INTERFACE, SET_RESULT, |mut caller: Caller<'_, Guest>, at: i32, length: i32| {
        let (bytes, guest) = given(&mut caller, SET_RESULT, at, length)?;
        Ok(guest.said_mut().set_result(bytes).map_or(REFUSED, |()| TAKEN))
    })?;
    Ok(())
}

/// The bytes that a core module points at. Outside its memory there is nothing to answer: such a call ends the run.
fn given<'a>(
    caller: &'a mut Caller<'_, Guest>,
    function: &str,
    at: i32,
    length: i32,
) -> wasmtime::Result<(&'a [u8], &'a mut Guest)> {
    let memory = caller.data().said().memory;
    let Some(memory) = memory.and_then(|memory| caller.get_module_export(&memory)?.into_memory()) else {
        wasmtime::bail!("{function}: the module exports no memory");
    };
    let (memory, guest) = memory.data_and_store_mut(caller);
    let (at, length) = (at.cast_unsigned(), length.cast_unsigned());
    let bytes = usize::try_from(at)
        .ok()
        .zip(usize::try_from(length).ok())
        .and_then(|(at, length)| memory.get(at..at.checked_add(length)?));
    match bytes {
        Some(bytes) => Ok((bytes, guest)),
        None => wasmtime::bail!("{function}: {length} bytes at address {at} are out of bounds of memory"),
    }
}

/// Adds the interface for components. wasmtime checks what they point at in the same way.
pub(crate) fn link_component(linker: &mut wasmtime::component::Linker<Guest>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface.func_wrap(PROGRESS, |store: StoreContextMut<'_, Guest>, (percent, text): (u32, WasmStr)| {
        let text = text.to_str(&store)?;
        store.data().said().progress(percent, text.as_bytes());
        Ok(())
    })?;
    interface.func_wrap(SET_RESULT, |mut store: StoreContextMut<'_, Guest>, (bytes,): (WasmList<u8>,)| {
        if !fits(bytes.len()) {
            return Ok((Err(()),));
        }
        let bytes = bytes.as_le_slice(&store).to_vec();
        Ok((store.data_mut().said_mut().set_result(&bytes),))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    // Red with `true` in place of `changed`.
    #[test]
    fn saying_the_same_again_wakes_nobody() {
        let (newest, mut seen) = watch::channel(None);
        let said = Said::new(Some(newest), None);
        said.progress(5, b"five");
        assert!(seen.has_changed().unwrap());
        assert_eq!(seen.borrow_and_update().as_ref().map(Progress::percent), Some(5));
        said.progress(5, b"five");
        assert!(!seen.has_changed().unwrap());
        said.progress(6, b"five");
        assert!(seen.has_changed().unwrap());
    }
}
