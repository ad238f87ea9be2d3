//! The table of a contest, in Markdown, and where it stands in a document.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Entry, spread};

/// The first entry is the one that the others are compared with.
#[must_use]
pub fn markdown(entries: &[Entry]) -> String {
    let ours = entries.first().map_or(f64::NAN, |entry| spread(&entry.rates).0);
    let mut text = String::from(
        "| | jobs/s (least to most) | of Strongroom's | alone: p50 | alone: p99 | signed | isolated | durable | logged |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for entry in entries {
        let (rate, least, most) = spread(&entry.rates);
        let promises = &entry.promises;
        text += &format!(
            "| {} | **{}** ({} to {}) | {} | {} | {} | {} | {} | {} | {} |\n",
            entry.name,
            thousands(rate),
            thousands(least),
            thousands(most),
            ratio(rate / ours),
            time(spread(&entry.p50).0),
            time(spread(&entry.p99).0),
            promises.signed,
            promises.isolated,
            promises.durable,
            promises.logged,
        );
    }
    text += "\nHow each was set up:\n\n";
    for entry in entries {
        text += &format!("- {}: {}\n", entry.name, entry.setting);
    }
    text
}

/// Puts `text` between the two marks of a document that are named `name`; the rest of it stays as it is.
///
/// # Errors
/// When the document cannot be read or written, or has no such marks.
pub fn put_between_marks(document: &Path, name: &str, text: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let old = std::fs::read_to_string(document).with_context(|| document.display().to_string())?;
    let (before, rest) =
        old.split_once(&begin).with_context(|| format!("{} has no {begin}", document.display()))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("{} has no {end}", document.display()))?;
    std::fs::write(document, format!("{before}{begin}{}\n{end}{after}", text.trim_end()))?;
    Ok(())
}

/// A whole number with commas.
#[must_use]
pub fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn ratio(figure: f64) -> String {
    if figure >= 10.0 { format!("{figure:.0} ×") } else { format!("{figure:.2} ×") }
}

/// Microseconds in the unit that fits.
#[must_use]
pub fn time(micros: f64) -> String {
    match micros {
        micros if micros.is_nan() => "?".into(),
        micros if micros < 1e3 => format!("{micros:.0} µs"),
        micros if micros < 1e5 => format!("{:.2} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_read_them() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(12.0), "12");
        assert_eq!(time(412.0), "412 µs");
        assert_eq!(time(2_345.0), "2.35 ms");
        assert_eq!(time(1_500_000.0), "1.50 s");
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("figures.md");
        std::fs::write(&path, "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n").expect("written");
        put_between_marks(&path, "x", "new\n").expect("there are marks");
        put_between_marks(&path, "x", "newer\n").expect("there still are");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, "a\n<!-- x: begin -->\nnewer\n<!-- x: end -->\nb\n");
        assert!(put_between_marks(&path, "y", "new").is_err());
    }
}
