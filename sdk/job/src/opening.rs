//! What a job left, as the log says it and as it was: a record holds salted commitments, and an opening proves what they are of.
//!
//! The digest of a short output without a salt can be guessed: whoever reads the log tries what it may have been. So a record
//! holds `SHA-256(salt ‖ SHA-256(name) ‖ digest)`, where the salt is 32 random bytes of the job's own that never enter the log. Who has the
//! salt can check each commitment; once it is erased the commitments say nothing any more, while every proof over the record still
//! verifies.
//!
//! *Spec:* `docs/formats/record.md`, "Commitments".

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::lower_hex;
use crate::receipt::ARTIFACT_PREFIX;
use crate::{Artifact, Digest, Digester, OutputSummary};

/// What hides the outputs of one job: 32 random bytes, drawn by the host, never used for another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OutputSalt([u8; 32]);

impl OutputSalt {
    /// A salt from its bytes. They must be random, and used for one job alone.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The commitment to an output with this name and this digest of its bytes.
    #[must_use]
    pub fn commit(&self, name: &str, digest: &Digest) -> Digest {
        let mut digester = Digester::new();
        // Three parts of 32 bytes: nothing can be moved from one into another.
        digester.update(&self.0);
        digester.update(Digest::of(name.as_bytes()).as_bytes());
        digester.update(digest.as_bytes());
        digester.finish()
    }
}

// By hand: whoever logs a job must not log its salt.
impl fmt::Debug for OutputSalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutputSalt(..)")
    }
}

impl Serialize for OutputSalt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for OutputSalt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = lower_hex(&text).map(Self);
        bytes.ok_or_else(|| serde::de::Error::custom("not a salt: expected 64 lowercase hex digits"))
    }
}

/// An output, hidden: all that a record says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Committed {
    /// Bytes kept.
    pub length: u64,
    /// The commitment to its name and its digest.
    pub commitment: Digest,
}

/// An output stream or a result in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OutputRecord {
    /// In clear: one without a byte, and what hosts wrote before there were salts.
    Plain(OutputSummary),
    /// Hidden.
    Committed(Committed),
}

/// An artifact in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ArtifactRecord {
    /// In clear: what hosts wrote before there were salts.
    Plain(Artifact),
    /// Hidden, its name too.
    Committed(Committed),
}

impl OutputRecord {
    /// Bytes kept.
    #[must_use]
    pub const fn length(&self) -> u64 {
        match self {
            Self::Plain(output) => output.length,
            Self::Committed(output) => output.length,
        }
    }
}

impl ArtifactRecord {
    /// Bytes kept.
    #[must_use]
    pub const fn length(&self) -> u64 {
        match self {
            Self::Plain(artifact) => artifact.length,
            Self::Committed(artifact) => artifact.length,
        }
    }
}

impl From<OutputSummary> for OutputRecord {
    fn from(output: OutputSummary) -> Self {
        Self::Plain(output)
    }
}

impl From<Artifact> for ArtifactRecord {
    fn from(artifact: Artifact) -> Self {
        Self::Plain(artifact)
    }
}

/// What a record says of all that a job left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftRecord {
    /// Standard output.
    pub stdout: OutputRecord,
    /// Standard error.
    pub stderr: OutputRecord,
    /// Files, in the order of their names.
    pub artifacts: Vec<ArtifactRecord>,
    /// The result, if there is one.
    pub result: Option<OutputRecord>,
}

impl LeftRecord {
    /// Whether anything in it is hidden: then it takes an opening to know what was left.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        let streams = [Some(self.stdout), Some(self.stderr), self.result];
        streams.into_iter().flatten().any(|output| matches!(output, OutputRecord::Committed(_)))
            || self.artifacts.iter().any(|artifact| matches!(artifact, ArtifactRecord::Committed(_)))
    }
}

/// All that a job left, and the salt that hides it in the log: kept apart from the log, so that it can be erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The salt; without one nothing is hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<OutputSalt>,
    /// Standard output.
    pub stdout: OutputSummary,
    /// Standard error.
    pub stderr: OutputSummary,
    /// Files, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// The result, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<OutputSummary>,
}

impl Opening {
    /// What the record says of it: this opening fits a record when that is what it says.
    #[must_use]
    pub fn told(&self) -> LeftRecord {
        let stream = |name: &str, output: OutputSummary| match &self.salt {
            // Nothing needs no hiding: its length says what it is.
            Some(salt) if output.length > 0 => OutputRecord::Committed(Committed {
                length: output.length,
                commitment: salt.commit(name, &output.digest),
            }),
            _ => output.into(),
        };
        let artifact = |artifact: &Artifact| match &self.salt {
            // Also one without a byte has a name.
            Some(salt) => {
                let name = format!("{ARTIFACT_PREFIX}{}", artifact.name);
                let commitment = salt.commit(&name, &artifact.digest);
                ArtifactRecord::Committed(Committed { length: artifact.length, commitment })
            }
            None => artifact.clone().into(),
        };
        LeftRecord {
            stdout: stream("stdout", self.stdout),
            stderr: stream("stderr", self.stderr),
            artifacts: self.artifacts.iter().map(artifact).collect(),
            result: self.result.map(|result| stream("result", result)),
        }
    }

    /// The opening of a record that hides nothing.
    #[must_use]
    pub fn of_plain(left: &LeftRecord) -> Option<Self> {
        let plain = |output: &OutputRecord| match output {
            OutputRecord::Plain(output) => Some(*output),
            OutputRecord::Committed(_) => None,
        };
        let artifacts = left.artifacts.iter().map(|artifact| match artifact {
            ArtifactRecord::Plain(artifact) => Some(artifact.clone()),
            ArtifactRecord::Committed(_) => None,
        });
        let result = match &left.result {
            Some(result) => Some(plain(result)?),
            None => None,
        };
        let (stdout, stderr) = (plain(&left.stdout)?, plain(&left.stderr)?);
        Some(Self { salt: None, stdout, stderr, artifacts: artifacts.collect::<Option<_>>()?, result })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn output(bytes: &[u8]) -> OutputSummary {
        OutputSummary { length: bytes.len() as u64, digest: Digest::of(bytes) }
    }

    fn left(salt: Option<[u8; 32]>) -> Opening {
        let file = |name: &str| Artifact { name: name.into(), length: 4, digest: Digest::of(b"file") };
        Opening {
            salt: salt.map(OutputSalt::from_bytes),
            stdout: output(b"yes"),
            stderr: output(b""),
            artifacts: vec![file("a"), file("b")],
            result: Some(output(b"yes")),
        }
    }

    // The value is what `sha256sum` says of the 96 bytes: 32 times 7, and what it says of `stdout` and of `yes`, both without a line's
    // end. Red with any part left out.
    #[test]
    fn a_commitment_is_what_the_format_says() {
        let salt = OutputSalt::from_bytes([7; 32]);
        assert_eq!(
            salt.commit("stdout", &Digest::of(b"yes")).to_string(),
            "sha256:147a37ffd039b529e307f0af3dedd0d49e819dbf6d963302f999e890ebecb6f5"
        );
    }

    // Red when the name, or the salt, is no part of a commitment.
    #[test]
    fn equal_outputs_look_different() {
        let told = left(Some([1; 32])).told();
        let other = left(Some([2; 32])).told();
        assert!(Some(told.stdout) != told.result && told.artifacts[0] != told.artifacts[1]);
        assert!(told.stdout != other.stdout && told.artifacts[0] != other.artifacts[0]);
        assert!(told.is_hidden() && Opening::of_plain(&told).is_none());
        assert_eq!(told.stderr, OutputRecord::Plain(output(b"")), "nothing hides in nothing");
        let text = serde_json::to_string(&told.artifacts).unwrap();
        assert!(!text.contains("name"), "{text}");
    }

    #[test]
    fn without_a_salt_all_is_in_clear() {
        let told = left(None).told();
        assert!(!told.is_hidden());
        assert_eq!(Opening::of_plain(&told).unwrap(), left(None));
    }

    #[test]
    fn a_salt_is_not_logged() {
        let opening = left(Some([0xab; 32]));
        assert_eq!(format!("{:?}", opening.salt), "Some(OutputSalt(..))");
        let text = serde_json::to_string(&opening).unwrap();
        assert_eq!(serde_json::from_str::<Opening>(&text).unwrap(), opening);
    }
}
