//! What a witness remembers, over ends of its process, failed writes, and requests at one moment.

use std::collections::BTreeSet;
use std::sync::Barrier;

use sha2::{Digest as _, Sha256};
use strongroom::witness::{Memory, MemoryError, NotCosigned};
use strongroom_job::SecretKey;
use strongroom_job::checkpoint::SignedCheckpoint;
use strongroom_job::note::VerifierKey;
use strongroom_job::witness::{AddCheckpoint, WitnessRefusal};
use zeroize::Zeroizing;

use crate::support::{Witness, log_key, log_verifier, origin, request, tell};

fn key() -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([0x45; 32]))
}

fn open(dir: &std::path::Path) -> Result<Memory, MemoryError> {
    Memory::open(dir, "witness.example/memory".parse().unwrap(), key(), vec![log_verifier()])
}

fn file() -> String {
    format!("logs/{}", hex::encode(Sha256::digest(origin().as_str())))
}

// Red without the write in `Memory::cosign`.
#[test]
fn a_killed_witness_remembers_what_it_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (home, log, other) = (dir.path().join("w"), dir.path().join("a"), dir.path().join("b"));
    for size in [3, 6, 7] {
        let witness = Witness::start(&home, &log_verifier().to_string());
        tell(&log, "a", size);
        let old = if size == 3 { 0 } else { size - if size == 6 { 3 } else { 1 } };
        assert_eq!(witness.add(&request(&log, old)).status, 200, "{size}");
        witness.0.kill();
    }
    tell(&other, "b", 9);
    let witness = Witness::start(&home, &log_verifier().to_string());
    assert_eq!(witness.add(&request(&other, 0)).text(), "7\n");
    assert_eq!(witness.add(&request(&other, 7)).status, 422);
    assert_eq!(witness.add(&request(&log, 7)).status, 200);
}

/// The known limit of every witness: whoever can set its memory back can have it sign a second history.
#[test]
fn a_witness_whose_memory_was_set_back_is_fooled() {
    let dir = tempfile::tempdir().unwrap();
    let (home, log, other) = (dir.path().join("w"), dir.path().join("a"), dir.path().join("b"));
    tell(&log, "a", 3);
    tell(&other, "b", 9);
    let witness = Witness::start(&home, &log_verifier().to_string());
    witness.add(&request(&log, 0));
    let backup = std::fs::read(home.join(file())).unwrap();
    tell(&log, "a", 9);
    assert_eq!(witness.add(&request(&log, 3)).status, 200);
    witness.0.stop();
    std::fs::write(home.join(file()), backup).unwrap();
    let witness = Witness::start(&home, &log_verifier().to_string());
    assert_eq!(witness.add(&request(&other, 3)).status, 200, "two stories of nine records, both cosigned");
}

// Red with a lock that is not held from the judgement to the end of the write.
#[test]
fn of_two_stories_at_one_moment_one_is_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let stories: Vec<_> = ["a", "b", "c", "d"].map(|story| (story, dir.path().join(story))).into();
    for (story, log) in &stories {
        tell(log, story, 5);
    }
    let five = dir.path().join("five");
    tell(&five, "a", 5);
    for size in 6..26 {
        for (story, log) in &stories {
            tell(log, story, size);
        }
        // One that knows what all stories have in common.
        let _ = std::fs::remove_file(dir.path().join(file()));
        let memory = open(dir.path()).unwrap();
        memory.cosign(request(&five, 0)).unwrap();
        let start = Barrier::new(2 * stories.len());
        let signed = std::thread::scope(|threads| {
            let asks: Vec<_> = stories
                .iter()
                .chain(&stories)
                .map(|(_, log)| {
                    let (request, start, memory) = (request(log, 5), &start, &memory);
                    threads.spawn(move || {
                        start.wait();
                        let root = request.unverified().to_string();
                        memory.cosign(request).is_ok().then_some(root)
                    })
                })
                .collect();
            asks.into_iter().filter_map(|ask| ask.join().unwrap()).collect::<Vec<_>>()
        });
        let different: BTreeSet<_> = signed.iter().collect();
        assert_eq!(different.len(), 1, "{size}: {signed:?}");
        assert_eq!(signed.len(), 1, "the second question of the same story comes from an old size");
        let kept = std::fs::read(dir.path().join(file())).unwrap();
        let kept = SignedCheckpoint::parse(&kept).unwrap().verify(&origin(), &log_key().public()).unwrap();
        assert!(signed[0].starts_with(&format!("{}\n{}\n{}\n", origin(), size, kept.head().root)));
    }
}

// Red without `broken`: the next request is then cosigned although what is on the disk is unknown.
#[test]
fn after_a_failed_write_nothing_is_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("a");
    tell(&log, "a", 3);
    let memory = open(dir.path()).unwrap();
    // Nothing can be renamed onto a directory.
    std::fs::create_dir(dir.path().join(file())).unwrap();
    assert!(matches!(memory.cosign(request(&log, 0)), Err(NotCosigned::Disk(_))));
    std::fs::remove_dir(dir.path().join(file())).unwrap();
    assert!(matches!(memory.cosign(request(&log, 0)), Err(NotCosigned::Disk(_))), "it is asked again");
    assert!(!dir.path().join(file()).exists());
    open(dir.path()).unwrap().cosign(request(&log, 0)).unwrap();
}

// Red with a damaged file taken for none.
#[test]
fn a_damaged_memory_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("a");
    tell(&log, "a", 3);
    open(dir.path()).unwrap().cosign(request(&log, 0)).unwrap();
    let path = dir.path().join(file());
    let good = std::fs::read_to_string(&path).unwrap();
    let (log_only, _) = good.trim_end().rsplit_once('\n').unwrap();
    let wrong = [
        String::new(),
        good[..good.len() / 2].to_owned(),
        good.replacen("\n3\n", "\n2\n", 1),
        format!("{log_only}\n"),
        "x".repeat(300 * 1024),
    ];
    for wrong in wrong {
        std::fs::write(&path, &wrong).unwrap();
        let error = open(dir.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains(&file()), "{error}");
    }
    std::fs::write(&path, good).unwrap();
    open(dir.path()).unwrap();
    // One log, one key.
    let second = VerifierKey::new(origin(), key().public());
    let both = Memory::open(dir.path(), "w".parse().unwrap(), key(), vec![second, log_verifier()]);
    assert!(both.is_err());
}

// Red when all lines of a request are kept.
#[test]
fn lines_that_a_stranger_adds_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("a");
    tell(&log, "a", 3);
    let memory = open(dir.path()).unwrap();
    memory.cosign(request(&log, 0)).unwrap();
    let path = dir.path().join(file());
    // What anybody can ask, with a bad line in the witness's name.
    let good = std::fs::read_to_string(&path).unwrap();
    let (rest, signature) = good.trim_end().rsplit_once(' ').unwrap();
    let (_, ours) = rest.rsplit_once('\n').unwrap();
    let digit = if &signature[40..41] == "A" { "B" } else { "A" };
    let bad = format!("{ours} {}{digit}{}\n", &signature[..40], &signature[41..]);
    tell(&log, "a", 5);
    let asked = format!("{}{bad}", request(&log, 3));
    memory.cosign(AddCheckpoint::parse(asked.as_bytes()).unwrap()).unwrap();
    drop(memory);
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(!kept.contains(&bad), "{kept}");
    assert_eq!(kept.lines().count(), good.lines().count(), "{kept}");
    open(dir.path()).unwrap().cosign(request(&log, 5)).unwrap();
}

// Red without the look at `FRESH`: whoever reads the last checkpoint could have it written again and again.
#[test]
fn the_same_question_at_once_is_answered_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("a");
    tell(&log, "a", 3);
    let memory = open(dir.path()).unwrap();
    let line = memory.cosign(request(&log, 0)).unwrap();
    let path = dir.path().join(file());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(memory.cosign(request(&log, 3)).unwrap(), line);
    assert!(!path.exists());
    tell(&log, "a", 4);
    assert_ne!(memory.cosign(request(&log, 3)).unwrap(), line);
    assert!(path.exists());
}

// Red without `Memory::convict`.
#[test]
fn both_checkpoints_of_one_size_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (log, other) = (dir.path().join("a"), dir.path().join("b"));
    tell(&log, "a", 9);
    tell(&other, "b", 9);
    let memory = open(dir.path()).unwrap();
    memory.cosign(request(&log, 0)).unwrap();
    for _ in 0..2 {
        let refused = memory.cosign(request(&other, 9));
        assert!(matches!(refused, Err(NotCosigned::Refused(WitnessRefusal::OtherRoot))), "{refused:?}");
    }
    let files = std::fs::read_dir(dir.path().join("evidence")).unwrap().map(|file| file.unwrap().path());
    let signed = files.map(|file| SignedCheckpoint::parse(&std::fs::read(file).unwrap()).unwrap());
    let heads: Vec<_> =
        signed.map(|signed| *signed.verify(&origin(), &log_key().public()).unwrap().head()).collect();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].size == heads[1].size && heads[0].root != heads[1].root, "{heads:?}");
    // What anybody could ask for proves nothing, and is not kept.
    tell(&other, "b", 12);
    assert!(memory.cosign(request(&other, 9)).is_err());
    assert_eq!(std::fs::read_dir(dir.path().join("evidence")).unwrap().count(), 2);
}
