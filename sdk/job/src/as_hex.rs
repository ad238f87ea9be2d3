//! Bytes as lowercase hexadecimal digits, written without a string in between: a job's life writes some dozens of ids, keys and digests.

use std::fmt;

/// Writes two digits for each byte.
pub(crate) fn write<const N: usize>(bytes: &[u8; N], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut digits = [[0; 2]; N];
    let digits = digits.as_flattened_mut();
    hex::encode_to_slice(bytes, digits).map_err(|_| fmt::Error)?;
    f.write_str(std::str::from_utf8(digits).map_err(|_| fmt::Error)?)
}
