//! How well the log is kept: witnesses that signed it, copies elsewhere, and what the host found when it last checked itself. `metrics` tells
//! it with the rest.
//!
//! *Bound:* the destinations and the witnesses of the configuration. The small files of the destinations are read for it, as
//! `audit forwarded` reads them.

use super::{Shared, status};
use crate::forward::statuses;
use crate::meters::page::{Kind, Page, decimal};

pub(super) fn tell(page: &mut Page, shared: &Shared) {
    let help =
        "Records of the audit log under a checkpoint that witnesses signed, too; none without witnesses.";
    let family = page.family("strongroom_log_cosigned_records", Kind::Gauge, help);
    if let Some(records) = status::cosigned(shared) {
        family.sample(&[], records);
    }
    forwarded(page, shared);
    checked(page, shared);
}

fn forwarded(page: &mut Page, shared: &Shared) {
    let (watched, in_force) = (&shared.watched, shared.in_force());
    let forwards = &in_force.config.forwards;
    let told = match forwards.is_empty() {
        true => Vec::new(),
        // A log that cannot be read now is somebody else's to tell.
        false => statuses(&watched.dir, Some(watched.log.key()), forwards).unwrap_or_default(),
    };
    let help = "Published records that a destination of the audit log may not have.";
    let family = page.family("strongroom_forward_behind_records", Kind::Gauge, help);
    for status in &told {
        family.sample(&[("destination", &status.name)], status.behind);
    }
    let help = "1 while a destination of the audit log needs somebody before it goes on, else 0.";
    let family = page.family("strongroom_forward_stopped", Kind::Gauge, help);
    for status in &told {
        let stopped = u8::from(status.problem.is_some() && !status.unread);
        family.sample(&[("destination", &status.name)], stopped);
    }
    let help = "Records that a destination of the audit log has refused for good, or may have.";
    let family = page.family("strongroom_forward_rejected_records", Kind::Gauge, help);
    for status in &told {
        let rejected =
            status.rejected.as_ref().map_or(0, |rejected| rejected.records.saturating_add(rejected.maybe));
        family.sample(&[("destination", &status.name)], rejected);
    }
}

fn checked(page: &mut Page, shared: &Shared) {
    // What cannot be read ends the host by another way.
    let checked = shared.watched.store.checked().ok().flatten();
    let help =
        "When the host checked its log and its files last, seconds since 1970; none before the first time.";
    let family = page.family("strongroom_check_time_seconds", Kind::Gauge, help);
    if let Some(checked) = &checked {
        family.sample(&[], decimal(checked.at.as_millis(), 1000));
    }
    let help = "What was wrong then; none before the first time.";
    let family = page.family("strongroom_check_problems", Kind::Gauge, help);
    if let Some(checked) = &checked {
        family.sample(&[], checked.problems);
    }
}
