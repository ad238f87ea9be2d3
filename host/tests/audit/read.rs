//! Showing, proving and exporting, also while the host goes on.

use std::fs;

use strongroom::audit::ExportError;
use strongroom::audit::read::{LogReader, ReadError};
use strongroom_job::tlog_proof::TlogProof;

use crate::support::{entries, entry, files, head, index, key, name, other_key, published, scratch, verify};

#[test]
fn any_range_of_entries_can_be_read() {
    let dir = scratch();
    published(dir.path(), &[600]);
    let log = LogReader::open(dir.path(), Some(&key().public())).unwrap();
    for (from, to) in [(0, 600), (0, 0), (5, 3), (255, 257), (256, 512), (599, 600), (590, 1000), (600, 700)]
    {
        let read: Vec<_> = log.entries(index(from), index(to)).map(Result::unwrap).collect();
        let expected: Vec<_> = (from..to.min(600)).map(|number| (index(number), entry(number))).collect();
        assert_eq!(read, expected, "{from} to {to}");
    }
}

#[test]
fn an_entry_is_found_by_what_it_says() {
    let dir = scratch();
    published(dir.path(), &[600]);
    let log = LogReader::open(dir.path(), None).unwrap();
    let found = log.find(index(0), |_, entry| entry.ends_with(b"77")).unwrap();
    assert_eq!(found, Some((index(77), entry(77))));
    let found = log.find(index(78), |_, entry| entry.ends_with(b"77")).unwrap();
    assert_eq!(found, Some((index(177), entry(177))));
    assert_eq!(log.find(index(578), |_, entry| entry.ends_with(b"77")).unwrap(), None);
    fs::remove_file(dir.path().join("tile/entries/001")).unwrap();
    let error = log.find(index(0), |_, entry| entry == b"300").unwrap_err();
    assert_eq!(error.to_string(), "tile/entries/001: missing");
}

#[test]
fn every_entry_can_be_proven_offline() {
    for end in [1, 2, 255, 256, 257, 700] {
        let dir = scratch();
        published(dir.path(), &[end]);
        let log = LogReader::open(dir.path(), None).unwrap();
        for number in (0..end).step_by(19).chain([end - 1]) {
            let (proof, proven) = log.prove(index(number)).unwrap();
            assert_eq!((proof.index(), &proven), (index(number), &entry(number)));
            let read = TlogProof::parse(proof.to_string().as_bytes()).unwrap();
            let checkpoint = read.verify(&entry(number), &name(), &key().public()).unwrap();
            assert_eq!(*checkpoint.head(), head(end));
        }
        let refused = log.prove(index(end));
        assert!(matches!(refused, Err(ReadError::NoSuchEntry { .. })), "{refused:?}");
    }
}

// Red without the check of the proof in `LogReader::prove`.
#[test]
fn a_proof_from_altered_tiles_is_not_handed_out() {
    for file in ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000"] {
        let dir = scratch();
        published(dir.path(), &[300]);
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        // A hash or an entry that every proof of entry 0 or 256 takes part in.
        bytes[2] ^= 1;
        fs::write(&path, bytes).unwrap();
        let log = LogReader::open(dir.path(), None).unwrap();
        let refused = [0, 1, 256, 257].map(|number| log.prove(index(number)).is_err());
        assert!(refused.contains(&true), "{file}");
        for number in 0..300 {
            if let Ok((proof, entry)) = log.prove(index(number)) {
                proof.verify(&entry, &name(), &key().public()).unwrap();
            }
        }
    }
}

#[test]
fn another_logs_key_is_refused() {
    let dir = scratch();
    published(dir.path(), &[3]);
    let refused = LogReader::open(dir.path(), Some(&other_key().public()));
    assert!(matches!(refused, Err(ReadError::WrongKey(_))), "{refused:?}");
}

#[test]
fn a_reader_goes_on_while_the_host_publishes() {
    let dir = scratch();
    let mut log = published(dir.path(), &[200]);
    let reader = LogReader::open(dir.path(), None).unwrap();
    log.publish(index(200), entries(200..700)).unwrap();
    assert!(!dir.path().join("tile/0/000.p").exists(), "the partial tile that the reader knew is gone");
    let read: Vec<_> = reader.entries(index(0), index(1000)).map(|entry| entry.unwrap().1).collect();
    assert_eq!(read, entries(0..200).collect::<Vec<_>>());
    let (proof, _) = reader.prove(index(5)).unwrap();
    let checkpoint = proof.verify(&entry(5), &name(), &key().public()).unwrap();
    assert_eq!(*checkpoint.head(), head(200));
}

#[test]
fn an_export_is_a_whole_log_and_nothing_else() {
    let dir = scratch();
    let outside = scratch();
    published(dir.path(), &[200, 260, 300]);
    // Beyond the checkpoint, not a part, and an earlier form: none of them is exported.
    fs::write(dir.path().join("tile/0/002"), b"").unwrap();
    fs::write(dir.path().join("note"), b"").unwrap();
    let dest = outside.path().join("copy");
    let verified = LogReader::open(dir.path(), None).unwrap().export(&dest).unwrap();
    assert_eq!(*verified.checkpoint.head(), head(300));
    let expected = [
        "checkpoint",
        "log.pub",
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ];
    assert_eq!(files(&dest), expected);
    assert_eq!(*verify(&dest).unwrap().checkpoint.head(), head(300));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing else is left");
}

// Red without the test for `dest` in `export`, and without the verification of the copy.
#[test]
fn an_export_neither_overwrites_nor_spreads_a_damaged_log() {
    let dir = scratch();
    published(dir.path(), &[300]);
    let outside = scratch();
    let log = LogReader::open(dir.path(), None).unwrap();
    for dest in ["file", "empty"] {
        let dest = outside.path().join(dest);
        if dest.ends_with("file") {
            fs::write(&dest, b"precious").unwrap()
        } else {
            fs::create_dir(&dest).unwrap()
        }
        let refused = log.export(&dest);
        assert!(matches!(refused, Err(ExportError::Exists(_))), "{refused:?}");
    }
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"precious");
    let mut bytes = fs::read(dir.path().join("tile/0/000")).unwrap();
    bytes[0] ^= 1;
    fs::write(dir.path().join("tile/0/000"), bytes).unwrap();
    let refused = log.export(&outside.path().join("copy")).unwrap_err();
    assert!(
        matches!(&refused, ExportError::Verify(error) if error.findings()[0].file == "tile/0/000"),
        "{refused}"
    );
    fs::remove_file(dir.path().join("tile/0/000")).unwrap();
    assert!(matches!(log.export(&outside.path().join("copy")), Err(ExportError::File(_))));
    assert_eq!(files(outside.path()), ["file"], "nothing is left");
}
