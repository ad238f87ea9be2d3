//! The form of evidence: frozen by a golden file, and read up to the first byte that is not as it was written.

use std::io::Cursor;

use strongroom::evidence::{Entries, Entry, Key, Kind, file};
use strongroom_job::Digest;

use crate::common::id;

fn entries() -> Vec<Entry> {
    let entry = |kind, key, value: &[u8]| Entry { kind, key, value: value.to_vec() };
    vec![
        entry(Kind::Envelope, Key::from(&Digest::of(b"signed body")), b"{\"payloadType\":\"...\"}"),
        entry(Kind::Stdout, Key::from(&id(1)), b"out\n"),
        entry(Kind::Stderr, Key::from(&id(1)), b"err\n"),
        entry(Kind::Result, Key::from(&id(2)), &[0, 255]),
        entry(Kind::Tenants, Key::from(7), b"default\0other"),
        entry(Kind::Covered, Key::from(4096), b""),
    ]
}

fn read(bytes: &[u8]) -> (Vec<Entry>, u64, bool) {
    let mut entries = Entries::new(Cursor::new(bytes)).unwrap();
    let mut found = Vec::new();
    while let Some(entry) = entries.read_next().unwrap() {
        found.push(entry);
    }
    (found, entries.end(), entries.is_damaged())
}

#[test]
fn evidence_is_written_as_the_golden_file_has_it() {
    let bytes = file(&entries());
    let golden = include_bytes!("../golden/evidence");
    assert_eq!(hex::encode(&bytes), hex::encode(golden));
    assert_eq!(read(&bytes), (entries(), bytes.len() as u64, false));
}

// Red without the comparison of sums in `Entries::read`.
#[test]
fn what_stands_before_a_fault_is_read_and_nothing_behind_it() {
    let bytes = file(&entries());
    for length in 0..bytes.len() {
        let (found, end, _) = read(&bytes[..length]);
        assert!(entries().starts_with(&found) && found.len() < entries().len() && end <= length as u64);
    }
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        let (found, end, damaged) = read(&bad);
        assert!(damaged && entries().starts_with(&found) && end <= at as u64, "{at}");
    }
}
