//! What a guest was denied, in the shape in which it can be given.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_job::{
    Access, Capabilities, Destination, HttpRule, Listener, Mount, MountSource, SCRATCH_PATH, SECRETS_PATH,
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
    Connect(Destination),
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

/// Paths that a new directory would not help.
fn special(given: &Capabilities, path: &str, write: bool) -> Option<Wish> {
    if let Some(mount) = mount_of(&given.mounts, path) {
        let path = path.to_owned();
        let read_only = write && mount.access == Access::Read;
        return Some(if read_only {
            Wish::Change { mount: mount.path.clone(), path }
        } else {
            Wish::Outside { path }
        });
    }
    if below(path, SCRATCH_PATH) && !given.scratch {
        return Some(Wish::Scratch);
    }
    if below(path, SECRETS_PATH) {
        return Some(Wish::Secret { file: path.to_owned() });
    }
    None
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
                match paths.as_slice() {
                    [path] => format!("{verb} {path}"),
                    [first, rest @ ..] => format!("{verb} {first} and {} more in {at}", rest.len()),
                    [] => format!("{verb} {at}"),
                }
            }
            Self::Change { path, .. } => format!("change {path}"),
            Self::Scratch => format!("use {SCRATCH_PATH}"),
            Self::Secret { file } => format!("read {file}"),
            Self::Outside { path } => format!("follow {path} out of the directory that it is in"),
            Self::Connect(rule) => format!("connect to {rule}"),
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
            Self::Secret { .. } => "--secret, with a host that keeps it".to_owned(),
            Self::Outside { .. } => return None,
            Self::Connect(rule) => format!("--connect {rule}"),
            Self::Lookup { name } => format!("--connect {name}:PORT"),
            Self::Listen(rule) => format!("--listen {rule}"),
            Self::Http { .. } => format!("--http '{}'", self.http("/").ok()?),
        })
    }

    /// Whether an answer to a question can give it.
    pub(super) const fn can_be_given(&self) -> bool {
        !matches!(self, Self::Outside { .. } | Self::Secret { .. })
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
