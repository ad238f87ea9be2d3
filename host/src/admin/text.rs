//! The text format of Prometheus, as much of it as is written here.
//!
//! *Spec:* Prometheus text exposition format 0.0.4. A library for it would also keep the counters; ours are kept without one.

use std::fmt::{Display, Write as _};

use crate::meters::page::{Family, Kind, Page, Value, decimal};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole page.
pub(super) fn of(page: &Page) -> String {
    let mut out = String::new();
    page.families().iter().for_each(|family| write(&mut out, family));
    out
}

fn write(out: &mut String, family: &Family) {
    let Family { name, kind, help, samples } = family;
    let word = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {word}");
    for sample in samples {
        let labels: Vec<_> = sample.labels.iter().map(|(label, text)| (*label, text.as_str())).collect();
        match &sample.value {
            Value::Number(number) => line(out, name, "", &labels, number),
            Value::Histogram { reading, per } => {
                for (bound, count) in &reading.buckets {
                    let bound = decimal(*bound, *per);
                    line(out, name, "_bucket", &[&labels[..], &[("le", &bound)]].concat(), count);
                }
                line(out, name, "_bucket", &[&labels[..], &[("le", "+Inf")]].concat(), reading.count);
                line(out, name, "_sum", &labels, decimal(reading.sum, *per));
                line(out, name, "_count", &labels, reading.count);
            }
        }
    }
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
    let _ = write!(out, "{name}{suffix}");
    for (index, (label, text)) in labels.iter().enumerate() {
        let _ = write!(out, "{}{label}=\"{}\"", if index == 0 { "{" } else { "," }, escaped(text));
    }
    let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_as_the_format_says() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "Things.").sample(&[("x", "a\"}\n b\\"), ("y", "")], 3);
        page.one("b", Kind::Gauge, "One.", "0.5");
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"a\\\"}\\n b\\\\\",y=\"\"} 3\n\
                        # HELP b One.\n# TYPE b gauge\nb 0.5\n";
        assert_eq!(of(&page), expected);
    }
}
