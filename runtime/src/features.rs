//! Which WebAssembly proposals are on, and the names of those that are not.

use wasmparser::WasmFeatures;

/// What every compiler of today emits by default, and nothing else.
pub(crate) fn enabled() -> WasmFeatures {
    // `GC_TYPES` is part of the first version by name, but stands for `externref`, which needs a collector.
    WasmFeatures::WASM2.union(WasmFeatures::EXTENDED_CONST).union(WasmFeatures::COMPONENT_MODEL)
        - WasmFeatures::GC_TYPES
}

/// Everything else, now and in future versions of the parser.
pub(crate) fn engine_disabled() -> WasmFeatures {
    WasmFeatures::all() - engine_enabled()
}

/// What the engine itself must have on: it passes strings between the memories of a component through small modules of its
/// own, which see both memories. Guests are held against [`enabled`] before the engine sees them, so they gain nothing.
pub(crate) fn engine_enabled() -> WasmFeatures {
    enabled().union(WasmFeatures::MULTI_MEMORY)
}

/// The names of the proposals that `wasm` needs and that are off; empty when it is not valid with all of them on either.
pub(crate) fn missing(wasm: &[u8]) -> Vec<&'static str> {
    if !valid(wasm, WasmFeatures::all()) {
        return Vec::new();
    }
    NAMED
        .iter()
        .filter(|(flag, _)| !valid(wasm, WasmFeatures::all() - *flag))
        .map(|(_, name)| *name)
        .collect()
}

fn valid(wasm: &[u8], features: WasmFeatures) -> bool {
    wasmparser::Validator::new_with_features(features).validate_all(wasm).is_ok()
}

const NAMED: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything threads"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::TAIL_CALL, "tail calls"),
    (WasmFeatures::RELAXED_SIMD, "relaxed SIMD"),
    (WasmFeatures::EXCEPTIONS, "exceptions"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy exceptions"),
    (WasmFeatures::GC, "garbage collection"),
    (WasmFeatures::GC_TYPES, "references to host objects (externref)"),
    (WasmFeatures::FUNCTION_REFERENCES, "typed function references"),
    (WasmFeatures::STACK_SWITCHING, "stack switching"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
    (WasmFeatures::MEMORY_CONTROL, "memory control"),
    (WasmFeatures::CM_ASYNC, "component-model async (WASI 0.3)"),
    (WasmFeatures::CM_THREADING, "component-model threading"),
    (WasmFeatures::CM_ERROR_CONTEXT, "component-model error contexts"),
    (WasmFeatures::CM_VALUES, "component-model values"),
    (WasmFeatures::CM_GC, "component-model garbage collection"),
];

#[cfg(test)]
mod tests {
    use wasmparser::WasmFeatures;

    use super::{NAMED, enabled, engine_disabled};

    #[test]
    fn no_named_proposal_is_on() {
        for (flag, name) in NAMED {
            assert!(!enabled().intersects(*flag), "{name} is on");
            let adapters_need_it = *flag == WasmFeatures::MULTI_MEMORY;
            assert_eq!(engine_disabled().contains(*flag), !adapters_need_it, "{name}");
        }
    }
}
