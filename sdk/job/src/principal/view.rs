//! What a host says of its principals to operators who ask.
//!
//! *Spec:* `docs/formats/wire.md`.

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::{Name, PublicKey, Role};

/// A key of which the host's file or a command of an operator says something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalView {
    /// The key.
    pub key: PublicKey,
    /// Whether a command took it out.
    pub revoked: bool,
    /// What names it, when something does.
    pub source: Option<PrincipalSource>,
    /// What people call it; none of a key that nothing names.
    pub name: Option<Name>,
    /// Its tenant; none of a key that nothing names.
    pub tenant: Option<Name>,
    /// Its roles.
    pub roles: Vec<Role>,
    /// The index of the `principal-changed` record that speaks of it, in the audit log; none when no command does.
    pub log_index: Option<u64>,
    /// What a command would say to make the same; none when no command can (`any_directory`, `any_network`, long lists).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Box<Entry>>,
}

/// What makes a key a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrincipalSource {
    /// The configuration's file.
    File,
    /// A command.
    Command,
}
