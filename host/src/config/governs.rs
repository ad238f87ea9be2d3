//! Digests of what governs a host, so that the log can say when it is not what it was.
//!
//! *Never:* a secret's value: the configuration has none. *Spec:* `docs/formats/record.md`, "What governs a host".

use strongroom_job::{Change, Digest, Digester, Event};

use super::Setting;

/// First words of the keys that hold for all jobs.
const POLICY: [&str; 8] =
    ["queues", "queue_rules", "tenants", "labels", "max_limits", "retention", "volumes", "http"];

/// What governs a host, as three digests of the values in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Governs {
    /// All that is in neither of the other two.
    pub configuration: Digest,
    /// Who may connect, and what each may ask for.
    pub principals: Digest,
    /// What holds for all jobs.
    pub policy: Digest,
}

impl Governs {
    /// Of every value in force, in the order of [`Config::settings`](super::Config::settings).
    #[must_use]
    pub fn of(settings: &[Setting]) -> Self {
        let (mut configuration, mut principals, mut policy) =
            (Digester::new(), Digester::new(), Digester::new());
        for Setting { key, value, .. } in settings {
            // What bounds nothing has no value, and no line.
            let Some(value) = value else { continue };
            let digester = match key.split(['.', '[']).next().unwrap_or_default() {
                "principals" => &mut principals,
                word if POLICY.contains(&word) => &mut policy,
                _ => &mut configuration,
            };
            digester.update(format!("{key} = {value}\n").as_bytes());
        }
        Self {
            configuration: configuration.finish(),
            principals: principals.finish(),
            policy: policy.finish(),
        }
    }

    /// What the log is told of it, if that is not what it said `before`.
    #[must_use]
    pub fn changed_from(self, before: Option<Self>) -> Option<Event> {
        if before == Some(self) {
            return None;
        }
        Some(Event::ConfigurationChanged {
            configuration: Change { old: before.map(|before| before.configuration), new: self.configuration },
            principals: Change { old: before.map(|before| before.principals), new: self.principals },
            policy: Change { old: before.map(|before| before.policy), new: self.policy },
        })
    }
}
