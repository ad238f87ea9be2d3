//! From a [`Job`] to a signed envelope for the pinned host.

use std::time::Duration;

use strongroom_job::{
    BatchBody, Context, HostView, Input, JobBody, JobId, SignedEnvelope, sign_batch as seal_batch,
    sign_job as seal_job,
};

use crate::job::Stdin;
use crate::{Batch, Client, Error, Job, clock, random};

/// A signed envelope and the ids of its jobs, ready to be submitted as often as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The ids, in the envelope's order.
    pub jobs: Vec<JobId>,
    /// What is sent.
    pub envelope: SignedEnvelope,
}

pub(crate) async fn sign(client: &Client, job: &Job) -> Result<Signed, Error> {
    let task = job.task(input_of(client, job).await?)?;
    let id = random::id()?;
    let body = JobBody::new(id, context(client, job).await?, task);
    let envelope = seal_job(&body, client.link.options.identity.secret())?;
    Ok(Signed { jobs: vec![id], envelope })
}

pub(crate) async fn sign_batch(client: &Client, batch: &Batch) -> Result<Signed, Error> {
    let template = batch.template().task(input_of(client, batch.template()).await?)?;
    let jobs = random::ids(batch.len())?;
    let context = context(client, batch.template()).await?;
    let body = BatchBody::new(context, template, batch.variations(&jobs));
    let envelope = seal_batch(&body, client.link.options.identity.secret())?;
    Ok(Signed { jobs, envelope })
}

async fn input_of(client: &Client, job: &Job) -> Result<Input, Error> {
    match job.stdin() {
        Stdin::Ready(input) => Ok(input.clone()),
        Stdin::Push(source) => client.push_input(source.clone()).await,
    }
}

async fn context(client: &Client, job: &Job) -> Result<Context, Error> {
    let session = client.link.session().await?;
    let HostView { tenant, max_lifetime_ms, .. } = &session.host;
    let now = clock::now();
    Ok(Context {
        audience: client.host_key(),
        tenant: tenant.clone(),
        issued_at: now,
        not_before: now,
        not_after: now.saturating_add(job.lifetime_within(Duration::from_millis(*max_lifetime_ms))),
        salt: random::id()?,
    })
}
