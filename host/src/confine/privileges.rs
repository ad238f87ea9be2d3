//! What a process is allowed because of who started it: given up.

use std::io;

/// No program that is started from here on gets more rights than this process has; no capability is left, nor can one come back; no
/// core is written, and no other process of the same user may look into this one's memory, where keys are.
///
/// To be called while there is one thread: some of it is the thread's own.
///
/// # Errors
/// When the system refuses a step. There is none that an ordinary user may not make.
#[cfg(target_os = "linux")]
pub(super) fn give_up() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
        set_no_new_privs,
    };

    set_no_new_privs(true)?;
    // The bounding set is what root would get back by starting a program; only who has SETPCAP may, and needs to, empty it.
    shrink_bounding_set()?;
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // Whoever has none may be in a service manager's filter that lets nobody ask.
    if capabilities(None)? != none {
        set_capabilities(None, none)?;
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A core that is piped to a program has no limit; this it has. It also closes `/proc/PID/mem` and ptrace to the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(target_os = "linux")]
fn shrink_bounding_set() -> io::Result<()> {
    use rustix::thread::{
        CapabilitySet, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    };
    /// Those that a kernel may have: it has room for 64, and names 41.
    const MOST: u32 = 64;

    if !capabilities(None)?.permitted.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for number in 0..MOST {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // One that the kernel does not know is an error, and the last.
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// No core is written. Other systems have other means for the rest.
///
/// # Errors
/// When the limit cannot be set.
#[cfg(not(target_os = "linux"))]
pub(super) fn give_up() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}
