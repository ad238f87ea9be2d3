//! See `entry::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::record(bytes));
