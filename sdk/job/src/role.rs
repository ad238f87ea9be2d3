//! Roles: what a principal may ask of a host at all, before it is asked what its jobs may touch.
//!
//! *Never:* which request takes which role: that is the host's table, `host/src/admission/role.rs`.
//! *Spec:* `docs/reference/roles.md`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One role. None contains another, but for [`Role::Admin`], which contains all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// To look at what the own tenant has on the host.
    View,
    /// To give the host modules, inputs and jobs, and to stop jobs of the own tenant.
    Submit,
    /// To do what concerns all tenants: queues, erasing.
    Operate,
    /// All of the others.
    Admin,
}

/// Not the name of a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such role; the roles are view, submit, operate and admin")]
pub struct ParseRoleError;

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::View, Self::Submit, Self::Operate, Self::Admin];

    /// Its one spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Submit => "submit",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(ParseRoleError)
    }
}
