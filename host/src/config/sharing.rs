//! From tables to what queues and tenants share by, and to what this host is: `[queue_rules.NAME]`, `[tenants.NAME]`, `[labels]`.
//!
//! *Never:* what a rule does; that is `schedule`'s and `admission`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use strongroom_job::{MAX_LABEL_BYTES, MAX_LABELS, Name};

use super::checked::{count, optional, optional_count};
use super::knobs;
use super::raw::{Fault, Section, Value, quoted};
use super::{Principal, QueueRules, Rate, TenantRules};

/// Most starts that a rate may name for one of its units.
const MAX_STARTS: u32 = 1_000_000;
/// The units of a rate, and how many seconds each has.
const UNITS: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)];

/// The rules of each queue that has some.
pub(super) fn queue_rules(top: &mut Section<'_>) -> Result<BTreeMap<Name, QueueRules>, Fault> {
    let mut rules = BTreeMap::new();
    for (key, value) in top.section("queue_rules")?.entries() {
        let name: Name = key.parse().map_err(|error| value.fault(error))?;
        let mut section = value.section()?;
        let queue = QueueRules {
            max_running: optional_count(&mut section, &knobs::QUEUE_MAX_RUNNING)?,
            max_running_per_tenant: optional_count(&mut section, &knobs::QUEUE_MAX_RUNNING_PER_TENANT)?,
            max_running_per_group: optional_count(&mut section, &knobs::QUEUE_MAX_RUNNING_PER_GROUP)?,
            rate: rate(&mut section)?,
        };
        section.finish()?;
        rules.insert(name, queue);
    }
    Ok(rules)
}

/// How often a job of the queue may start: `rate` and `burst`, the first of which may stand alone.
fn rate(section: &mut Section<'_>) -> Result<Option<Rate>, Fault> {
    let rate = section.take("rate");
    let burst = section.take(knobs::QUEUE_BURST.key);
    let Some(value) = rate else {
        return burst
            .map_or(Ok(None), |burst| Err(burst.fault("bounds a rate, and there is none; add rate")));
    };
    let (starts, per) = starts_per(&value)?;
    let burst = match burst {
        Some(burst) => u32::try_from(burst.number(&knobs::QUEUE_BURST.range)?).unwrap_or(u32::MAX),
        None => u32::try_from(u64::from(starts).div_ceil(per.as_secs())).unwrap_or(MAX_STARTS),
    };
    Ok(Some(Rate { starts, per, burst }))
}

/// Reads `100/min`.
fn starts_per(value: &Value<'_>) -> Result<(u32, Duration), Fault> {
    let text = value.text()?;
    let wrong = || {
        let units = UNITS.map(|(unit, _)| unit).join(", ");
        value.fault(format_args!(
            "expected starts for each unit of time, such as \"100/min\", with one of the units {units}; found {}",
            quoted(text)
        ))
    };
    let (starts, unit) = text.split_once('/').ok_or_else(wrong)?;
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    if starts.is_empty() || !starts.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    match starts.parse() {
        Ok(starts) if (1..=MAX_STARTS).contains(&starts) => Ok((starts, Duration::from_secs(*seconds))),
        Ok(0) => Err(value.fault("0 starts are no rate; to start nothing for a while, pause the queue")),
        _ => Err(value
            .fault(format_args!("{} is out of range: 1 to {MAX_STARTS} starts are allowed", quoted(text)))),
    }
}

/// What each tenant gets that the file names. A tenant that no principal belongs to is a typo: its rules would bound nobody.
pub(super) fn tenants(
    top: &mut Section<'_>,
    principals: &[Principal],
) -> Result<BTreeMap<Name, TenantRules>, Fault> {
    let mut rules = BTreeMap::new();
    for (key, value) in top.section("tenants")?.entries() {
        let name: Name = key.parse().map_err(|error| value.fault(error))?;
        if !principals.iter().any(|principal| principal.tenant == name) {
            return Err(value.fault(format_args!(
                "no principal belongs to tenant {name}, so these rules are nobody's; mend the name, or give a principal tenant = \"{name}\""
            )));
        }
        let mut section = value.section()?;
        let tenant = TenantRules {
            weight: count(&mut section, &knobs::TENANT_WEIGHT)?,
            max_running: optional_count(&mut section, &knobs::TENANT_MAX_RUNNING)?,
            max_queued: optional_count(&mut section, &knobs::TENANT_MAX_QUEUED)?,
            max_stored_bytes: optional(&mut section, &knobs::TENANT_MAX_STORED_BYTES)?,
            max_modules: optional_count(&mut section, &knobs::TENANT_MAX_MODULES)?,
            cpu_per_day: optional(&mut section, &knobs::TENANT_CPU_SECONDS)?.map(Duration::from_secs),
        };
        section.finish()?;
        rules.insert(name, tenant);
    }
    Ok(rules)
}

/// What this host is. Names and values obey the rules of those that a job may require: others would never match.
pub(super) fn labels(top: &mut Section<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let mut labels = BTreeMap::new();
    for (key, value) in top.section("labels")?.entries() {
        let text = value.text()?;
        if !(1..=MAX_LABEL_BYTES).contains(&key.len()) || text.len() > MAX_LABEL_BYTES {
            return Err(value.fault(format_args!(
                "a label has a name of 1 to {MAX_LABEL_BYTES} bytes and a value of at most {MAX_LABEL_BYTES}"
            )));
        }
        if key.chars().chain(text.chars()).any(char::is_control) {
            return Err(value.fault("holds a control character"));
        }
        if labels.len() == MAX_LABELS {
            return Err(value.fault(format_args!("a host has at most {MAX_LABELS} labels")));
        }
        labels.insert(key, text.to_owned());
    }
    Ok(labels)
}
