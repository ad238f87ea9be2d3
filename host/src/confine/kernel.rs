//! Landlock and seccomp as this crate uses them, for the host and for its compilers alike.
//!
//! *Never:* says what is to be open or denied; whoever is confined says that. *Bound:* what is given up here is given up by the calling
//! thread and by all threads and processes that it starts afterwards, and can never be taken back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How far the kernel went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Enforced {
    /// Not at all: the kernel does not offer it.
    Not,
    /// As far as this kernel knows how.
    Partly,
    /// As asked.
    Whole,
}

impl Enforced {
    pub(crate) const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Not),
            1 => Some(Self::Partly),
            2 => Some(Self::Whole),
            _ => None,
        }
    }
}

/// What may be done below a path that stays open. Where two paths hold one another, a file below both has the rights of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Right {
    /// Files are read, directories are listed.
    Read,
    /// A program is read and started.
    Run,
    /// Everything that guests may do with files, directories and links: no sockets, no devices, no programs.
    Write,
    /// [`Right::Write`], and sockets are made.
    Own,
}

/// A path that stays open. A file is that file, whatever name it has later; a directory is all below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Open {
    /// Absolute.
    pub path: PathBuf,
    /// How far.
    pub right: Right,
}

#[cfg(target_os = "linux")]
pub(crate) use linux::close_files;

#[cfg(target_os = "linux")]
pub(crate) mod linux {
    use std::collections::BTreeMap;

    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, Ruleset,
        RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
    };
    use libc::c_long;
    use seccompiler::{
        BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, apply_filter,
    };

    use super::{Enforced, Open, Right};

    /// Linux 6.12. A newer one takes what it could do from nobody: each program says which it was written for.
    const KNOWN: ABI = ABI::V6;

    /// System calls, and for each the conditions of which one must hold; none: it is meant whatever its arguments are.
    pub(crate) type Calls = BTreeMap<i64, Vec<SeccompRule>>;

    /// A Landlock domain in which nothing is allowed but what `open` says: no file, no signal to a process outside the domain, no
    /// abstract socket of one. With `network`, TCP is closed, too.
    pub(crate) fn close_files(open: &[Open], network: bool) -> Enforced {
        match domain(open, network) {
            Ok(RulesetStatus::FullyEnforced) => Enforced::Whole,
            Ok(RulesetStatus::PartiallyEnforced) => Enforced::Partly,
            Ok(RulesetStatus::NotEnforced) | Err(_) => Enforced::Not,
        }
    }

    fn domain(open: &[Open], network: bool) -> Result<RulesetStatus, landlock::RulesetError> {
        // The first Landlock denies every renaming from one directory to another, whatever the rules say: no host can live with that, so
        // then there is none.
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::SoftRequirement)
            .handle_access(AccessFs::Refer)?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?;
        if network {
            rules = rules.handle_access(AccessNet::from_all(KNOWN))?;
        }
        let mut rules = rules.scope(Scope::from_all(KNOWN))?.create()?;
        for Open { path, right } in open {
            // What is not there is not opened. A file gets those rights that a file can have.
            rules = rules.add_rules(path_beneath_rules([path], rights(*right)))?;
        }
        Ok(rules.restrict_self()?.ruleset)
    }

    fn rights(right: Right) -> BitFlags<AccessFs> {
        let special = AccessFs::Execute
            | AccessFs::MakeChar
            | AccessFs::MakeBlock
            | AccessFs::MakeFifo
            | AccessFs::MakeSock
            | AccessFs::IoctlDev;
        match right {
            Right::Read => AccessFs::ReadFile | AccessFs::ReadDir,
            Right::Run => AccessFs::ReadFile | AccessFs::Execute,
            Right::Write => AccessFs::from_all(KNOWN) & !special,
            Right::Own => (AccessFs::from_all(KNOWN) & !special) | AccessFs::MakeSock,
        }
    }

    /// Filters of system calls, in the order in which they are applied: each is `calls`, what happens to them, and what to the others.
    /// Who asks for clone3 is told that it does not exist and uses clone: the arguments of clone3 are in memory, where no filter can look.
    pub(crate) fn close_calls(
        filters: impl IntoIterator<Item = (Calls, SeccompAction, SeccompAction)>,
    ) -> Result<(), Error> {
        let no_clone3 = (calls(&[libc::SYS_clone3]), refuse(libc::ENOSYS), SeccompAction::Allow);
        let made: Result<Vec<BpfProgram>, Error> = std::iter::once(no_clone3)
            .chain(filters)
            .map(|(calls, meant, others)| {
                let filter = SeccompFilter::new(calls, others, meant, std::env::consts::ARCH.try_into()?)?;
                Ok(filter.try_into()?)
            })
            .collect();
        // All are made before the first is applied: none or all.
        made?.iter().try_for_each(|filter| apply_filter(filter))
    }

    pub(crate) fn calls(numbers: &[c_long]) -> Calls {
        numbers.iter().map(|call| (*call, Vec::new())).collect()
    }

    /// The bit that makes a call one of x32, which runs in the same process and is the same call under another number. A kernel without
    /// x32 has none of them.
    #[cfg(target_arch = "x86_64")]
    const TWIN: Option<i64> = Some(0x4000_0000);
    #[cfg(not(target_arch = "x86_64"))]
    const TWIN: Option<i64> = None;

    /// These, and each of them under its other number, if it has one.
    pub(crate) fn with_twins(mut calls: Calls) -> Calls {
        if let Some(twin) = TWIN {
            let twins: Calls = calls.iter().map(|(number, rules)| (number | twin, rules.clone())).collect();
            calls.extend(twins);
        }
        calls
    }

    /// That of the bits `mask` of an argument, those and only those of `value` are set.
    pub(crate) fn bits(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, Error> {
        Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)?)
    }

    pub(crate) const fn refuse(errno: i32) -> SeccompAction {
        SeccompAction::Errno(errno.unsigned_abs())
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn close_files(_open: &[Open], _network: bool) -> Enforced {
    Enforced::Not
}
