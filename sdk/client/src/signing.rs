//! From a [`Job`] to a signed envelope for the pinned host.

use std::time::Duration;

use strongroom_job::{
    BatchBody, Context, HostView, Input, JobBody, JobId, SignedEnvelope, Task, sign_batch as seal_batch,
    sign_job as seal_job,
};

use crate::flow::{Compiled, compile};
use crate::job::Stdin;
use crate::{Batch, Client, Error, Flow, Job, clock, random};

/// A signed envelope and the ids of its jobs, ready to be submitted as often as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The ids, in the order in which the jobs were given.
    pub jobs: Vec<JobId>,
    /// What is sent. A flow's jobs stand in another order in it.
    pub envelope: SignedEnvelope,
    /// The ids, in the envelope's order.
    pub(crate) sent: Vec<JobId>,
}

pub(crate) async fn sign(client: &Client, job: &Job) -> Result<Signed, Error> {
    let input = input_of(client, job).await?;
    let context = context(client, job.said_lifetime()).await?;
    let task = job.task_at(input, context.issued_at)?;
    seal_one(client, context, task)
}

/// Signs a task that is known already, as a new job.
pub(crate) async fn sign_task(client: &Client, task: Task) -> Result<Signed, Error> {
    let context = context(client, None).await?;
    seal_one(client, context, task)
}

pub(crate) async fn sign_batch(client: &Client, batch: &Batch) -> Result<Signed, Error> {
    let job = batch.template();
    let input = input_of(client, job).await?;
    let context = context(client, job.said_lifetime()).await?;
    let template = job.task_at(input, context.issued_at)?;
    let jobs = random::ids(batch.len())?;
    let body = BatchBody::new(context, template, batch.variations(&jobs));
    let envelope = seal_batch(&body, client.link.options.identity.secret())?;
    Ok(Signed { sent: jobs.clone(), jobs, envelope })
}

pub(crate) async fn sign_flow(client: &Client, flow: &Flow) -> Result<Signed, Error> {
    let mut inputs = Vec::with_capacity(flow.len());
    for job in flow.jobs() {
        inputs.push(match job.input() {
            Some(input) => input.clone(),
            None => input_of(client, job.job()).await?,
        });
    }
    let context = context(client, flow.lifetime()).await?;
    let tasks = flow.jobs().iter().zip(inputs);
    let tasks = tasks.map(|(job, input)| job.job().task_at(input, context.issued_at));
    let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
    let ids = random::ids(flow.len())?;
    let Compiled { template, jobs } = compile(flow, tasks, &ids)?;
    let sent = jobs.iter().map(|job| job.id).collect();
    let envelope =
        seal_batch(&BatchBody::new(context, template, jobs), client.link.options.identity.secret())?;
    Ok(Signed { jobs: ids, envelope, sent })
}

fn seal_one(client: &Client, context: Context, task: Task) -> Result<Signed, Error> {
    let id = random::id()?;
    let envelope = seal_job(&JobBody::new(id, context, task), client.link.options.identity.secret())?;
    Ok(Signed { jobs: vec![id], envelope, sent: vec![id] })
}

async fn input_of(client: &Client, job: &Job) -> Result<Input, Error> {
    match job.stdin() {
        Stdin::Ready(input) => Ok(input.clone()),
        Stdin::Push(source) => client.push_input(source.clone()).await,
    }
}

async fn context(client: &Client, said: Option<Duration>) -> Result<Context, Error> {
    let session = client.link.session().await?;
    let HostView { tenant, max_lifetime_ms, .. } = &session.host;
    let now = clock::now();
    Ok(Context {
        audience: client.host_key(),
        tenant: tenant.clone(),
        issued_at: now,
        not_before: now,
        not_after: now.saturating_add(Job::lifetime_within(said, Duration::from_millis(*max_lifetime_ms))),
        salt: random::id()?,
    })
}
