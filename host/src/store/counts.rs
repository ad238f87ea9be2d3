//! How many jobs are not over, in all and of each tenant.
//!
//! The writer keeps them for as long as the host runs; a group changes them as it goes, since one that fails ends the writer.

use std::collections::HashMap;

use strongroom_job::Name;

use super::rows::Rows;
use super::{ReadError, read};

/// Jobs that are not over.
#[derive(Debug, Default)]
pub(super) struct Counts {
    active: usize,
    tenants: HashMap<Name, usize>,
}

impl Counts {
    /// Of rows that are opened.
    pub(super) fn read(rows: &dyn Rows) -> Result<Self, ReadError> {
        let mut counts = Self::default();
        for job in read::active(rows) {
            counts.add(&job?.entry.tenant);
        }
        Ok(counts)
    }

    /// Of all tenants.
    pub(super) const fn active(&self) -> usize {
        self.active
    }

    /// Of this one.
    pub(super) fn of(&self, tenant: &Name) -> usize {
        self.tenants.get(tenant).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, tenant: &Name) {
        self.active += 1;
        match self.tenants.get_mut(tenant) {
            Some(count) => *count += 1,
            None => drop(self.tenants.insert(tenant.clone(), 1)),
        }
    }

    pub(super) fn remove(&mut self, tenant: &Name) {
        self.active = self.active.saturating_sub(1);
        if let Some(count) = self.tenants.get_mut(tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.tenants.remove(tenant);
            }
        }
    }
}
