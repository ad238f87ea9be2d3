//! What is wrong with a log, and where.

use std::fmt;

use strongroom_job::merkle::{LeafIndex, TreeSize};

use super::super::files::FileError;

/// The most findings in one report; a log that is wrong in more places is wrong altogether.
pub const MAX_FINDINGS: usize = 20;

/// One place that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the audit directory.
    pub file: String,
    /// The entry in it that is concerned, when there is one.
    pub entry: Option<LeafIndex>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It belongs to the log and is not there.
    #[error("missing: it was deleted or renamed")]
    Missing,
    /// It cannot have been written by a log: cut, extended, not signed, or another kind of file.
    #[error("{0}")]
    Malformed(String),
    /// The log is of another key than the caller's.
    #[error("{0}")]
    WrongKey(String),
    /// It differs from what the signed root calls for.
    #[error("edited: it is not what the signed root calls for")]
    Edited,
    /// It and the other file differ, and no third one confirms either.
    #[error("edited, or else {other} was: they differ, and nothing signed confirms either")]
    EditedOr {
        /// The other file.
        other: String,
    },
    /// Hashes of a higher level, and everything under it, disagree.
    #[error(
        "hash {item} is not that of the tile under it: this tile was edited, or {under} and its entries together"
    )]
    HashAbove {
        /// The number of the hash within its level.
        item: u64,
        /// The tile that it should be the hash of.
        under: String,
    },
    /// Everything agrees but the signature's root.
    #[error("entries and tiles agree with each other, but not with the signed root: the log was rewritten")]
    Rewritten,
    /// It is shorter than it was.
    #[error("the log has {size} entries, but {seen} were published: it was cut off or rolled back")]
    Shrank {
        /// What the checkpoint signs.
        size: TreeSize,
        /// What the caller knows.
        seen: TreeSize,
    },
    /// It has another beginning than the tree that the caller knows.
    #[error("the first {size} entries are not those that were published: the log was rewritten")]
    OtherHistory {
        /// How many entries the caller's tree has.
        size: TreeSize,
    },
    /// It is no part of any log.
    #[error("not a part of the log: it was added")]
    Extra,
    /// It is named like a part of the log, but lies beyond its end.
    #[error(
        "beyond the checkpoint: the host stopped while publishing (its next start mends that), or the checkpoint was \
         replaced by an older one"
    )]
    Beyond,
    /// The observer's sentence about an entry.
    #[error("{0}")]
    Content(String),
}

impl Finding {
    pub(super) fn new(file: &(impl ToString + ?Sized), problem: Problem) -> Self {
        Self { file: file.to_string(), entry: None, problem }
    }

    pub(super) fn at(file: &(impl ToString + ?Sized), entry: LeafIndex, problem: Problem) -> Self {
        Self { file: file.to_string(), entry: Some(entry), problem }
    }
}

impl From<FileError> for Finding {
    fn from(error: FileError) -> Self {
        let file = error.file().to_owned();
        let problem = match error {
            FileError::Missing { .. } => Problem::Missing,
            FileError::Malformed { problem, .. } => Problem::Malformed(problem),
            FileError::NotAFile { .. } => Problem::Malformed("not a regular file".to_owned()),
            FileError::TooLong { max, .. } => {
                Problem::Malformed(format!("longer than the {max} bytes it can have"))
            }
            FileError::Io { source, .. } => Problem::Malformed(source.to_string()),
        };
        Self { file, entry: None, problem }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some(entry) = self.entry {
            write!(f, "entry {entry}: ")?;
        }
        self.problem.fmt(f)
    }
}

/// The log does not verify. Holds at least one finding, in the order in which they were met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError {
    findings: Vec<Finding>,
    more: bool,
}

impl VerifyError {
    /// What is wrong, and where: 1 to [`MAX_FINDINGS`].
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether verification stopped before it had seen everything, because too much was wrong.
    #[must_use]
    pub const fn more(&self) -> bool {
        self.more
    }
}

impl std::error::Error for VerifyError {}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, finding) in self.findings.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        if self.more { f.write_str("\ntoo much is wrong: the rest was not looked at") } else { Ok(()) }
    }
}

impl From<Finding> for VerifyError {
    fn from(finding: Finding) -> Self {
        Self { findings: vec![finding], more: false }
    }
}

impl From<FileError> for VerifyError {
    fn from(error: FileError) -> Self {
        Finding::from(error).into()
    }
}

/// Findings on the way, bounded.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    more: bool,
}

impl Findings {
    pub(super) fn push(&mut self, finding: Finding) {
        if self.is_full() {
            self.more = true;
        } else if !self.kept.contains(&finding) {
            self.kept.push(finding);
        }
    }

    /// Notes that the rest was not looked at.
    pub(super) fn stop(&mut self) {
        self.more = true;
    }

    pub(super) fn is_full(&self) -> bool {
        self.kept.len() == MAX_FINDINGS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(super) fn finish(self) -> Result<(), VerifyError> {
        if self.kept.is_empty() { Ok(()) } else { Err(VerifyError { findings: self.kept, more: self.more }) }
    }
}
