//! See `entry::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::frame(bytes));
