//! What a job is, as the store writes it down: of a batch's jobs the first whole, and each other as what differs from it.
//!
//! The jobs of a batch are one template and little else, so that little is all that most of them take. A job that came alone is what its envelope says, which is kept anyhow.
//!
//! *Never:* which row is where (`keys`).
//! *Spec:* `docs/formats/state.md`, "What a job is".

use serde_json::{Map, Value};
use strongroom_job::{Envelope, Task};

use super::ReadError;
use super::bytes::DAMAGED;
use super::row::JobRow;
use crate::admission::{self, AdmittedJob};

/// What a job has that the one which stands for its envelope has not, or all of it; nothing when they have the same task.
pub(super) fn variation(job: &AdmittedJob, base: Option<&AdmittedJob>) -> Result<Option<Vec<u8>>, ReadError> {
    let (task, base) = (job.task(), base.map(AdmittedJob::task));
    let mut fields = Map::new();
    // Every field of a task is here, or this does not compile.
    let Task {
        module,
        entry,
        args,
        env,
        input,
        capabilities,
        limits,
        queue,
        priority,
        idempotent,
        labels,
        plan,
    } = task;
    let mut put = |name: &str, same: Option<bool>, value: &dyn Fn() -> serde_json::Result<Value>| {
        if same != Some(true) {
            fields.insert(name.to_owned(), value()?);
        }
        Ok::<_, ReadError>(())
    };
    put("module", base.map(|base| base.module == *module), &|| serde_json::to_value(module))?;
    put("entry", base.map(|base| base.entry == *entry), &|| serde_json::to_value(entry))?;
    put("args", base.map(|base| base.args == *args), &|| serde_json::to_value(args))?;
    put("env", base.map(|base| base.env == *env), &|| serde_json::to_value(env))?;
    put("input", base.map(|base| base.input == *input), &|| serde_json::to_value(input))?;
    put("capabilities", base.map(|base| base.capabilities == *capabilities), &|| {
        serde_json::to_value(capabilities)
    })?;
    put("limits", base.map(|base| base.limits == *limits), &|| serde_json::to_value(limits))?;
    put("queue", base.map(|base| base.queue == *queue), &|| serde_json::to_value(queue))?;
    put("priority", base.map(|base| base.priority == *priority), &|| serde_json::to_value(priority))?;
    put("idempotent", base.map(|base| base.idempotent == *idempotent), &|| serde_json::to_value(idempotent))?;
    put("labels", base.map(|base| base.labels == *labels), &|| serde_json::to_value(labels))?;
    put("plan", base.map(|base| base.plan == *plan), &|| serde_json::to_value(plan))?;
    Ok(if fields.is_empty() { None } else { Some(serde_json::to_vec(&fields)?) })
}

/// The job which stands for its envelope.
pub(super) fn whole(job: &AdmittedJob) -> Result<Vec<u8>, ReadError> {
    Ok(serde_json::to_vec(job)?)
}

/// The opposite of [`whole`].
pub(super) fn unpack_whole(bytes: &[u8]) -> Result<AdmittedJob, ReadError> {
    Ok(serde_json::from_slice(bytes)?)
}

/// The job of this row, which came alone, from the envelope that was verified before it was written down.
pub(super) fn unpack_envelope(bytes: &[u8], row: &JobRow) -> Result<AdmittedJob, ReadError> {
    let damaged = || ReadError::Damaged("the envelope of a job");
    let parsed = Envelope::parse(bytes).map_err(|_| damaged())?;
    let (envelope, body) = parsed.claims().map_err(|_| damaged())?.ok_or_else(damaged)?;
    if (envelope, body.id) != (row.envelope, row.job) {
        return Err(damaged());
    }
    Ok(admission::readmit_kept(body, row.signer, envelope))
}

/// The opposite of [`variation`].
pub(super) fn unpack_variation(whole: &[u8], variation: &[u8]) -> Result<AdmittedJob, ReadError> {
    let mut job: Map<String, Value> = serde_json::from_slice(whole)?;
    let fields: Map<String, Value> = serde_json::from_slice(variation)?;
    let task = job.get_mut("task").and_then(Value::as_object_mut).ok_or(DAMAGED)?;
    task.extend(fields);
    Ok(serde_json::from_value(job.into())?)
}
