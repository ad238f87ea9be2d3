//! The certificates that outgoing HTTPS of jobs trusts, when they are not those of the public web: a PEM file.
//!
//! *Never:* decides whom a job may talk to; that is a principal's `http`.

use std::path::Path;

use strongroom_runtime::{EngineError, TlsRoots};

use super::raw::{Fault, Value};

/// Longest bundle, in bytes: about twice all authorities of the public web.
const MAX_BUNDLE_BYTES: u64 = 1 << 20;
/// First byte of every certificate: an ASN.1 sequence.
const SEQUENCE: u8 = 0x30;

/// All certificates of the file that `value` names; at least one.
pub(super) fn load(value: &Value<'_>) -> Result<TlsRoots, Fault> {
    let path = Path::new(value.text()?);
    let wrong = |problem: &dyn std::fmt::Display| value.fault(format_args!("{path:?}{problem}"));
    if !path.is_absolute() {
        return Err(wrong(&" must be an absolute path"));
    }
    let unreadable = |error: std::io::Error| wrong(&format_args!(": {error}"));
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_BUNDLE_BYTES {
        return Err(wrong(&format_args!(": {length} bytes where a bundle may have {MAX_BUNDLE_BYTES}")));
    }
    let roots = match TlsRoots::from_pem(&std::fs::read(path).map_err(unreadable)?) {
        Ok(roots) => roots,
        Err(EngineError::Config { why, .. }) => return Err(wrong(&format_args!(" {why}"))),
        Err(error) => return Err(wrong(&format_args!(": {error}"))),
    };
    if let TlsRoots::Only(certificates) = &roots
        && let Some(at) = certificates.iter().position(|der| der.first() != Some(&SEQUENCE))
    {
        return Err(wrong(&format_args!(": certificate {} in it is damaged", at + 1)));
    }
    Ok(roots)
}
