//! Blobs that tenants gave: modules, which stay, and inputs, which go when no job has named them for a long time.
//!
//! *Owns:* registrations. *Never:* the files (`blobs`), nor how long is long (`host/keeper.rs`).
//! *Crash:* a registration is durable after its file and goes before it.

use std::collections::HashSet;

use strongroom_job::{BlobKind, Digest, Event, Input, ModuleRef, Name, Refusal, RefusalCode, Timestamp};

use super::group::{Group, Refused};
use super::rows::Rows;
use super::{CommitError, Committed, ReadError, Store, keys, read};
use crate::admission::AdmittedJob;
use crate::admission::quota::Asked;
use crate::config::TenantRules;

/// An input that a tenant gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenInput {
    /// Who gave it.
    pub tenant: Name,
    /// What it is.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// When it was given, or a job that names it was last accepted.
    pub named_at: Timestamp,
}

/// Registrations that one group has changed, before the disk knows.
#[derive(Default)]
pub(super) struct Given {
    /// Keys of blobs that were given or named in this group.
    registered: HashSet<Vec<u8>>,
    /// Keys of inputs that went in this group.
    gone: HashSet<Vec<u8>>,
}

/// What a tenant is told whose job names an input that this host does not have from it.
pub(crate) fn unknown_input(tenant: &Name, digest: &Digest) -> Refusal {
    let text = format!("tenant {tenant} has not given this host the input {digest}: push it first");
    Refusal::new(RefusalCode::UnknownInput, text)
}

impl Store {
    /// Inputs that were given, and named by no job that was accepted, since `before`, and that no job names which is not over.
    /// Blocks; reads the row of every such job when there may be some.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn unused_inputs(&self, before: Timestamp) -> Result<Vec<GivenInput>, ReadError> {
        let mut unused = Vec::new();
        for row in self.current.under(keys::INPUTS) {
            let (key, value) = row?;
            let (tenant, digest) = read::registered(&key[keys::INPUTS.len()..])?;
            let (length, named_at) = read::registered_value(&value)?;
            if named_at < before {
                unused.push(GivenInput { tenant, digest, length, named_at });
            }
        }
        if unused.is_empty() {
            return Ok(unused);
        }
        let mut used = HashSet::new();
        for row in read::active_rows(&self.current) {
            used.extend(row?.slot.and_then(|slot| slot.input));
        }
        unused.retain(|input| !used.contains(&input.digest));
        Ok(unused)
    }
}

impl Group<'_> {
    pub(super) fn register(
        &mut self,
        kind: BlobKind,
        tenant: &Name,
        blob: &ModuleRef,
        event: Option<Event>,
        rules: &TenantRules,
    ) -> Result<Committed, Refused> {
        let key = keys::blob(kind, tenant, &blob.digest);
        // Two who push the same blob at once may meet in one group.
        if !self.is_registered(&key)? {
            let modules = usize::from(kind == BlobKind::Module);
            self.check_quota(tenant, rules, Asked { bytes: blob.length, modules, jobs: 0 })?;
            self.counts.register(kind, tenant, blob.length);
            self.write_registration(key, blob.length);
            if let Some(event) = event {
                self.log(event);
            }
        }
        Ok(Committed::Done)
    }

    fn is_registered(&self, key: &[u8]) -> Result<bool, ReadError> {
        let known = self.given.registered.contains(key);
        Ok(known || (!self.given.gone.contains(key) && self.rows.value(key)?.is_some()))
    }

    fn write_registration(&mut self, key: Vec<u8>, length: u64) {
        self.batch.insert(key.clone(), read::registration(length, self.now));
        self.given.gone.remove(&key);
        self.given.registered.insert(key);
    }

    /// Whether a job's input is here: it was when the job was admitted, but may have gone since.
    pub(super) fn check_input(&self, job: &AdmittedJob) -> Result<(), Refused> {
        let tenant = &job.context().tenant;
        match &job.task().input {
            Input::Blob { digest, .. }
                if !self.is_registered(&keys::blob(BlobKind::Input, tenant, digest))? =>
            {
                Err(CommitError::Denied(unknown_input(tenant, digest)).into())
            }
            _ => Ok(()),
        }
    }

    /// A job that is accepted names its input: it stays for as long as if it were given now.
    pub(super) fn name_input(&mut self, job: &AdmittedJob) {
        if let Input::Blob { digest, length } = &job.task().input {
            let key = keys::blob(BlobKind::Input, &job.context().tenant, digest);
            self.write_registration(key, *length);
        }
    }

    /// Inputs go, unless a job has named them since they were looked at.
    pub(super) fn let_inputs_go(&mut self, inputs: &[GivenInput]) -> Result<Committed, Refused> {
        self.take_inputs(inputs)?;
        Ok(Committed::Done)
    }

    /// Gives those of these inputs that went.
    pub(super) fn take_inputs(&mut self, inputs: &[GivenInput]) -> Result<Vec<Digest>, ReadError> {
        let mut gone = Vec::new();
        for GivenInput { tenant, digest, length, named_at } in inputs {
            let key = keys::blob(BlobKind::Input, tenant, digest);
            let seen = read::registration(*length, *named_at);
            if self.given.registered.contains(&key)
                || self.given.gone.contains(&key)
                || self.rows.value(&key)?.is_none_or(|now| *now != *seen)
            {
                continue;
            }
            self.counts.unregister(tenant, *length);
            self.batch.remove(key.clone());
            self.given.gone.insert(key);
            gone.push(*digest);
        }
        Ok(gone)
    }
}
