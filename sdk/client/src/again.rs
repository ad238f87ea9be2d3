//! A job that is over, once more: its task is fetched as it was signed and signed again, as a new job.
//!
//! That keeps "one job has one end" true. The old job stays what it is, in the store and in the log; the new one has its own id,
//! its own attempts and its own records.

use strongroom_job::{AcceptedJob, Input, JobId, MAX_JOB_BODY_BYTES, Plan, Taken, Task, Timestamp, strict};

use crate::output::OutputReader;
use crate::{Client, Error, clock, signing};

impl Client {
    /// The task of a job as it was signed.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job of our tenant.
    pub async fn task(&self, job: JobId) -> Result<Task, Error> {
        let mut reader = OutputReader::open_task(self.clone(), job).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next().await? {
            if bytes.len() + piece.len() > MAX_JOB_BODY_BYTES {
                return Err(self.protocol("the task that it sent is longer than any can be"));
            }
            bytes.extend_from_slice(&piece);
        }
        strict::parse(&bytes, MAX_JOB_BODY_BYTES)
            .map_err(|error| self.protocol(&format!("the task that it sent is none: {error}")))
    }

    /// Runs a job that is over once more: dead letters above all. Signs its task as a new job with a new id, and submits that.
    ///
    /// The same as before but for what only made sense then:
    ///
    /// - times in the plan that have passed are left out, so that the new job is not expired from birth;
    /// - a unique key stays, so that no two jobs with it run at once. But the new job holds it only until it is over, and is
    ///   refused ([`NotUnique`](crate::RefusalCode::NotUnique)) while another job holds it, also the old one in its window. To do
    ///   without, use [`resubmit`](Self::resubmit);
    /// - it waits for no other job, as those that the old one waited for are over.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job of our tenant. [`NotAgain`](Error::NotAgain) when the job is not
    /// over, or takes its input from other jobs of its flow: then submit the flow again.
    pub async fn retry(&self, job: JobId) -> Result<AcceptedJob, Error> {
        self.resubmit(job, |_| ()).await
    }

    /// As [`retry`](Self::retry), but `change` may change the task before it is signed.
    ///
    /// # Errors
    /// As [`retry`](Self::retry), and [`InvalidJob`](Error::InvalidJob) when the changed task breaks a rule.
    pub async fn resubmit(&self, job: JobId, change: impl FnOnce(&mut Task)) -> Result<AcceptedJob, Error> {
        let state = self.show(job).await?.state;
        if !state.is_terminal() {
            return Err(Error::NotAgain { job, problem: format!("it is {state}, not over") });
        }
        let mut task = self.task(job).await?;
        task.plan = renewed(task.plan, clock::now());
        change(&mut task);
        if matches!(task.input, Input::Outputs { .. }) {
            let problem = "its input is what other jobs of its flow left: submit the flow again";
            return Err(Error::NotAgain { job, problem: problem.into() });
        }
        let signed = signing::sign_task(self, task).await?;
        let accepted = self.submit_signed(&signed).await?;
        accepted.first().copied().ok_or_else(|| self.protocol("it accepted no job"))
    }
}

/// The plan of a job that is signed again at `now`.
fn renewed(mut plan: Plan, now: Timestamp) -> Plan {
    plan.at = plan.at.filter(|at| *at > now);
    plan.expires = plan.expires.filter(|expires| *expires > now);
    plan.after.clear();
    if let Some(unique) = &mut plan.unique {
        unique.window_ms = 0;
        unique.taken = Taken::Refuse;
    }
    plan
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::collections::BTreeMap;

    use strongroom_job::{After, RetryOn, RetryPolicy, Unique};

    use super::*;

    #[test]
    fn a_job_that_is_signed_again_keeps_what_still_makes_sense() {
        let time = |millis| Some(Timestamp::from_millis(millis));
        let retry = RetryPolicy {
            attempts: 3,
            on: vec![RetryOn::Failed],
            pause_ms: 1,
            max_pause_ms: 2,
            max_age_ms: Some(3),
        };
        let plan = Plan {
            at: time(5),
            expires: time(10),
            retry: Some(retry.clone()),
            unique: Some(Unique { key: "k".into(), window_ms: 9, taken: Taken::Replace }),
            group: Some("g".into()),
            requires: BTreeMap::from([("a".into(), "b".into())]),
            after: vec![After::success_of(0)],
            repeat: None,
        };
        let passed = renewed(plan.clone(), Timestamp::from_millis(10));
        assert_eq!((passed.at, passed.expires, passed.after.len()), (None, None, 0));
        assert_eq!(passed.unique, Some(Unique { key: "k".into(), window_ms: 0, taken: Taken::Refuse }));
        assert_eq!((passed.retry, passed.group, passed.requires.len()), (Some(retry), Some("g".into()), 1));
        let to_come = renewed(plan, Timestamp::from_millis(4));
        assert_eq!((to_come.at, to_come.expires), (time(5), time(10)));
    }
}
