//! Secrets for jobs: whether each opens. *Never:* keeps or prints a value.

use super::Report;
use crate::home::Home;
use crate::secrets::Vault;

pub(super) fn look(home: &Home, report: &mut Report) {
    let before = report.findings.len() + report.more;
    match Vault::of(home).check(&mut |error| report.find("secrets", error.to_string())) {
        Ok(good) => report.checked.push(format!("secrets for jobs: {good} open under keys/secrets.key")),
        Err(error) => {
            report.find("secrets", error.to_string());
            report.unchecked.push("secrets for jobs: whether any of them opens".into());
        }
    }
    if report.findings.len() + report.more > before {
        report.mend.push("secrets: put keys/secrets.key and the directory secrets back from one copy, or store each secret again".into());
    }
}
