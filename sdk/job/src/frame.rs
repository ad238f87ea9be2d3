//! Frames: a length, a JSON header of that length, then raw bytes whose number the header states.
//!
//! One bidirectional QUIC stream carries one request and its answer. The length is checked before anything is
//! allocated for it.
//!
//! *Spec:* `docs/formats/wire.md`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::strict::{self, StrictError};

/// ALPN protocol name.
pub const ALPN: &[u8] = b"strongroom/1";
/// Longest header of a request, in bytes: what a stranger with a known key can make the host allocate per stream.
pub const MAX_REQUEST_BYTES: usize = 16 << 10;
/// Longest header of an answer, in bytes: room for the receipt of the largest batch.
pub const MAX_RESPONSE_BYTES: usize = 2 << 20;
/// Bytes of the length in front of a header.
pub const PREFIX_BYTES: usize = 4;

/// Why a header is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length says more than any header may have.
    #[error("a header of {length} bytes is announced; at most {max} are allowed")]
    TooLong {
        /// Bytes announced.
        length: u32,
        /// Bytes allowed.
        max: usize,
    },
    /// The header is not the expected JSON.
    #[error("the header is malformed: {0}")]
    Malformed(#[from] StrictError),
}

/// The length that `prefix` announces, if a header may be that long.
///
/// # Errors
/// When it is longer than `max`: [`MAX_REQUEST_BYTES`] or [`MAX_RESPONSE_BYTES`].
pub fn header_length(prefix: [u8; PREFIX_BYTES], max: usize) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(fits) if fits <= max => Ok(fits),
        _ => Err(FrameError::TooLong { length, max }),
    }
}

/// Parses a header, a [`Request`](crate::Request) or a [`Response`](crate::Response).
///
/// # Errors
/// When it is not strict JSON of that shape.
pub fn parse_header<T: DeserializeOwned>(header: &[u8]) -> Result<T, FrameError> {
    Ok(strict::parse(header, MAX_RESPONSE_BYTES)?)
}

/// The bytes of a header with its length in front.
#[must_use]
pub fn encode_header<T: Serialize>(header: &T) -> Vec<u8> {
    let mut bytes = vec![0; PREFIX_BYTES];
    #[expect(
        clippy::expect_used,
        reason = "string keys and plain values always serialize; a Vec takes every write"
    )]
    serde_json::to_writer(&mut bytes, header).expect("plain data serializes");
    let length = u32::try_from(bytes.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
    bytes[..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    bytes
}
