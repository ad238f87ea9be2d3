//! Cosignatures and requests to witnesses: alike in another implementation, refused in any other form, counted once.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use strongroom_job::checkpoint::{Checkpoint, SignedCheckpoint};
use strongroom_job::cosignature::{
    CosignerKey, MAX_WITNESSES, NoQuorumError, Quorum, QuorumError, attach, cosign,
};
use strongroom_job::merkle::{Hash, Node, TreeHead, TreeSize, prove_consistency};
use strongroom_job::note::{KeyName, NoteError, SignedNote, VerifierKey};
use strongroom_job::witness::{
    AddCheckpoint, MAX_PROOF_LINES, MAX_REQUEST_BYTES, WitnessRefusal, never_seen,
};
use strongroom_job::{SecretKey, Timestamp};
use zeroize::Zeroizing;

/// The checkpoint of `golden/audit`, and what the PyPI package aics-tlog 0.2.1 makes of it: keys of the seeds 77 and 78 (hex), at
/// 1679315147 and one second later.
const CHECKPOINT: &str = include_str!("../golden/audit/checkpoint");
const THEIR_KEYS: [&str; 2] = [
    "witness.example/w1+773a6c12+BMhTrQ8M0rYZrqks7sT9VqJNZJnVhM55JX5Fz9gTm2Cn",
    "witness.example/w2+2cf51e8f+BO4x+DyIpxIZpvz5vuDam8ImIFiPWhWmFFVTUE35ZJ5c",
];
const THEIR_LINES: [&str; 2] = [
    "\u{2014} witness.example/w1 dzpsEgAAAABkGFDLlIQg4KW63I4AXVyqnfcTcZyb5xYjNXrZpIXTXZeT51D6IIV6S+eTIfddaN1IA/N2JJlvDk6cQgSBf5ZP8ya0CQ==\n",
    "\u{2014} witness.example/w2 LPUejwAAAABkGFDMBzjgTtMWoqPlk1YyexaakIjD61TaQOXj9qfL6lE83hxK5FXAOMtJ9/zZN5Afqmtx76zvVX4KGl7ZgmBmyw69AQ==\n",
];

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

fn witness(seed: u8) -> CosignerKey {
    CosignerKey::new(name(&format!("witness.example/{seed}")), secret(seed).public())
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000 + 999)
}

fn golden() -> Checkpoint {
    let key: VerifierKey = include_str!("../golden/audit/log.pub").trim_end().parse().unwrap();
    SignedCheckpoint::parse(CHECKPOINT.as_bytes()).unwrap().verify(key.name(), key.key()).unwrap()
}

/// The golden checkpoint with these lines behind it.
fn with(lines: &str) -> Checkpoint {
    let log: VerifierKey = include_str!("../golden/audit/log.pub").trim_end().parse().unwrap();
    golden().signed().with_signatures(lines).unwrap().verify(log.name(), log.key()).unwrap()
}

fn cosigned(seeds: &[u8]) -> Checkpoint {
    let lines: String = seeds
        .iter()
        .map(|seed| cosign(&golden(), witness(*seed).name(), &secret(*seed), at(7)).line().to_owned())
        .collect();
    with(&lines)
}

#[test]
fn another_implementation_makes_the_same_bytes() {
    for (place, seed) in [(0, 0x77), (1, 0x78)] {
        let key: CosignerKey = THEIR_KEYS[place].parse().unwrap();
        assert_eq!(key, CosignerKey::new(key.name().clone(), secret(seed).public()));
        assert_eq!(key.to_string(), THEIR_KEYS[place]);
        let time = at(1_679_315_147 + place as u64);
        let ours = cosign(&golden(), key.name(), &secret(seed), time);
        assert_eq!(ours.line(), THEIR_LINES[place]);
        let found = key.find(&with(&THEIR_LINES.concat())).unwrap();
        assert_eq!(found, ours);
        assert_eq!(found.time().as_millis(), time.as_millis() - 999, "whole seconds");
    }
}

// Red with the log's type 0x01 in place of `COSIGNATURE_V1`: a log's key would then pass for a witness's.
#[test]
fn a_key_of_another_kind_is_no_witnesss() {
    assert!(include_str!("../golden/audit/log.pub").trim_end().parse::<CosignerKey>().is_err());
    assert!(THEIR_KEYS[0].parse::<VerifierKey>().is_err());
    for wrong in ["", "witness", "a+00000000+AA==", &THEIR_KEYS[0].replace("w1", "w2")] {
        assert!(wrong.parse::<CosignerKey>().is_err(), "{wrong}");
    }
}

// Red without the check of the signature, without the time in the message, and without the bounds of the time.
#[test]
fn a_changed_cosignature_is_bad_and_a_missing_one_is_missing() {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = witness(1);
    let good = cosign(&golden(), key.name(), &secret(1), at(7));
    let (head, payload) = good.line().trim_end().rsplit_once(' ').unwrap();
    let payload = base64.decode(payload).unwrap();
    assert_eq!(payload.len(), 4 + 8 + 64);
    for place in 4..payload.len() {
        let mut bad = payload.clone();
        bad[place] ^= 1;
        let checkpoint = with(&format!("{head} {}\n", base64.encode(bad)));
        assert_eq!(
            key.find(&checkpoint),
            Err(NoteError::BadSignature { name: key.name().clone() }),
            "{place}"
        );
    }
    for length in [4 + 8, payload.len() - 1] {
        let checkpoint = with(&format!("{head} {}\n", base64.encode(&payload[..length])));
        assert_eq!(key.find(&checkpoint), Err(NoteError::BadSignature { name: key.name().clone() }));
    }
    // With a good signature over them, too.
    for seconds in [0, 1 << 63] {
        let text = CHECKPOINT.split_once("\n\n").unwrap().0;
        let message = format!("cosignature/v1\ntime {seconds}\n{text}\n");
        let signature = secret(1).sign(message.as_bytes());
        let bytes = [&payload[..4], &u64::to_be_bytes(seconds), signature.as_bytes()].concat();
        let checkpoint = with(&format!("{head} {}\n", base64.encode(bytes)));
        assert!(matches!(key.find(&checkpoint), Err(NoteError::BadSignature { .. })), "{seconds}");
    }
    let missing = Err(NoteError::NotSigned { name: key.name().clone() });
    assert_eq!(key.find(&golden()), missing);
    // The same name with another key, and the same key with another name, are others.
    let line = cosign(&golden(), key.name(), &secret(2), at(7));
    assert_eq!(key.find(&with(line.line())), missing);
    let line = cosign(&golden(), &name("other"), &secret(1), at(7));
    assert_eq!(key.find(&with(line.line())), missing);
    // What a log signs, under a witness's name or not, is no cosignature.
    assert_eq!(key.find(&with(&CHECKPOINT[CHECKPOINT.find('\u{2014}').unwrap()..])), missing);
}

#[test]
fn of_two_cosignatures_the_newest_counts() {
    let key = witness(1);
    let lines = |times: [u64; 2]| -> String {
        times
            .iter()
            .map(|time| cosign(&golden(), key.name(), &secret(1), at(*time)).line().to_owned())
            .collect()
    };
    for times in [[7, 9], [9, 7]] {
        assert_eq!(key.find(&with(&lines(times))).unwrap().time(), Timestamp::from_millis(9000));
    }
}

// Red without the comparison of the text's length in `SignedNote::with_signatures`.
#[test]
fn lines_that_would_change_the_text_are_refused() {
    let line = cosign(&golden(), witness(1).name(), &secret(1), at(7));
    for wrong in ["x\n".to_owned(), format!("\n{}", line.line()), line.line().trim_end().to_owned()] {
        assert!(golden().signed().with_signatures(&wrong).is_err(), "{wrong:?}");
        let note = SignedNote::parse(CHECKPOINT.as_bytes()).unwrap();
        assert!(note.with_signatures(&wrong).is_err(), "{wrong:?}");
    }
    let many = vec![line; MAX_WITNESSES + 1];
    assert!(attach(&golden(), &many[1..]).is_ok());
    assert!(attach(&golden(), &many).is_err());
}

// Red with `found.len() < self.need` turned round, and without the comparison of keys in `Quorum::new`.
#[test]
fn a_quorum_is_so_many_different_witnesses() {
    let quorum = Quorum::new(2, vec![witness(1), witness(2), witness(3)]).unwrap();
    for enough in [&[1, 2][..], &[3, 1], &[1, 2, 3], &[9, 2, 8, 3]] {
        let found = quorum.check(&cosigned(enough)).unwrap();
        assert_eq!(found.len(), enough.iter().filter(|seed| **seed <= 3).count(), "{enough:?}");
    }
    for few in [&[][..], &[1], &[1, 1], &[1, 8, 9]] {
        let error = quorum.check(&cosigned(few)).unwrap_err();
        assert!(matches!(error, QuorumError::TooFew { need: 2, .. }), "{few:?}: {error}");
    }
    let said = quorum.check(&cosigned(&[2])).unwrap_err().to_string();
    assert_eq!(
        said,
        "cosigned by 1 of the 2 witnesses that are required; missing: witness.example/1, witness.example/3"
    );
    // One bad line under a known name: somebody forged it, however many others are good.
    let forged = cosign(&with_other_root(), witness(3).name(), &secret(3), at(7));
    let lines =
        [1, 2].map(|seed| cosign(&golden(), witness(seed).name(), &secret(seed), at(7)).line().to_owned());
    let error = quorum.check(&with(&format!("{}{}", lines.concat(), forged.line()))).unwrap_err();
    assert_eq!(error, QuorumError::Bad(NoteError::BadSignature { name: witness(3).name().clone() }));

    assert_eq!(Quorum::new(0, vec![witness(1)]), Err(NoQuorumError::Need { need: 0, of: 1 }));
    assert_eq!(Quorum::new(2, vec![witness(1)]), Err(NoQuorumError::Need { need: 2, of: 1 }));
    assert_eq!(Quorum::new(0, Vec::new()), Err(NoQuorumError::Need { need: 0, of: 0 }));
    let many = (0..=u8::try_from(MAX_WITNESSES).unwrap()).map(witness).collect();
    assert_eq!(Quorum::new(1, many), Err(NoQuorumError::TooMany { found: MAX_WITNESSES + 1 }));
    let second = CosignerKey::new(name("another"), secret(1).public());
    assert!(matches!(Quorum::new(2, vec![witness(1), second]), Err(NoQuorumError::Twice { .. })));
}

fn with_other_root() -> Checkpoint {
    let (size, root) = (golden().size(), Hash::of_leaf(b"another history"));
    checkpoint(&TreeHead { size, root }, 0x5a)
}

fn checkpoint(head: &TreeHead, seed: u8) -> Checkpoint {
    let (log, key) = (golden().origin().clone(), secret(seed));
    SignedCheckpoint::sign(head, &log, &key).unwrap().verify(&log, &key.public()).unwrap()
}

/// The tree whose leaves are the numbers up to `size`, in the story `story` from `fork` on.
fn hash(node: Node, story: u8, fork: u64) -> Hash {
    if node.level == 0 {
        let story = if node.index < fork { 0 } else { story };
        return Hash::of_leaf(&[&node.index.to_be_bytes()[..], &[story]].concat());
    }
    let child = |side| hash(Node { level: node.level - 1, index: 2 * node.index + side }, story, fork);
    Hash::of_node(&child(0), &child(1))
}

fn head(size: u64, story: u8, fork: u64) -> TreeHead {
    let size = TreeSize::new(size).unwrap();
    let edge = strongroom_job::merkle::RightEdge::restore(size, |node| Ok::<_, ()>(hash(node, story, fork)));
    edge.unwrap().head()
}

/// A request of the golden log's key from `old` to `new` entries of one story.
fn request(old: u64, new: u64, story: u8, fork: u64) -> AddCheckpoint {
    let (old, size) = (TreeSize::new(old).unwrap(), TreeSize::new(new).unwrap());
    let proof = prove_consistency(old, size, |node| Ok::<_, ()>(hash(node, story, fork))).unwrap();
    AddCheckpoint::new(old, proof, checkpoint(&head(new, story, fork), 0x5a).signed().clone())
}

fn log() -> VerifierKey {
    include_str!("../golden/audit/log.pub").trim_end().parse().unwrap()
}

#[test]
fn a_request_reads_as_it_was_written_and_in_no_other_form() {
    let good = request(5, 9, 0, 0);
    let text = good.to_string();
    assert_eq!(AddCheckpoint::parse(text.as_bytes()), Ok(good));
    let proof = text.lines().nth(1).unwrap();
    let wrong = [
        String::new(),
        text.replacen("old 5", "old 05", 1),
        text.replacen("old 5", "old  5", 1),
        text.replacen("old 5", "old -5", 1),
        text.replacen("old 5", "old 9223372036854775808", 1),
        text.replacen("old", "Old", 1),
        text.replacen("old 5\n", "", 1),
        text.replacen("\n\n", "\n", 1),
        text.replacen(proof, &proof[1..], 1),
        text.replacen(proof, &format!("{proof} "), 1),
        text.replace('\n', "\r\n"),
        text.trim_end().to_owned(),
        text.replacen(proof, &vec![proof; MAX_PROOF_LINES].join("\n"), 1),
        format!("{text}{}", " ".repeat(MAX_REQUEST_BYTES)),
    ];
    for wrong in wrong {
        assert!(AddCheckpoint::parse(wrong.as_bytes()).is_err(), "{wrong:.200}");
    }
    // The example of the specification has this form.
    let example = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    assert_eq!(AddCheckpoint::parse(example.as_bytes()).unwrap().to_string(), example);
}

// Red without `verify_consistency`, without the comparison of sizes, and without the check of the log's signature in `judge`.
#[test]
fn a_witness_signs_one_history_only() {
    let (seen, never) = (head(5, 0, 0), never_seen());
    for (old, new, latest) in [(0, 5, never), (5, 9, seen), (5, 5, seen), (0, 0, never), (5, 1000, seen)] {
        let judged = request(old, new, 0, 0).judge(&log(), &latest).unwrap();
        assert_eq!(*judged.head(), head(new, 0, 0));
    }
    let status = |request: AddCheckpoint, latest: &TreeHead| {
        request.judge(&log(), latest).map(|_| 200).unwrap_or_else(|refused| refused.status())
    };
    // Another story from before the size that was seen: a longer, an equal and a shorter one.
    assert_eq!(status(request(5, 9, 1, 3), &seen), 422);
    assert_eq!(request(5, 5, 1, 3).judge(&log(), &seen), Err(WitnessRefusal::OtherRoot));
    assert_eq!(status(request(5, 5, 1, 3), &seen), 422);
    assert_eq!(status(request(4, 4, 1, 3), &seen), 409);
    // It may fork where nobody has looked yet; then that is the one history.
    assert_eq!(status(request(5, 9, 1, 5), &seen), 200);
    // From another size than the last one.
    assert_eq!(request(0, 9, 0, 0).judge(&log(), &seen), Err(WitnessRefusal::OtherSize(seen.size)));
    assert_eq!(status(request(5, 9, 0, 0), &never), 409);
    // A proof where none belongs, none where one does, and one of a wrong length.
    let parts = |old: u64, proof: Vec<Hash>, new: u64| {
        AddCheckpoint::new(
            TreeSize::new(old).unwrap(),
            proof,
            checkpoint(&head(new, 0, 0), 0x5a).signed().clone(),
        )
    };
    assert_eq!(status(parts(0, vec![Hash::empty_root()], 5), &never), 422);
    assert_eq!(status(parts(5, vec![Hash::empty_root()], 5), &seen), 422);
    assert_eq!(status(parts(5, Vec::new(), 9), &seen), 422);
    // Backwards.
    assert_eq!(status(parts(9, Vec::new(), 5), &head(9, 0, 0)), 400);
    // Not the log's.
    let foreign = AddCheckpoint::new(seen.size, Vec::new(), checkpoint(&seen, 0x5b).signed().clone());
    assert_eq!(status(foreign, &seen), 403);
}

#[test]
fn an_empty_log_has_one_root() {
    let text = format!("{}\n0\n{}\n", log().name(), Hash::of_leaf(b"not nothing"));
    let note = SignedNote::sign(&text, log().name(), &secret(0x5a)).unwrap();
    let request = format!("old 0\n\n{note}");
    let refused = AddCheckpoint::parse(request.as_bytes()).unwrap().judge(&log(), &never_seen()).unwrap_err();
    assert_eq!(refused.status(), 422, "{refused}");
}
