//! Before a host serves: that nobody else could have read its keys, and nobody else can tell it what to do.
//!
//! Looked at are the data directory itself, the files that say what the host is, and each file beside its keys; `fsck` looks at all the rest.
//! *Bound:* [`MAX_KEYS`].

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use super::place::{PRIVATE_DIRECTORY, PRIVATE_FILE, failed};
use super::{Home, HomeError};

/// Root may own what says what the host is: it can do anything anyway, and a service's configuration is often root's.
const ROOT: u32 = 0;
/// By which somebody else could change a file, or exchange what is in a directory.
const OTHERS_WRITE: u32 = 0o022;
/// The same, or by which anybody at all could read it. The owner's group may: root's configuration is read by a service that way.
const WORLD: u32 = 0o027;
/// Everybody but the owner.
const OTHERS: u32 = 0o077;
/// By which the owner reads it.
const OWNER_READS: u32 = 0o400;
/// Most files beside the keys: there are some ten.
const MAX_KEYS: usize = 1000;

impl Home {
    /// Whether the directory, its configuration and its keys are this process's user's own, and as closed to others as they must be. What is not
    /// there yet is right.
    ///
    /// # Errors
    /// The first that is not, with the `chmod` or `chown` that mends it.
    pub fn check_guarded(dir: &Path) -> Result<(), HomeError> {
        Self::check_guarded_for(dir, rustix::process::geteuid().as_raw())
    }

    /// Refuses to keep anything in a directory that is somebody else's, or that others can write to: they could exchange what is in it. Root may
    /// work in anybody's.
    pub(super) fn check_place(dir: &Path) -> Result<(), HomeError> {
        let Some(found) = look(dir)? else { return Ok(()) };
        let user = rustix::process::geteuid().as_raw();
        let guard = Guard { user };
        if user != ROOT {
            guard.owned(dir, &found, true)?;
        }
        guard.closed(dir, &found, OTHERS_WRITE, PRIVATE_DIRECTORY)?;
        let state = Self { dir: dir.into() }.state();
        if state.is_symlink() {
            // It is written anew beside its place, and a link's place is here: what was erased would stay in it.
            let problem = "a link, and the state is to be no link".into();
            let mend =
                "Move what it leads to in its place, or move the whole data directory to the other disk";
            return Err(HomeError::Path { path: state, problem, mend });
        }
        Ok(())
    }

    fn check_guarded_for(dir: &Path, user: u32) -> Result<(), HomeError> {
        let Some(found) = look(dir)? else { return Ok(()) };
        let guard = Guard { user };
        guard.owned(dir, &found, false)?;
        guard.closed(dir, &found, OTHERS_WRITE, PRIVATE_DIRECTORY)?;
        let home = Self { dir: dir.into() };
        for path in [home.config(), home.trust()] {
            let Some(found) = look(&path)? else { continue };
            guard.owned(&path, &found, true)?;
            let wanted = if found.uid() == user { PRIVATE_FILE } else { 0o640 };
            guard.closed(&path, &found, WORLD, wanted)?;
            guard.readable(&path, &found, wanted)?;
        }
        for part in [home.keys(), dir.join("secrets")] {
            let Some(found) = look(&part)? else { continue };
            guard.owned(&part, &found, false)?;
            guard.closed(&part, &found, OTHERS, PRIVATE_DIRECTORY)?;
        }
        for path in home.key_files()? {
            let Some(found) = look(&path)? else { continue };
            guard.owned(&path, &found, false)?;
            let is_secret = path.extension().is_some_and(|ending| ending == "key" || ending == "next");
            guard.closed(&path, &found, if is_secret { OTHERS } else { OTHERS_WRITE }, PRIVATE_FILE)?;
            guard.readable(&path, &found, PRIVATE_FILE)?;
        }
        Ok(())
    }

    fn key_files(&self) -> Result<Vec<PathBuf>, HomeError> {
        let keys = self.keys();
        if look(&keys)?.is_none() {
            return Ok(Vec::new());
        }
        let names = fs::read_dir(&keys).map_err(|error| failed(&keys, &error))?;
        let paths = names.take(MAX_KEYS).map(|entry| entry.map(|entry| entry.path()));
        let mut paths: Vec<_> = paths.collect::<Result<_, _>>().map_err(|error| failed(&keys, &error))?;
        // The same one is complained about each time.
        paths.sort();
        Ok(paths)
    }
}

/// What a name leads to; none where there is no such name.
fn look(path: &Path) -> Result<Option<Metadata>, HomeError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|error| failed(path, &error)),
    }
}

struct Guard {
    user: u32,
}

impl Guard {
    fn owned(&self, path: &Path, found: &Metadata, or_root: bool) -> Result<(), HomeError> {
        if found.uid() == self.user || or_root && found.uid() == ROOT {
            return Ok(());
        }
        Err(HomeError::NotOurs { path: path.into(), owner: found.uid(), user: self.user })
    }

    fn closed(&self, path: &Path, found: &Metadata, never: u32, wanted: u32) -> Result<(), HomeError> {
        let mode = found.permissions().mode() & 0o7777;
        if mode & never == 0 {
            return Ok(());
        }
        Err(HomeError::TooOpen { path: path.into(), mode, wanted })
    }

    /// Root could read it all the same, until it gives that up; so the mode is asked, and not the system.
    fn readable(&self, path: &Path, found: &Metadata, wanted: u32) -> Result<(), HomeError> {
        let mode = found.permissions().mode() & 0o7777;
        if found.uid() != self.user || mode & OWNER_READS != 0 {
            return Ok(());
        }
        Err(HomeError::TooClosed { path: path.into(), mode, wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// The modes are tried one by one, and each is put right by what the error says.
    #[test]
    fn what_others_could_read_or_change_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(&dir.path().join("data")).unwrap();
        home.cache_key().unwrap();
        fs::create_dir(home.dir().join("secrets")).unwrap();
        chmod(&home.dir().join("secrets"), 0o700);
        fs::write(home.trust(), "").unwrap();
        chmod(&home.trust(), 0o600);
        // A path without a slash at its end, as errors show it.
        let at = |name: &str| if name.is_empty() { home.dir().to_owned() } else { home.dir().join(name) };
        Home::check_guarded(home.dir()).unwrap();
        for (name, modes, says) in [
            ("", &[0o770, 0o702, 0o777][..], "chmod 700"),
            ("strongroom.toml", &[0o644, 0o660, 0o602, 0o604, 0o200, 0o000], "chmod 600"),
            ("keys", &[0o750, 0o701], "chmod 700"),
            ("secrets", &[0o750, 0o701, 0o777], "chmod 700"),
            ("trust", &[0o644, 0o660, 0o602, 0o000], "chmod 600"),
            ("keys/host.key", &[0o640, 0o604, 0o620, 0o200, 0o000], "chmod 600"),
            ("keys/log.key", &[0o644], "chmod 600"),
            ("keys/cache.key", &[0o644], "chmod 600"),
            ("keys/host.pub", &[0o666, 0o622], "chmod 600"),
        ] {
            let path = at(name);
            let right = fs::metadata(&path).unwrap().permissions();
            for mode in modes {
                chmod(&path, *mode);
                let error = Home::check_guarded(home.dir()).unwrap_err().to_string();
                assert!(error.contains(&format!("{mode:04o}")), "{name}: {error}");
                assert!(error.ends_with(&format!("Run: {says} {}", path.display())), "{name}: {error}");
                fs::set_permissions(&path, right.clone()).unwrap();
            }
        }
        // A service's configuration, which it may read and not change.
        for mode in [0o600, 0o640, 0o400, 0o440] {
            chmod(&home.config(), mode);
            Home::check_guarded(home.dir()).unwrap();
        }
        chmod(&at("keys/host.pub"), 0o644);
        Home::check_guarded(home.dir()).unwrap();
    }

    #[test]
    fn what_is_somebody_elses_is_refused_with_the_chown() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(&dir.path().join("data")).unwrap();
        let us = fs::metadata(home.dir()).unwrap().uid();
        let other = us + 1;
        let error = Home::check_guarded_for(home.dir(), other).unwrap_err().to_string();
        assert!(error.ends_with(&format!("Run: chown {other} {}", home.dir().display())), "{error}");
        assert!(error.contains(&format!("it belongs to user {us}")), "{error}");
    }

    // Red without the question for a link in `check_place`.
    #[test]
    fn a_state_that_is_a_link_is_refused_with_what_would_help() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(&dir.path().join("data")).unwrap();
        let away = dir.path().join("away");
        fs::rename(home.state(), &away).unwrap();
        std::os::unix::fs::symlink(&away, home.state()).unwrap();
        let error = Home::create(home.dir()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: a link", home.state().display())), "{error}");
        assert!(error.contains("Move what it leads to in its place"), "{error}");
        fs::remove_file(home.state()).unwrap();
        fs::rename(&away, home.state()).unwrap();
        Home::create(home.dir()).unwrap();
    }

    // Red without `check_place`.
    #[test]
    fn nothing_is_kept_where_others_could_exchange_it() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o770, 0o702] {
            chmod(dir.path(), mode);
            let error = Home::create(dir.path()).unwrap_err().to_string();
            assert!(error.ends_with(&format!("Run: chmod 700 {}", dir.path().display())), "{error}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        chmod(dir.path(), 0o755);
        Home::create(dir.path()).unwrap();
    }

    #[test]
    fn what_is_not_there_yet_is_right() {
        let dir = tempfile::tempdir().unwrap();
        Home::check_guarded(&dir.path().join("nowhere")).unwrap();
        Home::check_guarded(dir.path()).unwrap();
    }
}
