//! Signed notes: a text, an empty line, and who signed the text.
//!
//! *Owns:* parsing, signing and checking notes, and the text form of the keys that check them.
//! *Never:* hands out the text of a note before a signature was checked.
//! *Spec:* C2SP signed-note; ed25519 signatures (type 0x01) here, those of witnesses in `cosignature`;
//! `docs/formats/checkpoint.md`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::digest::lower_hex;
use crate::key::{PublicKey, SecretKey, Signature};

/// The longest note that is read: room for [`MAX_SIGNATURES`] signatures of today's largest kind.
pub const MAX_NOTE_BYTES: usize = 256 * 1024;

/// The most signatures in one note: the log's own and those of witnesses.
pub const MAX_SIGNATURES: usize = 32;

/// The longest name of a key.
pub const MAX_NAME_BYTES: usize = 255;

const ED25519: u8 = 0x01;
const KEY_ID_BYTES: usize = 4;
const DASH: &str = "\u{2014} ";

pub(crate) type KeyIdBytes = [u8; KEY_ID_BYTES];

/// The name of a note's key; for a log it is the checkpoint's origin too.
///
/// 1 to [`MAX_NAME_BYTES`] bytes without spaces of any kind, control characters and `+`. By habit a URL without
/// its scheme, such as `example.com/audit`; nobody connects to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName(String);

/// A text that is no key name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a log name: 1 to {MAX_NAME_BYTES} bytes without spaces, control characters and `+`")]
pub struct ParseKeyNameError;

impl KeyName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = ParseKeyNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.contains(forbidden) {
            return Err(ParseKeyNameError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What checks a note: a name and a key. Its text form (`name+id+key`) is what other tools call a vkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    key: PublicKey,
}

/// A text that is no verifier key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a verifier key: expected name+8 hex digits+base64 of an ed25519 key, with digits that match name and key"
)]
pub struct ParseVerifierKeyError;

impl VerifierKey {
    /// The verifier of the notes that `key` signs as `name`.
    #[must_use]
    pub const fn new(name: KeyName, key: PublicKey) -> Self {
        Self { name, key }
    }

    /// Who signs.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// With what.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    fn id(&self) -> KeyIdBytes {
        key_id(&self.name, ED25519, &self.key)
    }
}

/// The id that signature lines carry. Short: it finds a key, it proves nothing.
pub(crate) fn key_id(name: &KeyName, kind: u8, key: &PublicKey) -> KeyIdBytes {
    let hash = Sha256::new_with_prefix(name.as_str())
        .chain_update([b'\n', kind])
        .chain_update(key.as_bytes())
        .finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The text form of a key that makes signatures of one kind.
pub(crate) fn write_key(
    f: &mut fmt::Formatter<'_>,
    name: &KeyName,
    kind: u8,
    key: &PublicKey,
) -> fmt::Result {
    let mut typed = vec![kind];
    typed.extend_from_slice(key.as_bytes());
    write!(f, "{name}+{}+{}", hex::encode(key_id(name, kind, key)), BASE64.encode(typed))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(f, &self.name, ED25519, &self.key)
    }
}

impl FromStr for VerifierKey {
    type Err = ParseVerifierKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, key) = parse_key(text, ED25519).ok_or(ParseVerifierKeyError)?;
        Ok(Self { name, key })
    }
}

/// Reads the text form of a key that makes signatures of this kind, and of no other.
pub(crate) fn parse_key(text: &str, kind: u8) -> Option<(KeyName, PublicKey)> {
    const TYPED_KEY_TEXT_LEN: usize = 44;
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    if key.len() != TYPED_KEY_TEXT_LEN {
        return None;
    }
    let typed = BASE64.decode(key).ok()?;
    let (found, key) = typed.split_first()?;
    let key = PublicKey::from_bytes(key.try_into().ok()?).ok()?;
    let name = name.parse().ok()?;
    (*found == kind && lower_hex(id)? == key_id(&name, kind, &key)).then_some((name, key))
}

/// Why a note cannot be read, made or believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// More bytes than any note has.
    #[error("the note has {found} bytes; at most {MAX_NOTE_BYTES} are read")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Not UTF-8, or a control character.
    #[error("the note is no plain text: it must be UTF-8 without control characters")]
    NotText,
    /// No text, no empty line, or no signature behind it.
    #[error("the note has no signatures: expected text, an empty line, then lines that begin with a dash")]
    NoSignatures,
    /// A line behind the text that is no signature.
    #[error(
        "line {line} of the note's signatures is malformed: expected dash, name, base64 of id and signature"
    )]
    Malformed {
        /// Counted from 1, behind the empty line.
        line: usize,
    },
    /// More signature lines than are read.
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// Nobody that is known signed.
    #[error("the note is not signed by {name}: no signature carries that name and its key's id")]
    NotSigned {
        /// Who should have signed.
        name: KeyName,
    },
    /// The known key did not make this signature.
    #[error("bad signature by {name}: the text or the signature was altered")]
    BadSignature {
        /// Who is said to have signed.
        name: KeyName,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SignatureLine {
    name: KeyName,
    id: KeyIdBytes,
    signature: Vec<u8>,
}

/// A note that was read but not believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    /// The note as it was read or made: printing gives the same bytes again.
    whole: String,
    /// Where the text ends, its last newline included.
    text_len: usize,
    signatures: Vec<SignatureLine>,
}

impl SignedNote {
    /// Signs `text`.
    ///
    /// # Errors
    /// When the text is empty, too long, does not end in a newline, or holds control characters.
    pub fn sign(text: &str, name: &KeyName, key: &SecretKey) -> Result<Self, NoteError> {
        let verifier = VerifierKey::new(name.clone(), key.public());
        let line = write_signature(name, verifier.id(), key.sign(text.as_bytes()).as_bytes());
        // Reading back what was made holds signing to the rules of parsing.
        let note = Self::parse(format!("{text}\n{line}").as_bytes())?;
        if note.unverified_text() == text { Ok(note) } else { Err(NoteError::NoSignatures) }
    }

    /// Reads a note; nothing is checked but its form.
    ///
    /// # Errors
    /// When the bytes are not a note in its only form, or exceed a bound.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong { found: bytes.len() });
        }
        let whole = str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
        if whole.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::NotText);
        }
        let gap = whole.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, signatures) = (&whole[..=gap], &whole[gap + 2..]);
        let lines = signatures.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let signatures = lines
            .split('\n')
            .enumerate()
            .map(|(number, line)| {
                if number == MAX_SIGNATURES {
                    return Err(NoteError::TooManySignatures);
                }
                signature_line(line).ok_or(NoteError::Malformed { line: number + 1 })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { whole: whole.to_owned(), text_len: text.len(), signatures })
    }

    /// The text, when `verifier` signed it. Signatures by others say nothing and are ignored.
    ///
    /// # Errors
    /// When no signature carries the verifier's name and id, or one that does is bad.
    pub fn verify(&self, verifier: &VerifierKey) -> Result<&str, NoteError> {
        let mut own = self.signatures_by(&verifier.name, verifier.id()).peekable();
        if own.peek().is_none() {
            return Err(NoteError::NotSigned { name: verifier.name.clone() });
        }
        let text = self.unverified_text();
        let good = own.all(|signature| {
            let signature = signature.try_into().map(Signature::from_bytes);
            signature.is_ok_and(|signature| verifier.key.verifies(text.as_bytes(), &signature))
        });
        if good { Ok(text) } else { Err(NoteError::BadSignature { name: verifier.name.clone() }) }
    }

    /// The same note with further signature lines behind its own, each ending in a newline.
    ///
    /// # Errors
    /// When they are no signature lines, or too many.
    pub fn with_signatures(&self, lines: &str) -> Result<Self, NoteError> {
        let note = Self::parse(format!("{}{lines}", self.whole).as_bytes())?;
        // Lines with an empty one among them would turn what is signed into text.
        if note.text_len == self.text_len { Ok(note) } else { Err(NoteError::NoSignatures) }
    }

    /// The same text with one line by `verifier`, the first, and no other.
    ///
    /// # Errors
    /// When no signature carries the verifier's name and id. It is not checked here.
    pub(crate) fn only_by(&self, verifier: &VerifierKey) -> Result<Self, NoteError> {
        let first = self.signatures_by(&verifier.name, verifier.id()).next();
        let first = first.ok_or_else(|| NoteError::NotSigned { name: verifier.name.clone() })?;
        let line = write_signature(&verifier.name, verifier.id(), first);
        Self::parse(format!("{}\n{line}", self.unverified_text()).as_bytes())
    }

    /// All signature lines but those of `verifier`, each with its newline.
    pub(crate) fn signatures_but(&self, verifier: &VerifierKey) -> String {
        let others =
            self.signatures.iter().filter(|line| line.name != verifier.name || line.id != verifier.id());
        others.map(|line| write_signature(&line.name, line.id, &line.signature)).collect()
    }

    /// What stands behind the id in the lines that carry this name and id.
    pub(crate) fn signatures_by(&self, name: &KeyName, id: KeyIdBytes) -> impl Iterator<Item = &[u8]> {
        let own = self.signatures.iter().filter(move |line| line.name == *name && line.id == id);
        own.map(|line| line.signature.as_slice())
    }

    /// The text, unverified: only for checking its form.
    pub(crate) fn unverified_text(&self) -> &str {
        &self.whole[..self.text_len]
    }

    /// The whole note, byte for byte as it was read or made.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.whole
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole)
    }
}

/// A signature line, with its newline.
pub(crate) fn write_signature(name: &KeyName, id: KeyIdBytes, signature: &[u8]) -> String {
    format!("{DASH}{name} {}\n", BASE64.encode([&id, signature].concat()))
}

fn signature_line(line: &str) -> Option<SignatureLine> {
    let (name, payload) = line.strip_prefix(DASH)?.split_once(' ')?;
    let payload = BASE64.decode(payload).ok()?;
    let (id, signature) = payload.split_first_chunk()?;
    if signature.is_empty() {
        return None;
    }
    Some(SignatureLine { name: name.parse().ok()?, id: *id, signature: signature.to_vec() })
}
