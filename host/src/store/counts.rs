//! What each tenant has of this host: jobs, bytes, modules, processor time.
//!
//! The writer changes them as a group goes, since one that fails ends the writer; a start reads them back from the rows. Whoever
//! reads them elsewhere may see a group that is not durable yet, and decides nothing that the writer does not decide again.
//!
//! *Bound:* one entry for each tenant that ever gave this host something; tenants are named in the configuration.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_job::{BlobKind, Name, Timestamp};

use super::active::Active;
use super::past::PastJob;
use super::rows::Rows;
use super::{ReadError, keys, read};
use crate::admission::quota::{self, TenantUse};

/// The figures of all tenants. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// Jobs that are not over, of all tenants.
    active: usize,
    /// The latest end of a signature of which a job was forgotten since the start.
    forgotten: Timestamp,
    tenants: HashMap<Name, Figures>,
}

/// What one tenant has.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    /// Jobs that are not over.
    active: usize,
    modules: usize,
    /// Bytes of its modules and inputs.
    registered: u64,
    /// Jobs that are over and not forgotten.
    past: usize,
    /// Bytes of what those left and the host still keeps.
    past_bytes: u64,
    /// Processor time, microseconds, of the attempts that ended on that day.
    computed: Computed,
}

/// Processor time of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Computed {
    day: u64,
    micros: u64,
}

impl Counts {
    /// Of rows that are opened. Each job that is not over is shown on the way: reading them twice would be half of a long start.
    pub(super) fn read(rows: &dyn Rows, mut each: impl FnMut(Active)) -> Result<Self, ReadError> {
        let counts = Self::default();
        for job in read::active(rows) {
            let job = job?;
            counts.add(&job.entry.tenant);
            each(job);
        }
        for (kind, prefix) in [(BlobKind::Module, keys::MODULES), (BlobKind::Input, keys::INPUTS)] {
            for row in rows.under(prefix) {
                let (key, value) = row?;
                let (tenant, _) = read::registered(&key[prefix.len()..])?;
                counts.register(kind, &tenant, read::registered_value(&value)?.0);
            }
        }
        for row in rows.under(keys::PAST) {
            let (key, value) = row?;
            let (tenant, past) = PastJob::parse(&key[keys::PAST.len()..], &value)?;
            counts.end(&tenant, past.bytes);
        }
        for row in rows.under(keys::COMPUTED) {
            let (key, value) = row?;
            let tenant = read::name(&key[keys::COMPUTED.len()..])?;
            counts.change(&tenant, |figures| {
                figures.computed = Computed::parse(&value)?;
                Ok::<_, ReadError>(())
            })?;
        }
        Ok(counts)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Figures are plain numbers: whoever panicked left them whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, tenant: &Name, change: impl FnOnce(&mut Figures) -> T) -> T {
        let mut held = self.held();
        if let Some(figures) = held.tenants.get_mut(tenant) {
            return change(figures);
        }
        change(held.tenants.entry(tenant.clone()).or_default())
    }

    /// Jobs that are not over, of all tenants.
    pub(super) fn active(&self) -> usize {
        self.held().active
    }

    /// What quotas are held against.
    pub(super) fn usage(&self, tenant: &Name, now: Timestamp) -> TenantUse {
        let figures = self.held().tenants.get(tenant).copied().unwrap_or_default();
        let computed = if figures.computed.day == quota::day(now) { figures.computed.micros } else { 0 };
        TenantUse {
            active: figures.active,
            stored_bytes: figures.registered.saturating_add(figures.past_bytes),
            modules: figures.modules,
            cpu_today: Duration::from_micros(computed),
        }
    }

    /// Every tenant that has jobs which are over, with their number and the bytes that they left.
    pub(super) fn past(&self) -> Vec<(Name, usize, u64)> {
        let held = self.held();
        let past = held.tenants.iter().filter(|(_, figures)| figures.past > 0);
        past.map(|(tenant, figures)| (tenant.clone(), figures.past, figures.past_bytes)).collect()
    }

    /// Modules of each tenant, and bytes that it gave or left.
    pub(super) fn kept(&self, most: usize) -> Vec<(Name, usize, u64)> {
        let held = self.held();
        let kept = held.tenants.iter().map(|(tenant, figures)| {
            (tenant.clone(), figures.modules, figures.registered.saturating_add(figures.past_bytes))
        });
        kept.take(most).collect()
    }

    /// A job is taken.
    pub(super) fn add(&self, tenant: &Name) {
        self.held().active += 1;
        self.change(tenant, |figures| figures.active += 1);
    }

    /// A job is over.
    pub(super) fn remove(&self, tenant: &Name) {
        let mut held = self.held();
        held.active = held.active.saturating_sub(1);
        drop(held);
        self.change(tenant, |figures| figures.active = figures.active.saturating_sub(1));
    }

    /// A job that is over left so many bytes.
    pub(super) fn end(&self, tenant: &Name, bytes: u64) {
        self.change(tenant, |figures| {
            figures.past += 1;
            figures.past_bytes = figures.past_bytes.saturating_add(bytes);
        });
    }

    /// What a job left is gone.
    pub(super) fn strip(&self, tenant: &Name, bytes: u64) {
        self.change(tenant, |figures| figures.past_bytes = figures.past_bytes.saturating_sub(bytes));
    }

    /// A job that is over is forgotten, and what it left with it.
    pub(super) fn forget(&self, tenant: &Name, bytes: u64) {
        self.strip(tenant, bytes);
        self.change(tenant, |figures| figures.past = figures.past.saturating_sub(1));
    }

    /// What was signed until then is forgotten, ids among it.
    pub(super) fn forget_until(&self, not_after: Timestamp) {
        let mut held = self.held();
        held.forgotten = held.forgotten.max(not_after);
    }

    /// What was signed until then may have been forgotten, since its time is over: an envelope that was admitted before and comes
    /// only now could be one that was taken before. None is under way when a host starts.
    pub(super) fn forgotten(&self) -> Timestamp {
        self.held().forgotten
    }

    /// A blob is the tenant's from now on.
    pub(super) fn register(&self, kind: BlobKind, tenant: &Name, length: u64) {
        self.change(tenant, |figures| {
            figures.registered = figures.registered.saturating_add(length);
            figures.modules += usize::from(kind == BlobKind::Module);
        });
    }

    /// An input is the tenant's no more.
    pub(super) fn unregister(&self, tenant: &Name, length: u64) {
        self.change(tenant, |figures| figures.registered = figures.registered.saturating_sub(length));
    }

    /// An attempt that ended now used so much; gives what that makes today.
    pub(super) fn compute(&self, tenant: &Name, micros: u64, now: Timestamp) -> Computed {
        let day = quota::day(now);
        self.change(tenant, |figures| {
            let before = if figures.computed.day == day { figures.computed.micros } else { 0 };
            figures.computed = Computed { day, micros: before.saturating_add(micros) };
            figures.computed
        })
    }
}

impl Computed {
    pub(super) fn value(self) -> Vec<u8> {
        // A u32 has room for eleven million years.
        let day = u32::try_from(self.day).unwrap_or(u32::MAX);
        [day.to_be_bytes().as_slice(), &self.micros.to_be_bytes()].concat()
    }

    fn parse(value: &[u8]) -> Result<Self, ReadError> {
        let damaged = || ReadError::Damaged("the processor time of a tenant");
        let (day, micros) = value.split_first_chunk::<4>().ok_or_else(damaged)?;
        let micros = u64::from_be_bytes(micros.try_into().map_err(|_| damaged())?);
        Ok(Self { day: u32::from_be_bytes(*day).into(), micros })
    }
}
