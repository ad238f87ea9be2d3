//! See `entry::proof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::proof(bytes));
