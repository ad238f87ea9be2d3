//! The two functions of the host that are not WASI's, as the component ABI lowers them: one declaration for both kinds of modules.
//!
//! *Never:* lets anything but these calls into the crate's unsafe code. *Spec:* `sdk/wit/report.wit`.

#[cfg(target_os = "wasi")]
#[link(wasm_import_module = "strongroom:job/report@0.1.0")]
unsafe extern "C" {
    #[link_name = "progress"]
    fn host_progress(percent: u32, text: *const u8, bytes: usize);
    #[link_name = "set-result"]
    fn host_set_result(at: *const u8, bytes: usize) -> u32;
}

/// What a linker that makes components must know of the interface: `report.wit`, as
/// `wasm-tools component embed --only-custom --world reporting sdk/wit/report.wit` writes it.
#[cfg(all(target_os = "wasi", target_env = "p2"))]
#[used]
#[unsafe(link_section = "component-type:strongroom:job/report@0.1.0")]
static TYPE: [u8; include_bytes!("report.component-type").len()] = *include_bytes!("report.component-type");

#[cfg(target_os = "wasi")]
pub(crate) fn progress(percent: u32, text: &str) {
    // SAFETY: the host reads the bytes of `text` during the call, and keeps no pointer.
    unsafe { host_progress(percent, text.as_ptr(), text.len()) }
}

/// Whether the host took it.
#[cfg(target_os = "wasi")]
pub(crate) fn set_result(bytes: &[u8]) -> bool {
    // SAFETY: the host reads `bytes` during the call, and keeps no pointer.
    unsafe { host_set_result(bytes.as_ptr(), bytes.len()) == 0 }
}

#[cfg(not(target_os = "wasi"))]
pub(crate) fn progress(_percent: u32, _text: &str) {}

/// Nobody is there to refuse it.
#[cfg(not(target_os = "wasi"))]
pub(crate) fn set_result(_bytes: &[u8]) -> bool {
    true
}
