//! Reading a whole input without trusting its length.

use std::io::Read;

use crate::Failure;

/// Reads `reader` to its end, at most `limit` bytes.
///
/// # Errors
///
/// [`Failure::BAD_INPUT`] when there is more than `limit`, without reading further than one byte past it;
/// [`Failure::FAILED`] when reading itself fails.
pub fn read_all(reader: impl Read, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // One byte past the limit tells "exactly full" from "too long".
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(Failure::input(format!(
            "the input is longer than the {limit} bytes that this task takes"
        )));
    }
    Ok(bytes)
}
