//! As much of Rust's grammar as the walls need: what is code, and which paths it names.

/// The source without comments, literals and unit tests; every line keeps its number.
pub(crate) fn code(source: &str) -> String {
    without_tests(&blanked(source))
}

/// A path such as `std::fs::read`, and its line. `use a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// Every path in `code` that has at least two parts, and every import.
pub(crate) fn paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let words = words(code);
    let mut at = 0;
    while at < words.len() {
        if words[at].text == "use" && words.get(at + 1).is_some_and(|word| word.text != "<") {
            at = import(&words, at + 1, "", &mut found);
            continue;
        }
        let (line, start) = (words[at].line, at);
        let mut path = String::new();
        while is_name(words[at].text) {
            path.push_str(words[at].text);
            at += 1;
            if words.get(at).is_some_and(|word| word.text == "::")
                && words.get(at + 1).is_some_and(|word| is_name(word.text))
            {
                path.push_str("::");
                at += 1;
            } else {
                break;
            }
        }
        if path.contains("::") {
            found.push(Named { line, path });
        }
        at = at.max(start + 1);
    }
    found
}

/// Reads one import tree from `at` on; returns the place behind it.
fn import(words: &[Word<'_>], mut at: usize, prefix: &str, found: &mut Vec<Named>) -> usize {
    let mut path = prefix.to_owned();
    let line = words.get(at).map_or(0, |word| word.line);
    let mut ended = false;
    while let Some(word) = words.get(at) {
        match word.text {
            "::" => {}
            "{" => {
                loop {
                    at = import(words, at + 1, &path, found);
                    if words.get(at).is_none_or(|word| word.text != ",") {
                        break;
                    }
                }
                ended = true;
            }
            "," | "}" | ";" => break,
            "as" => at += 1,
            name => {
                if !path.is_empty() {
                    path.push_str("::");
                }
                path.push_str(name);
            }
        }
        at += 1;
    }
    if !ended && path != prefix {
        found.push(Named { line, path });
    }
    at
}

struct Word<'t> {
    text: &'t str,
    line: usize,
}

fn words(code: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let (bytes, mut at, mut line) = (code.as_bytes(), 0, 1);
    while at < bytes.len() {
        let start = at;
        if is_word_byte(bytes[at]) {
            while at < bytes.len() && is_word_byte(bytes[at]) {
                at += 1;
            }
        } else if bytes[at..].starts_with(b"::") {
            at += 2;
        } else {
            line += usize::from(bytes[at] == b'\n');
            at += code[at..].chars().next().map_or(1, char::len_utf8);
            if code[start..at].trim().is_empty() {
                continue;
            }
        }
        words.push(Word { text: &code[start..at], line });
    }
    words
}

/// Whether `word` stands in `text` as a word of its own.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].bytes().next_back();
        let after = text[at + word.len()..].bytes().next();
        !before.is_some_and(is_word_byte) && !after.is_some_and(is_word_byte)
    })
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_name(word: &str) -> bool {
    word.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

/// Comments and the insides of literals become blanks.
fn blanked(source: &str) -> String {
    let mut rest = source;
    let mut code = String::with_capacity(source.len());
    while let Some(next) = rest.chars().next() {
        let before = code.chars().next_back();
        let skip = match next {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => text_literal(rest),
            'r' if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') || before == Some('b') => {
                raw_literal(rest)
            }
            '\'' => char_literal(rest),
            _ => 0,
        };
        if skip == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            code.extend(rest[..skip].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skip..];
        }
    }
    code
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match () {
            () if rest[at..].starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            () if rest[at..].starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            () => at += rest[at..].chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 || at >= rest.len() {
            return at.min(rest.len());
        }
    }
}

fn text_literal(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_literal(rest: &str) -> usize {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
}

/// 0 for a lifetime.
fn char_literal(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[2..].find('\'').map_or(0, |at| {
            // `'\''` ends one later than its first quote.
            if at == 0 { 4 } else { at + 3 }
        }),
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// `#[cfg(test)] mod … { … }` becomes blank lines.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let item = &rest[at + MARK.len()..];
        let is_module = item.trim_start().starts_with("mod ");
        let end =
            if is_module { item.find('{').map_or(item.len(), |open| open + block(&item[open..])) } else { 0 };
        kept.push_str(&rest[..at]);
        kept.extend(item[..end].chars().filter(|c| *c == '\n'));
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}

/// Length of a block in braces.
fn block(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

#[test]
fn only_code_counts_and_imports_are_spelled_out() {
    let source = "//! quinn::a\nuse std::{fs, net::{TcpStream as T, self}};\n/* sled::b /* x */ */ fn f<'a>() { \
                  a::b::<u8>(\"tokio::c\", 'x', '\\'', r#\"y::z\"#); }\n#[cfg(test)]\nmod tests { use no::way; }\nuse last;\n";
    let named: Vec<(usize, String)> =
        paths(&code(source)).into_iter().map(|Named { line, path }| (line, path)).collect();
    let expected =
        [(2, "std::fs"), (2, "std::net::TcpStream"), (2, "std::net::self"), (3, "a::b"), (6, "last")];
    assert_eq!(named, expected.map(|(line, path)| (line, path.to_owned())));
}
