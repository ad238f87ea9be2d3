//! See `entry::body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::body(bytes));
