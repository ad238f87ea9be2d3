//! Stages of a run, as spans that cost one look at a flag while nobody measures them.

/// A span of one stage; `strongroom bench` adds them up by name.
macro_rules! stage {
    ($name:literal) => {
        tracing::trace_span!(target: "strongroom::stage", $name)
    };
}
