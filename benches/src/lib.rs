//! What the benches share.

pub mod machine;
