//! See `entry::envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::envelope(bytes));
