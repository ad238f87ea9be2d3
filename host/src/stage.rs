//! Stages of a job on its way through the host, as spans that cost one look at a flag while nobody measures them.
//!
//! `strongroom bench` turns them on, and adds them up: what stands beside a job's whole time in its table are these names, those of
//! the runtime (`instantiate`, `run`), and what lies between them. A job is in one of them at a time; but a span is closed when its task
//! runs again, and may then lie over the beginning of the next: `bench` ends it there.

/// The target of all of them, in the runtime, too.
pub(crate) const TARGET: &str = "strongroom::stage";

/// A span of one stage.
macro_rules! stage {
    ($name:literal) => {
        tracing::trace_span!(target: "strongroom::stage", $name)
    };
}
