//! Strict JSON: one text has one meaning, whoever reads it.
//!
//! Two parsers that disagree about a duplicate key or a float disagree about what was signed. So both are refused, as are
//! unknown fields (by the types), trailing bytes, deep nesting, arrays in place of objects and texts over the caller's bound.
//!
//! *Spec:* RFC 8259, narrowed to I-JSON (RFC 7493) without fractions and exponents; `docs/formats/README.md`.

mod narrow;

use serde::de::DeserializeOwned;

use self::narrow::Narrow;
use crate::text::shown;

/// Longest sentence about a malformed text, in bytes: it quotes what the peer wrote.
const MAX_PROBLEM_BYTES: usize = 300;

/// Why a text is not taken as the JSON that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    /// Longer than the format's bound; nothing of it was parsed.
    #[error("{length} bytes where at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not the expected JSON; the text says what and where, without control characters and in at most some 350 bytes.
    #[error("{0}")]
    Malformed(String),
}

/// Parses `text`, an object of at most `max` bytes, as a `T`.
///
/// # Errors
/// When it is too long, not a JSON object, holds a duplicate key, a fraction or an exponent, nests deeper than 16, has an object
/// of more than 2,048 fields, writes a struct as an array or a word as an object, goes on after the value, or does not have
/// the shape of `T`.
pub fn parse<T: DeserializeOwned>(text: &[u8], max: usize) -> Result<T, StrictError> {
    if text.len() > max {
        return Err(StrictError::TooLong { length: text.len(), max });
    }
    // An enum with an inner tag would take an array, too.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(StrictError::Malformed("not a JSON object".into()));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(Narrow::new(&mut reader)).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(value)
}

/// The parser's sentence quotes field names and values as they came: they are escaped and cut, the place is kept.
#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
fn malformed(error: serde_json::Error) -> StrictError {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let sentence = error.to_string();
    let (problem, place) = match sentence.strip_suffix(&place) {
        Some(problem) => (problem, place.as_str()),
        None => (sentence.as_str(), ""),
    };
    StrictError::Malformed(shown(problem, MAX_PROBLEM_BYTES) + place)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt;

    use serde::Deserialize;

    use super::*;

    fn map(text: &str) -> Result<BTreeMap<String, u64>, StrictError> {
        parse(text.as_bytes(), 100)
    }

    fn says<T: fmt::Debug>(result: Result<T, StrictError>, words: &str) {
        let error = result.expect_err("must be refused").to_string();
        assert!(error.contains(words), "{error:?} should say {words:?}");
    }

    #[test]
    fn good_json_is_taken() {
        assert_eq!(map(r#" {"a": 1, "b": 18446744073709551615} "#).map(|m| m.len()), Ok(2));
    }

    // Each line was seen accepted with its guard removed, here or in `narrow`.
    #[test]
    fn ambiguous_json_is_refused() {
        says(map(r#"{"a":1,"a":1}"#), "duplicate key \"a\"");
        says(map(r#"{"a":1,"\u0061":1}"#), "duplicate key \"a\"");
        says(map(r#"{"a":1.0}"#), "only integers");
        says(map(r#"{"a":1e2}"#), "only integers");
        says(map(r#"{"a":-0}"#), "only integers");
        says(map(r#"{"a":18446744073709551616}"#), "only integers");
        says(map(r#"{"a":1}x"#), "trailing characters");
        says(map(&format!("{:101}", "{}")), "at most 100");
        says(map("{\"a\":\u{0}1}"), "expected value");
        says(map("\u{feff}{}"), "not a JSON object");
        says(map("[]"), "not a JSON object");
        says(map(""), "not a JSON object");
        says(map(r#"{"\ud800":1}"#), "hex escape");
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        inner: Option<Inner>,
        word: Word,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Inner {
        number: i8,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Word {
        Plain,
        Number(u8),
        Inner { number: i8 },
    }

    fn outer(inner: &str, word: &str) -> Result<Outer, StrictError> {
        parse(format!(r#"{{"inner":{inner},"word":{word}}}"#).as_bytes(), 1000)
    }

    #[test]
    fn every_shape_of_ours_is_read() {
        let none = |word| Ok(Outer { inner: None, word });
        assert_eq!(outer("null", r#""plain""#), none(Word::Plain));
        assert_eq!(outer("null", r#"{"number":7}"#), none(Word::Number(7)));
        assert_eq!(outer("null", r#"{"inner":{"number":-7}}"#), none(Word::Inner { number: -7 }));
        let inner = Some(Inner { number: -1 });
        assert_eq!(outer(r#"{"number":-1}"#, r#""plain""#), Ok(Outer { inner, word: Word::Plain }));
    }

    // Red without `deserialize_struct`, `deserialize_enum` and the test for an object: serde itself takes all of these.
    #[test]
    fn another_spelling_of_the_same_shape_is_refused() {
        says(outer("[-1]", r#""plain""#), "invalid type: sequence");
        says(outer("null", r#"{"plain":null}"#), "a word is expected");
        says(outer("null", r#"{"inner":[-7]}"#), "invalid type: sequence");
        says(parse::<Outer>(br#"[null,"plain"]"#, 100), "not a JSON object");
        says(parse::<crate::Request>(br#"["submit",5]"#, 100), "not a JSON object");
        for word in
            ["{}", "[]", "null", "7", r#""number""#, r#"{"number":7,"plain":null}"#, r#"{"number":7,"x":1}"#]
        {
            assert!(outer("null", word).is_err(), "{word}");
        }
    }

    // Red without `deeper`: the parser's own bound is 128.
    #[test]
    fn deep_nesting_is_refused() {
        let nested = |depth: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let read = |text: &str| parse::<Inner>(text.replace("\"x\"", "\"number\":1,\"x\"").as_bytes(), 1000);
        assert_eq!(read(&nested(15)), Ok(Inner { number: 1 }));
        says(read(&nested(16)), "nested deeper than 16");
        says(read(&nested(100)), "nested deeper than 16");
        says(read(&r#"{"x":"#.repeat(20)), "nested deeper than 16");
    }

    // Red without the count in `next_key_seed`.
    #[test]
    fn an_object_of_too_many_fields_is_refused() {
        let object = |fields: usize| {
            let fields: Vec<String> = (0..fields).map(|field| format!("\"{field}\":0")).collect();
            format!("{{{}}}", fields.join(","))
        };
        let read = |text: &str| parse::<BTreeMap<String, u64>>(text.as_bytes(), usize::MAX);
        assert_eq!(read(&object(narrow::MAX_FIELDS)).map(|map| map.len()), Ok(narrow::MAX_FIELDS));
        says(read(&object(narrow::MAX_FIELDS + 1)), "more than 2048 fields");
    }

    // Red with the parser's own sentence in place of `malformed`.
    #[test]
    fn errors_quote_a_peer_briefly_and_without_control_characters() {
        let field = format!(r#"{{"\u001b[2J\r\n\u202e{}":0}}"#, "x".repeat(10_000));
        let error = parse::<Outer>(field.as_bytes(), usize::MAX).expect_err("an unknown field").to_string();
        assert!(error.starts_with("unknown field `\\u{1b}[2J\\r\\n\\u{202e}xxx"), "{error}");
        assert!(error.contains("… at line 1 column 1"), "{error}");
        assert!(error.len() < MAX_PROBLEM_BYTES + 50, "{error}");
        let twice = format!(r#"{{"\u001b{0}":1,"\u001b{0}":1}}"#, "x".repeat(10_000));
        says(parse::<BTreeMap<String, u64>>(twice.as_bytes(), usize::MAX), "duplicate key \"\\u{1b}xxx");
    }
}
