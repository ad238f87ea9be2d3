//! Believing a receipt, or naming the first thing that is wrong with it.

use super::statement::{OwnWords, Statement};
use super::{
    Admitted, Entry, Facts, Finished, HashText, MAX_STATEMENT_BYTES, Named, Placed, Receipt,
    STATEMENT_PAYLOAD_TYPE, envelope, to_json,
};
use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::merkle::{Hash, LeafIndex, ProofError, verify_inclusion};
use crate::note::VerifierKey;
use crate::strict::{self, StrictError};
use crate::succession::{ChainError, KeyChain, KeyRole};
use crate::{EnvelopeError, JobBody, OutputSummary, PublicKey, Record, RecordError, Timestamp};

/// What a receipt proves. Only [`Receipt::verify`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The host that answers for it.
    pub host: PublicKey,
    /// Its version, by its own word.
    pub version: String,
    /// Who signs its log.
    pub log: VerifierKey,
    /// The checkpoint that covers both records.
    pub checkpoint: Checkpoint,
    /// What was admitted.
    pub admitted: Admitted,
    /// Where the log says so, and when that was.
    pub admitted_at: (u64, Timestamp),
    /// When the last attempt began, by the host's word.
    pub started_at: Option<Timestamp>,
    /// How it ended.
    pub finished: Finished,
    /// Where the log says so, and when that was.
    pub finished_at: (u64, Timestamp),
    /// The input that was a blob, by the host's word.
    pub input: Option<OutputSummary>,
    /// What the principal signed, if the envelope is in the receipt. A run of a series has the series' body.
    pub body: Option<Box<JobBody>>,
}

/// The first thing that is wrong with a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Not the strict JSON of a receipt.
    #[error("the receipt is malformed: {0}")]
    Malformed(#[from] StrictError),
    /// Of another format.
    #[error("the receipt has version {0}; this program reads version 1")]
    Version(u8),
    /// The right content in another spelling.
    #[error("the receipt is not written as a host writes it: other order, white space or a changed byte")]
    NotAsWritten,
    /// Another host's.
    #[error("the receipt is of another host: it names {found}, and {expected} was expected")]
    OtherHost {
        /// Who should have signed.
        expected: Box<PublicKey>,
        /// Whom the receipt names.
        found: String,
    },
    /// The statement was changed, or somebody else signed it.
    #[error("bad signature: {0} did not sign the statement of this receipt")]
    BadSignature(Box<PublicKey>),
    /// The host signed something that is no statement of ours.
    #[error("the statement is malformed: {0}")]
    BadStatement(StrictError),
    /// The host signed something else than DSSE's in-toto statement.
    #[error("the statement has the type {0:?}, which is not {STATEMENT_PAYLOAD_TYPE}")]
    StatementType(String),
    /// The host signed the right content in another spelling.
    #[error("the statement is not written as a host writes it: other order or white space")]
    StatementNotAsWritten,
    /// A record is none.
    #[error("the {which} record is malformed: {error}")]
    Record {
        /// `admitted` or `finished`.
        which: Named,
        /// What is wrong with it.
        error: RecordError,
    },
    /// A record of something else.
    #[error("the {0} record is one of something else")]
    OtherRecord(Named),
    /// The records are of two jobs.
    #[error("the two records are of different jobs")]
    OtherJob,
    /// The end stands before the beginning.
    #[error("the records stand in the wrong order: the job would have ended before it was admitted")]
    Order,
    /// The statement says something else than the records and the checkpoint that it comes with.
    #[error("the statement and the records differ in {0}")]
    Differs(Named),
    /// Another log's.
    #[error("the receipt is of another log: its log is {found}, and {expected} was expected")]
    OtherLog {
        /// Which was expected.
        expected: Box<VerifierKey>,
        /// Which the host names.
        found: Box<VerifierKey>,
    },
    /// The checkpoint is none, or the log did not sign it.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A proof leads elsewhere.
    #[error("the proof of the {which} record: {error}")]
    Proof {
        /// `admitted` or `finished`.
        which: Named,
        /// What is wrong with it.
        error: ProofError,
    },
    /// The envelope is not the one that the record names.
    #[error("the envelope is not the one that the admitted record names")]
    OtherEnvelope,
    /// The envelope is for another host, or signs another module, tenant, grant or limits than the record has.
    #[error(
        "the envelope signs something else than the admitted record says: another host, tenant, module, grant or limits"
    )]
    OtherTask,
    /// The envelope is none.
    #[error("the envelope: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The statements in it do not lead from the key that the envelope is for to the one that signed the receipt.
    #[error("the keys in the receipt: {0}")]
    Keys(ChainError),
}

impl Receipt {
    /// Believes the receipt, if the host with this key signed it and everything in it agrees.
    ///
    /// With `log`, also its log must be this one. Otherwise the log is the one that the host names under its signature.
    ///
    /// # Errors
    /// The first thing that is wrong, in this order: host, statement, records, log, checkpoint, proofs, envelope.
    pub fn verify(&self, host: &PublicKey, log: Option<&VerifierKey>) -> Result<Verified, ReceiptError> {
        let log = log.cloned().map(KeyChain::from);
        self.verify_by(&KeyChain::pinned(KeyRole::Host, *host), log.as_ref())
    }

    /// The same, of a host whose key was replaced since, or before: any of `hosts` may have signed the receipt, and any of `logs` may be
    /// the log's that the host names.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_by(&self, hosts: &KeyChain, logs: Option<&KeyChain>) -> Result<Verified, ReceiptError> {
        let (host, statement) = self.statement_of(hosts)?;
        let host = &host;
        let own = statement.own_words();
        let admitted = self.admitted.placed("admitted", Admitted::of)?;
        let finished = self.finished.placed("finished", |record| record.left().map(|_| record.clone()))?;
        // Only what the statement says of it under the host's signature opens what the record hides.
        let opened = Finished::of(&finished.says, own.opening.as_ref());
        let opened = opened.ok_or(ReceiptError::Differs("subject"))?;
        let Placed { index, leaf, time, .. } = finished;
        let finished = Placed { index, leaf, time, says: opened };
        if admitted.says.job != finished.says.job {
            return Err(ReceiptError::OtherJob);
        }
        if admitted.index >= finished.index {
            return Err(ReceiptError::Order);
        }
        let OwnWords { version, log: named, started_at, input, opening: _ } = own;
        let facts = Facts {
            host: *host,
            version: &version,
            log: &named,
            admitted,
            finished,
            started_at,
            input,
            checkpoint: &self.checkpoint,
        };
        let expected = Statement::of(&facts);
        if let Some(part) = statement.first_difference(&expected) {
            return Err(ReceiptError::Differs(part));
        }
        if to_json(&expected) != self.statement.payload.0 {
            return Err(ReceiptError::StatementNotAsWritten);
        }
        if let Some(logs) = logs.filter(|logs| !logs.is_of(&named)) {
            let origin = logs.origin().unwrap_or_else(|| named.name()).clone();
            let expected = Box::new(VerifierKey::new(origin, *logs.pin()));
            return Err(ReceiptError::OtherLog { expected, found: Box::new(named) });
        }
        let checkpoint =
            SignedCheckpoint::parse(self.checkpoint.as_bytes())?.verify(named.name(), named.key())?;
        self.admitted.check("admitted", &checkpoint)?;
        self.finished.check("finished", &checkpoint)?;
        let Facts { admitted, finished, .. } = facts;
        let body = match &self.envelope {
            Some(dsse) => {
                let audiences = envelope::Audiences { hosts, signer: *host, within: &self.succession };
                envelope::body_of(dsse, &admitted.says, &audiences)?.map(Box::new)
            }
            None if self.succession.is_empty() => None,
            None => return Err(ReceiptError::NotAsWritten),
        };
        Ok(Verified {
            host: *host,
            version: version.clone(),
            checkpoint,
            admitted_at: (admitted.index, admitted.time),
            finished_at: (finished.index, finished.time),
            admitted: admitted.says,
            finished: finished.says,
            log: named.clone(),
            started_at,
            input,
            body,
        })
    }

    /// The statement, and which of the keys signed it.
    fn statement_of(&self, hosts: &KeyChain) -> Result<(PublicKey, Statement), ReceiptError> {
        let dsse = &self.statement;
        let keyid = match dsse.signatures.as_slice() {
            [one] => one.keyid.clone().unwrap_or_default(),
            _ => return Err(ReceiptError::NotAsWritten),
        };
        let Some(host) = hosts.keys().iter().find(|key| key.to_string() == keyid) else {
            let found = crate::text::shown(&keyid, 100);
            return Err(ReceiptError::OtherHost { expected: Box::new(*hosts.pin()), found });
        };
        if dsse.payloadType != STATEMENT_PAYLOAD_TYPE {
            let found = crate::text::shown(&dsse.payloadType, 100);
            return Err(ReceiptError::StatementType(found));
        }
        if !dsse.is_signed_by(host) {
            return Err(ReceiptError::BadSignature(Box::new(*host)));
        }
        let statement = strict::parse(&dsse.payload.0, MAX_STATEMENT_BYTES);
        statement.map(|statement| (*host, statement)).map_err(ReceiptError::BadStatement)
    }
}

impl Entry {
    fn placed<T>(
        &self,
        which: Named,
        says: impl Fn(&Record) -> Option<T>,
    ) -> Result<Placed<'_, T>, ReceiptError> {
        let record =
            Record::from_leaf(&self.leaf.0).map_err(|error| ReceiptError::Record { which, error })?;
        let says = says(&record).ok_or(ReceiptError::OtherRecord(which))?;
        Ok(Placed { index: self.index, leaf: &self.leaf.0, time: record.time, says })
    }

    fn check(&self, which: Named, checkpoint: &Checkpoint) -> Result<(), ReceiptError> {
        let hashes: Vec<Hash> = self.proof.iter().map(|HashText(hash)| *hash).collect();
        let (leaf, index) = (Hash::of_leaf(&self.leaf.0), LeafIndex::new(self.index));
        verify_inclusion(&leaf, index, checkpoint.head(), &hashes)
            .map_err(|error| ReceiptError::Proof { which, error })
    }
}
