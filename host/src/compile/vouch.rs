//! By what right compiled code is run: unsafe, since nobody can check it.
//!
//! *Owns:* the three ways to a [`Vouched`]. *Never:* takes bytes; only types that say where the bytes have been, and that only the
//! file that saw to it can make.

use strongroom_runtime::Vouched;

use super::FromHost;
use super::cache::Verified;
use super::parent::FromChild;

/// Code that a compiler which we started has just written.
pub(super) fn child(made: FromChild) -> Vouched {
    // SAFETY: only `parent` makes a `FromChild`: it started the program that the host's owner named as its own compiler, and
    // read these bytes, to the announced end, from a pipe that nobody else ever had. The program's part is `precompile`. The
    // trust is the same as in compiling here: in the compiler, not in the module.
    unsafe { Vouched::new(made.into_bytes()) }
}

/// Code that we put into the cache.
pub(super) fn cached(found: Verified) -> Vouched {
    // SAFETY: only `cache` makes a `Verified`, of bytes in this process's memory whose MAC it has just checked. The key is in a
    // file of the host's alone, and is used for nothing but code that had been vouched for, under this digest and this
    // compatibility.
    unsafe { Vouched::new(found.into_bytes()) }
}

/// Code that the host has passed to this process, which is a worker of its.
pub(super) fn passed(from: FromHost) -> Vouched {
    // SAFETY: only `load_passed` makes a `FromHost`, for `worker/child.rs` alone: the bytes come from a descriptor that the process which
    // started this one sent over the socket that it was started with. That process is the same program, which had vouched for them, and
    // everything here does what it says.
    unsafe { Vouched::new(from.into_bytes()) }
}
