//! Counts a guest's memory, and says no.

use wasmtime::ResourceLimiter;

use crate::limits::Limits;

/// What one table element costs the host.
const ELEMENT: u64 = size_of::<usize>() as u64;

/// The sum over all memories and tables of one run.
#[derive(Debug)]
pub(crate) struct Meter {
    allowed: u64,
    used: u64,
    pub(crate) peak: u64,
    /// The sum that was refused last: the reason when the guest dies of it.
    pub(crate) refused: Option<u64>,
    /// Granted, but not yet known to have worked.
    pending: u64,
    instances: usize,
    tables: usize,
    memories: usize,
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Self {
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            allowed: limits.memory.as_u64(),
            used: 0,
            peak: 0,
            refused: None,
            pending: 0,
            instances: count(limits.instances),
            tables: count(limits.tables),
            memories: count(limits.memories),
        }
    }

    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>, unit: u64) -> bool {
        self.pending = 0;
        let more = (desired.saturating_sub(current) as u64).saturating_mul(unit);
        let total = self.used.saturating_add(more);
        if total > self.allowed {
            self.refused = Some(total);
            return false;
        }
        // The module's own maximum: no more than it asked for itself, so no limit of ours.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        self.pending = more;
        self.used = total;
        self.peak = self.peak.max(total);
        true
    }

    /// The system had no memory for what we granted.
    fn take_back(&mut self) {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.pending));
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum, 1))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum, ELEMENT))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}
