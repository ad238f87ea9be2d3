//! What the benches share.

pub mod contest;
pub mod jobs;
pub mod machine;
pub mod serving;
