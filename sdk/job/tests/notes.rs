//! Notes, checkpoints and proof files: read and signed alike by another implementation, refused in any other form.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use signed_note::{Note, Signer as _, StandardSigner, StandardVerifier, Verifier as _, VerifierList};
use strongroom_job::SecretKey;
use strongroom_job::checkpoint::{CheckpointError, SignedCheckpoint};
use strongroom_job::merkle::{Hash, LeafIndex, ProofError, TreeHead, TreeSize};
use strongroom_job::note::{KeyName, MAX_NOTE_BYTES, MAX_SIGNATURES, NoteError, SignedNote, VerifierKey};
use strongroom_job::tlog_proof::{MAX_EXTRA_BYTES, MAX_PROOF_BYTES, TlogProof, TlogProofError};
use zeroize::Zeroizing;

const EXAMPLE_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const EXAMPLE_NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo \
    Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn name() -> KeyName {
    "strongroom.example/log".parse().unwrap()
}

fn verifier(seed: u8) -> VerifierKey {
    VerifierKey::new(name(), secret(seed).public())
}

fn known(key: &VerifierKey) -> VerifierList {
    VerifierList::new(vec![Box::new(StandardVerifier::new(&key.to_string()).unwrap())])
}

/// The other implementation's signer for the same seed and name.
fn their_signer(seed: u8) -> StandardSigner {
    use base64::Engine as _;
    let public = [&[1][..], secret(seed).public().as_bytes()].concat();
    let id = signed_note::key_id(name().as_str(), &public);
    let private = base64::engine::general_purpose::STANDARD.encode([&[1][..], &[seed; 32]].concat());
    StandardSigner::new(&format!("PRIVATE+KEY+{}+{id:08x}+{private}", name())).unwrap()
}

#[test]
fn the_example_of_the_specification_verifies() {
    let key: VerifierKey = EXAMPLE_KEY.parse().unwrap();
    assert_eq!(key.to_string(), EXAMPLE_KEY);
    let note = SignedNote::parse(EXAMPLE_NOTE.as_bytes()).unwrap();
    assert_eq!(note.verify(&key), Ok("This is an example message.\n"));
    assert_eq!(note.to_string(), EXAMPLE_NOTE);
}

#[test]
fn notes_pass_between_the_implementations_in_both_directions() {
    for text in ["one line\n", "two\nlines\n", "with\n\nan empty line\n", "\n", "ed è subito sera.\n"] {
        let ours = SignedNote::sign(text, &name(), &secret(1)).unwrap();
        let theirs = Note::from_bytes(ours.as_str().as_bytes()).unwrap();
        assert_eq!(theirs.text(), text.as_bytes());
        let (verified, _) = theirs.verify(&known(&verifier(1))).unwrap();
        assert_eq!(verified.len(), 1);
        assert!(theirs.verify(&known(&verifier(2))).is_err());

        let mut theirs = Note::new(text.as_bytes(), &[]).unwrap();
        theirs.add_sigs(&[&their_signer(1)]).unwrap();
        assert_eq!(theirs.to_bytes(), ours.as_str().as_bytes(), "ed25519 is deterministic");
        let ours = SignedNote::parse(&theirs.to_bytes()).unwrap();
        assert_eq!(ours.verify(&verifier(1)), Ok(text));
    }
}

// Red without the comparison of the id in `parse_verifier_key`.
#[test]
fn a_verifier_key_has_one_text() {
    let key = verifier(1);
    let text = key.to_string();
    assert_eq!(text.parse(), Ok(key));
    let theirs = StandardVerifier::new(&text).unwrap();
    assert_eq!((theirs.name(), theirs.key_id()), (name().as_str(), their_signer(1).key_id()));
    let (head, last) = text.split_at(text.len() - 1);
    let wrong = [
        String::new(),
        text.to_uppercase(),
        text.replacen("strongroom", "strongrooM", 1),
        text.replacen('+', " ", 1),
        format!("{text}="),
        format!("{text}\n"),
        head.to_owned(),
        // The last character of 44 carries two stray bits.
        format!("{head}{}", char::from(last.as_bytes()[0] + 1)),
    ];
    for wrong in wrong {
        assert!(wrong.parse::<VerifierKey>().is_err(), "{wrong}");
    }
    // A small-order point with the right id: anybody could sign for it.
    let weak = {
        let mut point = [0; 33];
        point[0] = 1;
        point[1] = 1;
        point
    };
    use base64::Engine as _;
    let id = signed_note::key_id("weak", &weak);
    let weak = format!("weak+{id:08x}+{}", base64::engine::general_purpose::STANDARD.encode(weak));
    assert!(StandardVerifier::new(&weak).is_ok(), "the other implementation takes it, so the guard is ours");
    assert!(weak.parse::<VerifierKey>().is_err());
}

#[test]
fn names_without_a_place_in_a_note_are_refused() {
    for wrong in ["", "a b", "a+b", "a\u{a0}b", "a\u{2003}b", "a\nb", "a\tb", "a\u{1}b", &"a".repeat(256)] {
        assert!(wrong.parse::<KeyName>().is_err(), "{wrong:?}");
    }
    assert!("a".repeat(255).parse::<KeyName>().is_ok());
}

// Red without the bounds on bytes and signatures, and without the test for control characters, in `SignedNote::parse`.
#[test]
fn notes_in_any_other_form_are_refused() {
    let good = SignedNote::sign("text\n", &name(), &secret(1)).unwrap().to_string();
    let line = good.split_once("\n\n").unwrap().1;
    let refused = [
        (String::new(), NoteError::NoSignatures),
        ("text\n".to_owned(), NoteError::NoSignatures),
        ("text\n\n".to_owned(), NoteError::NoSignatures),
        (good.trim_end().to_owned(), NoteError::NoSignatures),
        (good.replacen("\n\n", "\n", 1), NoteError::NoSignatures),
        (format!("{good}\n"), NoteError::NoSignatures),
        (format!("{good}x\n"), NoteError::Malformed { line: 2 }),
        (good.replacen('\u{2014}', "-", 1), NoteError::Malformed { line: 1 }),
        (good.replacen("log ", "log  ", 1), NoteError::Malformed { line: 1 }),
        (good.replacen("example/", "example/ ", 1), NoteError::Malformed { line: 1 }),
        (good.replacen("=\n", "\n", 1), NoteError::Malformed { line: 1 }),
        ("text\n\n\u{2014} name AAAAAA==\n".to_owned(), NoteError::Malformed { line: 1 }),
        (good.replacen("text", "te\tt", 1), NoteError::NotText),
        (good.replacen("text\n", "text\r\n", 1), NoteError::NotText),
        (format!("text\n\n{}", line.repeat(MAX_SIGNATURES + 1)), NoteError::TooManySignatures),
    ];
    for (note, error) in refused {
        assert_eq!(SignedNote::parse(note.as_bytes()), Err(error), "{note:?}");
    }
    assert_eq!(SignedNote::parse(b"\xff\n\n"), Err(NoteError::NotText));
    let long = vec![b'a'; MAX_NOTE_BYTES + 1];
    assert_eq!(SignedNote::parse(&long), Err(NoteError::TooLong { found: MAX_NOTE_BYTES + 1 }));
    for text in ["", "no newline", "a\tb\n", "a\r\n"] {
        assert!(SignedNote::sign(text, &name(), &secret(1)).is_err(), "{text:?}");
    }
}

// Red with `any` in place of `all` in `SignedNote::verify` (a bad line beside a good one passes), and without its
// comparison of the id.
#[test]
fn only_a_known_name_and_key_count() {
    let good = SignedNote::sign("text\n", &name(), &secret(1)).unwrap().to_string();
    let other = SignedNote::sign("text\n", &name(), &secret(2)).unwrap().to_string();
    let strange = SignedNote::sign("text\n", &"other".parse().unwrap(), &secret(1)).unwrap();
    let bad = SignedNote::sign("texT\n", &name(), &secret(1)).unwrap().to_string();
    let line = |note: &str| note.split_once("\n\n").unwrap().1.to_owned();
    let verify =
        |note: String| SignedNote::parse(note.as_bytes()).unwrap().verify(&verifier(1)).map(str::to_owned);

    assert_eq!(verify(good.clone()), Ok("text\n".to_owned()));
    assert_eq!(verify(format!("{good}{}", line(&other))), Ok("text\n".to_owned()), "others are ignored");
    let not_signed = Err(NoteError::NotSigned { name: name() });
    assert_eq!(verify(other), not_signed);
    assert_eq!(verify(strange.to_string()), not_signed);
    let bad_signature = Err(NoteError::BadSignature { name: name() });
    assert_eq!(verify(format!("text\n\n{}", line(&bad))), bad_signature);
    assert_eq!(verify(format!("{good}{}", line(&bad))), bad_signature);
    assert_eq!(verify(format!("text\n\n{}{}", line(&bad), line(&good))), bad_signature);
}

fn head(size: u64) -> TreeHead {
    let root = if size == 0 { Hash::empty_root() } else { Hash::of_leaf(b"only the form counts here") };
    TreeHead { size: TreeSize::new(size).unwrap(), root }
}

#[test]
fn checkpoints_are_those_of_the_other_implementation() {
    for size in [0, 1, 256, 20_852_163, TreeSize::MAX.get()] {
        let signed = SignedCheckpoint::sign(&head(size), &name(), &secret(1)).unwrap();
        let note = Note::from_bytes(signed.as_str().as_bytes()).unwrap();
        note.verify(&known(&verifier(1))).unwrap();
        let theirs = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!((theirs.origin(), theirs.size()), (name().as_str(), size));
        assert_eq!(theirs.hash().0, *head(size).root.as_bytes());

        let theirs = tlog_tiles::Checkpoint::new(
            name().as_str(),
            size,
            tlog_tiles::Hash(*head(size).root.as_bytes()),
            "",
        );
        let mut note = Note::new(&theirs.unwrap().to_bytes(), &[]).unwrap();
        note.add_sigs(&[&their_signer(1)]).unwrap();
        let ours = SignedCheckpoint::parse(&note.to_bytes()).unwrap();
        let checkpoint = ours.verify(&name(), &secret(1).public()).unwrap();
        assert_eq!((*checkpoint.head(), checkpoint.origin()), (head(size), &name()));
        assert_eq!(checkpoint.signed(), &signed);
    }
}

// Red without the comparison with the printed number in `decimal`, the count of lines in `parse_text`, and the
// test for the empty root.
#[test]
fn checkpoints_in_any_other_form_are_refused() {
    let root = head(1).root;
    let (wrong_length, stray_bits) = ("AAAA".repeat(10), format!("{}B=", "A".repeat(42)));
    let texts = [
        format!("{}\n1\n", name()),
        format!("{}\n01\n{root}\n", name()),
        format!("{}\n+1\n{root}\n", name()),
        format!("{}\n 1\n{root}\n", name()),
        format!("{}\n-1\n{root}\n", name()),
        format!("{}\n9223372036854775808\n{root}\n", name()),
        format!("{}\n18446744073709551616\n{root}\n", name()),
        format!("{}\n1\n{root}=\n", name()),
        format!("{}\n1\n{wrong_length}\n", name()),
        format!("{}\n1\n{stray_bits}\n", name()),
        format!("{}\n1\n{root}\nextension\n", name()),
        format!("{}\n1\n{root}\n\n", name()),
        format!("\n1\n{root}\n"),
        format!("with space\n1\n{root}\n"),
    ];
    for text in texts {
        let note = SignedNote::sign(&text, &name(), &secret(1)).unwrap();
        assert_eq!(SignedCheckpoint::parse(note.as_str().as_bytes()), Err(CheckpointError::Form), "{text:?}");
    }
    let note = SignedNote::sign(&format!("{}\n0\n{root}\n", name()), &name(), &secret(1)).unwrap();
    let parsed = SignedCheckpoint::parse(note.as_str().as_bytes()).unwrap();
    assert_eq!(parsed.verify(&name(), &secret(1).public()), Err(CheckpointError::EmptyRoot));
}

// Red without the comparison of the origin in `SignedCheckpoint::verify`.
#[test]
fn a_checkpoint_counts_for_its_own_log_only() {
    let signed = SignedCheckpoint::sign(&head(7), &name(), &secret(1)).unwrap();
    let other: KeyName = "other.example/log".parse().unwrap();
    assert_eq!(
        signed.clone().verify(&other, &secret(1).public()),
        Err(CheckpointError::Origin { expected: other.clone(), found: name() })
    );
    assert_eq!(
        signed.verify(&name(), &secret(2).public()),
        Err(CheckpointError::Note(NoteError::NotSigned { name: name() }))
    );
    // The right key's signature under another log's text.
    let text = format!("{other}\n7\n{}\n", head(7).root);
    let note = SignedNote::sign(&text, &name(), &secret(1)).unwrap();
    let signed = SignedCheckpoint::parse(note.as_str().as_bytes()).unwrap();
    assert!(matches!(signed.verify(&name(), &secret(1).public()), Err(CheckpointError::Origin { .. })));
}

#[test]
fn no_altered_byte_of_a_checkpoint_passes() {
    let signed = SignedCheckpoint::sign(&head(7), &name(), &secret(1)).unwrap();
    for_each_altered_byte(signed.as_str(), |altered| {
        let verified =
            SignedCheckpoint::parse(altered).and_then(|it| it.verify(&name(), &secret(1).public()));
        assert!(verified.is_err(), "{:?}", String::from_utf8_lossy(altered));
    });
}

fn for_each_altered_byte(text: &str, mut check: impl FnMut(&[u8])) {
    for place in 0..text.len() {
        for flip in [1, 4, 0x20, 0x80] {
            let mut altered = text.as_bytes().to_vec();
            altered[place] ^= flip;
            check(&altered);
        }
        let mut shorter = text.as_bytes().to_vec();
        shorter.remove(place);
        check(&shorter);
    }
}

fn two_entries() -> (TlogProof, SignedCheckpoint) {
    let (one, two) = (Hash::of_leaf(b"one"), Hash::of_leaf(b"two"));
    let head = TreeHead { size: TreeSize::new(2).unwrap(), root: Hash::of_node(&one, &two) };
    let checkpoint = SignedCheckpoint::sign(&head, &name(), &secret(1)).unwrap();
    (TlogProof::new(LeafIndex::new(1), vec![one], checkpoint.clone()).unwrap(), checkpoint)
}

#[test]
fn a_proof_file_proves_its_entry_offline() {
    let (proof, checkpoint) = two_entries();
    let text = proof.to_string();
    let expected = format!("c2sp.org/tlog-proof@v1\nindex 1\n{}\n\n{checkpoint}", Hash::of_leaf(b"one"));
    assert_eq!(text, expected);
    let read = TlogProof::parse(text.as_bytes()).unwrap();
    assert_eq!(read, proof);
    let verified = read.verify(b"two", &name(), &secret(1).public()).unwrap();
    assert_eq!(verified.signed(), &checkpoint);
    assert_eq!(
        proof.clone().verify(b"one", &name(), &secret(1).public()),
        Err(TlogProofError::Inclusion(ProofError::Root))
    );
    assert!(matches!(
        proof.verify(b"two", &name(), &secret(2).public()),
        Err(TlogProofError::Checkpoint(CheckpointError::Note(NoteError::NotSigned { .. })))
    ));
}

#[test]
fn no_altered_byte_of_a_proof_passes() {
    let (proof, _) = two_entries();
    for_each_altered_byte(&proof.to_string(), |altered| {
        let verified =
            TlogProof::parse(altered).and_then(|it| it.verify(b"two", &name(), &secret(1).public()));
        assert!(verified.is_err(), "{:?}", String::from_utf8_lossy(altered));
    });
}

// Red without `check_extra`.
#[test]
fn extra_data_is_carried_and_bounded() {
    let (proof, checkpoint) = two_entries();
    let with = proof.clone().with_extra(b"context".to_vec()).unwrap();
    let text = with.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra Y29udGV4dA==\nindex 1\n"));
    let read = TlogProof::parse(text.as_bytes()).unwrap();
    assert_eq!((read.extra(), &read), (Some(&b"context"[..]), &with));
    let long = MAX_EXTRA_BYTES + 1;
    assert_eq!(proof.clone().with_extra(vec![]), Err(TlogProofError::Extra { found: 0 }));
    assert_eq!(proof.clone().with_extra(vec![0; long]), Err(TlogProofError::Extra { found: long }));
    let largest = proof.with_extra(vec![0; MAX_EXTRA_BYTES]).unwrap();
    assert_eq!(TlogProof::parse(largest.to_string().as_bytes()), Ok(largest));
    assert!(TlogProof::new(LeafIndex::FIRST, vec![Hash::empty_root(); 65], checkpoint).is_err());
}

// Red without the bounds on bytes and hashes in `TlogProof::parse`.
#[test]
fn proofs_in_any_other_form_are_refused_with_the_line() {
    let (proof, _) = two_entries();
    let text = proof.to_string();
    let line = |line, expected| TlogProofError::Line { line, expected };
    let number = "`index` and a number without leading zeros";
    let hash = Hash::of_leaf(b"one").to_string();
    let refused = [
        (String::new(), TlogProofError::Header),
        (text.replacen("@v1", "@v2", 1), TlogProofError::Header),
        (format!("\n{text}"), TlogProofError::Header),
        ("c2sp.org/tlog-proof@v1\n".to_owned(), line(2, "`extra` or `index`")),
        (text.replacen("index 1", "index 01", 1), line(2, number)),
        (text.replacen("index 1", "index  1", 1), line(2, number)),
        (text.replacen("index 1", "Index 1", 1), line(2, number)),
        (text.replacen("index 1", "extra !\nindex 1", 1), line(2, "base64 of the extra data")),
        (text.replacen("index 1", "extra \nindex 1", 1), TlogProofError::Extra { found: 0 }),
        (text.replacen("index 1", "extra AA==", 1), line(3, number)),
        (text.replacen(&hash, &hash[..43], 1), line(3, "base64 of a hash")),
        (text.replacen(&hash, &format!("{hash} "), 1), line(3, "base64 of a hash")),
        (
            text.replacen(&hash, &[hash.as_str(); 65].join("\n"), 1),
            line(67, "an empty line, as no proof has more hashes"),
        ),
    ];
    for (text, error) in refused {
        assert_eq!(TlogProof::parse(text.as_bytes()), Err(error), "{text}");
    }
    assert_eq!(
        TlogProof::parse(&vec![b'a'; MAX_PROOF_BYTES + 1]),
        Err(TlogProofError::TooLong { found: MAX_PROOF_BYTES + 1 })
    );
}
