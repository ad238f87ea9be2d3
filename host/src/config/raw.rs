//! TOML as it stands in the file: tables that remember where every key and value was, and which keys were asked for.
//!
//! A key that nobody asked for is a typo. So [`Section::finish`] refuses what is left, and the keys that were asked for
//! are the list from which the right one is suggested: there is no second list that could be out of date.
//!
//! *Never:* meaning. What a key is for is `checked.rs`.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A suggestion further away than this (Jaro-Winkler, 0 to 1) would confuse more than help.
const SUGGESTION_MIN: f64 = 0.75;
/// Longest piece of the file that an error repeats, in characters.
const MAX_QUOTED: usize = 60;

/// What is wrong in the file, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {problem}")]
pub struct Fault {
    line: usize,
    problem: String,
}

impl Fault {
    /// The line, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }
}

/// The file's text, for turning byte offsets into lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'t>(&'t str);

impl<'t> Source<'t> {
    pub(super) fn of(bytes: &'t [u8]) -> Result<Self, Fault> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            Fault { line, problem: "not UTF-8 text".into() }
        })?;
        Ok(Self(text))
    }

    /// The whole file as one table, the keys of which are of no section.
    pub(super) fn parse(self) -> Result<Section<'t>, Fault> {
        let table = DeTable::parse(self.0).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            self.fault(&span, format_args!("not TOML: {}", error.message()))
        })?;
        let span = table.span();
        Ok(Section { source: self, name: String::new(), span, table: table.into_inner(), asked: Vec::new() })
    }

    fn fault(self, span: &Range<usize>, problem: impl fmt::Display) -> Fault {
        Fault { line: self.line(span), problem: problem.to_string() }
    }

    fn line(self, span: &Range<usize>) -> usize {
        let before = self.0.as_bytes().get(..span.start).unwrap_or(self.0.as_bytes());
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }
}

/// One table of the file.
#[derive(Debug)]
pub(super) struct Section<'t> {
    source: Source<'t>,
    /// Dotted name for errors; empty for the top of the file.
    name: String,
    span: Range<usize>,
    table: DeTable<'t>,
    asked: Vec<&'static str>,
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Value<'t> {
    source: Source<'t>,
    /// Dotted name of the key.
    name: String,
    span: Range<usize>,
    value: DeValue<'t>,
}

impl<'t> Section<'t> {
    /// The value of `key`, when the file has one.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.asked.push(key);
        let (found, value) = self.table.remove_entry(key)?;
        Some(self.value(&found, value))
    }

    /// The value of `key`, without which the file cannot be used.
    pub(super) fn require(&mut self, key: &'static str, what: &str) -> Result<Value<'t>, Fault> {
        self.take(key).ok_or_else(|| {
            // A missing key and one that nobody knows are often one mistake, and the second is the place to mend.
            let near = |found: &&Spanned<_>| {
                strsim::jaro_winkler(AsRef::<str>::as_ref(found.get_ref()), key) >= SUGGESTION_MIN
            };
            if let Some(typo) = self.table.keys().find(near) {
                return self.unknown(typo, Some(key));
            }
            let place = if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) };
            self.source.fault(&self.span, format_args!("{key} is missing{place}: {what}"))
        })
    }

    /// The section called `key`; an empty one when the file has none.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Self, Fault> {
        match self.take(key) {
            Some(value) => value.section(),
            None => Ok(Self {
                source: self.source,
                name: self.dotted(key),
                span: self.span.clone(),
                table: DeTable::new(),
                asked: Vec::new(),
            }),
        }
    }

    /// What is wrong with there being `key`, if it is there.
    pub(super) fn fault_at(&self, key: &str, problem: &str) -> Option<Fault> {
        let (found, _) = self.table.get_key_value(key)?;
        Some(self.source.fault(&found.span(), format_args!("{}: {problem}", self.dotted(key))))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All entries, for a table whose keys are names that the author chose.
    pub(super) fn entries(mut self) -> Vec<(String, Value<'t>)> {
        let mut entries: Vec<_> = std::mem::take(&mut self.table).into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries.into_iter().map(|(key, value)| (key.get_ref().to_string(), self.value(&key, value))).collect()
    }

    /// Refuses the first key that nobody asked for.
    pub(super) fn finish(self) -> Result<(), Fault> {
        let Some(unknown) = self.table.keys().min_by_key(|key| key.span().start) else { return Ok(()) };
        let distance = |known: &&&str| strsim::jaro_winkler(unknown.get_ref(), known);
        let nearest = self
            .asked
            .iter()
            .filter(|known| distance(known) >= SUGGESTION_MIN)
            .max_by(|a, b| distance(a).total_cmp(&distance(b)));
        Err(self.unknown(unknown, nearest.copied()))
    }

    fn unknown(&self, key: &Spanned<Cow<'_, str>>, nearest: Option<&str>) -> Fault {
        let name = self.dotted(key.get_ref());
        let hint = match nearest {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("the keys here are {}", self.asked.join(", ")),
        };
        self.source.fault(&key.span(), format_args!("unknown key {}: {hint}", quoted(&name)))
    }

    fn value(&self, key: &Spanned<Cow<'_, str>>, value: Spanned<DeValue<'t>>) -> Value<'t> {
        // A table's own span is its header or braces; the key's is where an author looks for anything else.
        let span = if value.get_ref().is_table() { value.span() } else { key.span() };
        Value { source: self.source, name: self.dotted(key.get_ref()), span, value: value.into_inner() }
    }

    /// The key with its section in front, as errors name it.
    pub(super) fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{}", self.name, written_key(key)) }
    }
}

impl<'t> Value<'t> {
    /// What is wrong with this value, after its name.
    pub(super) fn fault(&self, problem: impl fmt::Display) -> Fault {
        self.source.fault(&self.span, format_args!("{}: {problem}", self.name))
    }

    /// The line that it stands in, from 1.
    pub(super) fn line(&self) -> usize {
        self.source.line(&self.span)
    }

    /// The value in TOML, on one line.
    pub(super) fn written(&self) -> String {
        written(&self.value)
    }

    /// Its key with its section in front.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(super) fn section(self) -> Result<Section<'t>, Fault> {
        match self.value {
            DeValue::Table(table) => Ok(Section {
                source: self.source,
                name: self.name,
                span: self.span,
                table,
                asked: Vec::new(),
            }),
            _ => Err(self.wrong_type("a table")),
        }
    }

    pub(super) fn text(&self) -> Result<&str, Fault> {
        self.value.as_str().ok_or_else(|| self.wrong_type("text in quotes"))
    }

    /// Text that a type of ours reads, with that type's own words when it does not.
    pub(super) fn parsed<T>(&self) -> Result<T, Fault>
    where
        T: std::str::FromStr<Err: fmt::Display>,
    {
        self.text()?.parse().map_err(|error| self.fault(error))
    }

    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    /// A whole number within `range`.
    pub(super) fn number(&self, range: &RangeInclusive<u64>) -> Result<u64, Fault> {
        let integer = self.value.as_integer().ok_or_else(|| self.wrong_type("a whole number"))?;
        let number = i128::from_str_radix(integer.as_str(), integer.radix());
        match number.map(u64::try_from) {
            Ok(Ok(number)) if range.contains(&number) => Ok(number),
            _ => Err(self.fault(format_args!(
                "{integer} is out of range: {} to {} are allowed",
                range.start(),
                range.end()
            ))),
        }
    }

    /// The items of a list, each with its own place.
    pub(super) fn list(self) -> Result<Vec<Self>, Fault> {
        let array = match self.value {
            DeValue::Array(array) => array,
            DeValue::Table(_) => {
                return Err(self.fault(format_args!("there may be several, so write [[{}]]", self.name)));
            }
            _ => return Err(self.wrong_type("a list")),
        };
        let (source, name) = (self.source, self.name);
        let item = |(index, value): (usize, Spanned<DeValue<'t>>)| Self {
            source,
            name: format!("{name}[{index}]"),
            span: value.span(),
            value: value.into_inner(),
        };
        Ok(array.into_iter().enumerate().map(item).collect())
    }

    fn wrong_type(&self, expected: &str) -> Fault {
        let found = match &self.value {
            DeValue::String(text) => format!("the text {}", quoted(text)),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the fraction {number}"),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(time) => format!("the time {time}"),
            DeValue::Array(_) => "a list".into(),
            DeValue::Table(_) => "a table".into(),
        };
        self.fault(format_args!("expected {expected}, found {found}"))
    }
}

fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => written_text(text),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.to_string(), |number| number.to_string()),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| written(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        // As a default is written: what is spelled out is the same value.
        DeValue::Table(table) if table.is_empty() => "{}".to_owned(),
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                format!("{} = {}", written_key(key.get_ref()), written(value.get_ref()))
            };
            let entries: Vec<_> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// A text as TOML's basic string.
pub(super) fn written_text(text: &str) -> String {
    let mut written = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => written.extend(['\\', character]),
            _ if character.is_control() => written.push_str(&format!("\\u{:04X}", u32::from(character))),
            _ => written.push(character),
        }
    }
    written.push('"');
    written
}

/// A key as it may stand before an `=`.
fn written_key(key: &str) -> Cow<'_, str> {
    let bare = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if bare && !key.is_empty() { key.into() } else { written_text(key).into() }
}

/// A piece of the file, short enough for an error text.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
