//! What strangers wrote, made harmless for a terminal.
//!
//! A guest's output can hold sequences that move the cursor, rename the window, answer questions the terminal asks, or
//! turn the reading direction. On a terminal every such byte is shown, not obeyed. Everywhere else output is passed on
//! byte by byte.

use std::io::{self, Write};

/// The longest UTF-8 sequence, in bytes.
const MAX_CHAR_BYTES: usize = 4;

/// Passes printable text, newlines and tabs on; shows everything else as `\x1b`, `\u{202e}` or the like.
#[derive(Debug)]
pub(super) struct TerminalWriter<W> {
    inner: W,
    /// A character of which not all bytes have come yet.
    pending: Vec<u8>,
}

impl<W: Write> TerminalWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, pending: Vec::with_capacity(MAX_CHAR_BYTES) }
    }

    /// Shows what is left of a character that never became whole.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.pending);
        self.inner.write_all(show_bytes(&rest).as_bytes())?;
        self.inner.flush()
    }
}

impl<W: Write> Write for TerminalWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.pending);
        let mut shown = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        loop {
            match str::from_utf8(rest) {
                Ok(text) => {
                    push_text(&mut shown, text);
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    push_text(&mut shown, &String::from_utf8_lossy(good));
                    let Some(length) = error.error_len() else {
                        self.pending = bad.to_vec();
                        break;
                    };
                    let (bad, after) = bad.split_at(length);
                    shown.push_str(&show_bytes(bad));
                    rest = after;
                }
            }
        }
        self.inner.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// One line of text that somebody else chose, safe to print: newlines and tabs are shown too.
pub(super) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        push_char(&mut shown, char, matches!(char, '\n' | '\t') || is_unsafe(char));
    }
    shown
}

/// Several lines of text of which a part may be somebody else's.
pub(super) fn text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    push_text(&mut shown, text);
    shown
}

fn push_text(shown: &mut String, text: &str) {
    for char in text.chars() {
        push_char(shown, char, !matches!(char, '\n' | '\t') && is_unsafe(char));
    }
}

fn push_char(shown: &mut String, char: char, escape: bool) {
    match char {
        _ if !escape => shown.push(char),
        '\u{0}'..='\u{7f}' => shown.push_str(&show_bytes(&[char as u8])),
        _ => shown.extend(char.escape_unicode()),
    }
}

fn is_unsafe(char: char) -> bool {
    // Direction overrides and isolates make a line read as something that it does not say.
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn show_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut writer = TerminalWriter::new(Vec::new());
        for piece in pieces {
            writer.write_all(piece).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(writer.inner).unwrap()
    }

    // Red with `is_unsafe` always false.
    #[test]
    fn nothing_that_a_terminal_would_obey_reaches_it() {
        assert_eq!(shown(&[b"\x1b]0;owned\x07\x1b[2J"]), "\\x1b]0;owned\\x07\\x1b[2J");
        assert_eq!(shown(&[b"a\rb\x08\x7f\0"]), "a\\x0db\\x08\\x7f\\x00");
        assert_eq!(shown(&["\u{9b}2J\u{202e}".as_bytes()]), "\\u{9b}2J\\u{202e}");
        assert_eq!(shown(&[b"\x9b2J \xff"]), "\\x9b2J \\xff");
        for byte in (0..=0xff_u8).filter(|byte| !matches!(byte, b'\n' | b'\t')) {
            assert!(!shown(&[&[byte]]).chars().any(char::is_control), "{byte:#x}");
        }
    }

    #[test]
    fn ordinary_text_is_untouched_also_when_it_comes_in_pieces() {
        let text = "plain\ttext, größer, 日本, 🦀\n";
        assert_eq!(shown(&[text.as_bytes()]), text);
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(shown(&single), text);
    }

    #[test]
    fn a_character_that_is_never_finished_is_shown_at_the_end() {
        assert_eq!(shown(&[b"a\xe6\x97"]), "a\\xe6\\x97");
        assert_eq!(shown(&[b"\xe6", b"a"]), "\\xe6a");
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(line("a\nb\t\x1b[m"), "a\\x0ab\\x09\\x1b[m");
        assert_eq!(text("a\nb\x1b"), "a\nb\\x1b");
    }
}
