//! What stands beside each line of the host's log that is about a job: which, and whose.
//!
//! ```text
//! accept    an envelope, from its signature to its commit; `job` is the first in it
//! attempt   a job, from its start to its end; in it
//!   finish  its end being made durable
//! receipt   a receipt being made
//! ```
//!
//! Each has the fields `job` and `tenant`. They are there at every level but `off`: an error without them would be of little use.

use strongroom_job::{JobId, Name};
use tracing::field::{Empty, display};
use tracing::{Span, error_span};

/// The job is told with [`is_about`] once the envelope is read.
pub(crate) fn accept(tenant: &Name) -> Span {
    error_span!("accept", job = Empty, %tenant)
}

/// The tenant is told with [`is_of`] once the start is durable.
pub(crate) fn attempt(job: &JobId) -> Span {
    error_span!("attempt", %job, tenant = Empty)
}

pub(crate) fn finish(job: &JobId, tenant: Option<&Name>) -> Span {
    error_span!("finish", %job, tenant = tenant.map(display))
}

pub(crate) fn receipt(job: &JobId, tenant: &Name) -> Span {
    error_span!("receipt", %job, %tenant)
}

/// What the span that is open is about.
pub(crate) fn is_about(job: &JobId) {
    Span::current().record("job", display(job));
}

/// Whose the job of the span that is open is.
pub(crate) fn is_of(tenant: &Name) {
    Span::current().record("tenant", display(tenant));
}
