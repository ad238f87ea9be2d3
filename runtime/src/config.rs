//! The engine's knobs, and the one place that turns them into a `wasmtime::Config`.
//!
//! *Never:* a knob without a default, a unit and its worst-case cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::engine::EngineError;
use crate::features;
use crate::module::Metering;
use crate::net::http::tls::TlsRoots;
use crate::net::resolve::Resolver;
use crate::quantity::ByteSize;

/// What one engine may use, for all runs together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Runs at the same time; one more ends in `HostFault::Busy`. Default 1,000. Address space, not memory, is
    /// reserved for each: `memory_reservation` + `memory_guard` + twice the stack. A component with several memories takes a
    /// slot for each.
    pub max_concurrent: u32,
    /// Most memory that a job's [`Limits`](crate::Limits) may ask for. Default 1 GiB. Worst case:
    /// `max_concurrent` × this.
    pub max_memory: ByteSize,
    /// The guest's call stack. Default 512 KiB. Worst case: `max_concurrent` × (this + 512 KiB) stay resident after
    /// deep recursions, because stacks are reused as they are.
    pub max_stack: ByteSize,
    /// Address space reserved for one memory. Default 4 GiB: then compiled code needs no bounds checks, which is worth
    /// tens of percent to a computing guest. It costs page-table pages only. Where address space is capped
    /// (`ulimit -v`), lower it, never below `max_memory`.
    pub memory_reservation: ByteSize,
    /// Address space kept empty after each memory. Default 32 MiB.
    pub memory_guard: ByteSize,
    /// What a freed memory slot keeps resident, so that the next run need not fault it in. Default 512 KiB. Worst
    /// case: `warm_slots` × this while idle.
    pub keep_resident: ByteSize,
    /// Freed slots that keep the image of their last module. Default 100.
    pub warm_slots: u32,
    /// How often running guests are made to yield; they share the threads, and notice a kill, at this pace. Default
    /// 2 ms. Costs one wake-up of a sleeping thread each time, none while nothing runs.
    pub tick: Duration,
    /// Where memories and stacks come from. Default pooled.
    pub allocation: Allocation,
    /// Who looks up the names that guests were granted. Default the system.
    #[serde(skip)]
    pub resolver: Resolver,
    /// Whose certificates the servers that guests reach over HTTPS may show. Default the web's authorities. There is no way to do
    /// without.
    #[serde(skip)]
    pub tls_roots: TlsRoots,
}

/// Where memories and stacks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allocation {
    /// From a pool that is reserved once; freed slots are reset, not unmapped.
    Pooled,
    /// From the operating system at every run: several times slower, but nothing is reserved.
    OnDemand,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_concurrent: 1_000,
            max_memory: ByteSize::gib(1),
            max_stack: ByteSize::kib(512),
            memory_reservation: ByteSize::gib(4),
            memory_guard: ByteSize::mib(32),
            keep_resident: ByteSize::kib(512),
            warm_slots: 100,
            tick: Duration::from_millis(2),
            allocation: Allocation::Pooled,
            resolver: Resolver::system(),
            tls_roots: TlsRoots::Web,
        }
    }
}

/// Stack that host calls need on top of the guest's own; unoptimized builds need most of it.
const HOST_STACK: ByteSize = ByteSize::kib(512);
/// Core instances, per run, that the pool has room for: a component is made of several. Only counters.
const INSTANCES_PER_RUN: u32 = 64;
/// Tables, per run, that the pool has address space for.
const TABLES_PER_RUN: u32 = 4;
/// Elements of the largest table. The largest real programs (a Python interpreter) have some ten thousand.
const TABLE_ELEMENTS: usize = 100_000;
/// Bytes of each freed table that stay resident.
const TABLE_KEEP_RESIDENT: usize = 16 << 10;
/// Bookkeeping of one core instance: functions, globals, imports.
const INSTANCE_SIZE: usize = 4 << 20;
/// Half of what x86-64 gives a process: the host needs some, too.
const MAX_ADDRESS_SPACE: u64 = 1 << 46;
/// A tick that costs noticeable time itself, and one so slow that a kill would be.
const TICK_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_micros(200)..=Duration::from_millis(20);

impl EngineConfig {
    /// Refuses settings that cannot work together, naming the field.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let refuse = |field, why: String| Err(EngineError::Config { field, why });
        if self.max_concurrent == 0 {
            return refuse("max_concurrent", "must be at least 1".to_owned());
        }
        if !TICK_RANGE.contains(&self.tick) {
            return refuse("tick", format!("must be within {TICK_RANGE:?}, is {:?}", self.tick));
        }
        if self.max_stack < ByteSize::kib(64) || self.max_stack > ByteSize::mib(64) {
            return refuse("max_stack", format!("must be within 64 KiB and 64 MiB, is {}", self.max_stack));
        }
        if self.max_memory > self.memory_reservation {
            let why =
                format!("{} is more than memory_reservation ({})", self.max_memory, self.memory_reservation);
            return refuse("max_memory", why);
        }
        let slot = self.memory_reservation.as_u64().saturating_add(self.memory_guard.as_u64());
        let total = slot.saturating_mul(self.max_concurrent.into());
        if self.allocation == Allocation::Pooled && total > MAX_ADDRESS_SPACE {
            let why = format!(
                "{} × {} bytes of address space are more than a process has: lower it, or memory_reservation",
                self.max_concurrent, slot
            );
            return refuse("max_concurrent", why);
        }
        Ok(())
    }

    /// The only `wasmtime::Config` there is.
    pub(crate) fn wasmtime(&self, metering: Metering, pagemap_scan: bool) -> Config {
        let mut config = Config::new();
        config
            .wasm_features(features::engine_enabled(), true)
            .wasm_features(features::engine_disabled(), false)
            .cranelift_nan_canonicalization(true)
            // By default a variable of the environment decides, also over the code that is compiled.
            .wasm_backtrace_details(WasmBacktraceDetails::Disable)
            .epoch_interruption(true)
            .consume_fuel(metering == Metering::Fuel)
            .max_wasm_stack(self.max_stack.as_usize())
            .async_stack_size(self.max_stack.as_usize().saturating_add(HOST_STACK.as_usize()))
            .memory_init_cow(true)
            .memory_reservation(self.memory_reservation.as_u64())
            .memory_guard_size(self.memory_guard.as_u64())
            .guard_before_linear_memory(false);
        if self.allocation == Allocation::Pooled {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(self.pool(pagemap_scan)));
        }
        config
    }

    fn pool(&self, pagemap_scan: bool) -> PoolingAllocationConfig {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(self.max_concurrent.saturating_mul(INSTANCES_PER_RUN))
            .total_component_instances(self.max_concurrent)
            .total_memories(self.max_concurrent)
            .total_stacks(self.max_concurrent)
            .total_tables(self.max_concurrent.saturating_mul(TABLES_PER_RUN))
            .max_core_instance_size(INSTANCE_SIZE)
            .max_component_instance_size(INSTANCE_SIZE)
            .max_memory_size(self.max_memory.as_usize())
            .max_tables_per_module(TABLES_PER_RUN)
            .table_elements(TABLE_ELEMENTS)
            .max_unused_warm_slots(self.warm_slots)
            .linear_memory_keep_resident(self.keep_resident.as_usize())
            .table_keep_resident(TABLE_KEEP_RESIDENT)
            .pagemap_scan(if pagemap_scan { Enabled::Yes } else { Enabled::No });
        pool
    }
}
