//! What goes to a collector, if the configuration names one: the page of `metrics`, and what became of jobs.

use std::io;
use std::sync::Arc;

use strongroom_job::JobId;

use super::{Shared, metrics};
use crate::store::Store;
use crate::telemetry::{Ended, Source, Subject, Telemetry};

pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Option<Telemetry>> {
    let in_force = shared.in_force();
    let Some(telemetry) = &in_force.config.telemetry else { return Ok(None) };
    let watched = &shared.watched;
    let (clock, store, page) = (Arc::clone(&watched.clock), watched.store.clone(), Arc::clone(shared));
    let source = Source {
        started: watched.started,
        now: Box::new(move || clock.now()),
        page: Box::new(move || metrics::of(&page)),
        end: Box::new(move |job| {
            let store = store.clone();
            Box::pin(async move { end(&store, job).await })
        }),
        meters: Arc::clone(watched.store.meters()),
    };
    let log = in_force.config.log_origin.clone();
    let (started, tracer) = Telemetry::start(telemetry, log, source)?;
    if let Some(tracer) = tracer {
        watched.dispatcher.board().traced_by(tracer);
    }
    Ok(Some(started))
}

/// How a job ended. What cannot be read is somebody else's to tell.
async fn end(store: &Store, job: JobId) -> Option<Ended> {
    let row = store.row(&job).await.ok()??;
    let end = row.life.end()?;
    let spec = store.spec(&job).ok()??;
    Some(Ended {
        subject: Subject::of(&spec),
        admitted_at: row.admitted_at,
        ended_at: end.at,
        state: end.outcome.state(),
        attempts: row.life.attempt,
    })
}
