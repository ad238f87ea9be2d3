//! Every name that a guest may import here, and the part of the world behind it.
//!
//! *Owns:* the tables below. A test holds them against what the engine links.

use std::fmt;

use crate::module::Import;
use crate::progress;

/// A part of the world that an import can reach, as far as a grant opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Area {
    /// The guest's arguments.
    Arguments,
    /// The guest's environment variables.
    Environment,
    /// Standard input, output and error.
    Streams,
    /// Directories and files.
    Files,
    /// The wall clock and the monotonic clock.
    Clocks,
    /// Random bytes.
    Randomness,
    /// TCP and UDP.
    Sockets,
    /// The addresses of names.
    NameLookup,
    /// HTTP requests that the host makes for the guest.
    Http,
}

impl Area {
    /// A stable lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arguments => "arguments",
            Self::Environment => "environment",
            Self::Streams => "streams",
            Self::Files => "files",
            Self::Clocks => "clocks",
            Self::Randomness => "randomness",
            Self::Sockets => "sockets",
            Self::NameLookup => "name-lookup",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The module that preview 1 functions are imported from.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// What is behind an import; none when nobody here provides it.
pub(crate) fn behind(import: &Import) -> Option<&'static [Area]> {
    let table = |table: &'static [(&str, &[Area])], name: &str| {
        table.iter().find(|(known, _)| *known == name).map(|(_, areas)| *areas)
    };
    match &import.item {
        Some(function) if import.interface == PREVIEW1 => table(P1, function),
        Some(function) if import.interface == progress::INTERFACE => table(OWN, function),
        Some(_) => None,
        None => {
            let (name, version) = import.interface.split_once('@')?;
            // Each later patch of what is linked counts as the same.
            let (minor, patch) = version.rsplit_once('.')?;
            let released = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
            match minor {
                "0.2" if released => table(P2, name),
                "0.1" if released => table(OWN_INTERFACES, name),
                _ => None,
            }
        }
    }
}

/// The functions of preview 1. Its sockets can only be accepted from and read, and nobody can open one: no area.
const P1: &[(&str, &[Area])] = &[
    ("args_get", &[Area::Arguments]),
    ("args_sizes_get", &[Area::Arguments]),
    ("environ_get", &[Area::Environment]),
    ("environ_sizes_get", &[Area::Environment]),
    ("clock_res_get", &[Area::Clocks]),
    ("clock_time_get", &[Area::Clocks]),
    ("fd_read", &[Area::Streams]),
    ("fd_write", &[Area::Streams]),
    ("fd_prestat_get", &[Area::Files]),
    ("fd_prestat_dir_name", &[Area::Files]),
    ("fd_readdir", &[Area::Files]),
    ("path_create_directory", &[Area::Files]),
    ("path_filestat_get", &[Area::Files]),
    ("path_filestat_set_times", &[Area::Files]),
    ("path_link", &[Area::Files]),
    ("path_open", &[Area::Files]),
    ("path_readlink", &[Area::Files]),
    ("path_remove_directory", &[Area::Files]),
    ("path_rename", &[Area::Files]),
    ("path_symlink", &[Area::Files]),
    ("path_unlink_file", &[Area::Files]),
    ("random_get", &[Area::Randomness]),
    // What is left works on what was opened before, or needs no grant.
    ("fd_advise", &[]),
    ("fd_allocate", &[]),
    ("fd_close", &[]),
    ("fd_datasync", &[]),
    ("fd_fdstat_get", &[]),
    ("fd_fdstat_set_flags", &[]),
    ("fd_fdstat_set_rights", &[]),
    ("fd_filestat_get", &[]),
    ("fd_filestat_set_size", &[]),
    ("fd_filestat_set_times", &[]),
    ("fd_pread", &[]),
    ("fd_pwrite", &[]),
    ("fd_renumber", &[]),
    ("fd_seek", &[]),
    ("fd_sync", &[]),
    ("fd_tell", &[]),
    ("poll_oneoff", &[]),
    ("proc_exit", &[]),
    ("proc_raise", &[]),
    ("sched_yield", &[]),
    ("sock_accept", &[]),
    ("sock_recv", &[]),
    ("sock_send", &[]),
    ("sock_shutdown", &[]),
];

/// The functions of ours that a core module may import. They open nothing.
const OWN: &[(&str, &[Area])] = &[(progress::PROGRESS, &[]), (progress::SET_RESULT, &[])];

/// The interfaces of ours, of version 0.1.
const OWN_INTERFACES: &[(&str, &[Area])] = &[("strongroom:job/report", &[])];

/// The interfaces of WASI 0.2.
const P2: &[(&str, &[Area])] = &[
    ("wasi:cli/environment", &[Area::Arguments, Area::Environment]),
    ("wasi:cli/stdin", &[Area::Streams]),
    ("wasi:cli/stdout", &[Area::Streams]),
    ("wasi:cli/stderr", &[Area::Streams]),
    ("wasi:filesystem/preopens", &[Area::Files]),
    ("wasi:filesystem/types", &[Area::Files]),
    ("wasi:clocks/monotonic-clock", &[Area::Clocks]),
    ("wasi:clocks/wall-clock", &[Area::Clocks]),
    ("wasi:random/random", &[Area::Randomness]),
    ("wasi:random/insecure", &[Area::Randomness]),
    ("wasi:random/insecure-seed", &[Area::Randomness]),
    ("wasi:sockets/tcp", &[Area::Sockets]),
    ("wasi:sockets/tcp-create-socket", &[Area::Sockets]),
    ("wasi:sockets/udp", &[Area::Sockets]),
    ("wasi:sockets/udp-create-socket", &[Area::Sockets]),
    ("wasi:sockets/ip-name-lookup", &[Area::NameLookup]),
    ("wasi:http/types", &[Area::Http]),
    ("wasi:http/outgoing-handler", &[Area::Http]),
    // Types, waiting, ending: they open nothing.
    ("wasi:cli/exit", &[]),
    ("wasi:cli/terminal-input", &[]),
    ("wasi:cli/terminal-output", &[]),
    ("wasi:cli/terminal-stdin", &[]),
    ("wasi:cli/terminal-stdout", &[]),
    ("wasi:cli/terminal-stderr", &[]),
    ("wasi:io/error", &[]),
    ("wasi:io/poll", &[]),
    ("wasi:io/streams", &[]),
    ("wasi:sockets/network", &[]),
    ("wasi:sockets/instance-network", &[]),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::Half;
    use crate::{Engine, EngineConfig, Metering};

    fn half(look: impl FnOnce(&Half)) {
        let config = EngineConfig {
            allocation: crate::Allocation::OnDemand,
            max_concurrent: 1,
            ..EngineConfig::default()
        };
        look(Engine::new(config).unwrap().inner.half(Metering::None).unwrap());
    }

    // Red with any line of `P1` taken out, or one added.
    #[test]
    fn the_table_of_preview_1_is_what_is_linked() {
        let wat = |name: &str| format!(r#"(module (import "{PREVIEW1}" "{name}" (func)))"#);
        half(|half| {
            let is_linked = |name: &str| {
                let wasm = wat::parse_str(wat(name)).unwrap();
                let module = wasmtime::Module::from_binary(&half.engine, &wasm).unwrap();
                // Of the wrong type, mostly: but then it is there.
                let error = half.core.instantiate_pre(&module).err();
                !error.is_some_and(|error| error.is::<wasmtime::UnknownImportError>())
            };
            for (name, _) in P1 {
                assert!(is_linked(name), "{name} is not linked");
            }
            assert!(!is_linked("path_open_sesame"));
        });
        let names: BTreeSet<&str> = P1.iter().map(|(name, _)| *name).collect();
        // Preview 1 has been closed since 2020: so many functions and no more.
        assert_eq!((names.len(), P1.len()), (46, 46));
    }

    // Red with a line of `OWN` or `OWN_INTERFACES` taken out or misspelt, or with either linker left alone.
    #[test]
    fn the_functions_of_ours_are_linked_for_both_kinds() {
        let wat = |name: &str| format!(r#"(module (import "{}" "{name}" (func)))"#, progress::INTERFACE);
        half(|half| {
            let is_linked = |name: &str| {
                let wasm = wat::parse_str(wat(name)).unwrap();
                let module = wasmtime::Module::from_binary(&half.engine, &wasm).unwrap();
                let error = half.core.instantiate_pre(&module).err();
                !error.is_some_and(|error| error.is::<wasmtime::UnknownImportError>())
            };
            assert!(is_linked("progress") && is_linked("set-result") && !is_linked("result"));
            for version in ["0.1.0", "0.1.7"] {
                let text = format!(
                    r#"(component (import "strongroom:job/report@{version}" (instance
                        (export "progress" (func (param "percent" u32) (param "text" string)))
                        (export "set-result" (func (param "bytes" (list u8)) (result (result)))))))"#
                );
                let component = wat::parse_str(text).unwrap();
                let component =
                    wasmtime::component::Component::from_binary(&half.engine, &component).unwrap();
                assert_eq!(
                    half.component.instantiate_pre(&component).map(drop).map_err(|e| e.to_string()),
                    Ok(())
                );
            }
        });
        let core =
            |name: &str| Import { interface: progress::INTERFACE.to_owned(), item: Some(name.to_owned()) };
        let component = |interface: &str| Import { interface: interface.to_owned(), item: None };
        assert_eq!(behind(&core("progress")), Some(&[][..]));
        assert_eq!(behind(&core("set-result")), Some(&[][..]));
        assert_eq!(behind(&core("result")), None);
        assert_eq!(behind(&component("strongroom:job/report@0.1.0")), Some(&[][..]));
        assert_eq!(behind(&component("strongroom:job/report@0.1.7")), Some(&[][..]));
        for unknown in ["strongroom:job/report@0.2.0", "strongroom:job/report", "wasi:cli/stdin@0.1.0"] {
            assert_eq!(behind(&component(unknown)), None, "{unknown}");
        }
    }

    // Red with any line of `P2` taken out, or one added.
    #[test]
    fn the_table_of_wasi_0_2_is_what_is_linked() {
        half(|half| {
            let links = |interface: &str, item: &str| {
                let text = format!(r#"(component (import "{interface}@0.2.0" (instance {item})))"#);
                let component = wat::parse_str(text).unwrap();
                let component =
                    wasmtime::component::Component::from_binary(&half.engine, &component).unwrap();
                half.component.instantiate_pre(&component).map(drop).map_err(|error| format!("{error:#}"))
            };
            let mut names: BTreeSet<&str> = P2.iter().map(|(name, _)| *name).collect();
            for (interface, item) in ONE_OF_EACH {
                let item = match item.split_once(' ') {
                    Some(("resource", name)) => format!(r#"(export "{name}" (type (sub resource)))"#),
                    _ => format!(r#"(export "{item}" (func))"#),
                };
                let linked = links(interface, &item);
                // A function of the wrong type is there; one that is not there is told as such.
                let there = linked.as_ref().map_or_else(|why| why.contains("type mismatch"), |()| true);
                assert!(there, "{interface}: {linked:?}");
                assert!(names.remove(interface), "{interface} is linked and not in the table");
            }
            assert_eq!(names, BTreeSet::new(), "nothing says that these are linked");
            let unknown = links("wasi:cli/nothing", r#"(export "x" (func))"#).unwrap_err();
            assert!(!unknown.contains("type mismatch"), "{unknown}");
        });
    }

    /// Something that each interface has: a function or a resource.
    const ONE_OF_EACH: &[(&str, &str)] = &[
        ("wasi:cli/environment", "get-arguments"),
        ("wasi:cli/exit", "exit"),
        ("wasi:cli/stdin", "get-stdin"),
        ("wasi:cli/stdout", "get-stdout"),
        ("wasi:cli/stderr", "get-stderr"),
        ("wasi:cli/terminal-input", "resource terminal-input"),
        ("wasi:cli/terminal-output", "resource terminal-output"),
        ("wasi:cli/terminal-stdin", "get-terminal-stdin"),
        ("wasi:cli/terminal-stdout", "get-terminal-stdout"),
        ("wasi:cli/terminal-stderr", "get-terminal-stderr"),
        ("wasi:clocks/monotonic-clock", "now"),
        ("wasi:clocks/wall-clock", "now"),
        ("wasi:filesystem/preopens", "get-directories"),
        ("wasi:filesystem/types", "resource descriptor"),
        ("wasi:http/types", "resource fields"),
        ("wasi:http/outgoing-handler", "handle"),
        ("wasi:io/error", "resource error"),
        ("wasi:io/poll", "resource pollable"),
        ("wasi:io/streams", "resource input-stream"),
        ("wasi:random/random", "get-random-u64"),
        ("wasi:random/insecure", "get-insecure-random-u64"),
        ("wasi:random/insecure-seed", "insecure-seed"),
        ("wasi:sockets/instance-network", "instance-network"),
        ("wasi:sockets/ip-name-lookup", "resolve-addresses"),
        ("wasi:sockets/network", "resource network"),
        ("wasi:sockets/tcp", "resource tcp-socket"),
        ("wasi:sockets/tcp-create-socket", "create-tcp-socket"),
        ("wasi:sockets/udp", "resource udp-socket"),
        ("wasi:sockets/udp-create-socket", "create-udp-socket"),
    ];

    #[test]
    fn an_import_reaches_what_its_name_says() {
        let core = |module: &str, name: &str| {
            behind(&Import { interface: module.to_owned(), item: Some(name.to_owned()) })
        };
        let component = |interface: &str| behind(&Import { interface: interface.to_owned(), item: None });
        assert_eq!(core(PREVIEW1, "path_open"), Some(&[Area::Files][..]));
        assert_eq!(core(PREVIEW1, "sock_accept"), Some(&[][..]));
        assert_eq!((core("env", "path_open"), core("wasi_unstable", "path_open")), (None, None));
        assert_eq!(component("wasi:cli/environment@0.2.9"), Some(&[Area::Arguments, Area::Environment][..]));
        for unknown in [
            "wasi:cli/stdin",
            "wasi:cli/stdin@0.3.0",
            "wasi:cli/stdin@0.2.0-rc-1",
            "wasi:cli/stdin@0.2.",
            "a@0.2.0",
        ] {
            assert_eq!(component(unknown), None, "{unknown}");
        }
    }
}
