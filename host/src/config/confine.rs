//! How the host confines itself and its guests: `run_as`, `confine` and `isolation`.

use super::raw::{Fault, Section};

/// Longest name of a user, in bytes: what Linux allows.
const MAX_USER_BYTES: usize = 32;

/// What is to happen where the kernel cannot confine the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confine {
    /// It goes as far as the kernel goes, and the host says what is missing.
    #[default]
    Try,
    /// The host does not serve.
    Required,
}

/// Where guests run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// In the host's own process, all of them.
    #[default]
    InProcess,
    /// In a process for each tenant that has work.
    Process,
}

pub(super) fn isolation(top: &mut Section<'_>) -> Result<Isolation, Fault> {
    let Some(value) = top.take("isolation") else { return Ok(Isolation::default()) };
    match value.text()? {
        "in-process" => Ok(Isolation::InProcess),
        "process" if cfg!(target_os = "linux") => Ok(Isolation::Process),
        "process" => Err(value.fault("only Linux has what a worker is confined by: use \"in-process\"")),
        other => Err(value.fault(format_args!("expected \"in-process\" or \"process\", found {other:?}"))),
    }
}

pub(super) fn check(top: &mut Section<'_>) -> Result<(Confine, Option<String>), Fault> {
    let confine = match top.take("confine") {
        None => Confine::default(),
        Some(value) => match value.text()? {
            "try" => Confine::Try,
            "required" => Confine::Required,
            other => {
                return Err(value.fault(format_args!("expected \"try\" or \"required\", found {other:?}")));
            }
        },
    };
    let run_as = top.take("run_as").map(|value| {
        let user = value.text()?;
        let plain = !user.is_empty()
            && user.len() <= MAX_USER_BYTES
            && user.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':' && byte != b'/');
        let problem = format_args!("expected the name of a user, 1 to {MAX_USER_BYTES} bytes").to_string();
        plain.then(|| user.to_owned()).ok_or_else(|| value.fault(problem))
    });
    Ok((confine, run_as.transpose()?))
}
