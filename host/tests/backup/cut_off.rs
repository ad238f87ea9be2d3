//! A process that is killed on its way leaves nothing that passes for what it was making.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strongroom::backup::BackupError;

use super::{back, is_good, used};

/// Looks at what a command has made so far.
const MAX_LOOKS: u32 = 1_000_000;

fn unfinished(room: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(room).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".strongroom-")).collect()
}

/// Starts the command, and kills it as soon as what it makes has `part` in it. Whether it was killed before its end.
fn killed(arguments: &[&Path], room: &Path, part: &str) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    for _ in 0..MAX_LOOKS {
        if unfinished(room).iter().any(|made| made.join(part).exists()) || child.try_wait().unwrap().is_some()
        {
            break;
        }
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_killed_passes_for_nothing_and_can_be_begun_again() {
    let (dir, _) = used().await;
    let room = tempfile::tempdir().unwrap();
    let mut cut_off = 0;
    for part in ["audit", "evidence", "blobs", "keys"] {
        let dest = room.path().join("backup");
        let arguments = ["backup".as_ref(), "--dir".as_ref(), dir.path(), "--with-keys".as_ref(), &dest];
        if killed(&arguments, room.path(), part) {
            cut_off += 1;
            assert!(!dest.exists());
        }
        for left in unfinished(room.path()) {
            let again = room.path().join("again");
            // Its list is the last thing that it gets.
            match back(&left, &again, None) {
                Err(BackupError::NoBackup { .. }) => {}
                other => assert!(left.join("backup").exists(), "{part}: {other:?}"),
            }
            let _ = std::fs::remove_dir_all(again);
            std::fs::remove_dir_all(left).unwrap();
        }
        let _ = std::fs::remove_dir_all(dest);
    }
    assert!(cut_off > 0, "no backup was cut off");
    let (backup, again) = (room.path().join("backup"), room.path().join("again"));
    let home = strongroom::home::Home::open(dir.path()).unwrap();
    let taken = strongroom::backup::take(&home, &backup, true, None).unwrap();
    let mut cut_off = 0;
    for part in ["audit", "evidence", "keys", "state", "lock"] {
        let arguments = ["restore".as_ref(), "--dir".as_ref(), again.as_path(), &backup];
        if killed(&arguments, room.path(), part) {
            cut_off += 1;
            assert!(!again.exists());
            back(&backup, &again, None).unwrap();
        }
        is_good(&again, taken.head);
        std::fs::remove_dir_all(&again).unwrap();
        unfinished(room.path()).iter().for_each(|left| std::fs::remove_dir_all(left).unwrap());
    }
    assert!(cut_off > 0, "no restore was cut off");
}
