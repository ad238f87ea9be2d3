//! The questions that admission asks of a job, in their order: one list, for the verdict and for its explanation.

use strongroom_job::{Context, PublicKey, Refusal, RefusalCode, Request, Task, Timestamp, VerifiedJob};

use super::{Policy, check_limits, check_queue, grant, labels, narrow, plan, role, window};
use crate::config::Principal;

/// What a job is held against.
pub(super) struct Asked<'a> {
    pub(super) context: &'a Context,
    pub(super) task: &'a Task,
    pub(super) who: &'a Principal,
    pub(super) policy: &'a Policy<'a>,
    pub(super) now: Timestamp,
}

/// One question.
struct Step {
    asks: &'static str,
    answer: fn(&Asked<'_>) -> Result<(), Refusal>,
}

const STEPS: [Step; 9] = [
    Step { asks: "signed for this host", answer: |job| audience(job.context, job.policy.host) },
    Step { asks: "signed for its principal's tenant", answer: |job| tenant(job.context, job.who) },
    Step {
        asks: "its time window",
        answer: |job| window::check(job.context, &job.policy.config.bounds, job.now),
    },
    Step { asks: "its queue exists", answer: |job| check_queue(&job.task.queue, job.policy.config) },
    Step {
        asks: "the labels that it requires",
        answer: |job| labels::check(&job.task.plan.requires, &job.policy.config.labels),
    },
    Step {
        asks: "its plan can come to pass",
        answer: |job| plan::check(&job.task.plan, &job.policy.config.bounds, job.now),
    },
    Step {
        asks: "its limits",
        answer: |job| check_limits(&job.task.limits, &narrow::max_limits(job.who, job.policy.config)),
    },
    Step { asks: "what its grants leave", answer: |job| narrow::check(job.task, job.who) },
    Step {
        asks: "what it may touch",
        answer: |job| grant::resolve(&job.task.capabilities, job.who, job.policy.config).map(drop),
    },
];

/// The first no.
pub(super) fn judge(job: &Asked<'_>) -> Result<(), Refusal> {
    STEPS.iter().try_for_each(|step| (step.answer)(job))
}

/// One question to a job, and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was asked, in a few words.
    pub asks: &'static str,
    /// A yes, or the refusal.
    pub answer: Result<(), Refusal>,
}

/// Every question that a host asks about a job of this principal under this policy, with its answer: first for the role, then those of
/// [`admit`](super::admit), which stops at the first no. The job is allowed when each is a yes.
///
/// What depends on the state of a host is not among them: whether it has module and input, whether the tenant has room, whether the
/// queue is open.
#[must_use]
pub fn explain(job: &VerifiedJob, who: &Principal, policy: &Policy<'_>, now: Timestamp) -> Vec<Answer> {
    let may = match role::lacking(who.roles, &Request::Submit { length: 0 }) {
        Some(lacking) => Err(role::missing(who, lacking)),
        None => Ok(()),
    };
    let body = job.body();
    let asked = Asked { context: &body.context, task: &body.task, who, policy, now };
    let first = Answer { asks: "the role submit", answer: may };
    let others = STEPS.iter().map(|step| Answer { asks: step.asks, answer: (step.answer)(&asked) });
    std::iter::once(first).chain(others).collect()
}

fn audience(context: &Context, host: &PublicKey) -> Result<(), Refusal> {
    if context.audience == *host {
        return Ok(());
    }
    let text = format!(
        "the job is signed for the host {}, and this host is {host}: sign it for this host",
        context.audience
    );
    Err(Refusal::new(RefusalCode::WrongAudience, text))
}

fn tenant(context: &Context, who: &Principal) -> Result<(), Refusal> {
    if context.tenant == who.tenant {
        return Ok(());
    }
    let text = format!(
        "the job is signed for tenant {}, and {} belongs to tenant {}: sign it for that tenant",
        context.tenant, who.name, who.tenant
    );
    Err(Refusal::new(RefusalCode::WrongTenant, text))
}
