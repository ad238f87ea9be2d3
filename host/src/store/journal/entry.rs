//! One group in the journal: what it changed, with a checksum.
//!
//! *Spec:* `docs/formats/state.md`, "The journal". Numbers are little-endian. An entry is
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | length of the changes |
//! | 4 | CRC-32 (ISO-HDLC) of the file's salt and all that follows here |
//! | 8 | the entry's number, one more than that of the entry before |
//! | … | for each change: 2 bytes, length of the key; 4, one more than the length of the value, 0 when the key is removed; key; value |

use sled::IVec;

use super::super::rows::Batch;

/// Bytes in front of the changes.
pub(super) const HEAD_BYTES: usize = 16;

/// Drawn anew for each use of a file: what an earlier use left, and what a client put into a row, is no entry of this one.
pub(super) type Salt = [u8; 8];

/// A key, and its value if it is not removed.
pub(in crate::store) type Change = (IVec, Option<IVec>);

/// Writes the entry of a batch with this number into `bytes`, but for its checksum ([`seal`]). None when the batch is longer than an entry
/// can be, 4 GiB.
pub(super) fn encode(number: u64, batch: &Batch, bytes: &mut Vec<u8>) -> Option<()> {
    bytes.clear();
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&number.to_le_bytes());
    for (key, value) in batch.iter() {
        bytes.extend_from_slice(&u16::try_from(key.len()).ok()?.to_le_bytes());
        let length = value.map_or(Some(0), |value| u32::try_from(value.len()).ok()?.checked_add(1))?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value.unwrap_or_default());
    }
    let length = u32::try_from(bytes.len() - HEAD_BYTES).ok()?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Some(())
}

/// Gives an entry its checksum, for a file with this salt.
pub(super) fn seal(entry: &mut [u8], salt: Salt) {
    let sum = sum(entry, salt);
    entry[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// The length is covered, too: it says how much.
fn sum(entry: &[u8], salt: Salt) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&salt);
    sum.update(&entry[8..]);
    sum.finalize()
}

/// What stands in front of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the changes, bytes.
    pub(super) length: usize,
    sum: u32,
    pub(super) number: u64,
}

impl Head {
    /// The head that `bytes` begin with; none when there are fewer.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        Some(Self {
            length: u32::from_le_bytes(*length) as usize,
            sum: u32::from_le_bytes(*sum),
            number: u64::from_le_bytes(*number),
        })
    }
}

/// The whole entry that `bytes` begin with, as its head and its changes; none when there is none, or its checksum says that it is not what
/// was written in a file with this salt.
pub(super) fn whole(bytes: &[u8], salt: Salt) -> Option<(Head, &[u8])> {
    let head = Head::of(bytes)?;
    let entry = bytes.get(..HEAD_BYTES.checked_add(head.length)?)?;
    (sum(entry, salt) == head.sum).then_some((head, &entry[HEAD_BYTES..]))
}

/// The changes of an entry that is whole. None when they do not end where they should, which no entry of ours does.
pub(super) fn changes(mut bytes: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while !bytes.is_empty() {
        let (key, rest) = bytes.split_first_chunk()?;
        let (value, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*key).into())?;
        let (value, rest) = match u32::from_le_bytes(*value) {
            0 => (None, rest),
            length => {
                let (value, rest) = rest.split_at_checked(length as usize - 1)?;
                (Some(value.into()), rest)
            }
        };
        changes.push((key.into(), value));
        bytes = rest;
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn batch() -> Batch {
        let mut batch = Batch::default();
        batch.insert(*b"a", *b"value");
        batch.insert(*b"empty", []);
        batch.remove(*b"gone");
        batch.insert([7; 300], vec![9; 70_000]);
        batch
    }

    const SALT: Salt = *b"pepper!!";

    fn sealed(number: u64, batch: &Batch) -> Vec<u8> {
        let mut bytes = b"before".to_vec();
        encode(number, batch, &mut bytes).unwrap();
        seal(&mut bytes, SALT);
        bytes
    }

    #[test]
    fn what_was_encoded_comes_back() {
        let bytes = sealed(42, &batch());
        let (head, body) = whole(&bytes, SALT).unwrap();
        assert_eq!((head.number, head.length), (42, bytes.len() - HEAD_BYTES));
        let same: Vec<Change> =
            batch().iter().map(|(key, value)| (key.into(), value.map(IVec::from))).collect();
        assert_eq!(changes(body).unwrap(), same);
    }

    // Red without the checksum's comparison in `whole`, and without the salt in `sum`.
    #[test]
    fn an_entry_with_any_byte_changed_or_missing_or_of_another_use_is_none() {
        let mut small = Batch::default();
        small.insert(*b"key", *b"value");
        small.remove(*b"gone");
        let mut bytes = sealed(7, &small);
        assert!(whole(&bytes, SALT).is_some());
        assert!(whole(&bytes, *b"another.").is_none());
        for place in 0..bytes.len() {
            assert!(whole(&bytes[..place], SALT).is_none(), "cut at {place}");
            for bit in 0..8 {
                bytes[place] ^= 1 << bit;
                assert!(whole(&bytes, SALT).is_none(), "bit {bit} of byte {place}");
                bytes[place] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn changes_that_do_not_end_where_they_should_are_none() {
        assert!(changes(&[1]).is_none());
        assert!(changes(&[1, 0, 0, 0, 0, 0]).is_none());
        assert!(changes(&[1, 0, 9, 0, 0, 0, b'k', b'v']).is_none());
        assert_eq!(changes(&[]).unwrap(), []);
    }
}
