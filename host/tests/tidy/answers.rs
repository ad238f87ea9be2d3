//! The page that answers five security chapters: each row names a test, and the test is there.

use crate::repo::Repo;

const PAGE: &str = "docs/answers.md";
/// How far above a function its attribute may stand.
const ATTRIBUTES: usize = 4;

/// Rows without a proof, and proofs that do not exist.
pub(crate) fn proofs(repo: &Repo) -> Vec<String> {
    let text = repo.text(PAGE).unwrap_or_default();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let is_row = line.starts_with("| ") && !line.starts_with("| ---") && !line.ends_with("| kept by |");
        if !is_row {
            continue;
        }
        let [_, _, read, kept_by] = cells[..] else {
            wrong.push(format!("{PAGE}:{number}: a row has four cells"));
            continue;
        };
        if !read.contains("](") {
            wrong.push(format!("{PAGE}:{number}: nothing to read"));
        }
        let (mut file, mut found) = (None, 0);
        for named in kept_by.split('`').skip(1).step_by(2) {
            match named.strip_suffix("()") {
                None => file = Some(named),
                Some(test) => {
                    found += 1;
                    let source = file.and_then(|file| repo.text(file)).unwrap_or_default();
                    if !has_test(source, test) {
                        let file = file.unwrap_or("no file");
                        wrong.push(format!("{PAGE}:{number}: {test} is no test of {file}"));
                    }
                }
            }
        }
        if found == 0 {
            wrong.push(format!("{PAGE}:{number}: no test is named"));
        }
    }
    if text.lines().filter(|line| line.starts_with("## ")).count() < 5 {
        wrong.push(format!("{PAGE}:1: five chapters are to be answered"));
    }
    wrong
}

/// Whether the source has a function of this name behind the attribute of a test.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let function = format!("fn {name}(");
    let is_test = |at: usize| {
        let above = &lines[at.saturating_sub(ATTRIBUTES)..at];
        above.iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    };
    let begins = |line: &str| line.starts_with(&function) || line.starts_with(&format!("async {function}"));
    lines.iter().enumerate().any(|(at, line)| begins(line) && is_test(at))
}
