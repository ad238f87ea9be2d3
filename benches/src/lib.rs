//! What the benches share.

pub mod jobs;
pub mod machine;
