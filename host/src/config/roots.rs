//! The certificates that outgoing HTTPS of jobs trusts, when they are not those of the public web: a PEM file.
//!
//! *Never:* decides whom a job may talk to; that is a principal's `http`.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{Error as PemError, PemObject as _};

use super::raw::{Fault, Value};

/// Longest bundle, in bytes: about twice all authorities of the public web.
const MAX_BUNDLE_BYTES: u64 = 1 << 20;
/// First byte of every certificate: an ASN.1 sequence.
const SEQUENCE: u8 = 0x30;

/// All certificates of the file that `value` names, as DER; at least one.
pub(super) fn load(value: &Value<'_>) -> Result<Vec<Vec<u8>>, Fault> {
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
    let text = std::fs::read(path).map_err(unreadable)?;
    let certificates = CertificateDer::pem_slice_iter(&text).map(|found| found.map(|der| der.to_vec()));
    let certificates: Result<Vec<_>, PemError> = certificates.collect();
    let certificates = certificates.map_err(|error| wrong(&format_args!(" is not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(wrong(&" holds no certificate: expected -----BEGIN CERTIFICATE-----"));
    }
    if let Some(at) = certificates.iter().position(|der| der.first() != Some(&SEQUENCE)) {
        return Err(wrong(&format_args!(": certificate {} in it is damaged", at + 1)));
    }
    Ok(certificates)
}
