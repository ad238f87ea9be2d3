//! Delegation: what a principal gives to another key is never more than it has, at no moment, and ends with whoever gave it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

#[path = "../common/mod.rs"]
mod common;
mod ended;
mod kept;
mod meet;
#[path = "../transport/raw.rs"]
#[allow(dead_code, reason = "written for the transport's tests")]
mod raw;
mod support;
mod taken;

/// What `raw` needs of its neighbours.
mod site {
    pub(crate) use crate::support::soon;
}
