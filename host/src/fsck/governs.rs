//! Configuration: whether it can be read, and whether it is the one that the log told of last.
//!
//! A difference is a note: an owner may change the file at any time, and the next start puts that into the log. It is told because
//! whoever changed it may not have been the owner.

use strongroom_job::merkle::LeafIndex;

use super::Report;
use crate::config::{Config, Governs};
use crate::home::Home;
use crate::store::{Governed, Opened};

/// `logged` is what the log said last, and where; none when there is no log that verifies, or it never said.
pub(super) fn look(
    home: &Home,
    config: Result<&Config, &str>,
    logged: Option<&(LeafIndex, Governed)>,
    opened: Option<&Opened>,
    report: &mut Report,
) {
    let config = match config {
        Ok(config) => config,
        Err(problem) => {
            report.find_stop("configuration", problem.to_owned());
            report.mend.push(format!(
                "the configuration: mend it until `strongroom config check` says good, or put {} back from a copy",
                home.config().display()
            ));
            return report
                .unchecked
                .push("whether the configuration is what the log said last: it cannot be read".into());
        }
    };
    let Some((whence, then)) = said(logged, opened, report) else {
        report.checked.push("configuration: a host would start with it".into());
        return report.unchecked.push(
            "whether the configuration is what the log said last: it said nothing that can be read".into(),
        );
    };
    let Governs { configuration, principals, policy } = config.governs;
    let parts = [
        ("configuration", configuration, then.configuration),
        ("principals", principals, then.principals),
        ("policy", policy, then.policy),
    ];
    for (part, now, then) in parts.iter().filter(|(_, now, then)| now != then) {
        report.notes.push(format!(
            "{part}: changed since the last start, from {then}, by {whence}, to {now}; the next start has the log say so"
        ));
    }
    report.checked.push(format!(
        "configuration, principals and policy: a host would start with them; against {whence}"
    ));
}

/// What was said last, and by whom. A state may know of a record that is not published yet.
fn said(
    logged: Option<&(LeafIndex, Governed)>,
    opened: Option<&Opened>,
    report: &mut Report,
) -> Option<(String, Governs)> {
    let remembered = opened.and_then(|opened| match opened.governed() {
        Ok(remembered) => remembered,
        Err(error) => {
            report.find("state", error.to_string());
            None
        }
    });
    match (logged, remembered) {
        (Some((index, logged)), remembered) if remembered.is_none_or(|last| last.at <= logged.at) => {
            if let Some(Governed { by, .. }) = remembered
                && by != logged.by
            {
                report.find(
                    "state",
                    format!(
                        "what governs the host is otherwise in the state than by record {index} of the log"
                    ),
                );
            }
            Some((format!("record {index} of the log"), logged.by))
        }
        (_, Some(last)) => Some(("what the state remembers of the log".into(), last.by)),
        (_, None) => None,
    }
}
