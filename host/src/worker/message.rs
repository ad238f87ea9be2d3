//! What host and worker say to one another.
//!
//! *Owns:* the form and the bounds of every message. *Never:* allocates a length before it has checked it.
//! *Spec:* `docs/formats/worker.md`. Both ends are the same program, so there are no versions of this.

use std::io::{self, ErrorKind, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strongroom_job::{Digest, Limits};
use strongroom_runtime::{EngineConfig, MAX_CHUNK, MAX_PROGRESS_TEXT, MAX_RESULT, Metering, TlsRoots};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use zeroize::Zeroizing;

use super::walls::Walls;
use crate::admission::GrantTerms;
use crate::confine::Enforced;
use crate::dispatch::Ran;

/// Longest greeting and longest order, bytes.
const MAX_HEAD_BYTES: usize = 16 << 20;
/// Longest inline input, bytes.
const MAX_INLINE_BYTES: u64 = 16 << 20;
/// Longest account of a run, bytes.
const MAX_RAN_BYTES: usize = 256 << 10;
/// Longest fault, bytes.
const MAX_FAULT_BYTES: usize = 4 << 10;
/// Kind and length.
const FRAME_HEAD_BYTES: usize = 5;

/// What a worker is told first, over its control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    pub(super) engine: EngineConfig,
    /// Certificates that outgoing HTTPS trusts, in hex; none: the web's.
    pub(super) roots: Option<Vec<String>>,
    /// Threads for guests.
    pub(super) threads: usize,
    pub(super) walls: Walls,
    /// Most private memory of the process, bytes.
    pub(super) data_bytes: u64,
}

impl Hello {
    pub(super) fn roots(roots: &TlsRoots) -> Option<Vec<String>> {
        match roots {
            TlsRoots::Web => None,
            TlsRoots::Only(certificates) => Some(certificates.iter().map(hex::encode).collect()),
        }
    }

    /// The engine's configuration, whole.
    pub(super) fn engine(&mut self) -> io::Result<EngineConfig> {
        let roots = match self.roots.take() {
            None => TlsRoots::Web,
            Some(roots) => TlsRoots::Only(
                roots.iter().map(hex::decode).collect::<Result<_, _>>().map_err(io::Error::other)?,
            ),
        };
        Ok(EngineConfig { tls_roots: roots, ..self.engine.clone() })
    }
}

/// What a worker answers: how far it is confined. Then it takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) files: Enforced,
    pub(super) calls: Enforced,
}

impl Ready {
    pub(super) fn encode(self) -> [u8; 3] {
        [b'R', self.files as u8, self.calls as u8]
    }

    pub(super) fn decode(bytes: [u8; 3]) -> Option<Self> {
        let [b'R', files, calls] = bytes else { return None };
        Some(Self { files: Enforced::of(files)?, calls: Enforced::of(calls)? })
    }
}

/// What kind of input an order comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Input {
    Empty,
    /// Behind the order.
    Inline,
    /// The third file, a regular one.
    File,
    /// The third file, a pipe that does not block.
    Pipe,
}

/// What a worker is to run, over the job's own socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    pub(super) module: Digest,
    pub(super) metering: Metering,
    pub(super) terms: GrantTerms,
    pub(super) limits: Limits,
    pub(super) input: Input,
    /// Bytes of inline input.
    pub(super) inline: u64,
}

impl Order {
    pub(crate) fn new(module: Digest, metering: Metering, terms: GrantTerms, limits: Limits) -> Self {
        Self { module, metering, terms, limits, input: Input::Empty, inline: 0 }
    }
}

/// The byte after an order by which the host cancels its job.
pub(super) const CANCEL: u8 = b'C';

/// JSON with its length before it. It may hold secrets.
pub(super) fn encode(head: &impl Serialize) -> io::Result<Zeroizing<Vec<u8>>> {
    let json = Zeroizing::new(serde_json::to_vec(head)?);
    if json.len() > MAX_HEAD_BYTES {
        return Err(invalid("a message that is too long"));
    }
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    Ok(Zeroizing::new([&length.to_le_bytes()[..], &json].concat()))
}

pub(super) fn write(head: &impl Serialize, to: &mut impl Write) -> io::Result<()> {
    to.write_all(&encode(head)?)
}

pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut json = Zeroizing::new(vec![0; head_length(length)?]);
    from.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Reads an order and the input behind it.
pub(super) async fn read_order(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(Order, Vec<u8>)> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut json = Zeroizing::new(vec![0; head_length(length)?]);
    from.read_exact(&mut json).await?;
    let order: Order = serde_json::from_slice(&json)?;
    if order.inline > MAX_INLINE_BYTES {
        return Err(invalid("an inline input that is too long"));
    }
    let mut inline = Vec::new();
    from.take(order.inline).read_to_end(&mut inline).await?;
    if inline.len() as u64 != order.inline {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((order, inline))
}

fn head_length(length: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEAD_BYTES { Err(invalid("a message that is too long")) } else { Ok(length) }
}

/// What a worker says of a job, over the job's own socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// Percent, and text as the guest gave it.
    Progress(u8, Vec<u8>),
    /// Comes once, if at all, before the end.
    Result(Vec<u8>),
    /// The last word of a run.
    Ran(Box<Ran>),
    /// The last word where the worker could not run the job.
    Fault(String),
}

const STDOUT: u8 = b'o';
const STDERR: u8 = b'e';
const PROGRESS: u8 = b'p';
const RESULT: u8 = b'r';
const RAN: u8 = b'd';
const FAULT: u8 = b'f';

/// Why there is no message.
#[derive(Debug)]
pub(super) enum Unheard {
    /// The other end is gone, or cannot be heard.
    Gone,
    /// It is no message.
    Malformed(&'static str),
}

impl Said {
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let json;
        let (kind, parts): (u8, [&[u8]; 2]) = match self {
            Self::Stdout(bytes) => (STDOUT, [bytes, &[]]),
            Self::Stderr(bytes) => (STDERR, [bytes, &[]]),
            Self::Progress(percent, text) => (PROGRESS, [std::slice::from_ref(percent), text]),
            Self::Result(bytes) => (RESULT, [bytes, &[]]),
            Self::Ran(ran) => {
                json = serde_json::to_vec(ran)?;
                (RAN, [&json, &[]])
            }
            Self::Fault(words) => {
                let end =
                    (0..=MAX_FAULT_BYTES.min(words.len())).rev().find(|end| words.is_char_boundary(*end));
                (FAULT, [&words.as_bytes()[..end.unwrap_or(0)], &[]])
            }
        };
        let length = u32::try_from(parts[0].len() + parts[1].len()).map_err(io::Error::other)?;
        Ok([&[kind], &length.to_le_bytes()[..], parts[0], parts[1]].concat())
    }

    /// The next message. Its length is checked before there is memory for it.
    pub(super) async fn hear(from: &mut (impl AsyncRead + Unpin)) -> Result<Self, Unheard> {
        let mut head = [0; FRAME_HEAD_BYTES];
        from.read_exact(&mut head).await.map_err(|_| Unheard::Gone)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        let allowed = match kind {
            STDOUT | STDERR => 1..=MAX_CHUNK,
            PROGRESS => 1..=1 + MAX_PROGRESS_TEXT,
            RESULT => 0..=MAX_RESULT.as_usize(),
            RAN => 1..=MAX_RAN_BYTES,
            FAULT => 0..=MAX_FAULT_BYTES,
            _ => return Err(Unheard::Malformed("a message of no known kind")),
        };
        if !allowed.contains(&length) {
            return Err(Unheard::Malformed("a message of an impossible length"));
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).await.map_err(|_| Unheard::Gone)?;
        Ok(match kind {
            STDOUT => Self::Stdout(body),
            STDERR => Self::Stderr(body),
            PROGRESS => Self::Progress(body[0], body.split_off(1)),
            RESULT => Self::Result(body),
            RAN => {
                let ran = serde_json::from_slice(&body);
                Self::Ran(ran.map_err(|_| Unheard::Malformed("an account of a run that is none"))?)
            }
            _ => Self::Fault(String::from_utf8_lossy(&body).into_owned()),
        })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use strongroom_job::{Denial, Outcome, Usage};

    use super::*;

    fn ran() -> Ran {
        Ran {
            outcome: Outcome::Exited { code: 3 },
            usage: Usage { wall_us: 5, ..Usage::default() },
            denied: vec![Denial { what: "clock".into(), count: 2 }],
            result: None,
        }
    }

    #[tokio::test]
    async fn what_is_said_is_heard() {
        for said in [
            Said::Stdout(vec![7; MAX_CHUNK]),
            Said::Stderr(b"x".to_vec()),
            Said::Progress(40, b"almost".to_vec()),
            Said::Progress(0, Vec::new()),
            Said::Result(Vec::new()),
            Said::Ran(Box::new(ran())),
            Said::Fault("words".into()),
        ] {
            let bytes = said.encode().unwrap();
            assert_eq!(Said::hear(&mut &bytes[..]).await.unwrap(), said);
            for cut in 0..bytes.len() {
                assert!(matches!(Said::hear(&mut &bytes[..cut]).await, Err(Unheard::Gone)), "{said:?} {cut}");
            }
        }
    }

    // Red without `allowed` in `hear`.
    #[tokio::test]
    async fn lengths_are_checked_before_anything_is_allocated() {
        for (kind, most) in [
            (STDOUT, MAX_CHUNK),
            (PROGRESS, 1 + MAX_PROGRESS_TEXT),
            (RESULT, 64 << 10),
            (RAN, 256 << 10),
            (FAULT, 4096),
        ] {
            for length in [u32::try_from(most).unwrap() + 1, u32::MAX] {
                let head = [&[kind][..], &length.to_le_bytes()].concat();
                assert!(
                    matches!(Said::hear(&mut &head[..]).await, Err(Unheard::Malformed(_))),
                    "{kind} {length}"
                );
            }
        }
        for empty in [STDOUT, STDERR, PROGRESS, RAN, b'x'] {
            assert!(matches!(Said::hear(&mut &[empty, 0, 0, 0, 0][..]).await, Err(Unheard::Malformed(_))));
        }
        let long = [&u32::MAX.to_le_bytes()[..], b"{}"].concat();
        assert_eq!(read_order(&mut &long[..]).await.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read::<Hello>(&mut &long[..]).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    /// What a worker says in a reason or a denial is cut and cleaned like everything else that is written and read.
    #[tokio::test]
    async fn an_account_steers_no_terminal() {
        let evil = r#"{"outcome":{"type":"trapped","reason":"a\u001b[31mb"},"usage":{"wall_us":1,"cpu_us":1,"fuel":null,
            "peak_memory_bytes":0,"stdin_bytes":0},"denied":[]}"#;
        let length = u32::try_from(evil.len()).unwrap();
        let bytes = [&[RAN], &length.to_le_bytes()[..], evil.as_bytes()].concat();
        let Ok(Said::Ran(ran)) = Said::hear(&mut &bytes[..]).await else { panic!("an account") };
        let Outcome::Trapped { reason } = ran.outcome else { panic!("trapped") };
        assert!(!reason.contains('\u{1b}') && reason.contains('b'), "{reason:?}");
    }
}
