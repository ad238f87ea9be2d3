//! Names, ids and digests: one value has one text, and no text of a peer gets further than its rule.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use strongroom_job::{Digest, JobId, MAX_NAME_BYTES, Name, PublicKey};

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|char| matches!(char, 'a'..='z' | '0'..='9'));
    first && chars.all(|char| matches!(char, 'a'..='z' | '0'..='9' | '-' | '_' | '.')) && text.len() <= 64
}

proptest! {
    #[test]
    fn names_are_exactly_what_the_rule_says(text in "\\PC{0,70}|[a-z0-9._-]{0,70}|[a-zA-Z0-9./ ]{1,6}") {
        prop_assert_eq!(text.parse::<Name>().is_ok(), is_name(&text));
        prop_assert_eq!(serde_json::from_value::<Name>(text.clone().into()).is_ok(), is_name(&text));
        if let Ok(name) = text.parse::<Name>() {
            prop_assert_eq!(name.as_str(), text);
        }
    }

    #[test]
    fn a_refused_name_is_quoted_briefly_and_safely(text in "\\PC{0,300}|[\u{0}-\u{a0}]{0,300}|[A-Z]{0,3000}") {
        if let Err(error) = text.parse::<Name>() {
            let error = error.to_string();
            prop_assert!(!error.contains(char::is_control), "{error:?}");
            prop_assert!(error.len() < 1000, "{error:?}");
        }
    }

    #[test]
    fn ids_and_digests_are_read_back(id: [u8; 16], digest: [u8; 32]) {
        let (id, digest) = (JobId::from_bytes(id), Digest::from_bytes(digest));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        prop_assert_eq!(serde_json::to_value(id).unwrap(), id.to_string());
        prop_assert_eq!(serde_json::to_value(digest).unwrap(), format!("sha256:{}", digest.to_hex()));
    }

    #[test]
    fn a_text_that_is_taken_is_the_one_that_is_printed(text in "(ed25519:|sha256:)?[0-9a-fA-F]{30,66}") {
        if let Ok(id) = text.parse::<JobId>() {
            prop_assert_eq!(id.to_string(), &*text);
        }
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert_eq!(digest.to_string(), &*text);
        }
        if let Ok(key) = text.parse::<PublicKey>() {
            prop_assert_eq!(key.to_string(), &*text);
        }
    }

    #[test]
    fn any_key_that_is_taken_is_read_back(bytes: [u8; 32]) {
        if let Ok(key) = PublicKey::from_bytes(&bytes) {
            prop_assert_eq!(key.as_bytes(), &bytes);
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}

#[test]
fn the_longest_name_is_a_name() {
    assert!("a".repeat(MAX_NAME_BYTES).parse::<Name>().is_ok());
    assert!("a".repeat(MAX_NAME_BYTES + 1).parse::<Name>().is_err());
}
