//! Texts that somebody else wrote, made safe to show: bounded, and without characters that move a cursor.
//!
//! A peer's string ends up on a terminal, in a log line or in an audit record. Escape sequences, line breaks and
//! bidirectional overrides would let it forge what stands around it.

use serde::{Deserialize, Deserializer, Serializer};

const CUT: char = '…';

/// `text` in at most `max` bytes: what does not print is written as an escape, what is too long ends in `…`.
///
/// Applied to its own result it changes nothing.
pub(crate) fn shown(text: &str, max: usize) -> String {
    let mut out = String::new();
    for char in text.chars() {
        // `escape_debug` would also escape these three, which are harmless; then nothing could be shown twice.
        if matches!(char, '"' | '\'' | '\\') {
            out.push(char);
        } else {
            out.extend(char.escape_debug());
        }
        if out.len() > max {
            let room = max.saturating_sub(CUT.len_utf8());
            let end = (0..=room).rev().find(|&end| out.is_char_boundary(end)).unwrap_or(0);
            out.truncate(end);
            out.push(CUT);
            break;
        }
    }
    out
}

/// Serde: writes a text as [`shown`] in at most `MAX` bytes, so that no caller can make a message longer.
pub(crate) fn write<const MAX: usize, S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(text, MAX))
}

/// Serde: reads a text as [`shown`] in at most `MAX` bytes, so that no peer can make it longer.
pub(crate) fn read<'de, const MAX: usize, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(shown(&<std::borrow::Cow<'de, str>>::deserialize(deserializer)?, MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red without the escape, and without the cut.
    #[test]
    fn what_is_shown_neither_moves_the_cursor_nor_runs_on() {
        assert_eq!(shown("it's \"plain\" \\ ü", 100), "it's \"plain\" \\ ü");
        assert_eq!(shown("a\u{1b}[2J\r\nb\u{7f}\u{9b}", 100), "a\\u{1b}[2J\\r\\nb\\u{7f}\\u{9b}");
        assert_eq!(shown("user\u{202e}gpj.exe\u{2028}", 100), "user\\u{202e}gpj.exe\\u{2028}");
        assert_eq!(shown("abcdefgh", 8), "abcdefgh");
        assert_eq!(shown("abcdefghi", 8), "abcde…");
        assert_eq!(shown("üüüüü", 8), "üü…");
        for text in ["\u{1b}".repeat(50), "ü".repeat(50), "\\\"".repeat(50)] {
            let once = shown(&text, 40);
            assert!(once.len() <= 40, "{once}");
            assert_eq!(shown(&once, 40), once);
        }
    }
}
