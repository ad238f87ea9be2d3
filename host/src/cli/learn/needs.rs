//! From what a guest reached for to what it needs: the smallest part of what it was given, and what it was denied.
//!
//! *Never:* widens anything. *Bound:* the ledger's own; where that was full, nothing is narrowed (`Needs::whole`).

use std::collections::{BTreeMap, BTreeSet};

use strongroom_job::{Access, Capabilities, Destination, Hosts, HttpRule, Mount, SCRATCH_PATH};
use strongroom_runtime::{MAX_OBSERVED, Protocol, Reach, Reached};

use super::wish::{Kind, Wish};

/// What one run showed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// What it used of what it was given, no wider than it used it.
    pub(super) used: Capabilities,
    /// What it was given and did not use, or not as far as it was given.
    pub(super) unused: Vec<Unused>,
    /// What it was denied, or got a stand-in for.
    pub(super) wishes: Vec<Wish>,
    /// Whether everything that it used was told. If not, nothing is narrowed.
    pub(super) whole: bool,
}

/// Something that was given for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unused {
    Mount(Mount),
    /// A directory to change that was only read.
    Change(Mount),
    Rule(&'static str, String),
    Scratch,
    Clock,
    Randomness,
}

/// What a run with `given` needs, after what it `reached` for. `look` says what lies at a path of this machine.
pub(super) fn needs(given: &Capabilities, reached: &[Reached], look: &dyn Fn(&str) -> Kind) -> Needs {
    let granted: Vec<&Reach> = reached.iter().filter(|it| it.granted).map(|it| &it.what).collect();
    let mut denied: Vec<&Reach> = reached.iter().filter(|it| !it.granted).map(|it| &it.what).collect();
    // Where nothing is given at `/`, the guest sees an empty directory there. To open that, and to look for nothing in it by
    // name, is to look at what there is.
    let by_name = denied.iter().any(|reach| matches!(reach, Reach::Path { .. }));
    if !by_name && !given.mounts.iter().any(|mount| mount.path == "/") {
        denied.extend(granted.iter().find(|reach| matches!(reach, Reach::Path { path, .. } if path == "/")));
    }
    let whole = granted.len() < MAX_OBSERVED;
    let wishes = super::wish::wishes(given, &denied, look);
    if !whole {
        return Needs { used: given.clone(), unused: Vec::new(), wishes, whole };
    }
    let mut unused = Vec::new();
    let used = Capabilities {
        mounts: mounts(given, &granted, &mut unused),
        clock: given.clock && granted.contains(&&Reach::Clock),
        random: given.random && granted.contains(&&Reach::Randomness),
        scratch: given.scratch && granted.iter().any(|reach| in_scratch(reach)),
        connect: connect(given, &granted, &mut unused),
        listen: given
            .listen
            .iter()
            .filter(|at| kept(listened(&granted, at), "--listen", at, &mut unused))
            .copied()
            .collect(),
        http: http(given, &granted, &mut unused),
        secrets: given.secrets.clone(),
    };
    for (given, used, what) in [
        (given.scratch, used.scratch, Unused::Scratch),
        (given.clock, used.clock, Unused::Clock),
        (given.random, used.random, Unused::Randomness),
    ] {
        if given && !used {
            unused.push(what);
        }
    }
    Needs { used, unused, wishes, whole }
}

/// Whether the guest's `path` is `directory` or below it.
pub(super) fn below(path: &str, directory: &str) -> bool {
    directory == "/"
        || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The mount that a guest's path leads into: the longest one, as its C library chooses.
pub(super) fn mount_of<'a>(mounts: &'a [Mount], path: &str) -> Option<&'a Mount> {
    mounts.iter().filter(|mount| below(path, &mount.path)).max_by_key(|mount| mount.path.len())
}

fn mounts(given: &Capabilities, granted: &[&Reach], unused: &mut Vec<Unused>) -> Vec<Mount> {
    // By mount, whether it was changed.
    let mut touched: BTreeMap<&str, bool> = BTreeMap::new();
    for reach in granted {
        if let Reach::Path { path, write } = reach
            && !(given.scratch && below(path, SCRATCH_PATH))
            && let Some(mount) = mount_of(&given.mounts, path)
        {
            *touched.entry(&mount.path).or_default() |= write;
        }
    }
    let mut kept = Vec::new();
    for mount in &given.mounts {
        let Some(changed) = touched.get(mount.path.as_str()) else {
            unused.push(Unused::Mount(mount.clone()));
            continue;
        };
        if mount.access == Access::ReadWrite && !changed {
            unused.push(Unused::Change(mount.clone()));
        }
        let access = if *changed { mount.access } else { Access::Read };
        kept.push(Mount { access, ..mount.clone() });
    }
    kept
}

fn in_scratch(reach: &Reach) -> bool {
    matches!(reach, Reach::Path { path, .. } if below(path, SCRATCH_PATH))
}

fn connect(given: &Capabilities, granted: &[&Reach], unused: &mut Vec<Unused>) -> Vec<Destination> {
    let looked_up = |name: &str| {
        granted.iter().any(|reach| matches!(reach, Reach::Resolve { name: known } if known == name))
    };
    let mut narrow: BTreeSet<String> = BTreeSet::new();
    let mut useful: BTreeSet<usize> = BTreeSet::new();
    for reach in granted {
        let Reach::Connect { protocol, address } = reach else { continue };
        let exact = format!("{protocol}://{address}");
        let reaches = |rule: &Destination| {
            same(rule.protocol, *protocol) && (rule.ports.0..=rule.ports.1).contains(&address.port())
        };
        let numbered = given.connect.iter().position(|rule| {
            reaches(rule) && matches!(&rule.hosts, Hosts::Net(net) if net.contains(&address.ip()))
        });
        if let Some(index) = numbered {
            useful.insert(index);
            narrow.insert(exact);
            continue;
        }
        // A name stands for many addresses, so each name that was looked up may have been the way.
        for (index, rule) in given.connect.iter().enumerate().filter(|(_, rule)| reaches(rule)) {
            if let Hosts::Name(name) = &rule.hosts
                && looked_up(name)
            {
                useful.insert(index);
                narrow.insert(format!("{protocol}://{name}:{}", address.port()));
            }
        }
    }
    let led_there: BTreeSet<String> =
        useful.iter().filter_map(|index| name(&given.connect[*index])).collect();
    for (index, rule) in given.connect.iter().enumerate() {
        if useful.contains(&index) {
            continue;
        }
        // Looked up and never connected to: the lookup alone needs the rule.
        if name(rule).is_some_and(|name| looked_up(&name) && !led_there.contains(&name)) {
            narrow.insert(rule.to_string());
        } else {
            unused.push(Unused::Rule("--connect", rule.to_string()));
        }
    }
    let narrow: Vec<Destination> = narrow.iter().filter_map(|text| text.parse().ok()).collect();
    let wider = |rule: &&Destination| !narrow.contains(rule);
    let wide =
        given.connect.iter().enumerate().filter(|(index, _)| useful.contains(index)).map(|(_, rule)| rule);
    unused.extend(wide.filter(wider).map(|rule| Unused::Rule("--connect", rule.to_string())));
    narrow
}

fn name(rule: &Destination) -> Option<String> {
    match &rule.hosts {
        Hosts::Name(name) => Some(name.clone()),
        Hosts::Net(_) => None,
    }
}

fn same(protocol: strongroom_job::Protocol, other: Protocol) -> bool {
    matches!(
        (protocol, other),
        (strongroom_job::Protocol::Tcp, Protocol::Tcp) | (strongroom_job::Protocol::Udp, Protocol::Udp)
    )
}

fn listened(granted: &[&Reach], at: &strongroom_job::Listener) -> bool {
    granted.iter().any(|reach| {
        matches!(reach, Reach::Listen { protocol, address } if same(at.protocol, *protocol) && *address == at.address)
    })
}

fn kept(used: bool, option: &'static str, rule: &impl ToString, unused: &mut Vec<Unused>) -> bool {
    if !used {
        unused.push(Unused::Rule(option, rule.to_string()));
    }
    used
}

fn http(given: &Capabilities, granted: &[&Reach], unused: &mut Vec<Unused>) -> Vec<HttpRule> {
    let mut rules = Vec::new();
    for rule in &given.http {
        let covered = |method: &str| rule.methods.is_empty() || rule.methods.iter().any(|it| it == method);
        let mut methods: Vec<String> = granted
            .iter()
            .filter_map(|reach| match reach {
                Reach::Http { method, origin } if *origin == origin_of(rule) && covered(method) => {
                    Some(method.clone())
                }
                _ => None,
            })
            .collect();
        methods.sort();
        methods.dedup();
        if methods != rule.methods {
            unused.push(Unused::Rule("--http", rule.to_string()));
        }
        if !methods.is_empty() {
            rules.push(HttpRule { methods, ..rule.clone() });
        }
    }
    rules
}

/// Scheme, host and port, as the sandbox tells them.
fn origin_of(rule: &HttpRule) -> String {
    let text = rule.to_string();
    let url = text.split_once(' ').map_or(text.as_str(), |(_, url)| url);
    url.strip_suffix(rule.path.as_str()).unwrap_or(url).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use strongroom_job::MountSource;

    use super::super::wish::Kind;
    use super::*;

    fn used(what: Reach) -> Reached {
        Reached { what, granted: true, count: 1 }
    }

    fn path(path: &str, write: bool) -> Reached {
        used(Reach::Path { path: path.to_owned(), write })
    }

    fn to(protocol: Protocol, address: &str) -> Reached {
        used(Reach::Connect { protocol, address: address.parse().unwrap() })
    }

    fn learn(given: &Capabilities, reached: &[Reached]) -> Needs {
        needs(given, reached, &|_| Kind::Nothing)
    }

    fn mount(path: &str, access: Access) -> Mount {
        Mount { source: MountSource::Directory(format!("/host{path}")), path: path.to_owned(), access }
    }

    fn texts(rules: &[impl ToString]) -> Vec<String> {
        rules.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_directory_is_kept_as_far_as_it_was_used() {
        let read_write = Access::ReadWrite;
        let mounts = ["/in", "/in/deep", "/out", "/never"].map(|at| mount(at, read_write));
        let given = Capabilities { mounts: mounts.to_vec(), scratch: true, ..Capabilities::default() };
        let reached =
            [path("/in", false), path("/in/deep", true), path("/in/deep", false), path("/out", true)];
        let needs = learn(&given, &reached);
        let kept = [mount("/in", Access::Read), mount("/in/deep", read_write), mount("/out", read_write)];
        assert_eq!(needs.used.mounts, kept);
        let unused = [
            Unused::Change(mount("/in", read_write)),
            Unused::Mount(mount("/never", read_write)),
            Unused::Scratch,
            Unused::Clock,
            Unused::Randomness,
        ];
        assert_eq!((needs.unused.as_slice(), needs.wishes.len(), needs.whole), (&unused[..], 0, true));
    }

    #[test]
    fn rules_are_narrowed_to_what_was_reached() {
        let rules =
            ["10.0.0.0/8:*", "a.example:1-999", "b.example:443", "udp://a.example:1-999", "c.example:443"];
        let given = Capabilities {
            connect: rules.map(|rule| rule.parse().unwrap()).to_vec(),
            listen: ["127.0.0.1:80", "127.0.0.1:81"].map(|rule| rule.parse().unwrap()).to_vec(),
            http: ["https://a.example/v1", "https://b.example"].map(|rule| rule.parse().unwrap()).to_vec(),
            ..Capabilities::default()
        };
        let reached = [
            used(Reach::Resolve { name: "a.example".into() }),
            used(Reach::Resolve { name: "c.example".into() }),
            to(Protocol::Tcp, "10.0.0.5:5432"),
            to(Protocol::Tcp, "192.0.2.1:443"),
            used(Reach::Listen { protocol: Protocol::Tcp, address: "127.0.0.1:81".parse().unwrap() }),
            used(Reach::Http { method: "GET".into(), origin: "https://a.example:443".into() }),
        ];
        let needs = learn(&given, &reached);
        // Both names were looked up, and one of them led to the address; nothing says which.
        let connect = ["tcp://10.0.0.5:5432", "tcp://a.example:443", "tcp://c.example:443"];
        assert_eq!(texts(&needs.used.connect), connect);
        assert_eq!(texts(&needs.used.listen), ["tcp://127.0.0.1:81"]);
        assert_eq!(texts(&needs.used.http), ["GET https://a.example:443/v1"]);
        // Looked up and never connected to: the rule stays as it is.
        let lookup = [used(Reach::Resolve { name: "b.example".into() })];
        assert_eq!(texts(&learn(&given, &lookup).used.connect), ["tcp://b.example:443"]);
    }

    // Red without the early return for `!whole`.
    #[test]
    fn nothing_is_narrowed_when_not_everything_is_known() {
        let given = Capabilities { mounts: vec![mount("/in", Access::ReadWrite)], ..Capabilities::default() };
        let many: Vec<Reached> = (0..MAX_OBSERVED).map(|n| path(&format!("/in/{n}"), false)).collect();
        let needs = learn(&given, &many);
        assert_eq!((needs.used, needs.unused, needs.whole), (given, Vec::new(), false));
    }

    #[test]
    fn to_look_into_the_empty_root_is_a_wish() {
        let wishes = learn(&Capabilities::default(), &[path("/", false)]).wishes;
        assert_eq!(wishes.iter().map(Wish::words).collect::<Vec<_>>(), ["read /"]);
        let given = Capabilities { mounts: vec![mount("/", Access::Read)], ..Capabilities::default() };
        assert_eq!(learn(&given, &[path("/", false)]).wishes, []);
    }
}
