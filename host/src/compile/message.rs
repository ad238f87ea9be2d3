//! What goes over the pipes between the host and a compiler's process.
//!
//! ```text
//! to the child    u32: length of the head ‖ head, JSON ‖ the module
//! from the child  kind, 1 byte ‖ confinement, 1 byte ‖ u64: length ‖ artifact, or refusal as JSON, or a fault's words
//! ```
//!
//! Numbers are little-endian. Both ends are the same program, so there are no versions of this.

use std::io::{self, ErrorKind, Read, Write};

use serde::{Deserialize, Serialize};
use strongroom_runtime::{EngineConfig, MAX_MODULE_SIZE, Metering, ModuleError};

use super::confine::Confinement;
use crate::confine::Enforced;

/// Longest head of a request, bytes. It has about 400.
const MAX_HEAD_BYTES: usize = 4096;
/// Longest artifact, bytes: eight times the largest module. Native code is some four times as long as its module.
pub(super) const MAX_ARTIFACT_BYTES: u64 = 512 << 20;
/// Longest refusal or fault, bytes.
const MAX_WORDS_BYTES: u64 = 64 << 10;
/// Length of what comes before an answer's payload, bytes.
pub(super) const ANSWER_HEAD_BYTES: usize = 10;

/// What is to be compiled, without the module itself.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// Of the engine that will load the code.
    pub(super) config: EngineConfig,
    pub(super) metering: Metering,
    /// Bytes of the module.
    pub(super) length: u64,
}

/// What a child says.
pub(super) enum Answer {
    Artifact(Vec<u8>),
    Refused(ModuleError),
    /// It could not do its work.
    Fault(String),
}

/// The beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerHead {
    kind: u8,
    pub(super) confinement: Confinement,
    pub(super) length: u64,
}

const ARTIFACT: u8 = b'A';
const REFUSED: u8 = b'R';
const FAULT: u8 = b'F';

impl Head {
    /// The head with its length before it.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let head = serde_json::to_vec(self)?;
        let length = u32::try_from(head.len()).map_err(io::Error::other)?;
        Ok([&length.to_le_bytes()[..], &head].concat())
    }

    /// Reads a whole request.
    pub(super) fn read(from: &mut impl Read) -> io::Result<(Self, Vec<u8>)> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEAD_BYTES {
            return Err(invalid("the head is too long"));
        }
        let mut head = vec![0; length];
        from.read_exact(&mut head)?;
        let head: Self = serde_json::from_slice(&head)?;
        // One byte more may come: the runtime then refuses the module as too large, in its own words.
        if head.length > MAX_MODULE_SIZE.as_u64() + 1 {
            return Err(invalid("the module is too long"));
        }
        let mut wasm = Vec::new();
        from.take(head.length).read_to_end(&mut wasm)?;
        if wasm.len() as u64 != head.length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok((head, wasm))
    }
}

impl Answer {
    pub(super) fn write(&self, confinement: Confinement, to: &mut impl Write) -> io::Result<()> {
        let json;
        let (kind, payload) = match self {
            Self::Artifact(bytes) => (ARTIFACT, &bytes[..]),
            Self::Refused(error) => {
                json = serde_json::to_vec(error)?;
                (REFUSED, &json[..])
            }
            Self::Fault(words) => (FAULT, words.as_bytes()),
        };
        to.write_all(&AnswerHead { kind, confinement, length: payload.len() as u64 }.encode())?;
        to.write_all(payload)?;
        to.flush()
    }
}

impl AnswerHead {
    fn encode(&self) -> [u8; ANSWER_HEAD_BYTES] {
        let mut bytes = [0; ANSWER_HEAD_BYTES];
        bytes[0] = self.kind;
        bytes[1] = self.confinement.files as u8 | (self.confinement.calls as u8) << 4;
        bytes[2..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Checks the head, the length above all: nothing of that length is allocated before.
    pub(super) fn decode(bytes: [u8; ANSWER_HEAD_BYTES]) -> io::Result<Self> {
        let [kind, confinement, length @ ..] = bytes;
        let length = u64::from_le_bytes(length);
        let most = match kind {
            ARTIFACT => MAX_ARTIFACT_BYTES,
            REFUSED | FAULT => MAX_WORDS_BYTES,
            _ => return Err(invalid("an answer of no known kind")),
        };
        if length > most {
            return Err(io::Error::new(ErrorKind::FileTooLarge, format!("an answer of {length} bytes")));
        }
        let enforced = |bits| Enforced::of(bits).ok_or_else(|| invalid("an unknown confinement"));
        let confinement =
            Confinement { files: enforced(confinement & 0xf)?, calls: enforced(confinement >> 4)? };
        Ok(Self { kind, confinement, length })
    }

    /// The answer, of a payload as long as the head says.
    pub(super) fn answer(self, payload: Vec<u8>) -> io::Result<Answer> {
        Ok(match self.kind {
            ARTIFACT => Answer::Artifact(payload),
            REFUSED => Answer::Refused(serde_json::from_slice(&payload)?),
            _ => Answer::Fault(String::from_utf8_lossy(&payload).into_owned()),
        })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Confinement = Confinement { files: Enforced::Partly, calls: Enforced::Whole };

    fn head(kind: u8, length: u64) -> [u8; ANSWER_HEAD_BYTES] {
        AnswerHead { kind, confinement: HERE, length }.encode()
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let head = Head { config: EngineConfig::default(), metering: Metering::Fuel, length: 3 };
        let sent = [head.encode().unwrap(), b"abcd".to_vec()].concat();
        let (read, wasm) = Head::read(&mut &sent[..]).unwrap();
        assert_eq!((read.config, read.metering, wasm), (head.config, head.metering, b"abc".to_vec()));
        for length in 0..sent.len() - 1 {
            assert!(Head::read(&mut &sent[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let mut sent = Vec::new();
        Answer::Refused(ModuleError::NotWasm).write(HERE, &mut sent).unwrap();
        let (start, payload) = sent.split_first_chunk().unwrap();
        let start = AnswerHead::decode(*start).unwrap();
        assert_eq!((start.confinement, start.length), (HERE, payload.len() as u64));
        let Answer::Refused(error) = start.answer(payload.into()).unwrap() else { panic!("another kind") };
        assert_eq!(error, ModuleError::NotWasm);
    }

    // Red without the comparison with `most` in `decode`.
    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        assert!(AnswerHead::decode(head(ARTIFACT, MAX_ARTIFACT_BYTES)).is_ok());
        assert!(AnswerHead::decode(head(ARTIFACT, MAX_ARTIFACT_BYTES + 1)).is_err());
        assert!(AnswerHead::decode(head(FAULT, MAX_WORDS_BYTES + 1)).is_err());
        assert!(AnswerHead::decode(head(b'x', 1)).is_err());
        let long = [&u32::MAX.to_le_bytes()[..], b"{}"].concat();
        assert_eq!(Head::read(&mut &long[..]).err().unwrap().kind(), ErrorKind::InvalidData);
    }
}
