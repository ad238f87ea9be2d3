//! The trust file: every signature in it, and that it goes on from the version that was in force.

use strongroom_job::TrustVersion;
use strongroom_job::merkle::LeafIndex;

use super::Report;
use crate::clock::Clock;
use crate::config::Config;
use crate::home::Home;
use crate::store::Opened;
use crate::trust;

/// Whether there is a log that verifies, the version that it told of last, and where; none when it never told of one.
pub(super) fn look(
    home: &Home,
    config: Option<&Config>,
    (has_log, logged): (bool, Option<(LeafIndex, TrustVersion)>),
    opened: Option<&Opened>,
    report: &mut Report,
) {
    let Some(log) = config.and_then(|config| config.log_origin.parse().ok()) else {
        return report
            .unchecked
            .push("the trust file: the configuration does not say which log it must be for".into());
    };
    let remembered = match opened.map_or(Ok(None), Opened::trusted) {
        Ok(remembered) => remembered,
        Err(error) => {
            report.find("state", error.to_string());
            None
        }
    };
    if let (Some((index, logged)), Some(remembered)) = (logged, remembered)
        && (remembered.version < logged.version
            || remembered.version == logged.version && remembered.digest != logged.digest)
    {
        let problem =
            format!("another version of the trust file is in the state than by record {index} of the log");
        report.find("state", problem);
    }
    // A state may know of a record that is not published yet.
    let logged = logged.map(|(_, logged)| logged);
    let recorded = remembered.into_iter().chain(logged).max_by_key(|kept| kept.version);
    let is_known = opened.is_some() || has_log;
    if !is_known {
        report.unchecked.push(
            "what the trust file must go on from: neither a log that verifies nor a state says what was in force".into(),
        );
    }
    match trust::check(home, &log, recorded.as_ref()) {
        Ok(None) if !is_known => {}
        Ok(None) => report.checked.push("the trust file: there is none, and never was one".into()),
        Ok(Some(file)) => {
            let last = file.in_force();
            let version = last.version();
            let told = if recorded.is_some() { ", against the version in force" } else { "" };
            report.checked.push(format!("the trust file: every signature up to version {version}{told}"));
            if recorded.is_none_or(|kept| kept.version < version) {
                report.notes.push(format!(
                    "the trust file has a version that was not in force yet, {version}: the next start has the log say so"
                ));
            }
            if last.has_expired(Clock::default().now()) {
                report.notes.push(format!(
                    "version {version} of the trust file has expired: operators are refused until a newer one is installed"
                ));
            }
        }
        Err(fault) => {
            report.find_stop("trust", fault.to_string());
            report.mend.push("the trust file: put back the last one that was in force, or a later one; whoever signed it has it".into());
        }
    }
}
