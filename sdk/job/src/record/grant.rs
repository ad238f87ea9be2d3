//! What the log says that a job may touch.

use serde::{Deserialize, Serialize};

use crate::{Destination, HttpRule, Listener, Mount, SecretUse};

/// Everything that an attempt may touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// Directories.
    pub mounts: Vec<Mount>,
    /// Clocks.
    pub clock: bool,
    /// Randomness.
    pub random: bool,
    /// A scratch directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scratch: bool,
    /// Destinations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<Destination>,
    /// Listening addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<Listener>,
    /// HTTP requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpRule>,
    /// Secrets, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
}

impl GrantRecord {
    /// What the log says of a job that gets what it asks for.
    #[must_use]
    pub fn of(asked: &crate::Capabilities) -> Self {
        Self {
            mounts: asked.mounts.clone(),
            clock: asked.clock,
            random: asked.random,
            scratch: asked.scratch,
            connect: asked.connect.clone(),
            listen: asked.listen.clone(),
            http: asked.http.clone(),
            secrets: asked.secrets.clone(),
        }
    }
}
