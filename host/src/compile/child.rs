//! The child's end: a process that compiles one module and is gone.
//!
//! *Owns:* the order: confinement comes before the first byte of the module. *Never:* opens anything; what it needs comes over
//! its three pipes and two numbers on its command line.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use strongroom_runtime::precompile;

use super::confine::{ChildLimits, confine};
use super::message::{Answer, Head};

/// The argument that makes the `strongroom` program a compiler. Not a command for people: it is followed by the most bytes of
/// address space and the most seconds of processor time, and speaks `message` over standard input and output.
pub const COMMAND: &str = "compile-module";

/// Runs as a compiler. `limits` are the arguments after [`COMMAND`].
#[must_use]
pub fn main(limits: &[OsString]) -> ExitCode {
    match compile_one(limits) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent keeps it for its log; when it is gone, nobody needs it.
            let _ = writeln!(io::stderr(), "{COMMAND}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compile_one(limits: &[OsString]) -> io::Result<()> {
    let limits =
        parse(limits).ok_or_else(|| io::Error::other("needs bytes of memory and seconds of time"))?;
    let confinement = confine(&limits)?;
    answer().write(confinement, &mut io::stdout().lock())
}

fn answer() -> Answer {
    match Head::read(&mut io::stdin().lock()) {
        Err(error) => Answer::Fault(format!("the request cannot be read: {error}")),
        Ok((head, wasm)) => match precompile(&head.config, &wasm, head.metering) {
            Ok(artifact) => Answer::Artifact(artifact),
            Err(error) => Answer::Refused(error),
        },
    }
}

fn parse(limits: &[OsString]) -> Option<ChildLimits> {
    let number = |text: &OsString| text.to_str()?.parse().ok();
    let [memory, cpu] = limits else { return None };
    Some(ChildLimits { memory_bytes: number(memory)?, cpu_seconds: number(cpu)? })
}
