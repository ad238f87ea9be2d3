//! The guest's files: how much it may change, what it must not open, and what it reached for.
//!
//! wasmtime-wasi resolves paths, opens and reads. In front of it, for preview 1 (`preview1`) and for WASI 0.2 (`preview2`), this
//! module charges whatever makes files grow or creates them, refuses what is neither a file nor a directory, and writes down
//! what was denied.
//!
//! *Owns:* every byte that a guest writes to a file (`quota`, `stream`). *Never:* stdout and stderr, which go past it.
//! *Bound:* as many notes as the guest has handles, and the ledger's own bound.

mod arguments;
mod creation;
pub(crate) mod granted;
mod look;
mod nodes;
mod preview1;
mod preview2;
mod quota;
mod stream;
mod sys;
mod tell;

use std::io;
use std::time::Duration;

use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use crate::reach::Ledger;
use crate::soft::SoftLimits;

use nodes::Nodes;
use quota::Disk;

pub(crate) use preview1::link as link_preview1;
pub(crate) use preview2::link as link_preview2;

/// What one guest's file calls share.
pub(crate) struct Files {
    disk: Disk,
    soft: SoftLimits,
    ledger: Ledger,
    nodes: Nodes,
    /// Bytes that the call under way may make the host hold.
    call_budget: usize,
}

impl Files {
    pub(crate) fn new(soft: &SoftLimits, ledger: &Ledger) -> Self {
        Self {
            disk: Disk::new(soft.clone()),
            soft: soft.clone(),
            ledger: ledger.clone(),
            nodes: Nodes::default(),
            call_budget: 0,
        }
    }

    /// Ends all writing of the run, once its guest is gone. A write that the system has begun is waited for, at most `most`.
    pub(crate) fn close(&self, most: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.disk.clone().close(most)
    }
}

/// The code for a failure. wasmtime-wasi's own table lacks some kinds.
fn code(error: &io::Error) -> ErrorCode {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => ErrorCode::Quota,
        io::ErrorKind::FileTooLarge => ErrorCode::FileTooLarge,
        io::ErrorKind::WouldBlock => ErrorCode::WouldBlock,
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red with `error.into()` alone: each of them is then `Io`.
    #[test]
    fn a_component_is_told_which_limit_it_hit() {
        for (kind, told) in [
            (io::ErrorKind::QuotaExceeded, ErrorCode::Quota),
            (io::ErrorKind::FileTooLarge, ErrorCode::FileTooLarge),
            (io::ErrorKind::WouldBlock, ErrorCode::WouldBlock),
            (io::ErrorKind::PermissionDenied, ErrorCode::NotPermitted),
        ] {
            assert_eq!(code(&kind.into()), told);
        }
    }
}
