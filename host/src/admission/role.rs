//! Which role each request takes: the one table, for every request of every listener.
//!
//! *Never:* whose job it is, or what it may touch: a role lets a request in, and everything else is asked afterwards.
//! *Spec:* `docs/reference/roles.md`, which a test holds against this table.

use strongroom_job::{JobId, Refusal, RefusalCode, Request, Role};

use crate::config::{Principal, Roles};

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Any role: who has none is not in the configuration.
    Any,
    /// This one.
    One(Role),
}

/// What a request takes. A new kind of request does not compile before it has its line here.
#[must_use]
pub const fn needed(request: &Request) -> Takes {
    match request {
        // Every client asks for it when it connects.
        Request::Host {} => Takes::Any,
        // Whoever has a role may give it on, and take back what it gave: what is given is never more than the giver has.
        Request::AddGrant { .. } | Request::RevokeGrant { .. } => Takes::Any,
        Request::Show { .. }
        | Request::Wait { .. }
        | Request::Ends { .. }
        | Request::List { .. }
        | Request::Output { .. }
        | Request::Artifact { .. }
        | Request::Task { .. }
        | Request::Receipt { .. }
        | Request::Modules {}
        | Request::Grants { .. }
        | Request::Queues {}
        | Request::Events(_) => Takes::One(Role::View),
        // Asked before a push: whoever may not give the bytes has no use for the answer.
        Request::Has { .. } | Request::Push { .. } | Request::Submit { .. } | Request::Cancel { .. } => {
            Takes::One(Role::Submit)
        }
        Request::Erase { .. } | Request::SetQueue { .. } | Request::AllEvents(_) => Takes::One(Role::Operate),
        Request::ChangePrincipal { .. } | Request::Principals { .. } => Takes::One(Role::Admin),
    }
}

/// The role that `roles` lack for the request; none when it may come in.
#[must_use]
pub fn lacking(roles: Roles, request: &Request) -> Option<Role> {
    match needed(request) {
        Takes::Any => None,
        Takes::One(role) => (!roles.has(role)).then_some(role),
    }
}

/// What is said to a principal that lacks a role.
#[must_use]
pub fn missing(who: &Principal, role: Role) -> Refusal {
    let text = format!(
        "{} does not have the role {role} on this host, and this request takes it; it has {}. Ask whoever keeps the host's configuration",
        who.name, who.roles
    );
    Refusal { missing: vec![role.to_string()], ..Refusal::new(RefusalCode::MissingRole, text) }
}

/// The job that a request names, for the log.
#[must_use]
pub const fn names(request: &Request) -> Option<JobId> {
    match request {
        Request::Show { job }
        | Request::Wait { job }
        | Request::Cancel { job }
        | Request::Output { job, .. }
        | Request::Artifact { job, .. }
        | Request::Task { job }
        | Request::Receipt { job, .. }
        | Request::Erase { job, .. } => Some(*job),
        Request::Events(query) | Request::AllEvents(query) => query.job,
        Request::Host {}
        | Request::Submit { .. }
        | Request::Has { .. }
        | Request::Push { .. }
        | Request::Ends { .. }
        | Request::List { .. }
        | Request::Modules {}
        | Request::Queues {}
        | Request::AddGrant { .. }
        | Request::Grants { .. }
        | Request::RevokeGrant { .. }
        | Request::ChangePrincipal { .. }
        | Request::Principals { .. }
        | Request::SetQueue { .. } => None,
    }
}
