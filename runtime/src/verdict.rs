//! Turns whatever stopped a guest into an outcome: whose fault was it, and which?

use std::io;

use wasmtime::component::ResourceTableError;
use wasmtime::{Error, PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::limits::{LimitKind, Limits};
use crate::meter::Meter;
use crate::outcome::{HostFault, Outcome, TrapKind};

/// Most characters of a message; names come from the guest.
pub(crate) const MAX_MESSAGE: usize = 400;
/// Most characters of a function's name within it.
const MAX_NAME: usize = 120;

/// Judges the error that ended a guest.
///
/// # Errors
///
/// Only what is this side's fault. An error that is not known is the guest's: host calls answer with codes when the host
/// fails, and with traps when the guest's arguments make no sense.
pub(crate) fn judge(error: &Error, limits: &Limits, meter: &Meter) -> Result<Outcome, HostFault> {
    if let Some(exit) = find::<I32Exit>(error) {
        return Ok(Outcome::Exited(exit.0));
    }
    if let Some(full) = find::<PoolConcurrencyLimitError>(error) {
        return Err(HostFault::Busy { what: full.to_string() });
    }
    if let Some(exceeded) = exceeded(error, limits) {
        return Ok(exceeded);
    }
    // After the limits that stop a guest at once: this one only made a growth fail, which the guest may have coped with.
    if let Some(used) = meter.refused {
        return Ok(Outcome::Exceeded { limit: LimitKind::Memory, allowed: limits.memory.as_u64(), used });
    }
    if let Some(trap) = find::<Trap>(error) {
        return Ok(trapped(*trap, error));
    }
    // What the system refuses at the start is no guest's doing; files inside a run answer with codes.
    if find::<io::Error>(error).is_some() || find::<wasmtime::OutOfMemory>(error).is_some() || refused(error)
    {
        return Err(HostFault::Engine { message: plain(&format!("{error:#}"), MAX_MESSAGE) });
    }
    let message = format!("{}{}", error.root_cause(), place(error));
    Ok(Outcome::Trapped { kind: TrapKind::HostCall, message: plain(&message, MAX_MESSAGE) })
}

/// The system refused wasmtime something, address space for example.
#[cfg(unix)]
fn refused(error: &Error) -> bool {
    find::<rustix::io::Errno>(error).is_some()
}

#[cfg(not(unix))]
fn refused(_: &Error) -> bool {
    false
}

/// The limit that stopped the guest, if that is what the error says.
fn exceeded(error: &Error, limits: &Limits) -> Option<Outcome> {
    if matches!(find::<Trap>(error), Some(Trap::OutOfFuel)) {
        let allowed = limits.fuel.unwrap_or_default().0;
        return Some(Outcome::Exceeded { limit: LimitKind::Fuel, allowed, used: allowed });
    }
    if matches!(find::<ResourceTableError>(error), Some(ResourceTableError::Full)) {
        let allowed = u64::from(limits.handles);
        return Some(Outcome::Exceeded { limit: LimitKind::Handles, allowed, used: allowed + 1 });
    }
    by_words(error, limits)
}

fn trapped(trap: Trap, error: &Error) -> Outcome {
    let kind = match trap {
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::StackOverflow => TrapKind::StackOverflow,
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
        Trap::IndirectCallToNull | Trap::BadSignature => TrapKind::BadIndirectCall,
        Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => {
            TrapKind::Arithmetic
        }
        _ => TrapKind::Other,
    };
    let reason = match kind {
        TrapKind::Unreachable => "executed `unreachable` (a panic or an abort)".to_owned(),
        TrapKind::StackOverflow => "call stack exhausted".to_owned(),
        _ => trap.to_string(),
    };
    Outcome::Trapped { kind, message: plain(&format!("{reason}{}", place(error)), MAX_MESSAGE) }
}

/// Two refusals of wasmtime have no type of their own.
fn by_words(error: &Error, limits: &Limits) -> Option<Outcome> {
    const COUNT: &str = "resource limit exceeded: ";
    const HOSTCALL_FUEL: &str = "fuel allocated for hostcalls";

    let root = error.root_cause().to_string();
    if let Some((what, used)) =
        root.strip_prefix(COUNT).and_then(|rest| rest.split_once(" count too high at "))
    {
        let (limit, allowed) = match what {
            "instance" => (LimitKind::Instances, limits.instances),
            "table" => (LimitKind::Tables, limits.tables),
            _ => (LimitKind::Memories, limits.memories),
        };
        let used = used.parse().unwrap_or_default();
        return Some(Outcome::Exceeded { limit, allowed: allowed.into(), used });
    }
    root.contains(HOSTCALL_FUEL).then(|| {
        let allowed = limits.host_buffer.as_u64();
        Outcome::Exceeded { limit: LimitKind::HostBuffer, allowed, used: allowed.saturating_add(1) }
    })
}

/// ` in function `name``, where it is known.
fn place(error: &Error) -> String {
    let frame = error.downcast_ref::<WasmBacktrace>().and_then(|trace| trace.frames().first());
    match frame.map(|frame| (frame.func_name(), frame.func_index())) {
        Some((Some(name), _)) => format!(" in function `{}`", plain(name, MAX_NAME)),
        Some((None, index)) => format!(" in function {index}"),
        None => String::new(),
    }
}

/// One line of printable characters: what a guest wrote must not steer a terminal or forge a line in a log.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let mut plain: String = text.chars().take(most).map(harmless).collect();
    if text.chars().nth(most).is_some() {
        plain.push('…');
    }
    plain
}

/// The character, or a replacement for one that moves a cursor, turns the direction of writing, or cannot be seen.
pub(crate) fn harmless(c: char) -> char {
    let steers = c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
    if steers { '\u{FFFD}' } else { c }
}

/// An error of type `T`, wherever it is in the chain.
fn find<T: std::error::Error + Send + Sync + 'static>(error: &Error) -> Option<&T> {
    error.downcast_ref::<T>().or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<T>()))
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAME, plain};

    #[test]
    fn a_message_never_steers_a_terminal() {
        assert_eq!(plain("a\x1b[31mb\r\n\u{202e}c", MAX_NAME), "a\u{fffd}[31mb\u{fffd}\u{fffd}\u{fffd}c");
        assert_eq!(plain(&"x".repeat(500), 3), "xxx…");
    }
}
