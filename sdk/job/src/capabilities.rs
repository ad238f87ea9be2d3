//! What a job asks to touch: directories, clocks, randomness, scratch space, the network, secrets.
//!
//! Nothing is granted by being left out, and nothing is granted in part.
//!
//! *Spec:* `docs/formats/job.md`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::network::MAX_RULE_BYTES;
use crate::task::{TaskError, at_most, fault, quoted};
use crate::{Destination, HttpRule, Listener, Name};

/// Most directories that a job may ask for.
pub const MAX_MOUNTS: usize = 64;
/// Longest guest path or directory name, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// Longest sum of all paths of a job, in bytes: the audit record of the job holds them all, and must fit a log entry.
pub const MAX_PATHS_BYTES: usize = 16 * 1024;
/// Most destinations, most listeners, most HTTP rules and most secrets of a job, each.
pub const MAX_RULES: usize = 64;
/// Longest sum of all destinations, listeners, HTTP rules and secrets of a job, in bytes: they stand in the record, too.
pub const MAX_RULES_BYTES: usize = 8 * 1024;
/// Where a job with a scratch directory sees it.
pub const SCRATCH_PATH: &str = "/scratch";
/// What is here at the end of an attempt is kept.
pub const ARTIFACTS_PATH: &str = "/scratch/out";
/// Where secrets are given as files.
pub const SECRETS_PATH: &str = "/run/secrets";
/// Longest variable that a secret is given as, in bytes.
const MAX_VARIABLE_BYTES: usize = 256;

/// What a job asks to touch. The default asks for nothing but clocks and randomness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Directories of the host, and where the guest sees them.
    pub mounts: Vec<Mount>,
    /// Wall clock and monotonic clock, coarse. Without it time stands in, the same on every host.
    pub clock: bool,
    /// Real randomness. Without it a stream seeded from the envelope stands in.
    pub random: bool,
    /// A private empty directory at [`SCRATCH_PATH`], gone when the attempt is over. Files that are under
    /// [`ARTIFACTS_PATH`] by then are kept as artifacts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scratch: bool,
    /// Where it may connect or send to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<Destination>,
    /// Where it may wait for connections or datagrams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<Listener>,
    /// HTTP requests that it may make.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpRule>,
    /// Secrets of the host that it may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            mounts: Vec::new(),
            clock: true,
            random: true,
            scratch: false,
            connect: Vec::new(),
            listen: Vec::new(),
            http: Vec::new(),
            secrets: Vec::new(),
        }
    }
}

/// A secret that the host keeps, and how the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretUse {
    /// Its name at the host.
    pub name: Name,
    /// How it is given.
    #[serde(rename = "as")]
    pub form: SecretForm,
}

/// How a guest sees a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretForm {
    /// As an environment variable of this name.
    Env(String),
    /// As a file of this name in [`SECRETS_PATH`].
    File(Name),
}

impl SecretUse {
    /// Bytes of its names.
    pub(crate) fn len(&self) -> usize {
        let form = match &self.form {
            SecretForm::Env(variable) => variable.len(),
            SecretForm::File(file) => file.as_str().len(),
        };
        self.name.as_str().len() + form
    }
}

impl fmt::Display for SecretUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            SecretForm::Env(variable) => write!(f, "secret {} as variable {}", self.name, quoted(variable)),
            SecretForm::File(file) => write!(f, "secret {} as {SECRETS_PATH}/{file}", self.name),
        }
    }
}

/// One directory of the host inside the guest's tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The directory on the host's side.
    pub source: MountSource,
    /// Absolute path at which the guest sees it.
    pub path: String,
    /// What the guest may do there.
    pub access: Access,
}

/// A directory on the host's side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MountSource {
    /// A volume that the host's configuration names.
    Volume(Name),
    /// A directory inside such a volume.
    VolumePath {
        /// The volume.
        volume: Name,
        /// Relative to it, `/` between parts; nothing on it may be a symbolic link.
        path: String,
    },
    /// An absolute path. Only for principals whom the host lets name its directories, such as its own user.
    Directory(String),
}

impl MountSource {
    /// Bytes of its name or path.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Volume(name) => name.as_str().len(),
            Self::VolumePath { volume, path } => volume.as_str().len() + path.len(),
            Self::Directory(path) => path.len(),
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "read",
            Access::ReadWrite => "write",
        };
        match &self.source {
            MountSource::Volume(name) => write!(f, "{access} volume {name} at {}", self.path),
            MountSource::VolumePath { volume, path } => {
                write!(f, "{access} volume {volume}, directory {path:?}, at {}", self.path)
            }
            MountSource::Directory(path) => write!(f, "{access} directory {path:?} at {}", self.path),
        }
    }
}

/// What a guest may do in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Look, change nothing.
    Read,
    /// Look and change.
    ReadWrite,
}

impl Capabilities {
    pub(crate) fn check(&self) -> Result<(), TaskError> {
        at_most("capabilities.mounts", self.mounts.len(), MAX_MOUNTS)?;
        let bytes = self.mounts.iter().map(|mount| mount.path.len() + mount.source.len()).sum();
        at_most("capabilities.mounts, bytes of all paths", bytes, MAX_PATHS_BYTES)?;
        for (index, mount) in self.mounts.iter().enumerate() {
            let field = format!("capabilities.mounts[{index}]");
            self.check_mount(&field, mount)?;
            if self.mounts[..index].iter().any(|other| other.path == mount.path) {
                return Err(fault(
                    format_args!("{field}.path"),
                    format_args!("{} is taken by an earlier mount", mount.path),
                ));
            }
        }
        self.check_rules()?;
        self.check_secrets()
    }

    fn check_mount(&self, field: &str, mount: &Mount) -> Result<(), TaskError> {
        check_path(&format!("{field}.path"), &mount.path)?;
        match &mount.source {
            MountSource::Directory(path) => check_path(&format!("{field}.source.directory"), path)?,
            MountSource::VolumePath { path, .. } => {
                check_below(&format!("{field}.source.volume-path.path"), path)?;
            }
            MountSource::Volume(_) => {}
        }
        let within = |place: &str| {
            mount.path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if self.scratch && within(SCRATCH_PATH) || !self.secrets.is_empty() && within(SECRETS_PATH) {
            let problem = format_args!("{} is where the host puts scratch files and secrets", mount.path);
            return Err(fault(format_args!("{field}.path"), problem));
        }
        Ok(())
    }

    /// The audit record of the job holds every rule, and must fit a log entry.
    fn check_rules(&self) -> Result<(), TaskError> {
        fn lengths<T: fmt::Display>(rules: &[T]) -> Vec<usize> {
            rules.iter().map(|rule| rule.to_string().len()).collect()
        }
        let lists = [
            ("capabilities.connect", lengths(&self.connect)),
            ("capabilities.listen", lengths(&self.listen)),
            ("capabilities.http", lengths(&self.http)),
            ("capabilities.secrets", self.secrets.iter().map(SecretUse::len).collect()),
        ];
        let mut bytes = 0;
        for (field, lengths) in &lists {
            at_most(field, lengths.len(), MAX_RULES)?;
            bytes += lengths.iter().sum::<usize>();
            if let Some(index) = lengths.iter().position(|length| *length > MAX_RULE_BYTES) {
                at_most(&format!("{field}[{index}], bytes"), lengths[index], MAX_RULE_BYTES)?;
            }
        }
        at_most("capabilities, bytes of all rules", bytes, MAX_RULES_BYTES)
    }

    fn check_secrets(&self) -> Result<(), TaskError> {
        for (index, secret) in self.secrets.iter().enumerate() {
            let field = format!("capabilities.secrets[{index}]");
            if let SecretForm::Env(variable) = &secret.form {
                let named = !variable.is_empty() && !variable.contains('=');
                if !named || variable.len() > MAX_VARIABLE_BYTES || variable.contains(char::is_control) {
                    let problem = format_args!("\"{}\" cannot name a variable", quoted(variable));
                    return Err(fault(format_args!("{field}.as.env"), problem));
                }
            }
            if self.secrets[..index].iter().any(|other| other.form == secret.form) {
                return Err(fault(format_args!("{field}.as"), "is taken by an earlier secret"));
            }
        }
        Ok(())
    }

    /// One variable has one value: a secret never hides behind one of the job's own, nor the other way round.
    pub(crate) fn check_env(&self, env: &BTreeMap<String, String>) -> Result<(), TaskError> {
        for (index, secret) in self.secrets.iter().enumerate() {
            if let SecretForm::Env(variable) = &secret.form
                && env.contains_key(variable)
            {
                let problem = format_args!("the job sets the variable {} itself", quoted(variable));
                return Err(fault(format_args!("capabilities.secrets[{index}].as.env"), problem));
            }
        }
        Ok(())
    }
}

/// A path that means one place without looking at a disk: absolute, without `.`, `..`, `//` and control characters.
fn check_path(field: &str, path: &str) -> Result<(), TaskError> {
    let Some(rest) = path.strip_prefix('/') else {
        at_most(field, path.len(), MAX_PATH_BYTES)?;
        return Err(fault(field, format_args!("{path:?} must be an absolute path")));
    };
    if rest.is_empty() { Ok(()) } else { check_parts(field, path, rest) }
}

/// The same for a path below a volume, which is never the volume itself.
fn check_below(field: &str, path: &str) -> Result<(), TaskError> {
    check_parts(field, path, path)
}

fn check_parts(field: &str, path: &str, parts: &str) -> Result<(), TaskError> {
    at_most(field, path.len(), MAX_PATH_BYTES)?;
    if path.chars().any(char::is_control) {
        return Err(fault(field, format_args!("{path:?} holds a control character")));
    }
    if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(fault(field, format_args!("{path:?} must not hold an empty part, '.' or '..'")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn mount(path: &str) -> Mount {
        Mount { source: MountSource::Directory("/data".into()), path: path.into(), access: Access::Read }
    }

    fn secret(name: &str, form: SecretForm) -> SecretUse {
        SecretUse { name: name.parse().unwrap(), form }
    }

    fn variable(name: &str) -> SecretUse {
        secret("token", SecretForm::Env(name.into()))
    }

    fn refused(change: impl FnOnce(&mut Capabilities)) -> String {
        let mut asked = Capabilities::default();
        change(&mut asked);
        asked.check().expect_err("must be refused").to_string()
    }

    #[test]
    fn ordinary_wishes_pass() {
        let below = MountSource::VolumePath { volume: "data".parse().unwrap(), path: "a/b c".into() };
        let asked = Capabilities {
            mounts: vec![mount("/"), mount("/scratchy"), Mount { source: below, ..mount("/a/b") }],
            scratch: true,
            connect: vec!["example.com:443".parse().unwrap(); MAX_RULES],
            secrets: vec![variable("TOKEN"), secret("token", SecretForm::File("token".parse().unwrap()))],
            ..Capabilities::default()
        };
        assert_eq!(asked.check(), Ok(()));
        assert_eq!(asked.check_env(&BTreeMap::from([("OTHER".to_owned(), String::new())])), Ok(()));
    }

    #[test]
    fn a_path_means_one_place() {
        for wrong in ["a", "", "/a/../b", "/./a", "/a//b", "/a/", "/a\n"] {
            let text = refused(|asked| asked.mounts = vec![mount(wrong)]);
            assert!(text.starts_with("capabilities.mounts[0].path: "), "{text}");
        }
        let text = refused(|asked| asked.mounts = vec![mount("/a"), mount("/a")]);
        assert_eq!(text, "capabilities.mounts[1].path: /a is taken by an earlier mount");
        for wrong in ["", "/a", "a/", "../b", "a/./b", "a//b", "a\u{1b}"] {
            let source = MountSource::VolumePath { volume: "data".parse().unwrap(), path: wrong.into() };
            let text = refused(|asked| asked.mounts = vec![Mount { source, ..mount("/a") }]);
            assert!(text.starts_with("capabilities.mounts[0].source.volume-path.path: "), "{text}");
        }
    }

    // Red without `within`, and with a plain prefix in it (`/scratchy` above).
    #[test]
    fn the_hosts_own_places_are_not_mounted_over() {
        for path in ["/scratch", "/scratch/out"] {
            let text = refused(|asked| (asked.scratch, asked.mounts) = (true, vec![mount(path)]));
            assert!(text.ends_with("is where the host puts scratch files and secrets"), "{text}");
            let alone = Capabilities { mounts: vec![mount(path)], ..Capabilities::default() };
            assert_eq!(alone.check(), Ok(()), "without a scratch directory it is a path like any other");
        }
        let text = refused(|asked| {
            asked.secrets = vec![variable("TOKEN")];
            asked.mounts = vec![mount("/run/secrets/x")];
        });
        assert!(text.starts_with("capabilities.mounts[0].path: /run/secrets/x is where"), "{text}");
    }

    // Red without each of the bounds in `check_rules`; the record's test shows why they are there.
    #[test]
    fn rules_are_bounded() {
        let text = refused(|asked| asked.listen = vec!["[::1]:80".parse().unwrap(); MAX_RULES + 1]);
        assert_eq!(text, "capabilities.listen: 65 where at most 64 are allowed");
        let long = format!("https://a.b/{}", "x".repeat(MAX_RULE_BYTES));
        let text = refused(|asked| {
            asked.http = vec!["https://a.b".parse().unwrap(), long.parse().unwrap()];
        });
        assert!(text.starts_with("capabilities.http[1], bytes: 5"), "{text}");
        let half = format!("https://a.b/{}", "x".repeat(MAX_RULE_BYTES / 2));
        let text = refused(|asked| asked.http = vec![half.parse().unwrap(); 31]);
        assert!(text.starts_with("capabilities, bytes of all rules: ") && text.contains("8192"), "{text}");
    }

    #[test]
    fn a_secret_has_its_own_place() {
        let long = "x".repeat(MAX_VARIABLE_BYTES + 1);
        for wrong in ["", "A=B", "A\0", "A\n", &long] {
            let text = refused(|asked| asked.secrets = vec![variable(wrong)]);
            assert!(text.starts_with("capabilities.secrets[0].as.env: \""), "{text}");
            assert!(text.len() < 200 && !text.contains(char::is_control), "{text}");
        }
        let text = refused(|asked| {
            asked.secrets = vec![variable("A"), secret("other", SecretForm::Env("A".into()))];
        });
        assert_eq!(text, "capabilities.secrets[1].as: is taken by an earlier secret");
        let asked = Capabilities { secrets: vec![variable("A")], ..Capabilities::default() };
        let text = asked.check_env(&BTreeMap::from([("A".to_owned(), "1".to_owned())])).unwrap_err();
        assert_eq!(text.to_string(), "capabilities.secrets[0].as.env: the job sets the variable A itself");
    }
}
