//! Makes arbitrary programs with `wasm-smith`.

use arbitrary::Unstructured;
use entry::Random;
use wasm_smith::Config;

/// Bytes of chance that a module is made of, at least and at most.
const CHANCE: std::ops::Range<usize> = 256..16_384;

/// The module of a seed: a program most of the time; now and then one that needs what is off here, or is damaged.
pub fn make(random: &mut Random) -> Option<Vec<u8>> {
    let length = CHANCE.start + random.below(CHANCE.len());
    let chance = random.bytes(length);
    let config = config(random);
    let mut wasm = wasm_smith::Module::new(config, &mut Unstructured::new(&chance)).ok()?.to_bytes();
    if random.one_in(8) {
        random.damage(&mut wasm);
    }
    Some(wasm)
}

fn config(random: &mut Random) -> Config {
    let exotic = random.one_in(8);
    Config {
        available_imports: Some(wat::parse_str(format!("(module {IMPORTS})")).expect("good text")),
        exports: Some(wat::parse_str(EXPORTS).expect("good text")),
        allow_start_export: random.one_in(4),
        bulk_memory_enabled: true,
        disallow_traps: random.one_in(2),
        max_imports: 20,
        max_funcs: 20,
        max_instructions: 400,
        max_table_elements: if random.one_in(16) { 10_000_000 } else { 10_000 },
        // Tables of host references are off; half of what has reference types has such a table.
        reference_types_enabled: exotic || random.one_in(16),
        exceptions_enabled: exotic,
        gc_enabled: exotic,
        compact_imports_enabled: exotic,
        custom_page_sizes_enabled: exotic,
        memory64_enabled: exotic,
        relaxed_simd_enabled: exotic,
        tail_call_enabled: exotic,
        threads_enabled: exotic,
        wide_arithmetic_enabled: exotic,
        // Besides the one that is exported.
        max_memories: if exotic { 2 } else { 0 },
        ..Config::default()
    }
}

const EXPORTS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// What the module may import: most of preview 1.
const IMPORTS: &str = r#"
(import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_sizes_get" (func (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_sizes_get" (func (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_res_get" (func (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_fdstat_get" (func (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_prestat_get" (func (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_readdir" (func (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_renumber" (func (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_open" (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_filestat_get" (func (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
(import "wasi_snapshot_preview1" "proc_raise" (func (param i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
(import "wasi_snapshot_preview1" "sock_shutdown" (func (param i32 i32) (result i32)))
"#;
