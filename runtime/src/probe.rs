//! What the kernel under us must have.

use crate::engine::EngineError;

/// Refuses a kernel without `openat2`.
///
/// Without it, paths below a granted directory would be resolved step by step in user space, where another process can
/// swap a directory for a symlink between two steps. Past escapes came from there.
#[cfg(target_os = "linux")]
pub(crate) fn require_openat2() -> Result<(), EngineError> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(CWD, c"/", flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(_) => Ok(()),
        Err(errno) => Err(EngineError::NoOpenat2 { source: errno.into() }),
    }
}

/// Other systems have other means, chosen by wasmtime-wasi.
#[cfg(not(target_os = "linux"))]
pub(crate) fn require_openat2() -> Result<(), EngineError> {
    Ok(())
}

/// Opens what this process needs of the kernel for as long as it runs guests, and may not be able to open later: a host that gives up
/// its rights calls this first. Without it, the first [`Engine`](crate::Engine) does it; one that cannot takes a slower way.
pub fn open_kernel_files() {
    // wasmtime keeps `/proc/self/pagemap` open, once for all engines.
    let _ = has_pagemap_scan();
}

/// Whether freed memories can be reset by looking only at the pages that were touched (Linux 6.7 and newer).
pub(crate) fn has_pagemap_scan() -> bool {
    wasmtime::PoolingAllocationConfig::is_pagemap_scan_available()
}
