//! Names that people give to tenants, queues, volumes and principals.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// 1 to 64 of `a-z`, `0-9`, `-`, `_`, `.`, starting with a letter or digit.
///
/// Such a name is safe in a file name, a log line and a shell word.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `default`: the tenant and the queue of who names none.
    #[must_use]
    pub fn default_name() -> Self {
        Self("default".into())
    }
}

/// A text that cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use 1 to 64 of a-z, 0-9, '-', '_', '.', starting with a letter or digit")]
pub struct ParseNameError(String);

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let allowed = |byte: u8| plain(&byte) || matches!(byte, b'-' | b'_' | b'.');
        let ok = text.len() <= MAX_NAME_BYTES
            && text.as_bytes().first().is_some_and(plain)
            && text.bytes().all(allowed);
        if ok { Ok(Self(text.into())) } else { Err(ParseNameError(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for good in ["a", "default", "7.x-y_z", &"a".repeat(64)] {
            assert_eq!(good.parse::<Name>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for wrong in ["", "-a", "A", "a b", "a/b", "..", "ü", "a\n", &"a".repeat(65)] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong:?}");
        }
    }
}
