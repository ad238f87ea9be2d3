//! The runs of a series that was admitted.

use strongroom_job::{Digest, JobId, Plan, Timestamp};

use super::AdmittedJob;

/// What the hash of a run's id begins with, so that it is of use for nothing else.
const DOMAIN: &[u8] = b"strongroom occurrence 1";

impl AdmittedJob {
    /// The run of a series for one of its due times: the one way to a new admitted job beside [`admit`](super::admit).
    ///
    /// It gets past no check. Everything in it is what the principal signed and `admit` granted, in full; what it leaves out, the
    /// series, is what allowed it: the signature covers when runs are due and until when. Rights that were taken away since are
    /// missed at each run, as with every job ([`AdmittedJob::grant`]).
    ///
    /// Its id is always the same for a due time, so the same run cannot be made twice. The salt of the signed body keeps others,
    /// who know the series from the log, from taking the id beforehand.
    #[must_use]
    pub fn occurrence(&self, due: Timestamp) -> Self {
        let (series, salt) = (self.id.as_bytes(), self.context.salt.as_bytes());
        let digest = Digest::of(&[DOMAIN, series, salt, &due.as_millis().to_be_bytes()].concat());
        let mut id = [0; 16];
        id.copy_from_slice(&digest.as_bytes()[..16]);
        let mut run = Self { id: JobId::from_bytes(id), ..self.clone() };
        run.task.plan = Plan { repeat: None, ..run.task.plan };
        run
    }
}
