//! The file: every version from the first one on, so that whoever pinned any of them can follow to the last.

use super::{
    MAX_TRUST_FILE_BYTES, MAX_TRUST_VERSION_BYTES, MAX_TRUST_VERSIONS, Missing, SignedTrust, TrustBody,
    TrustError,
};
use crate::note::KeyName;
use crate::{Digest, SecretKey, TrustVersion};

/// Why a trust file is not taken, or not in place of another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustFileError {
    /// More bytes than any trust file has; nothing of it was read.
    #[error("the trust file has {found} bytes; at most {MAX_TRUST_FILE_BYTES} are read")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Nothing, or a last line without its end.
    #[error(
        "the trust file is empty or cut off: each version is one line, and each line ends with a line feed"
    )]
    CutOff,
    /// No room for one more.
    #[error("a trust file has at most {MAX_TRUST_VERSIONS} versions")]
    TooMany,
    /// One of the versions.
    #[error("version {version} of the trust file is wrong: {error}")]
    Version {
        /// Which, by its place.
        version: u64,
        /// What is wrong.
        error: TrustError,
    },
    /// It ends before a version that was in force.
    #[error(
        "the trust file is an older one: it ends with version {found}, and version {kept} was in force already"
    )]
    Older {
        /// Its last version.
        found: u64,
        /// The version that was in force.
        kept: u64,
    },
    /// It has another content for a version that was in force.
    #[error(
        "the trust file tells two histories: its version {version} is {found}, and version {version} was in force as {kept}"
    )]
    OtherHistory {
        /// Which version.
        version: u64,
        /// Its digest in the file.
        found: Digest,
        /// Its digest when it was in force.
        kept: Digest,
    },
}

/// A trust file in which every version has the signatures that it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFile {
    /// Never empty: the first is version 1, each follows from the one before.
    versions: Vec<SignedTrust>,
}

/// A trust file that is being signed: every version but the last is as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDraft {
    before: Vec<SignedTrust>,
    last: SignedTrust,
}

impl TrustDraft {
    /// Reads a file and checks all of it, but whether the last version has enough signatures.
    ///
    /// # Errors
    /// Names the first version that is wrong. With `log`, also when the file is for another host.
    pub fn parse(bytes: &[u8], log: Option<&KeyName>) -> Result<Self, TrustFileError> {
        if bytes.len() > MAX_TRUST_FILE_BYTES {
            return Err(TrustFileError::TooLong { found: bytes.len() });
        }
        let lines = bytes.strip_suffix(b"\n").ok_or(TrustFileError::CutOff)?;
        let mut versions: Vec<SignedTrust> = Vec::new();
        for line in lines.split(|byte| *byte == b'\n') {
            if versions.len() == MAX_TRUST_VERSIONS {
                return Err(TrustFileError::TooMany);
            }
            let version = versions.len() as u64 + 1;
            let wrong = |error| TrustFileError::Version { version, error };
            if let Some((last, before)) = versions.split_last() {
                // Another one follows, so this one must be whole.
                let missing = last.check(before.last().map(SignedTrust::body));
                let missing =
                    missing.map_err(|error| TrustFileError::Version { version: version - 1, error })?;
                if !missing.is_nothing() {
                    let error = TrustError::Missing(missing);
                    return Err(TrustFileError::Version { version: version - 1, error });
                }
            }
            versions.push(SignedTrust::parse(line).map_err(wrong)?);
        }
        let last = versions.pop().ok_or(TrustFileError::CutOff)?;
        let draft = Self { before: versions, last };
        draft.missing()?;
        match log {
            Some(log) if log != draft.last.body().log() => {
                let error =
                    TrustError::OtherLog { found: draft.last.body().log().clone(), expected: log.clone() };
                Err(TrustFileError::Version { version: 1, error })
            }
            _ => Ok(draft),
        }
    }

    /// A first version, unsigned.
    ///
    /// # Errors
    /// [`WrongVersion`](TrustError::WrongVersion) when it is not version 1.
    pub fn first(body: TrustBody) -> Result<Self, TrustFileError> {
        let draft = Self { before: Vec::new(), last: SignedTrust::unsigned(body) };
        draft.missing()?;
        Ok(draft)
    }

    /// What the last version says.
    #[must_use]
    pub const fn last(&self) -> &SignedTrust {
        &self.last
    }

    /// The versions before it, from the first one on: each has the signatures that it must have.
    #[must_use]
    pub fn before(&self) -> &[SignedTrust] {
        &self.before
    }

    fn old(&self) -> Option<&TrustBody> {
        self.before.last().map(SignedTrust::body)
    }

    /// Which signatures the last version has, and which it must have.
    ///
    /// # Errors
    /// None for a draft that was read or made here: it was checked then.
    pub fn missing(&self) -> Result<Missing, TrustFileError> {
        self.last.check(self.old()).map_err(|error| self.of_last(error))
    }

    const fn of_last(&self, error: TrustError) -> TrustFileError {
        TrustFileError::Version { version: self.before.len() as u64 + 1, error }
    }

    /// Adds a signature under the last version. `false` when this key had signed it before.
    ///
    /// # Errors
    /// [`Stranger`](TrustError::Stranger) when the key is no operator's of that version or of the one before.
    pub fn sign(&mut self, key: &SecretKey) -> Result<bool, TrustFileError> {
        let signed = self.last.sign(key, self.before.last().map(SignedTrust::body));
        signed.map_err(|error| self.of_last(error))
    }

    /// The file, if its last version has the signatures that it must have, too.
    ///
    /// # Errors
    /// [`Missing`](TrustError::Missing) says how many have signed and how many must.
    pub fn finish(self) -> Result<TrustFile, TrustFileError> {
        let missing = self.missing()?;
        if !missing.is_nothing() {
            return Err(self.of_last(TrustError::Missing(missing)));
        }
        let Self { before: mut versions, last } = self;
        versions.push(last);
        Ok(TrustFile { versions })
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        lines(self.before.iter().chain([&self.last]))
    }
}

impl TrustFile {
    /// Reads a file and checks all of it: every version follows from the one before it, and the first from itself.
    ///
    /// # Errors
    /// Names the first version that is wrong. With `log`, also when the file is for another host.
    pub fn parse(bytes: &[u8], log: Option<&KeyName>) -> Result<Self, TrustFileError> {
        TrustDraft::parse(bytes, log)?.finish()
    }

    /// What the last version says: the one that is in force.
    #[must_use]
    pub fn in_force(&self) -> &TrustBody {
        #[expect(clippy::expect_used, reason = "finish() makes the only values, each with a last version")]
        self.versions.last().expect("a file has at least one version").body()
    }

    /// Every version, from the first one on.
    #[must_use]
    pub fn versions(&self) -> &[SignedTrust] {
        &self.versions
    }

    /// What this version says, if the file has it.
    #[must_use]
    pub fn version(&self, version: u64) -> Option<&TrustBody> {
        let place = usize::try_from(version.checked_sub(1)?).ok()?;
        self.versions.get(place).map(SignedTrust::body)
    }

    /// Whether this file goes on from a version that was in force: it has that very version, and perhaps later ones.
    ///
    /// # Errors
    /// [`Older`](TrustFileError::Older) or [`OtherHistory`](TrustFileError::OtherHistory).
    pub fn goes_on_from(&self, kept: &TrustVersion) -> Result<(), TrustFileError> {
        let TrustVersion { version, digest } = *kept;
        let Some(body) = self.version(version) else {
            return Err(TrustFileError::Older { found: self.in_force().version(), kept: version });
        };
        let found = body.digest();
        if found == digest {
            return Ok(());
        }
        Err(TrustFileError::OtherHistory { version, found, kept: digest })
    }

    /// A draft of the version after the last one, unsigned.
    ///
    /// # Errors
    /// When the body does not come next, is for another host, or there is no room for one more version.
    pub fn then(self, body: TrustBody) -> Result<TrustDraft, TrustFileError> {
        if self.versions.len() >= MAX_TRUST_VERSIONS {
            return Err(TrustFileError::TooMany);
        }
        let draft = TrustDraft { before: self.versions, last: SignedTrust::unsigned(body) };
        draft.missing()?;
        Ok(draft)
    }

    /// The file's bytes: one line for each version.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        lines(&self.versions)
    }
}

fn lines<'a>(versions: impl IntoIterator<Item = &'a SignedTrust>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAX_TRUST_VERSION_BYTES);
    for version in versions {
        bytes.extend(version.to_line());
        bytes.push(b'\n');
    }
    bytes
}
