//! The files of directory trees, in an order that does not depend on the file system.

use std::fs;

use strongroom_guest::Failure;

/// Calls `visit` with every regular file at or below each of `paths`.
///
/// Within a directory the order is that of the names' bytes. Symbolic links are followed where they are named
/// in `paths`, and nowhere below, so a walk ends and stays inside the trees that were asked for.
///
/// # Errors
///
/// The first path that cannot be read ends the walk; so does the first failure of `visit`.
pub(crate) fn each_file(
    paths: &[String],
    mut visit: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for path in paths {
        let kind = fs::metadata(path).map_err(|error| Failure::at(path, &error))?;
        if kind.is_dir() {
            each_file_below(path, &mut visit)?;
        } else {
            visit(path)?;
        }
    }
    Ok(())
}

/// A stack instead of recursion: a deep tree must not exhaust the guest's small call stack.
fn each_file_below(root: &str, visit: &mut impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut pending = vec![(root.to_owned(), true)];
    while let Some((path, is_dir)) = pending.pop() {
        if !is_dir {
            visit(&path)?;
            continue;
        }
        let mut entries = entries_of(&path)?;
        entries.sort_unstable_by(|a, b| b.cmp(a));
        pending.append(&mut entries);
    }
    Ok(())
}

/// The files and directories in `dir`, as whole paths, and whether each is a directory.
fn entries_of(dir: &str) -> Result<Vec<(String, bool)>, Failure> {
    let at = |error| Failure::at(dir, &error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(at)? {
        let entry = entry.map_err(at)?;
        let kind = entry.file_type().map_err(at)?;
        if !kind.is_dir() && !kind.is_file() {
            continue;
        }
        let name = entry
            .file_name()
            .into_string()
            .map_err(|bad| Failure::failed(format!("{dir}: the file name {bad:?} is not UTF-8")))?;
        let slash = if dir.ends_with('/') { "" } else { "/" };
        entries.push((format!("{dir}{slash}{name}"), kind.is_dir()));
    }
    Ok(entries)
}
