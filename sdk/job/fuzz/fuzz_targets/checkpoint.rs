//! See `entry::checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::checkpoint(bytes));
