//! From one configuration to the next one of a host that runs: what may change, what is different, and what would lock its people out.
//!
//! *Spec:* `docs/reference/config.md`, "While the host runs".

use std::fmt;

use strongroom_job::{Name, Role};

use super::{Config, Principal};

/// Whom a configuration would keep out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockOut {
    /// It names no principal.
    #[error("it names no principal, so nobody could connect: add [[principals]]")]
    Everybody,
    /// Nobody could operate the host.
    #[error(
        "no principal could operate the host: give one of them the role operate (one whom the trust file names, if there is one, and whose key no operator took out)"
    )]
    Operators,
}

/// Principals that differ, by name, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// They were not there.
    pub added: Vec<Name>,
    /// They are not there any more.
    pub removed: Vec<Name>,
    /// Their key, tenant, roles or rights are others.
    pub changed: Vec<Name>,
}

impl Config {
    /// Parts of `next` that differ and cannot change while a host runs, as they are called in the file.
    #[must_use]
    pub fn fixed(&self, next: &Self) -> Vec<&'static str> {
        let Self {
            listen,
            log_origin,
            // These may be others.
            principals: _,
            labels: _,
            volumes,
            queues,
            queue_rules,
            tenants: _,
            bounds,
            retention,
            check,
            serve_log,
            witnesses,
            witness_quorum,
            http_roots,
            forwards,
            telemetry,
            allow_from,
            serve_log_allow_from,
            admin,
            confine,
            run_as,
            isolation,
            // What is in it is in the roots.
            http_ca_file: _,
            // These say that something is.
            digest: _,
            governs: _,
        } = self;
        let mut bounds = bounds.clone();
        let max_limits = bounds.max_limits.clone();
        bounds.max_limits = next.bounds.max_limits.clone();
        let parts = [
            ("listen", *listen != next.listen),
            ("log_origin", *log_origin != next.log_origin),
            ("[volumes]", *volumes != next.volumes),
            ("queues", *queues != next.queues),
            ("[queue_rules]", *queue_rules != next.queue_rules),
            ("[tenants]", self.rules_differ(next)),
            ("[bounds]", bounds != next.bounds),
            ("[max_limits]", max_limits != next.bounds.max_limits),
            ("[retention]", *retention != next.retention),
            ("[check]", *check != next.check),
            ("serve_log", *serve_log != next.serve_log),
            ("[[witnesses]]", *witnesses != next.witnesses),
            ("witness_quorum", *witness_quorum != next.witness_quorum),
            ("[http]", *http_roots != next.http_roots),
            ("[[forward]]", *forwards != next.forwards),
            ("[telemetry]", *telemetry != next.telemetry),
            // What the host's process may open was decided at its start.
            ("any_directory of a principal, which nobody had", !self.any_directory() && next.any_directory()),
            ("allow_from", *allow_from != next.allow_from),
            ("serve_log_allow_from", *serve_log_allow_from != next.serve_log_allow_from),
            ("[admin]", *admin != next.admin),
            ("confine", *confine != next.confine),
            ("run_as", *run_as != next.run_as),
            ("isolation", *isolation != next.isolation),
        ];
        parts.into_iter().filter_map(|(part, differs)| differs.then_some(part)).collect()
    }

    fn any_directory(&self) -> bool {
        self.principals.iter().any(|who| who.any_directory)
    }

    /// The rules of a tenant may go with its last principal: a file that keeps them then is refused.
    fn rules_differ(&self, next: &Self) -> bool {
        let is_left = |tenant: &Name| next.principals.iter().any(|who| who.tenant == *tenant);
        next.tenants.iter().any(|(tenant, rules)| self.tenants.get(tenant) != Some(rules))
            || self.tenants.keys().any(|tenant| !next.tenants.contains_key(tenant) && is_left(tenant))
    }

    /// Whom this configuration keeps out. `operates` says who may operate the host, besides having the role.
    ///
    /// # Errors
    /// When nobody may connect, or nobody operate.
    pub fn lets_in(&self, operates: impl Fn(&Principal) -> bool) -> Result<(), LockOut> {
        if self.principals.is_empty() {
            return Err(LockOut::Everybody);
        }
        let operates = |who: &&Principal| who.roles.has(Role::Operate) && operates(who);
        self.principals.iter().find(operates).map(drop).ok_or(LockOut::Operators)
    }

    /// The principals of `next` that are not as they are here.
    #[must_use]
    pub fn diff(&self, next: &Self) -> Diff {
        let named =
            |config: &Self, name: &Name| config.principals.iter().find(|who| who.name == *name).cloned();
        let mut diff = Diff::default();
        for who in &next.principals {
            match named(self, &who.name) {
                None => diff.added.push(who.name.clone()),
                Some(before) if before != *who => diff.changed.push(who.name.clone()),
                Some(_) => {}
            }
        }
        let gone = self.principals.iter().filter(|who| named(next, &who.name).is_none());
        diff.removed.extend(gone.map(|who| who.name.clone()));
        diff
    }
}

/// In one line: `added: ann; removed: bob, carol`, or `no principal differs`.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)];
        let told = parts.into_iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            format!("{what}: {}", names.join(", "))
        });
        let told: Vec<String> = told.collect();
        f.write_str(if told.is_empty() { "no principal differs" } else { "" })?;
        f.write_str(&told.join("; "))
    }
}
