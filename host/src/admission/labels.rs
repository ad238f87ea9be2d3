//! The labels that a job requires, held against those that this host has.

use std::collections::BTreeMap;

use strongroom_job::{Refusal, RefusalCode};

/// Whether the host has every label that is required, with that value.
///
/// # Errors
/// Names what is required and what stands here instead. All labels of the host come last, since a long text is cut.
pub(super) fn check(
    required: &BTreeMap<String, String>,
    here: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let mut other = Vec::new();
    for (name, value) in required {
        match here.get(name) {
            Some(same) if same == value => {}
            Some(found) => other.push(format!("{} (here it is {found:?})", label(name, value))),
            None => other.push(format!("{} (there is no such label here)", label(name, value))),
        }
    }
    if other.is_empty() {
        return Ok(());
    }
    let here: Vec<String> = here.iter().map(|(name, value)| label(name, value)).collect();
    let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
    let text = format!(
        "the job requires labels that this host does not have: {}. Send it to a host that has them, or ask this host's operator to set \
         them; its labels are: {here}",
        other.join(", ")
    );
    Err(Refusal::new(RefusalCode::LabelMismatch, text))
}

fn label(name: &str, value: &str) -> String {
    format!("{name}={value:?}")
}
