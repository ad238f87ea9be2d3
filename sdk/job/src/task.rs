//! What a job runs: module, arguments, input, the capabilities it asks for and the limits it accepts.
//!
//! Everything here is inside the signature. The host gives all of it or refuses; it never narrows silently.
//!
//! *Spec:* `docs/formats/job.md`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base64_bytes::Base64Bytes;
use crate::text::shown;
use crate::{Artifact, Capabilities, Digest, Limits, Name, Plan};

/// Most arguments of a job.
pub const MAX_ARGS: usize = 1024;
/// Most environment variables of a job.
pub const MAX_ENV: usize = 1024;
/// Most labels of a job.
pub const MAX_LABELS: usize = 32;
/// Longest name and longest value of a label, in bytes each: they stand in every list of jobs.
pub const MAX_LABEL_BYTES: usize = 256;
/// Longest input that may stand in the envelope itself, in bytes; a longer one is a blob.
pub const MAX_INLINE_INPUT_BYTES: usize = 16 * 1024;

/// What to run and inside which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The module, by digest; the host must have been given its bytes.
    pub module: ModuleRef,
    /// Where the module is entered.
    pub entry: Entry,
    /// The guest's arguments after its own name.
    pub args: Vec<String>,
    /// The guest's environment. Nothing of the host's own environment is ever visible.
    pub env: BTreeMap<String, String>,
    /// The guest's standard input.
    pub input: Input,
    /// What the guest may touch.
    pub capabilities: Capabilities,
    /// What the guest may use up.
    pub limits: Limits,
    /// The queue to wait in.
    pub queue: Name,
    /// Higher starts earlier within its queue; −100 to 100.
    pub priority: i8,
    /// Whether the job may be run again after a crash of the host. If not, it ends `interrupted`.
    pub idempotent: bool,
    /// Free words for the people who look at the job later.
    pub labels: BTreeMap<String, String>,
    /// When it runs, how often, and what it waits for.
    #[serde(default, skip_serializing_if = "Plan::is_default")]
    pub plan: Plan,
}

/// A module by the SHA-256 and the length of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleRef {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub length: u64,
}

/// How a module is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// As a command: `_start` of a core module, `wasi:cli/run` of a component.
    Command,
}

/// Where standard input comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Input {
    /// Nothing: the guest sees the end at once.
    Empty,
    /// At most 16 KiB that stand in the envelope, in base64.
    Inline(Base64Bytes),
    /// Bytes that were given to the host before.
    #[serde(rename_all = "kebab-case")]
    Blob {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// Length in bytes.
        length: u64,
    },
    /// What the jobs that this one waits for left, one after the other in the order of its plan: their standard outputs, or
    /// their artifacts of one name. It is known when they are over.
    #[serde(rename_all = "kebab-case")]
    Outputs {
        /// The artifact's name; none: standard output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        artifact: Option<String>,
    },
}

/// What is wrong in a task that has the right shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct TaskError {
    field: String,
    problem: String,
}

pub(crate) fn fault(field: impl fmt::Display, problem: impl fmt::Display) -> TaskError {
    TaskError { field: field.to_string(), problem: problem.to_string() }
}

impl Task {
    /// Checks what the types alone do not say.
    ///
    /// # Errors
    /// Names the field and the rule that it breaks.
    pub fn check(&self) -> Result<(), TaskError> {
        check_args(&self.args)?;
        check_env(&self.env)?;
        check_input(&self.input)?;
        check_labels("labels", &self.labels)?;
        if !(-100..=100).contains(&self.priority) {
            return Err(fault("priority", "must be from -100 to 100"));
        }
        self.capabilities.check()?;
        self.capabilities.check_env(&self.env)?;
        self.limits.check()?;
        self.plan.check()?;
        check_sources(&self.input, &self.plan)
    }
}

/// Outputs of other jobs can only be had from jobs that are waited for.
pub(crate) fn check_sources(input: &Input, plan: &Plan) -> Result<(), TaskError> {
    if matches!(input, Input::Outputs { .. }) && plan.after.is_empty() {
        return Err(fault("input.outputs", "the job waits for no other job: name some in plan.after"));
    }
    Ok(())
}

pub(crate) fn at_most(field: &str, count: usize, max: usize) -> Result<(), TaskError> {
    if count > max {
        Err(fault(field, format_args!("{count} where at most {max} are allowed")))
    } else {
        Ok(())
    }
}

pub(crate) fn check_args(args: &[String]) -> Result<(), TaskError> {
    at_most("args", args.len(), MAX_ARGS)?;
    match args.iter().position(|arg| arg.contains('\0')) {
        Some(index) => Err(fault(format_args!("args[{index}]"), "holds a NUL byte")),
        None => Ok(()),
    }
}

pub(crate) fn check_env(env: &BTreeMap<String, String>) -> Result<(), TaskError> {
    at_most("env", env.len(), MAX_ENV)?;
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(fault("env", format_args!("\"{}\" cannot name a variable", quoted(name))));
        }
        if value.contains('\0') {
            return Err(fault(format_args!("env.{}", quoted(name)), "holds a NUL byte"));
        }
    }
    Ok(())
}

pub(crate) fn check_input(input: &Input) -> Result<(), TaskError> {
    match input {
        Input::Inline(bytes) => at_most("input.inline", bytes.0.len(), MAX_INLINE_INPUT_BYTES),
        Input::Outputs { artifact: Some(name) } if !Artifact::is_name(name) => {
            Err(fault("input.outputs.artifact", format_args!("\"{}\" cannot name an artifact", quoted(name))))
        }
        Input::Empty | Input::Blob { .. } | Input::Outputs { .. } => Ok(()),
    }
}

/// Labels are shown to people: they must be short and must not move a cursor.
pub(crate) fn check_labels(list: &str, labels: &BTreeMap<String, String>) -> Result<(), TaskError> {
    at_most(list, labels.len(), MAX_LABELS)?;
    for (name, value) in labels {
        let field = format!("{list}.{}", quoted(name));
        if name.is_empty() {
            return Err(fault(list, "a label needs a name"));
        }
        at_most(&format!("{field}, bytes of the name"), name.len(), MAX_LABEL_BYTES)?;
        at_most(&format!("{field}, bytes of the value"), value.len(), MAX_LABEL_BYTES)?;
        if name.chars().chain(value.chars()).any(char::is_control) {
            return Err(fault(field, "holds a control character"));
        }
    }
    Ok(())
}

/// A name from the task, short enough for an error text.
pub(crate) fn quoted(name: &str) -> String {
    shown(name, 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task {
            module: ModuleRef { digest: Digest::of(b"module"), length: 6 },
            entry: Entry::Command,
            args: vec!["a".into()],
            env: BTreeMap::new(),
            input: Input::Empty,
            capabilities: Capabilities::default(),
            limits: Limits::default(),
            queue: Name::default_name(),
            priority: 0,
            idempotent: false,
            labels: BTreeMap::new(),
            plan: Plan::default(),
        }
    }

    fn refused(change: impl FnOnce(&mut Task)) -> String {
        let mut task = task();
        change(&mut task);
        task.check().expect_err("must be refused").to_string()
    }

    #[test]
    fn an_ordinary_task_passes() {
        assert_eq!(task().check(), Ok(()));
    }

    #[test]
    fn each_rule_names_its_field() {
        assert_eq!(refused(|t| t.args = vec!["x".into(), "a\0".into()]), "args[1]: holds a NUL byte");
        assert_eq!(
            refused(|t| t.args = vec![String::new(); 1025]),
            "args: 1025 where at most 1024 are allowed"
        );
        assert_eq!(
            refused(|t| drop(t.env.insert("A=B".into(), String::new()))),
            "env: \"A=B\" cannot name a variable"
        );
        assert_eq!(refused(|t| drop(t.env.insert("A".into(), "\0".into()))), "env.A: holds a NUL byte");
        let text = refused(|t| drop(t.env.insert(format!("\u{1b}{}=", "x".repeat(9000)), String::new())));
        assert!(text.starts_with("env: \"\\u{1b}xxx") && text.len() < 200, "{text}");
        assert_eq!(
            refused(|t| drop(t.env.insert("\u{1b}".into(), "\0".into()))),
            "env.\\u{1b}: holds a NUL byte"
        );
        assert_eq!(refused(|t| t.priority = 101), "priority: must be from -100 to 100");
        assert_eq!(refused(|t| t.limits.memory_bytes = 0), "limits.memory_bytes: must be more than 0");
        assert!(refused(|t| t.limits.fuel = Some(0)).starts_with("limits.fuel: must be more than 0"));
        assert!(
            refused(|t| t.input = Input::Inline(Base64Bytes(vec![0; 16385])))
                .starts_with("input.inline: 16385")
        );
        let outputs = |artifact: Option<&str>| Input::Outputs { artifact: artifact.map(Into::into) };
        assert!(refused(|t| t.input = outputs(None)).starts_with("input.outputs: the job waits for no"));
        let after = |t: &mut Task| t.plan.after = vec![crate::After::success_of(0)];
        let bad = |t: &mut Task| {
            after(t);
            t.input = outputs(Some("../x"));
        };
        assert_eq!(refused(bad), "input.outputs.artifact: \"../x\" cannot name an artifact");
        let label = |name: &str, value: &str| {
            let (name, value) = (name.to_owned(), value.to_owned());
            refused(|t| drop(t.labels.insert(name, value)))
        };
        assert_eq!(label("", "x"), "labels: a label needs a name");
        assert_eq!(label("a", "\u{1b}[2J"), "labels.a: holds a control character");
        assert!(
            label("a", &"x".repeat(257)).starts_with("labels.a, bytes of the value: 257 where at most 256")
        );
        assert!(label(&"x".repeat(257), "").contains("bytes of the name: 257 where at most 256"));
        let secret = crate::SecretUse {
            name: "token".parse().expect("a name"),
            form: crate::SecretForm::Env("A".into()),
        };
        let text = refused(|t| {
            t.env.insert("A".into(), String::new());
            t.capabilities.secrets = vec![secret];
        });
        assert_eq!(text, "capabilities.secrets[0].as.env: the job sets the variable A itself");
    }
}
