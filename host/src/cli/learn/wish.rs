//! What a guest was denied, in the shape in which it can be given.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_job::{
    Access, Capabilities, Destination, Hosts, HttpRule, Listener, Mount, MountSource, SCRATCH_PATH,
    SECRETS_PATH,
};
use strongroom_runtime::Reach;

use super::needs::{below, mount_of};
use crate::cli::task::directory;

/// What lies at a path of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Nothing,
}

/// Something that a guest reached for and did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It got a stand-in.
    Clock,
    /// It got a stand-in.
    Randomness,
    /// A directory where it sees nothing.
    Directory {
        /// Where it would see it.
        at: String,
        /// A directory of this machine that may be meant.
        suggestion: Option<String>,
        write: bool,
        /// What it tried there.
        paths: Vec<String>,
    },
    /// To change something in a directory that it may only read.
    Change {
        mount: String,
        path: String,
    },
    /// The private directory that a host makes for an attempt.
    Scratch,
    /// A secret that a host keeps.
    Secret {
        file: String,
    },
    /// A path that leads out of the directory that it seemed to be in. Nothing grants that.
    Outside {
        path: String,
    },
    /// A path that is not in the directory that stands at `/`. There is nothing to grant.
    Missing {
        path: String,
    },
    Connect(Destination),
    /// A name that is granted and has only addresses that no name leads to: private ones and the like.
    Private {
        name: String,
    },
    /// The addresses of a name; to which port it would connect is not known yet.
    Lookup {
        name: String,
    },
    Listen(Listener),
    Http {
        origin: String,
        methods: BTreeSet<String>,
    },
}

/// What the denied things come to. Several paths of one directory are one wish, and so are the methods of one origin.
pub(super) fn wishes(given: &Capabilities, denied: &[&Reach], look: &dyn Fn(&str) -> Kind) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = Vec::new();
    let mut origins: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut seen = |wish: Wish| {
        if !wishes.contains(&wish) {
            wishes.push(wish);
        }
    };
    let mut directories: BTreeMap<String, (Option<String>, bool, Vec<String>)> = BTreeMap::new();
    for reach in denied {
        match reach {
            Reach::Clock => seen(Wish::Clock),
            Reach::Randomness => seen(Wish::Randomness),
            Reach::Path { path, write } => {
                if let Some(wish) = special(given, path, *write) {
                    seen(wish);
                } else {
                    let (at, suggestion) = place(path, look);
                    let entry = directories.entry(at).or_insert((suggestion, false, Vec::new()));
                    entry.1 |= write;
                    if !entry.2.contains(path) {
                        entry.2.push(path.clone());
                    }
                }
            }
            // The rules' own words are read back; an address that has no rule cannot be given.
            Reach::Connect { protocol, address } => {
                if let Ok(rule) = format!("{protocol}://{address}").parse() {
                    seen(Wish::Connect(rule));
                }
            }
            Reach::Listen { protocol, address } => {
                if let Ok(rule) = format!("{protocol}://{address}").parse() {
                    seen(Wish::Listen(rule));
                }
            }
            Reach::Resolve { name } if is_named(given, name) => seen(Wish::Private { name: name.clone() }),
            Reach::Resolve { name } => seen(Wish::Lookup { name: name.clone() }),
            Reach::Http { method, origin } => {
                origins.entry(origin).or_default().insert(method.clone());
            }
            _ => {}
        }
    }
    merge(&mut directories);
    for (at, (suggestion, write, paths)) in directories {
        wishes.push(Wish::Directory { at, suggestion, write, paths });
    }
    for (origin, methods) in origins {
        wishes.push(Wish::Http { origin: origin.to_owned(), methods });
    }
    wishes
}

/// Whether a rule speaks of the name.
fn is_named(given: &Capabilities, name: &str) -> bool {
    let hosts = given.connect.iter().map(|rule| &rule.hosts).chain(given.http.iter().map(|rule| &rule.host));
    hosts.into_iter().any(|hosts| matches!(hosts, Hosts::Name(known) if known == name))
}

/// Paths that a new directory would not help.
fn special(given: &Capabilities, path: &str, write: bool) -> Option<Wish> {
    // What a host puts into the guest's tree comes before what the task mounts at `/`.
    let root_only = mount_of(&given.mounts, path).is_none_or(|mount| mount.path == "/");
    if root_only && below(path, SCRATCH_PATH) && !given.scratch {
        return Some(Wish::Scratch);
    }
    if root_only && below(path, SECRETS_PATH) {
        return Some(Wish::Secret { file: path.to_owned() });
    }
    let mount = mount_of(&given.mounts, path)?;
    let path = path.to_owned();
    Some(match mount.access {
        Access::Read if write => Wish::Change { mount: mount.path.clone(), path },
        _ if mount.path == "/" => Wish::Missing { path },
        _ => Wish::Outside { path },
    })
}

/// Where a directory for `path` would stand, and which of this machine's may be meant: the one of the same name below the working
/// directory, else the one of the same absolute path.
fn place(path: &str, look: &dyn Fn(&str) -> Kind) -> (String, Option<String>) {
    let parent = |path: &str| match path.rsplit_once('/') {
        Some(("", _)) | None => "/".to_owned(),
        Some((parent, _)) => parent.to_owned(),
    };
    let here = if path == "/" { ".".to_owned() } else { format!(".{path}") };
    for candidate in [here.as_str(), path] {
        // The root of this machine is never what is meant.
        if candidate == "/" {
            continue;
        }
        match look(candidate) {
            Kind::Directory => return (path.to_owned(), Some(candidate.to_owned())),
            Kind::File => {
                let directory = parent(candidate);
                return (parent(path), (directory != "/").then_some(directory));
            }
            Kind::Nothing => {}
        }
    }
    // Nothing of that name is here. A name with an ending looks like a file's.
    let is_file = path.rsplit_once('/').is_some_and(|(_, name)| name.trim_start_matches('.').contains('.'));
    let at = if is_file { parent(path) } else { path.to_owned() };
    let here = if at == "/" { ".".to_owned() } else { format!(".{at}") };
    let suggestion = (look(&here) == Kind::Directory).then_some(here);
    (at, suggestion)
}

/// A directory that lies in another one is not asked for by itself. Everything lies in `/`, so that takes in nothing.
fn merge(directories: &mut BTreeMap<String, (Option<String>, bool, Vec<String>)>) {
    let all: Vec<String> = directories.keys().cloned().collect();
    for inner in &all {
        let outer = all.iter().find(|outer| *outer != inner && *outer != "/" && below(inner, outer));
        let Some(outer) = outer else { continue };
        let Some((_, write, paths)) = directories.remove(inner) else { continue };
        if let Some(entry) = directories.get_mut(outer) {
            entry.1 |= write;
            entry.2.extend(paths);
        }
    }
}

impl Wish {
    /// What the guest wanted.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Clock => "read the clock".to_owned(),
            Self::Randomness => "draw random bytes".to_owned(),
            Self::Directory { at, write, paths, .. } => {
                let verb = if *write { "change" } else { "read" };
                // To reach something in a directory, most programs open the directory first.
                let inside: Vec<&String> = paths.iter().filter(|path| *path != at).collect();
                match inside.as_slice() {
                    [] => format!("{verb} {at}"),
                    [path] => format!("{verb} {path}"),
                    [first, rest @ ..] => format!("{verb} {first} and {} more in {at}", rest.len()),
                }
            }
            Self::Change { path, .. } => format!("change {path}"),
            Self::Scratch => format!("use {SCRATCH_PATH}"),
            Self::Secret { file } => format!("read {file}"),
            Self::Missing { path } => format!("find {path} in the directory at /"),
            Self::Outside { path } => format!("follow {path} out of the directory that it is in"),
            Self::Connect(rule) => format!("connect to {rule}"),
            Self::Private { name } => {
                format!("look up {name}, which has only private or otherwise special addresses")
            }
            Self::Lookup { name } => format!("look up {name}"),
            Self::Listen(rule) => format!("listen at {rule}"),
            Self::Http { origin, methods } => {
                let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
                format!("send {} to {origin}", methods.join(", "))
            }
        }
    }

    /// The option that gives it, with words in capitals where something is to be filled in; none where no option does.
    pub(super) fn option(&self) -> Option<String> {
        Some(match self {
            Self::Clock | Self::Randomness => "without --deterministic".to_owned(),
            Self::Directory { at, suggestion, write, .. } => {
                let option = if *write { "--write" } else { "--read" };
                format!("{option} {}:{at}", suggestion.as_deref().unwrap_or("DIR"))
            }
            Self::Change { mount, .. } => format!("--write in place of --read for {mount}"),
            Self::Scratch => "--scratch".to_owned(),
            Self::Secret { file } => {
                let name = file.strip_prefix(SECRETS_PATH).map_or("", |name| name.trim_start_matches('/'));
                format!("--secret {}, at a host that keeps it", if name.is_empty() { "NAME" } else { name })
            }
            Self::Outside { .. } | Self::Missing { .. } => return None,
            Self::Connect(rule) => format!("--connect {rule}"),
            Self::Private { .. } => "--connect ADDRESS:PORT, with the address itself".to_owned(),
            Self::Lookup { name } => format!("--connect {name}:PORT"),
            Self::Listen(rule) => format!("--listen {rule}"),
            Self::Http { .. } => format!("--http '{}'", self.http("/").ok()?),
        })
    }

    /// Whether an answer to a question can give it.
    pub(super) const fn can_be_given(&self) -> bool {
        !matches!(
            self,
            Self::Outside { .. } | Self::Missing { .. } | Self::Secret { .. } | Self::Private { .. }
        )
    }

    /// Gives what the answer says: `y`, or what the question asks for. An error is a sentence for whoever answered.
    pub(super) fn give(&self, answer: &str, to: &mut Capabilities) -> Result<(), String> {
        let yes = matches!(answer, "y" | "Y" | "yes");
        match self {
            Self::Clock if yes => to.clock = true,
            Self::Randomness if yes => to.random = true,
            Self::Scratch if yes => to.scratch = true,
            Self::Connect(rule) if yes => to.connect.push(rule.clone()),
            Self::Listen(rule) if yes => to.listen.push(*rule),
            Self::Change { mount, .. } if yes => {
                for given in to.mounts.iter_mut().filter(|given| given.path == *mount) {
                    given.access = Access::ReadWrite;
                }
            }
            Self::Directory { at, suggestion, write, .. } => {
                let source = match suggestion {
                    Some(suggestion) if yes => suggestion.as_str(),
                    None if yes => {
                        return Err("there is no such directory here: type the path of one".to_owned());
                    }
                    _ => answer,
                };
                let access = if *write { Access::ReadWrite } else { Access::Read };
                let source = MountSource::Directory(directory(source)?);
                to.mounts.push(Mount { source, path: at.clone(), access });
            }
            Self::Lookup { name } => {
                let port = if yes {
                    return Err("type a port, such as 443, or * for any".to_owned());
                } else {
                    answer
                };
                to.connect.push(format!("{name}:{port}").parse().map_err(|error| format!("{error}"))?);
            }
            Self::Http { .. } => to.http.push(self.http(if yes { "/" } else { answer })?),
            _ => return Err("type y, or nothing for no".to_owned()),
        }
        Ok(())
    }

    fn http(&self, path: &str) -> Result<HttpRule, String> {
        let Self::Http { origin, methods } = self else { return Err("not about HTTP".to_owned()) };
        if !path.starts_with('/') {
            return Err("type y, or a path that begins with /, such as /v1".to_owned());
        }
        let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
        format!("{} {origin}{path}", methods.join(",")).parse().map_err(|error| format!("{error}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn look(path: &str) -> Kind {
        match path {
            "." | "./docs" | "./docs/deep" | "./out" | "/etc" => Kind::Directory,
            "./docs/a.txt" | "./b" | "/etc/hosts" => Kind::File,
            _ => Kind::Nothing,
        }
    }

    fn paths(given: &Capabilities, paths: &[(&str, bool)]) -> Vec<String> {
        let denied: Vec<Reach> = paths
            .iter()
            .map(|(path, write)| Reach::Path { path: (*path).to_owned(), write: *write })
            .collect();
        let denied: Vec<&Reach> = denied.iter().collect();
        let told = wishes(given, &denied, &look);
        told.iter().map(|wish| wish.option().unwrap_or_else(|| wish.words())).collect()
    }

    #[test]
    fn a_path_becomes_the_directory_that_is_meant() {
        for (path, option) in [
            ("/docs", "--read ./docs:/docs"),
            ("/docs/a.txt", "--read ./docs:/docs"),
            ("/b", "--read .:/"),
            ("/etc/hosts", "--read /etc:/etc"),
            ("/srv/data", "--read DIR:/srv/data"),
            ("/srv/data/x.csv", "--read DIR:/srv/data"),
            ("/srv/.config", "--read DIR:/srv/.config"),
            ("/scratch/x", "--scratch"),
            ("/run/secrets/token", "--secret token, at a host that keeps it"),
        ] {
            assert_eq!(paths(&Capabilities::default(), &[(path, false)]), [option], "{path}");
        }
        // Red without the `continue` for "/": the root of the machine would be offered.
        let root_only = |path: &str| if path == "/" { Kind::Directory } else { Kind::Nothing };
        assert_eq!(place("/", &root_only), ("/".to_owned(), None));
    }

    #[test]
    fn paths_of_one_directory_are_one_wish() {
        let asked = [("/docs/a.txt", false), ("/docs/deep", false), ("/out/new.txt", true), ("/out", false)];
        assert_eq!(paths(&Capabilities::default(), &asked), ["--read ./docs:/docs", "--write ./out:/out"]);
        // What lies in `/` is not taken in by it: that would give more than it needs.
        let asked = [("/b", false), ("/docs", false)];
        assert_eq!(paths(&Capabilities::default(), &asked), ["--read .:/", "--read ./docs:/docs"]);
    }

    #[test]
    fn what_no_directory_mends_is_told_apart() {
        let mount = |path: &str, access| Mount {
            source: MountSource::Directory("/x".into()),
            path: path.to_owned(),
            access,
        };
        let mounts = vec![mount("/docs", Access::Read), mount("/", Access::ReadWrite)];
        let given = Capabilities { mounts, ..Capabilities::default() };
        let asked = [("/docs/a", true), ("/docs/link", false), ("/gone", false), ("/scratch", true)];
        let expected = [
            "--write in place of --read for /docs",
            "follow /docs/link out of the directory that it is in",
            "find /gone in the directory at /",
            "--scratch",
        ];
        assert_eq!(paths(&given, &asked), expected);
    }

    #[test]
    fn the_network_is_asked_for_in_the_words_of_rules() {
        use strongroom_runtime::Protocol;
        let denied = [
            Reach::Connect { protocol: Protocol::Tcp, address: "10.0.0.5:5432".parse().unwrap() },
            Reach::Resolve { name: "a.example".into() },
            Reach::Resolve { name: "b.example".into() },
            Reach::Http { method: "POST".into(), origin: "https://a.example:443".into() },
            Reach::Http { method: "GET".into(), origin: "https://a.example:443".into() },
            Reach::Clock,
        ];
        let denied: Vec<&Reach> = denied.iter().collect();
        let given =
            Capabilities { connect: vec!["b.example:80".parse().unwrap()], ..Capabilities::default() };
        let told = wishes(&given, &denied, &look);
        let expected = [
            "--connect tcp://10.0.0.5:5432",
            "--connect a.example:PORT",
            "--connect ADDRESS:PORT, with the address itself",
            "without --deterministic",
            "--http 'GET,POST https://a.example:443/'",
        ];
        assert_eq!(told.iter().filter_map(Wish::option).collect::<Vec<_>>(), expected);
    }
}
