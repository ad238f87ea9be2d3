//! Nothing in a granted directory leads out of it, read-only means read-only, and there is no network.
//!
//! The guests here make the attacking system calls themselves; each answer is checked, and the tree outside too.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::disallowed_methods, reason = "files are given an age")]
#![cfg(unix)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::syscalls::{CREATE, DIRECTORY, FIRST, Fd, OK, SECOND, Script, TRUNCATE};
use common::{probe, run};
use strongroom_runtime::{Access, Grant, HostFault, Limits, Outcome, Stdio};

/// A tree with something to steal: `secret` and `outside/` beside the granted `inside/`.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(tree.path("inside/sub")).unwrap();
        fs::create_dir_all(tree.path("outside/dir")).unwrap();
        fs::write(tree.path("secret"), "secret").unwrap();
        fs::write(tree.path("outside/file"), "outside").unwrap();
        fs::write(tree.path("inside/file"), "inside").unwrap();
        fs::write(tree.path("inside/sub/deep"), "deep").unwrap();
        tree
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn grant(&self, access: Access) -> Grant {
        Grant::none().dir(self.path("inside"), "/in", access)
    }

    /// Every path below, with what it is, its content and its times.
    fn print(&self, below: &str) -> Vec<String> {
        let mut seen = Vec::new();
        print(&self.path(below), &mut seen);
        seen.sort();
        seen
    }
}

fn print(path: &Path, seen: &mut Vec<String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let content = if meta.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    seen.push(format!(
        "{} {:?} {content:?} {:?} {}",
        path.display(),
        meta.file_type(),
        meta.modified().unwrap(),
        meta.nlink()
    ));
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            print(&entry.unwrap().path(), seen);
        }
    }
}

/// Runs `script` and expects every call but the first `fine` to be refused.
fn all_refused(script: &Script, fine: usize, grant: &Grant) {
    let answers = script.answers(grant);
    let (good, bad) = answers.split_at(fine);
    assert!(good.iter().all(|&answer| answer == OK), "the steps that should work: {good:?}");
    let slipped: Vec<usize> =
        (fine..).zip(bad).filter(|(_, answer)| **answer == OK).map(|(step, _)| step).collect();
    assert!(slipped.is_empty(), "steps {slipped:?} were allowed: {answers:?}");
}

/// Paths that point out of `inside/`, each in another way.
fn ways_out(tree: &Tree) -> Vec<String> {
    symlink("..", tree.path("inside/up")).unwrap();
    symlink("../outside", tree.path("inside/across")).unwrap();
    symlink("../secret", tree.path("inside/steal")).unwrap();
    symlink(tree.path("secret"), tree.path("inside/absolute")).unwrap();
    symlink("chain2", tree.path("inside/chain1")).unwrap();
    symlink("sub/../../secret", tree.path("inside/chain2")).unwrap();
    symlink("/", tree.path("inside/root")).unwrap();
    let absolute = tree.path("secret").display().to_string();
    let mut ways: Vec<String> = [
        "../secret",
        "./../secret",
        "sub/../../secret",
        "sub/../sub/../../secret",
        "..//secret",
        "../secret/",
        "up/secret",
        "up/outside/file",
        "across/file",
        "across/../secret",
        "steal",
        "steal/",
        "absolute",
        "chain1",
        "chain2",
        "root/etc/passwd",
        "/etc/passwd",
        "/in/../etc/passwd",
        "//etc/passwd",
        "..",
        "../",
        "up",
        "up/",
        "root",
        "across",
        "across/",
        "across/.",
    ]
    .map(str::to_owned)
    .into();
    ways.push(absolute);
    ways
}

#[test]
fn no_path_leads_out_to_read() {
    let tree = Tree::new();
    let mut script = Script::new();
    for way in ways_out(&tree) {
        script.open(FIRST, &way, 0, false);
        script.open(FIRST, &way, DIRECTORY, false);
        script.stat(FIRST, &way);
    }
    let before = tree.print(".");
    // The other side of the same test: what is inside can be read.
    let mut good = Script::new();
    let file = good.open(FIRST, "sub/../file", 0, false);
    good.read(file, 6).stat(FIRST, "sub/deep").open(FIRST, "./sub/", DIRECTORY, false);
    for access in [Access::Read, Access::ReadWrite] {
        all_refused(&script, 0, &tree.grant(access));
        assert_eq!(good.answers(&tree.grant(access)), [OK; 4]);
    }
    assert_eq!(tree.print("."), before);
}

#[test]
fn no_path_leads_out_to_write() {
    let tree = Tree::new();
    let mut script = Script::new();
    for way in ways_out(&tree) {
        script.open(FIRST, &way, TRUNCATE, true);
        script.open(FIRST, &way, CREATE, true);
        script.open(FIRST, &way, CREATE | TRUNCATE, true);
        script.set_times(FIRST, &way);
    }
    for way in [
        "../new",
        "up/new",
        "across/new",
        "/tmp/strongroom-escape",
        "sub/../../new",
        "root/tmp/strongroom-escape",
    ] {
        script.open(FIRST, way, CREATE, true);
        script.mkdir(FIRST, way);
        script.symlink("anything", FIRST, way);
        script.link(FIRST, "file", FIRST, way);
        script.rename(FIRST, "file", FIRST, way);
    }
    for way in ["../secret", "up/secret", "across/file", "../outside", "across/dir", "/etc"] {
        script.unlink(FIRST, way);
        script.rmdir(FIRST, way);
        script.link(FIRST, way, FIRST, "stolen");
        script.rename(FIRST, way, FIRST, "stolen");
        script.rename(FIRST, way, FIRST, "stolen/");
    }
    let before = tree.print(".");
    all_refused(&script, 0, &tree.grant(Access::ReadWrite));
    assert_eq!(tree.print("."), before);
    assert!(!Path::new("/tmp/strongroom-escape").exists());
}

#[test]
fn a_guest_cannot_make_itself_a_way_out() {
    let tree = Tree::new();
    let outside = tree.print("outside");
    let secret = tree.print("secret");
    let absolute = tree.path("secret").display().to_string();
    let mut script = Script::new();
    // An absolute link is refused outright; a relative one that leads out may be made, but not followed.
    script.symlink(&absolute, FIRST, "absolute").symlink("/etc/passwd", FIRST, "passwd");
    let refused = script.answers(&tree.grant(Access::ReadWrite));
    assert!(refused.iter().all(|&answer| answer != OK), "{refused:?}");

    let mut script = Script::new();
    script
        .symlink("../secret", FIRST, "out")
        .symlink("../outside", FIRST, "dir")
        .mkdir(FIRST, "a")
        .mkdir(FIRST, "a/b");
    script.symlink("../../../secret", FIRST, "a/b/deep").symlink("a/b/deep", FIRST, "indirect");
    let fine = 6;
    for way in ["out", "dir/file", "a/b/deep", "indirect", "out/", "dir/"] {
        script.open(FIRST, way, 0, false);
        script.open(FIRST, way, CREATE | TRUNCATE, true);
        script.stat(FIRST, way);
        script.set_times(FIRST, way);
    }
    script
        .link(FIRST, "dir/file", FIRST, "stolen")
        .rename(FIRST, "dir/file", FIRST, "stolen")
        .unlink(FIRST, "dir/file");
    all_refused(&script, fine, &tree.grant(Access::ReadWrite));
    assert_eq!((tree.print("outside"), tree.print("secret")), (outside, secret));
}

#[test]
fn a_directory_moved_under_an_open_one_does_not_lead_out() {
    // `a/b` is opened, then moved up: its `..` is now another directory, but still not the outside.
    let tree = Tree::new();
    let mut script = Script::new();
    script.mkdir(FIRST, "a").mkdir(FIRST, "a/b");
    let opened = script.open(FIRST, "a/b", DIRECTORY, false);
    script.rename(FIRST, "a/b", FIRST, "b");
    let fine = 4;
    for way in ["..", "../..", "../file", "../../secret", "../../outside/file"] {
        script.open(opened, way, 0, false);
        script.stat(opened, way);
        script.open(opened, way, CREATE | TRUNCATE, true);
    }
    let (outside, secret) = (tree.print("outside"), tree.print("secret"));
    all_refused(&script, fine, &tree.grant(Access::ReadWrite));
    assert_eq!((tree.print("outside"), tree.print("secret")), (outside, secret));
}

/// Everything that changes something, below `dir`.
fn changes(script: &mut Script, dir: Fd, file: Fd) {
    script.open(dir, "file", TRUNCATE, false);
    script.open(dir, "file", 0, true);
    script.open(dir, "file", TRUNCATE, true);
    script.open(dir, "new", CREATE, false);
    script.open(dir, "new", CREATE, true);
    script.open(dir, "sub/", CREATE, true);
    script.mkdir(dir, "new").rmdir(dir, "sub").rmdir(dir, "sub/").unlink(dir, "file").unlink(dir, "file/");
    script.symlink("file", dir, "new").link(dir, "file", dir, "new").rename(dir, "file", dir, "new");
    script.rename(dir, "file", dir, "sub/new").rename(dir, "sub", dir, "new");
    script.set_times(dir, "file").set_times(dir, "sub").set_times(dir, ".");
    script
        .set_times_of(file)
        .set_size(file, 0)
        .set_size(file, 1 << 40)
        .allocate(file, 1 << 20)
        .pwrite(file)
        .write(file, "x");
}

// Red without: `FsPerms::ReadOnly` for `Access::Read` in `sandbox.rs`.
#[test]
fn a_read_only_directory_cannot_be_changed() {
    let tree = Tree::new();
    aged(&tree.path("inside/file"));
    let mut script = Script::new();
    let file = script.open(FIRST, "file", 0, false);
    let sub = script.open(FIRST, "sub", DIRECTORY, false);
    changes(&mut script, FIRST, file);
    script.open(sub, "deep", TRUNCATE, true);
    script.unlink(sub, "deep").set_times(sub, "deep").set_times_of(sub).set_times_of(FIRST);
    let before = tree.print(".");
    all_refused(&script, 2, &tree.grant(Access::Read));
    assert_eq!(tree.print("."), before);
}

// Red without: the same line.
#[test]
fn a_read_only_directory_beside_a_writable_one_cannot_be_changed() {
    let tree = Tree::new();
    aged(&tree.path("inside/file"));
    fs::create_dir(tree.path("work")).unwrap();
    fs::write(tree.path("work/mine"), "mine").unwrap();
    let grant = tree.grant(Access::Read).write_dir(tree.path("work"), "/work");
    let mut script = Script::new();
    let file = script.open(FIRST, "file", 0, false);
    // In, out and across: by rename, by hard link, through the writable side.
    script.rename(SECOND, "mine", FIRST, "mine").rename(SECOND, "mine", FIRST, "file");
    script.rename(FIRST, "file", SECOND, "file").rename(FIRST, "sub", SECOND, "sub");
    script
        .link(FIRST, "file", SECOND, "file")
        .link(SECOND, "mine", FIRST, "mine")
        .link(FIRST, "sub/deep", SECOND, "deep");
    script.rename(SECOND, "mine", FIRST, "mine/").rename(FIRST, "file/", SECOND, "file");
    script.open(SECOND, "../inside/file", TRUNCATE, true);
    changes(&mut script, FIRST, file);
    let before = (tree.print("inside"), tree.print("work"));
    all_refused(&script, 1, &grant);
    assert_eq!((tree.print("inside"), tree.print("work")), before);
}

#[test]
fn a_read_only_tree_stays_so_when_the_same_tree_is_writable_under_another_name() {
    // Two grants of one directory: what goes through the read-only one is refused all the same.
    let tree = Tree::new();
    let grant = tree.grant(Access::Read).write_dir(tree.path("inside"), "/rw");
    let mut script = Script::new();
    let file = script.open(FIRST, "file", 0, false);
    changes(&mut script, FIRST, file);
    script
        .link(FIRST, "file", SECOND, "copy")
        .rename(FIRST, "file", SECOND, "copy")
        .rename(SECOND, "file", FIRST, "copy");
    let before = tree.print(".");
    all_refused(&script, 1, &grant);
    assert_eq!(tree.print("."), before);
    let mut writes = Script::new();
    let new = writes.open(SECOND, "new", CREATE, true);
    writes
        .write(new, "new")
        .rename(SECOND, "new", SECOND, "newer")
        .set_times(SECOND, "file")
        .unlink(SECOND, "newer");
    assert_eq!(writes.answers(&grant), [OK; 5]);
}

#[test]
fn a_directory_below_a_read_only_one_can_be_writable() {
    let tree = Tree::new();
    let grant = tree.grant(Access::Read).write_dir(tree.path("inside/sub"), "/in/sub");
    let mut script = Script::new();
    let new = script.open(SECOND, "new", CREATE, true);
    script.write(new, "new");
    script.open(FIRST, "sub/new", 0, true);
    script.link(SECOND, "new", FIRST, "new").rename(SECOND, "new", FIRST, "new");
    all_refused(&script, 2, &grant);
    assert_eq!(fs::read_to_string(tree.path("inside/sub/new")).unwrap(), "new");
}

#[test]
fn a_hard_link_does_not_cross_between_two_writable_directories_unseen() {
    // Both are writable, so this is allowed; the file is the guest's in either. It must not reach a third place.
    let tree = Tree::new();
    let grant = tree.grant(Access::ReadWrite).write_dir(tree.path("outside"), "/out");
    let mut script = Script::new();
    script.link(FIRST, "file", SECOND, "linked").rename(SECOND, "file", FIRST, "moved");
    assert_eq!(script.answers(&grant), [OK; 2]);
    assert_eq!(fs::read_to_string(tree.path("inside/moved")).unwrap(), "outside");
    assert_eq!(fs::read_to_string(tree.path("secret")).unwrap(), "secret");
}

#[test]
fn a_swap_race_never_leads_out() {
    // Another process swaps a directory for a symlink to the outside while the guest opens through it.
    let tree = Tree::new();
    let (dir, parked, link) = (tree.path("inside/sub"), tree.path("inside/parked"), tree.path("inside/link"));
    fs::write(tree.path("outside/deep"), "stolen").unwrap();
    symlink("../outside", &link).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let stop = std::sync::Arc::clone(&stop);
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::rename(&dir, &parked);
                let _ = fs::rename(&link, &dir);
                let _ = fs::rename(&dir, &link);
                let _ = fs::rename(&parked, &dir);
            }
        }
    });
    for _ in 0..30 {
        let mut script = Script::new();
        for _ in 0..20 {
            script.open(FIRST, "sub/deep", TRUNCATE, true);
        }
        script.answers(&tree.grant(Access::ReadWrite));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(fs::read_to_string(tree.path("outside/deep")).unwrap(), "stolen");
}

#[test]
fn nothing_granted_is_nothing_open() {
    let mut script = Script::new();
    for number in 3..10 {
        script.open(Fd::Number(number), "etc/passwd", 0, false);
        script.readdir(Fd::Number(number));
    }
    all_refused(&script, 0, &Grant::none());
}

// Red with the gate's `permits` and `listens` true, and names looked up that no rule grants.
#[test]
fn there_is_no_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for (what, target) in [
        ("connect", address.as_str()),
        ("listen", "127.0.0.1:0"),
        ("udp", "127.0.0.1:0"),
        ("lookup", "localhost:80"),
    ] {
        let ran = run(&probe(), &Grant::none().args(["probe", what, target]), &Limits::default());
        assert_eq!(ran.outcome(), &Outcome::Exited(0), "{what}");
        assert!(ran.text().starts_with("refused: "), "{what}: {}", ran.text());
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a guest reached the host");
}

#[test]
fn a_component_is_confined_too() {
    let tree = Tree::new();
    ways_out(&tree);
    let tried = |what: &str, path: &str, access| {
        run(&probe(), &tree.grant(access).args(["probe", what, path]), &Limits::default()).text()
    };
    assert_eq!(tried("read", "/in/file", Access::Read), "allowed\n");
    assert_eq!(tried("write", "/in/made", Access::ReadWrite), "allowed\n");
    for path in ["/in/../secret", "/in/steal", "/in/up/secret", "/in/absolute", "/etc/passwd", "/in/chain1"] {
        assert!(tried("read", path, Access::Read).starts_with("refused"), "{path}");
        assert!(tried("write", path, Access::ReadWrite).starts_with("refused"), "{path}");
    }
    assert!(tried("write", "/in/file", Access::Read).starts_with("refused"));
    assert_eq!(fs::read_to_string(tree.path("secret")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(tree.path("inside/file")).unwrap(), "inside");
}

#[test]
fn a_granted_directory_that_is_missing_is_the_hosts_fault() {
    let grant = Grant::none().read_dir("/nowhere/at/all", "/in");
    let module = common::module(&common::command(""));
    let fault = common::run_with(&module, &grant, &Limits::default(), Stdio::null()).unwrap_err();
    assert!(
        matches!(&fault, HostFault::Preopen { path, source }
        if path == Path::new("/nowhere/at/all") && source.kind() == std::io::ErrorKind::NotFound),
        "{fault:?}"
    );
}

/// Gives a file a time that any change of it would move.
fn aged(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}
