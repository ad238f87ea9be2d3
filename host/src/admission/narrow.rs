//! What a job of somebody's delegate is held against besides what it may touch: its queue, its labels, lower limits.

use std::borrow::Cow;

use strongroom_job::{Limits, Refusal, RefusalCode, Task};

use crate::config::{Config, Principal};

/// The highest limits that jobs of this principal may ask for.
pub fn max_limits<'a>(who: &Principal, config: &'a Config) -> Cow<'a, Limits> {
    let max = &config.bounds.max_limits;
    match who.narrowed.as_deref() {
        Some(narrowed) => Cow::Owned(narrowed.max_limits.within(max)),
        None => Cow::Borrowed(max),
    }
}

/// Whether the grants above its principal leave a job its queue and its labels.
pub(super) fn check(task: &Task, who: &Principal) -> Result<(), Refusal> {
    let Some(narrowed) = who.narrowed.as_deref() else { return Ok(()) };
    let mut missing = Vec::new();
    if narrowed.queues.as_ref().is_some_and(|queues| !queues.contains(&task.queue)) {
        missing.push(format!("queue {}", task.queue));
    }
    let lacks = narrowed.labels.iter().filter(|(label, value)| task.labels.get(*label) != Some(*value));
    missing
        .extend(lacks.map(|(label, value)| format!("jobs without the label {label:?} of value {value:?}")));
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{} is a delegate, and its grant {} does not give: {}. Sign the job within it, or ask who gave it for more",
        who.name,
        narrowed.grant,
        missing.join("; ")
    );
    Err(Refusal { missing, ..Refusal::new(RefusalCode::NotGranted, text) })
}
