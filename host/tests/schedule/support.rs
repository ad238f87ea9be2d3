//! Schedules and entries in a few words.

use std::collections::BTreeMap;
use std::time::Duration;

use strongroom::config::{QueueRules, TenantRules};
use strongroom::schedule::{Entry, Schedule};
use strongroom_job::{JobId, Name, Timestamp};

pub(crate) const T0: Timestamp = Timestamp::from_millis(1_000_000);

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// So many milliseconds after the start.
pub(crate) fn at(millis: u64) -> Timestamp {
    T0.saturating_add(ms(millis))
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn id(number: u64) -> JobId {
    JobId::from_bytes(u128::from(number).to_be_bytes())
}

/// The `number`th job of a tenant, in the queue `default`, ready at once.
pub(crate) fn entry(number: u64, tenant: &str) -> Entry {
    Entry {
        job: id(number),
        tenant: name(tenant),
        queue: Name::default_name(),
        key: None,
        priority: 0,
        admitted: number,
        ready_at: T0,
        expires_at: None,
    }
}

/// The same in another queue.
pub(crate) fn queued(number: u64, tenant: &str, queue: &str) -> Entry {
    Entry { queue: name(queue), ..entry(number, tenant) }
}

/// The same with a key.
pub(crate) fn keyed(number: u64, tenant: &str, key: &str) -> Entry {
    Entry { key: Some(key.into()), ..entry(number, tenant) }
}

pub(crate) fn plain() -> Schedule {
    with_queue(QueueRules::default())
}

/// With these rules for the queue `default`.
pub(crate) fn with_queue(rules: QueueRules) -> Schedule {
    Schedule::new([(Name::default_name(), rules)].into(), BTreeMap::new(), T0)
}

pub(crate) fn with_tenants<const N: usize>(tenants: [(&str, TenantRules); N]) -> Schedule {
    let tenants = tenants.map(|(tenant, rules)| (name(tenant), rules)).into();
    Schedule::new(BTreeMap::new(), tenants, T0)
}

pub(crate) fn add_all(schedule: &mut Schedule, entries: impl IntoIterator<Item = Entry>) {
    for entry in entries {
        assert!(schedule.add(entry));
    }
}

/// Everything that may start at the start, by number.
pub(crate) fn take_all(schedule: &mut Schedule) -> Vec<u64> {
    take_all_at(schedule, T0)
}

pub(crate) fn take_all_at(schedule: &mut Schedule, now: Timestamp) -> Vec<u64> {
    std::iter::from_fn(|| schedule.take(now)).map(|job| number(&job)).collect()
}

pub(crate) fn number(job: &JobId) -> u64 {
    u128::from_be_bytes(*job.as_bytes()).try_into().unwrap()
}
