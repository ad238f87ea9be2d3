//! See `entry::succession`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::succession(bytes));
