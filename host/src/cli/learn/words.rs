//! What was learned, as options, as lines of a configuration, and for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use strongroom_job::{Access, Capabilities, Mount, MountSource, Name};
use strongroom_runtime::MAX_OBSERVED;

use super::needs::{Needs, Unused};
use crate::cli::escape::line;

/// Options whose place the learned ones take, with a value and without one.
const VALUED: [&str; 7] = ["--read", "--write", "--connect", "--listen", "--http", "--secret", "--dir"];
const PLAIN: [&str; 7] = ["--learn", "--scratch", "--deterministic", "--json", "--verbose", "-v", "-vv"];

/// The options that ask for exactly these capabilities. Directories below `here` are named from there.
pub(super) fn options(asked: &Capabilities, here: &Path) -> Vec<String> {
    let mut options = Vec::new();
    let mut add = |option: &str, value: String| options.extend([option.to_owned(), value]);
    for mount in &asked.mounts {
        let option = if mount.access == Access::Read { "--read" } else { "--write" };
        add(option, format!("{}:{}", source(mount, here), mount.path));
    }
    for rule in &asked.connect {
        add("--connect", rule.to_string());
    }
    for rule in &asked.listen {
        add("--listen", rule.to_string());
    }
    for rule in &asked.http {
        add("--http", rule.to_string());
    }
    if asked.scratch {
        options.push("--scratch".to_owned());
    }
    // One option leaves out both, so it is right only when both are for nothing.
    if !asked.clock && !asked.random {
        options.push("--deterministic".to_owned());
    }
    options
}

fn source(mount: &Mount, here: &Path) -> String {
    match &mount.source {
        MountSource::Directory(path) => match Path::new(path).strip_prefix(here) {
            Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
            // A name that begins like a path of this machine needs no help; any other is a directory for `run`.
            Ok(below) => below.display().to_string(),
            Err(_) => path.clone(),
        },
        MountSource::Volume(name) => name.to_string(),
        MountSource::VolumePath { volume, path } => format!("{volume}/{path}"),
    }
}

/// The command as it was typed, with `options` in place of what it gave before.
pub(super) fn command(typed: &[String], options: &[String]) -> String {
    let own = typed.iter().position(|word| word == "--").unwrap_or(typed.len());
    let (ours, guests) = typed.split_at(own);
    let mut words = vec!["strongroom".to_owned()];
    let mut skip = false;
    for word in ours.iter().skip(1) {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if std::mem::take(&mut skip) || PLAIN.contains(&word.as_str()) {
            continue;
        }
        if VALUED.contains(&name) {
            skip = name == word;
            continue;
        }
        words.push(quoted(word));
    }
    words.extend(options.iter().chain(guests).map(|word| quoted(word)));
    words.join(" ")
}

/// A word as a POSIX shell takes it back.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What a host's configuration says so that somebody else may submit it.
pub(super) fn policy(asked: &Capabilities) -> String {
    let mut volumes: BTreeMap<&str, (Name, Access)> = BTreeMap::new();
    let mut text = String::new();
    for mount in &asked.mounts {
        let MountSource::Directory(path) = &mount.source else { continue };
        let name = free_name(path, &volumes);
        let entry = volumes.entry(path).or_insert((name, mount.access));
        entry.1 = entry.1.max(mount.access);
    }
    for (path, (name, access)) in &volumes {
        let _ = writeln!(text, "[volumes.{}]", key(name));
        let _ = writeln!(text, "path = {}\naccess = \"{}\"\n", string(path), word(*access));
    }
    text.push_str("[[principals]]\nname = \"NAME\"\nkey = \"ed25519:KEY\"\n");
    if !volumes.is_empty() {
        let granted = volumes.values().map(|(name, access)| format!("{} = \"{}\"", key(name), word(*access)));
        let _ = writeln!(text, "volumes = {{ {} }}", granted.collect::<Vec<_>>().join(", "));
    }
    list(&mut text, "connect", &asked.connect);
    list(&mut text, "listen", &asked.listen);
    list(&mut text, "http", &asked.http);
    text.trim_end().to_owned()
}

const fn word(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::ReadWrite => "write",
    }
}

fn list(text: &mut String, key: &str, rules: &[impl ToString]) {
    if !rules.is_empty() {
        let rules: Vec<String> = rules.iter().map(|rule| string(&rule.to_string())).collect();
        let _ = writeln!(text, "{key} = [{}]", rules.join(", "));
    }
}

/// A name of a volume has dots where a bare key of TOML must not.
fn key(name: &Name) -> String {
    let name = name.as_str();
    if name.contains('.') { string(name) } else { name.to_owned() }
}

fn string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A name for a volume, after its directory's own, that no other directory has.
fn free_name(path: &str, taken: &BTreeMap<&str, (Name, Access)>) -> Name {
    /// Room for a number behind the name.
    const MAX_BASE: usize = 56;
    let base = path.rsplit('/').next().unwrap_or_default().to_lowercase();
    let allowed = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || "-_.".contains(char);
    let base: String =
        base.chars().map(|char| if allowed(char) { char } else { '-' }).take(MAX_BASE).collect();
    let base = base.trim_start_matches(['-', '_', '.']);
    let base = if base.is_empty() { "files" } else { base };
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let free = std::iter::once(base.to_owned())
        .chain(numbered)
        .filter_map(|text| text.parse().ok())
        .find(|name| !taken.iter().any(|(other, (used, _))| used == name && *other != path));
    // Endless and unlike each other: one of them is free.
    free.unwrap_or_else(Name::default_name)
}

/// What was given and not used, one thing in a line.
pub(super) fn unused(unused: &Unused, here: &Path) -> String {
    match unused {
        Unused::Mount(mount) => {
            let option = if mount.access == Access::Read { "--read" } else { "--write" };
            format!("{option} {}:{}", source(mount, here), mount.path)
        }
        Unused::Change(mount) => format!("--write {}:{} (it only read)", source(mount, here), mount.path),
        Unused::Rule(option, rule) => format!("{option} '{rule}' (not, or not all of it)"),
        Unused::Scratch => "--scratch".to_owned(),
        Unused::Clock => "the clock".to_owned(),
        Unused::Randomness => "random bytes".to_owned(),
    }
}

/// For people: comments, then the command, then the lines of a configuration. Each part can be copied as it is.
pub(super) fn all(needs: &Needs, ended: &str, rounds: u32, command: &str, here: &Path) -> String {
    let times = if rounds == 1 { "once".to_owned() } else { format!("{rounds} times") };
    let mut text = format!("# ran {times}; the last time it {ended}\n");
    for wish in &needs.wishes {
        let option = wish.option().unwrap_or_else(|| "no option grants that".to_owned());
        // A guest chose these words: one that ends the line would no longer be in a comment.
        let _ = writeln!(text, "# denied: {}", line(&format!("{} ({option})", wish.words())));
    }
    for it in &needs.unused {
        let _ = writeln!(text, "# not used: {}", line(&unused(it, here)));
    }
    if !needs.whole {
        let _ = writeln!(
            text,
            "# it used more than {MAX_OBSERVED} different things, so nothing of what you gave it is left out"
        );
    }
    let _ = writeln!(text, "# the smallest command with which it runs the same way:");
    let _ = write!(text, "{command}\n\n");
    let Capabilities { mounts, connect, listen, http, .. } = &needs.used;
    if mounts.is_empty() && connect.is_empty() && listen.is_empty() && http.is_empty() {
        text.push_str("# a host need not grant it anything: whoever may submit may submit it");
    } else {
        text.push_str("# in the strongroom.toml of a host, for whoever shall submit it:\n");
        text.push_str(&policy(&needs.used));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::cli::learn::wish::Wish;

    fn mount(source: &str, path: &str, access: Access) -> Mount {
        Mount { source: MountSource::Directory(source.to_owned()), path: path.to_owned(), access }
    }

    fn asked() -> Capabilities {
        Capabilities {
            mounts: vec![
                mount("/work/docs", "/docs", Access::Read),
                mount("/work", "/all", Access::Read),
                mount("/srv/My Docs", "/out", Access::ReadWrite),
                mount("/srv/docs", "/more", Access::Read),
                mount("/srv/docs", "/again", Access::ReadWrite),
            ],
            connect: vec!["a.example:443".parse().unwrap()],
            http: vec!["https://a.example/v1".parse().unwrap()],
            clock: false,
            random: false,
            ..Capabilities::default()
        }
    }

    #[test]
    fn the_learned_options_take_the_place_of_the_typed_ones() {
        let options = options(&asked(), Path::new("/work"));
        let typed = "strongroom run --learn -v m.wasm --read x:/x --write=y:/y --memory 64MiB --env A=it's \
                     --http https://b.example --deterministic -- --read -v";
        let typed: Vec<String> = typed.split_whitespace().map(ToOwned::to_owned).collect();
        let expected = "strongroom run m.wasm --memory 64MiB --env 'A=it'\\''s' --read docs:/docs --read .:/all \
            --write '/srv/My Docs:/out' --read /srv/docs:/more --write /srv/docs:/again \
            --connect tcp://a.example:443 --http 'GET,HEAD https://a.example:443/v1' --deterministic -- --read -v";
        assert_eq!(command(&typed, &options), expected);
    }

    #[test]
    fn the_policy_names_each_directory_once() {
        let expected = r#"[volumes.my-docs]
path = "/srv/My Docs"
access = "write"

[volumes.docs-2]
path = "/srv/docs"
access = "write"

[volumes.work]
path = "/work"
access = "read"

[volumes.docs]
path = "/work/docs"
access = "read"

[[principals]]
name = "NAME"
key = "ed25519:KEY"
volumes = { my-docs = "write", docs-2 = "write", work = "read", docs = "read" }
connect = ["tcp://a.example:443"]
http = ["GET,HEAD https://a.example:443/v1"]"#;
        assert_eq!(policy(&asked()), expected);
    }

    // Red without `line` around the words of a wish.
    #[test]
    fn a_guest_cannot_leave_the_comment() {
        let needs = Needs {
            used: Capabilities::default(),
            unused: Vec::new(),
            wishes: vec![Wish::Lookup { name: "a\nrm -r .\n".into() }],
            whole: true,
        };
        let text = all(&needs, "exited with status 0", 1, "strongroom run m.wasm", Path::new("/"));
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines[..2], ["strongroom run m.wasm", ""], "{text}");
    }
}
