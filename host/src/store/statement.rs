//! What somebody signed, as it stands in a row: a grant, or a command of an operator.

use serde::{Deserialize, Serialize};
use strongroom_job::Base64Bytes;
use strongroom_job::signed::{Signed, SignedBody};

use super::ReadError;
use super::rows::Rows;

/// What was signed, and where the log says so.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    payload: Base64Bytes,
    signature: Base64Bytes,
    log_index: u64,
}

/// The row of what was signed.
pub(super) fn row<B: SignedBody>(signed: &Signed<B>, log_index: u64) -> Result<Vec<u8>, ReadError> {
    let row = Row { payload: signed.payload(), signature: signed.signature(), log_index };
    Ok(serde_json::to_vec(&row)?)
}

/// Everything that was signed and stands under this prefix, each under its own id, with the place of its record. `damage` says what is wrong with one that is
/// not whole, or stands under another id.
pub(super) fn all<B: SignedBody>(
    rows: &dyn Rows,
    prefix: &'static [u8],
    id: impl Fn(&B) -> [u8; 16],
    damage: &'static str,
) -> Result<Vec<(Signed<B>, u64)>, ReadError> {
    let read = |row: super::rows::Row| {
        let (key, value) = row?;
        let Row { payload, signature, log_index } = serde_json::from_slice(&value)?;
        let signed = Signed::from_parts(&payload, &signature).map_err(|_| ReadError::Damaged(damage))?;
        if key[prefix.len()..] != id(signed.body()) {
            return Err(ReadError::Damaged(damage));
        }
        Ok((signed, log_index))
    };
    rows.under(prefix).map(read).collect()
}
