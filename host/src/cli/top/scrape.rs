//! A host's metrics, read back: numbers by family and labels.
//!
//! *Spec:* Prometheus text format 0.0.4, as `admin/text.rs` writes it; what is no sample of it is passed over.

use std::collections::BTreeMap;

/// One look at a host's metrics.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    families: BTreeMap<String, Vec<Sample>>,
}

/// One number and what it is of.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Scrape {
    pub(super) fn read(page: &str) -> Self {
        let mut families: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, sample)) = sample(line) {
                families.entry(name.to_owned()).or_default().push(sample);
            }
        }
        Self { families }
    }

    pub(super) fn all(&self, family: &str) -> impl Iterator<Item = &Sample> {
        self.families.get(family).into_iter().flatten()
    }

    /// The one number of a family without labels.
    pub(super) fn one(&self, family: &str) -> Option<f64> {
        self.all(family).next().map(|sample| sample.value)
    }

    /// A histogram as it grew since `before`: upper bounds with how many are at or under each.
    pub(super) fn grown(&self, family: &str, before: Option<&Self>) -> Vec<(f64, f64)> {
        let bucket = format!("{family}_bucket");
        let earlier = |le: &str| {
            let found = before.and_then(|before| before.all(&bucket).find(|sample| sample.label("le") == le));
            found.map_or(0.0, |sample| sample.value)
        };
        let buckets = self.all(&bucket).filter_map(|sample| {
            let le = sample.label("le");
            Some((le.parse::<f64>().ok()?, (sample.value - earlier(le)).max(0.0)))
        });
        buckets.collect()
    }
}

impl Sample {
    /// A label's value; empty when there is none.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| label == name).map_or("", |(_, value)| value)
    }
}

/// The bound under which so large a share of a grown histogram is; none when it did not grow.
pub(super) fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let whole = buckets.last()?.1;
    if whole <= 0.0 {
        return None;
    }
    buckets.iter().find(|(_, count)| *count >= whole * share).map(|(bound, _)| *bound)
}

/// `name{label="text",…} value`.
fn sample(line: &str) -> Option<(&str, Sample)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some((series, Sample { labels: Vec::new(), value }));
    };
    let mut labels = Vec::new();
    let mut rest = rest.strip_suffix('}')?;
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"")?;
        let (text, after) = unquoted(quoted)?;
        labels.push((label.to_owned(), text));
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some((name, Sample { labels, value }))
}

/// A label's text up to its closing quote, and what is behind that.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => text.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_labels_whatever_stands_in_them() {
        let page = "# TYPE a gauge\na 1.5\nb{q=\"x\",t=\"a,b}\\\"\\\\\\n\"} 2\nb{q=\"y\",t=\"\"} 3\nnonsense\nc{x=\"} 1\n";
        let scrape = Scrape::read(page);
        assert_eq!((scrape.one("a"), scrape.one("c"), scrape.one("d")), (Some(1.5), None, None));
        let texts: Vec<_> = scrape.all("b").map(|b| (b.label("q"), b.label("t"), b.value)).collect();
        assert_eq!(texts, [("x", "a,b}\"\\\n", 2.0), ("y", "", 3.0)]);
    }

    #[test]
    fn a_share_is_under_the_bound_that_holds_it_since_the_look_before() {
        let page = |counts: [u32; 3]| {
            let [one, two, all] = counts;
            format!(
                "h_bucket{{le=\"0.1\"}} {one}\nh_bucket{{le=\"1\"}} {two}\nh_bucket{{le=\"+Inf\"}} {all}\n"
            )
        };
        let (before, now) = (Scrape::read(&page([100, 100, 100])), Scrape::read(&page([101, 109, 110])));
        let grown = now.grown("h", Some(&before));
        assert_eq!(grown, [(0.1, 1.0), (1.0, 9.0), (f64::INFINITY, 10.0)]);
        let shares = [0.1, 0.5, 0.99].map(|share| quantile(&grown, share));
        assert_eq!(shares, [Some(0.1), Some(1.0), Some(f64::INFINITY)]);
        assert_eq!(quantile(&now.grown("h", Some(&now)), 0.5), None);
    }
}
