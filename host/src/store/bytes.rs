//! Values as bytes, one part after the other.
//!
//! *Never:* what the parts mean (`pack`). Each value has one form: whatever else is read is damage.

use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_job::{Digest, Name, Timestamp};

use super::ReadError;

/// What is not as it was written.
pub(super) const DAMAGED: ReadError = ReadError::Damaged("a job");

/// Writes one part after the other.
pub(super) struct Packer(pub(super) Vec<u8>);

impl Packer {
    /// Seven bits to a byte, the lowest first; the highest bit of a byte says that another follows (LEB128).
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(super) fn time(&mut self, time: Timestamp) {
        self.number(time.as_millis());
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.0.push(flag.into());
    }

    pub(super) fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn digest(&mut self, digest: &Digest) {
        self.0.extend_from_slice(digest.as_bytes());
    }

    /// What few jobs have.
    pub(super) fn json<T: Serialize>(&mut self, value: Option<&T>) -> Result<(), ReadError> {
        let text = value.map(serde_json::to_vec).transpose()?;
        self.bytes(&text.unwrap_or_default());
        Ok(())
    }
}

/// Reads one part after the other; whatever does not fit is damage.
pub(super) struct Unpacker<'a>(pub(super) &'a [u8]);

impl<'a> Unpacker<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DAMAGED)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], ReadError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DAMAGED)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ReadError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64, ReadError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // What is shifted out, and a last byte that adds nothing, would make a second form of the same number.
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err(DAMAGED);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DAMAGED)
    }

    pub(super) fn small(&mut self) -> Result<u32, ReadError> {
        u32::try_from(self.number()?).map_err(|_| DAMAGED)
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, ReadError> {
        self.number().map(Timestamp::from_millis)
    }

    pub(super) fn flag(&mut self) -> Result<bool, ReadError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DAMAGED),
        }
    }

    pub(super) fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], ReadError> {
        let length = usize::try_from(self.number()?).map_err(|_| DAMAGED)?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, ReadError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DAMAGED)
    }

    pub(super) fn name(&mut self) -> Result<Name, ReadError> {
        self.text()?.parse().map_err(|_| DAMAGED)
    }

    pub(super) fn digest(&mut self) -> Result<Digest, ReadError> {
        self.array().copied().map(Digest::from_bytes)
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReadError> {
        let text = self.bytes()?;
        Ok(if text.is_empty() { None } else { Some(serde_json::from_slice(text)?) })
    }

    pub(super) fn end<T>(self, value: T) -> Result<T, ReadError> {
        if self.0.is_empty() { Ok(value) } else { Err(DAMAGED) }
    }
}
