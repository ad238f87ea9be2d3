//! What each tenant uses, and what it may use at most: `metrics` tells it with the rest.
//!
//! *Bound:* as many tenants as there are pairs on the page.

use super::Shared;
use super::metrics::MAX_PAIRS;
use crate::config::TenantRules;
use crate::meters::page::{Kind, Page, decimal};

pub(super) fn tell(page: &mut Page, shared: &Shared) {
    let store = &shared.watched.store;
    let kept = store.kept(MAX_PAIRS);
    let help = "Modules that are kept for a tenant.";
    let family = page.family("strongroom_tenant_modules", Kind::Gauge, help);
    for (tenant, modules, _) in &kept {
        family.sample(&[("tenant", tenant.as_str())], *modules);
    }
    let help = "Bytes of blobs, outputs and artifacts that are kept for a tenant.";
    let family = page.family("strongroom_tenant_stored_bytes", Kind::Gauge, help);
    for (tenant, _, bytes) in &kept {
        family.sample(&[("tenant", tenant.as_str())], *bytes);
    }
    let now = shared.watched.clock.now();
    let usage: Vec<_> = kept.iter().map(|(tenant, ..)| (tenant, store.usage(tenant, now))).collect();
    let help = "Jobs of a tenant that are not over.";
    let family = page.family("strongroom_tenant_jobs", Kind::Gauge, help);
    for (tenant, used) in &usage {
        family.sample(&[("tenant", tenant.as_str())], used.active);
    }
    let help = "Processor time of a tenant's jobs since midnight, UTC.";
    let family = page.family("strongroom_tenant_cpu_today_seconds", Kind::Gauge, help);
    for (tenant, used) in &usage {
        let millis = u64::try_from(used.cpu_today.as_millis()).unwrap_or(u64::MAX);
        family.sample(&[("tenant", tenant.as_str())], decimal(millis, 1000));
    }
    let help = "The most that a tenant may have, by the key of the configuration that says so.";
    let family = page.family("strongroom_tenant_bound", Kind::Gauge, help);
    for (tenant, rules) in shared.in_force().config.tenants.iter().take(MAX_PAIRS) {
        for (bound, most) in bounds(rules) {
            family.sample(&[("tenant", tenant.as_str()), ("bound", bound)], most);
        }
    }
}

/// Those that are there.
fn bounds(rules: &TenantRules) -> impl Iterator<Item = (&'static str, u64)> {
    let count = |count: Option<usize>| count.map(|count| count as u64);
    [
        ("max_queued", count(rules.max_queued)),
        ("max_stored_bytes", rules.max_stored_bytes),
        ("max_modules", count(rules.max_modules)),
        ("cpu_seconds_per_day", rules.cpu_per_day.map(|time| time.as_secs())),
    ]
    .into_iter()
    .filter_map(|(bound, most)| Some((bound, most?)))
}
