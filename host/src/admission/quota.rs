//! What a tenant may have on this host, held against what it has.
//!
//! *Owns:* the answer and its words. *Never:* the figures: whoever keeps them takes them and this answer in one step, or two
//! requests at once would both find the same room.

use std::time::Duration;

use strongroom_job::{Name, Refusal, RefusalCode, Timestamp};

use crate::config::TenantRules;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What a tenant has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantUse {
    /// Its jobs that are not over.
    pub active: usize,
    /// What the host keeps for it, bytes: modules, inputs, outputs and artifacts.
    pub stored_bytes: u64,
    /// Its modules.
    pub modules: usize,
    /// Processor time of its jobs since the last midnight, UTC; see [`day`].
    pub cpu_today: Duration,
}

/// What a request adds to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Jobs, all those of a batch.
    pub jobs: usize,
    /// Bytes that the host does not keep for this tenant yet.
    pub bytes: u64,
    /// Modules that it does not keep for this tenant yet.
    pub modules: usize,
}

/// Days since 1970-01-01, UTC: processor time is counted for each of them. They all have 24 hours here.
#[must_use]
pub const fn day(now: Timestamp) -> u64 {
    now.as_millis() / DAY_MS
}

/// Whether the tenant may have what is asked for besides what it has.
///
/// What running jobs will leave or use is not known yet and not counted: a tenant may come to stand above a bound by what its
/// running jobs may. It then gets no further jobs.
///
/// # Errors
/// With the figure that was reached and the bound. What cannot pass later comes first, so that nobody waits in vain.
pub fn check(tenant: &Name, rules: &TenantRules, used: &TenantUse, asked: &Asked) -> Result<(), Refusal> {
    modules(tenant, rules, used, asked)?;
    stored(tenant, rules, used, asked)?;
    cpu(tenant, rules, used, asked)?;
    active(tenant, rules, used, asked)
}

fn modules(tenant: &Name, rules: &TenantRules, used: &TenantUse, asked: &Asked) -> Result<(), Refusal> {
    let Some(max) = rules.max_modules else { return Ok(()) };
    if asked.modules == 0 || used.modules.saturating_add(asked.modules) <= max {
        return Ok(());
    }
    reached(format_args!(
        "tenant {tenant} has {} modules on this host and may have {max}: use one of them, or ask this host's operator for more",
        used.modules
    ))
}

fn stored(tenant: &Name, rules: &TenantRules, used: &TenantUse, asked: &Asked) -> Result<(), Refusal> {
    let Some(max) = rules.max_stored_bytes else { return Ok(()) };
    // Any job leaves something. One that begins with no room left would only go further beyond the bound.
    let full = asked.jobs > 0 && used.stored_bytes >= max;
    if !full && (asked.bytes == 0 || used.stored_bytes.saturating_add(asked.bytes) <= max) {
        return Ok(());
    }
    reached(format_args!(
        "this host keeps {} bytes for tenant {tenant} and may keep {max}; this would add {}. Wait until it forgets jobs that are over, \
         or ask this host's operator for more",
        used.stored_bytes, asked.bytes
    ))
}

fn cpu(tenant: &Name, rules: &TenantRules, used: &TenantUse, asked: &Asked) -> Result<(), Refusal> {
    let Some(max) = rules.cpu_per_day else { return Ok(()) };
    if asked.jobs == 0 || used.cpu_today < max {
        return Ok(());
    }
    reached(format_args!(
        "jobs of tenant {tenant} used {} s of processor time today and may use {} s a day: submit it after midnight (UTC), or ask this \
         host's operator for more",
        used.cpu_today.as_secs(),
        max.as_secs()
    ))
}

fn active(tenant: &Name, rules: &TenantRules, used: &TenantUse, asked: &Asked) -> Result<(), Refusal> {
    let Some(max) = rules.max_queued else { return Ok(()) };
    if asked.jobs > max {
        // Not "later": it would never pass.
        return reached(format_args!(
            "a batch of {} jobs where tenant {tenant} may have {max} at once, waiting or running: send smaller batches, or ask this \
             host's operator for more",
            asked.jobs
        ));
    }
    if asked.jobs == 0 || used.active.saturating_add(asked.jobs) <= max {
        return Ok(());
    }
    let text = format!(
        "tenant {tenant} may have {max} jobs at once, waiting or running, and has {}: {} more do not fit; try again later",
        used.active, asked.jobs
    );
    Err(Refusal::new(RefusalCode::QueueFull, text))
}

fn reached(text: std::fmt::Arguments<'_>) -> Result<(), Refusal> {
    Err(Refusal::new(RefusalCode::QuotaReached, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: TenantUse =
        TenantUse { active: 10, stored_bytes: 1000, modules: 3, cpu_today: Duration::from_secs(60) };

    fn rules() -> TenantRules {
        TenantRules {
            max_queued: Some(10),
            max_stored_bytes: Some(1000),
            max_modules: Some(3),
            cpu_per_day: Some(Duration::from_secs(60)),
            ..TenantRules::default()
        }
    }

    fn check(rules: &TenantRules, used: TenantUse, asked: Asked) -> Result<(), Refusal> {
        super::check(&Name::default_name(), rules, &used, &asked)
    }

    fn refused(used: TenantUse, asked: Asked) -> (RefusalCode, String) {
        let refusal = check(&rules(), used, asked).expect_err("must be refused");
        (refusal.code, refusal.message)
    }

    fn jobs(jobs: usize) -> Asked {
        Asked { jobs, ..Asked::default() }
    }

    #[test]
    fn without_rules_there_is_no_bound() {
        let all = Asked { jobs: usize::MAX, bytes: u64::MAX, modules: usize::MAX };
        let used = TenantUse {
            active: usize::MAX,
            stored_bytes: u64::MAX,
            modules: usize::MAX,
            cpu_today: Duration::MAX,
        };
        assert_eq!(check(&TenantRules::default(), used, all), Ok(()));
    }

    // Red for each of the four with its call taken out of `check`.
    #[test]
    fn the_last_that_fits_is_taken_and_the_next_refused_with_figure_and_bound() {
        let used = TenantUse { active: 8, ..TenantUse::default() };
        assert_eq!(check(&rules(), used, jobs(2)), Ok(()));
        let (code, text) = refused(used, jobs(3));
        assert_eq!(code, RefusalCode::QueueFull);
        assert!(code.is_temporary());
        assert_eq!(
            text,
            "tenant default may have 10 jobs at once, waiting or running, and has 8: 3 more do not fit; try again later"
        );

        let used = TenantUse { stored_bytes: 900, ..TenantUse::default() };
        let bytes = |bytes| Asked { bytes, ..Asked::default() };
        assert_eq!(check(&rules(), used, bytes(100)), Ok(()));
        let (code, text) = refused(used, bytes(101));
        assert_eq!(code, RefusalCode::QuotaReached);
        assert!(text.starts_with(
            "this host keeps 900 bytes for tenant default and may keep 1000; this would add 101."
        ));

        let used = TenantUse { modules: 2, ..TenantUse::default() };
        let modules = |modules| Asked { modules, ..Asked::default() };
        assert_eq!(check(&rules(), used, modules(1)), Ok(()));
        let (code, text) = refused(TenantUse { modules: 3, ..used }, modules(1));
        assert_eq!(code, RefusalCode::QuotaReached);
        assert!(text.starts_with("tenant default has 3 modules on this host and may have 3: "), "{text}");

        let used = TenantUse { cpu_today: Duration::from_millis(59_999), ..TenantUse::default() };
        assert_eq!(check(&rules(), used, jobs(1)), Ok(()));
        let (code, text) = refused(TenantUse { cpu_today: Duration::from_secs(61), ..used }, jobs(1));
        assert_eq!(code, RefusalCode::QuotaReached);
        let expected = "jobs of tenant default used 61 s of processor time today and may use 60 s a day: ";
        assert!(text.starts_with(expected), "{text}");
    }

    // Red when a bound is held against a request that does not add to it.
    #[test]
    fn a_full_tenant_may_still_do_what_adds_nothing() {
        assert_eq!(check(&rules(), FULL, Asked::default()), Ok(()));
        let room = TenantUse { stored_bytes: 0, ..FULL };
        assert_eq!(check(&rules(), room, Asked { bytes: 5, ..Asked::default() }), Ok(()));
        // Also one that stands above its bounds since its operator lowered them.
        let above = TenantUse { stored_bytes: 2000, modules: 9, active: 99, ..FULL };
        assert_eq!(check(&rules(), above, Asked::default()), Ok(()));
    }

    // Red without `full`: jobs without input would be taken for ever, and each leaves something.
    #[test]
    fn a_tenant_without_room_gets_no_further_jobs() {
        let used = TenantUse { stored_bytes: 1000, ..TenantUse::default() };
        assert_eq!(refused(used, jobs(1)).0, RefusalCode::QuotaReached);
        assert_eq!(check(&rules(), TenantUse { stored_bytes: 999, ..used }, jobs(1)), Ok(()));
    }

    // Red when the batch is held against the room alone: a client would try again for ever.
    #[test]
    fn a_batch_that_can_never_fit_is_not_told_to_come_back() {
        let (code, text) = refused(TenantUse::default(), jobs(11));
        assert_eq!(code, RefusalCode::QuotaReached);
        assert!(!code.is_temporary());
        assert!(text.starts_with("a batch of 11 jobs where tenant default may have 10 at once"), "{text}");
    }

    // Red with `active` first in `check`.
    #[test]
    fn what_does_not_pass_later_is_told_first() {
        assert_eq!(refused(FULL, jobs(1)).0, RefusalCode::QuotaReached);
    }

    // Red with `wrapping_add`.
    #[test]
    fn figures_beyond_all_bounds_do_not_wrap_round() {
        let none = TenantUse::default();
        assert!(check(&rules(), TenantUse { active: usize::MAX, ..none }, jobs(10)).is_err());
        let bytes = Asked { bytes: u64::MAX, ..Asked::default() };
        assert!(check(&rules(), TenantUse { stored_bytes: 1, ..none }, bytes).is_err());
        let modules = Asked { modules: usize::MAX, ..Asked::default() };
        assert!(check(&rules(), TenantUse { modules: 1, ..none }, modules).is_err());
    }

    #[test]
    fn a_day_ends_at_midnight() {
        let at = Timestamp::from_millis;
        assert_eq!((day(at(0)), day(at(DAY_MS - 1)), day(at(DAY_MS))), (0, 0, 1));
    }
}
