//! What guests have of the pool now. *Spec:* the counters of wasmtime's pooling allocator.

use crate::engine::{Engine, Half};

/// Places of an engine's pools that are in use; all 0 when it allocates on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolUse {
    /// Core instances: a component is made of several.
    pub core_instances: u64,
    /// Components.
    pub component_instances: u64,
    /// Linear memories.
    pub memories: u64,
    /// Tables.
    pub tables: u64,
    /// Stacks: one for each guest that runs.
    pub stacks: u64,
    /// Memory of linear memories and tables that nobody has and that stays in RAM for whoever comes next, bytes.
    pub kept_bytes: u64,
}

impl Engine {
    /// What guests have of its pools at this moment; each number is of a moment of its own.
    #[must_use]
    pub fn pool_use(&self) -> PoolUse {
        let mut used = PoolUse::default();
        for half in self.inner.halves() {
            used.add(half);
        }
        used
    }
}

impl PoolUse {
    fn add(&mut self, half: &Half) {
        let Some(pool) = half.engine.pooling_allocator_metrics() else { return };
        self.core_instances += pool.core_instances();
        self.component_instances += pool.component_instances();
        self.memories += pool.memories() as u64;
        self.tables += pool.tables() as u64;
        self.stacks += pool.stacks() as u64;
        self.kept_bytes += (pool.unused_memory_bytes_resident() + pool.unused_table_bytes_resident()) as u64;
    }
}
