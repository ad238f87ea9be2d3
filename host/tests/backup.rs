//! A backup that is taken while a host works comes back with the same log and the same jobs; a damaged one does not come back; and nothing
//! half made passes for a backup or a data directory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;
#[path = "backup/cut_off.rs"]
mod cut_off;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::guests::writes_bytes;
use common::live::{Live, finish, push_wat, run, says, start};
use common::trees::files;
use strongroom::audit::read::LogReader;
use strongroom::audit::verify::{Options, verify_dir};
use strongroom::backup::{BackupError, Restore, Restored, Taken, restore, take};
use strongroom::config::Config;
use strongroom::fsck::check;
use strongroom::home::Home;
use strongroom_job::merkle::{LeafIndex, TreeHead, TreeSize};
use strongroom_job::succession::KeyRole;
use strongroom_job::{Event, Record, Timestamp};
use strongroom_sdk::{Client, Job, JobId, JobState, OutputStream};

/// So many bytes of output are a blob.
const LONG: u32 = 100_000;
/// Looks at the log, and the time between two: a minute.
const MAX_LOOKS: u32 = 3_000;
const PAUSE: Duration = Duration::from_millis(20);

fn back(from: &Path, dir: &Path, keys: Option<&Path>) -> Result<Restored, BackupError> {
    restore(&Restore { from, dir, keys, known: None })
}

/// A host that ran two jobs, one of which left a blob, and stopped.
async fn used() -> (tempfile::TempDir, [JobId; 2]) {
    let live = Live::new().await;
    let client = live.client().await;
    let short = push_wat(&client, &says("a word that is kept", 3)).await;
    let long = push_wat(&client, &writes_bytes(1, LONG)).await;
    let jobs = [run(&client, &Job::new(short)).await.view.job, run(&client, &Job::new(long)).await.view.job];
    drop(client);
    (live.stop().await, jobs)
}

/// The log in `dir` has this tree, and everything in the directory is as it must be.
fn is_good(dir: &Path, head: strongroom::backup::Head) {
    let home = Home::open(dir).unwrap();
    let key = home.log_key().unwrap().public();
    let verified =
        verify_dir(&home.audit(), &Options { key: Some(key), ..Options::default() }, &mut ()).unwrap();
    assert_eq!((verified.size().get(), verified.checkpoint.head().root), (head.size, head.root));
    let config = Config::load(&home.config()).unwrap();
    let report = check(&home.lock_to_check().unwrap(), Ok(&config)).unwrap();
    assert!(report.is_clean(), "{report:#?}");
}

/// Submits until told to stop, and erases every third job that is over.
async fn load(client: Client, stop: Arc<AtomicBool>) -> usize {
    let short = push_wat(&client, &says("a word that is kept", 0)).await;
    let long = push_wat(&client, &writes_bytes(1, LONG)).await;
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let module = if count % 5 == 0 { long } else { short };
        let accepted = client.submit(&Job::new(module)).await.unwrap();
        if count % 3 == 0 {
            client.wait(accepted.job).await.unwrap();
            client.erase(accepted.job, false).await.unwrap();
        }
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_comes_back_with_the_same_log_and_the_same_jobs() {
    let live = Live::new().await;
    let stop = Arc::new(AtomicBool::new(false));
    let loading = tokio::spawn(load(live.client().await, stop.clone()));
    let room = tempfile::tempdir().unwrap();
    let mut taken: Vec<(PathBuf, Taken)> = Vec::new();
    for number in 0..3 {
        has_grown(live.dir.path(), taken.last().map_or(0, |last| last.1.head.size) + 20).await;
        let dest = room.path().join(format!("backup-{number}"));
        let (home, onto) = (Home::open(live.dir.path()).unwrap(), taken.last().map(|last| last.0.clone()));
        let here = dest.clone();
        let made =
            tokio::task::spawn_blocking(move || take(&home, &here, false, onto.as_deref())).await.unwrap();
        taken.push((dest, made.unwrap()));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(loading.await.unwrap() > 0);
    let client = live.client().await;
    let original = Home::open(live.dir.path()).unwrap();
    let key = original.log_key().unwrap().public();
    for (number, (dest, taken)) in taken.iter().enumerate() {
        let dir = room.path().join(format!("again-{number}"));
        let restored = back(dest, &dir, Some(&original.dir().join("keys"))).unwrap();
        assert_eq!((restored.head, restored.rebuilt.jobs), (taken.head, taken.rebuilt.jobs));
        is_good(&dir, taken.head);
        // The log that went on begins with it.
        let log = LogReader::open(&original.audit(), Some(&key)).unwrap();
        let head = TreeHead { size: TreeSize::new(taken.head.size).unwrap(), root: taken.head.root };
        assert!(log.begins_with(&head).unwrap());
    }
    assert!(taken[2].1.shared > 0, "what did not change is shared");
    assert!(taken[0].1.head.size < taken[2].1.head.size, "the load went on");
    // Each job of the last one that was over at its checkpoint and was not erased since is as it is in the original, with its output.
    let dir = room.path().join("again-2");
    let over = over(&Home::open(&dir).unwrap());
    let again = start(&dir, |_| {}).await;
    let same = Live { host: again, dir: room };
    let key = Home::open(&dir).unwrap().client_key().unwrap();
    let options = strongroom_sdk::ConnectOptions::new(same.host.local_addr(), *same.host.public_key(), key);
    let restored = Client::connect(options).await.unwrap();
    let mut compared = 0;
    for job in over {
        let (Ok(there), Ok(here)) = (client.show(job).await, restored.show(job).await) else { continue };
        assert_eq!((there.state, there.end), (here.state, here.end));
        let mut outputs = [Vec::new(), Vec::new()];
        client.fetch_output(job, OutputStream::Stdout, &mut outputs[0]).await.unwrap();
        restored.fetch_output(job, OutputStream::Stdout, &mut outputs[1]).await.unwrap();
        assert!(!outputs[0].is_empty() && outputs[0] == outputs[1]);
        compared += 1;
    }
    assert!(compared > 0);
    drop((client, restored));
    live.stop().await;
}

/// Waits until the published log has so many records.
async fn has_grown(dir: &Path, size: u64) {
    for _ in 0..MAX_LOOKS {
        let log = LogReader::open(&dir.join("audit"), None);
        if log.is_ok_and(|log| log.checkpoint().size().get() >= size) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("the log does not grow");
}

fn over(home: &Home) -> Vec<JobId> {
    let log = LogReader::open(&home.audit(), None).unwrap();
    let end = log.checkpoint().size().next_index();
    let records =
        log.entries(LeafIndex::FIRST, end).map(|entry| Record::from_leaf(&entry.unwrap().1).unwrap());
    records
        .filter_map(|record| match record.event {
            Event::Finished { job, .. } => Some(job),
            _ => None,
        })
        .collect()
}

// Red without the comparison of digests in `copy_checked`.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_refused_with_its_place() {
    let (dir, _) = used().await;
    let room = tempfile::tempdir().unwrap();
    let backup = room.path().join("backup");
    take(&Home::open(dir.path()).unwrap(), &backup, true, None).unwrap();
    let again = room.path().join("again");
    let refused = |place: &Path| {
        let error = back(&backup, &again, None).unwrap_err();
        assert!(error.to_string().contains(&place.display().to_string()), "{}: {error}", place.display());
        assert!(!again.exists());
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1, "nothing is left");
    };
    let all = files(&backup);
    assert!(all.len() > 12, "{:?}", all.keys());
    for (path, bytes) in all {
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            refused(&path);
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        refused(&path);
        fs::remove_file(&path).unwrap();
        refused(&path);
        symlink("/dev/null", &path).unwrap();
        refused(if path.ends_with("backup") { &backup } else { &path });
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let stranger = backup.join("audit/stranger");
    fs::write(&stranger, "").unwrap();
    refused(&stranger);
    fs::remove_file(&stranger).unwrap();
    back(&backup, &again, None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_keys_are_in_it_only_when_they_are_asked_for() {
    let (dir, jobs) = used().await;
    let home = Home::open(dir.path()).unwrap();
    let room = tempfile::tempdir().unwrap();
    let (without, with) = (room.path().join("without"), room.path().join("with"));
    let taken = take(&home, &without, false, None).unwrap();
    take(&home, &with, true, None).unwrap();
    let secrets: Vec<_> = ["host", "log", "client"]
        .map(|name| fs::read(dir.path().join(format!("keys/{name}.key"))).unwrap())
        .into();
    let holds = |place: &Path| files(place).values().filter(|bytes| secrets.contains(*bytes)).count();
    assert_eq!((holds(&without), holds(&with)), (0, 3));
    for place in [&without, &with] {
        assert_eq!(fs::metadata(place).unwrap().permissions().mode() & 0o777, 0o700);
        for path in files(place).keys() {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        }
    }
    let again = room.path().join("again");
    let error = back(&without, &again, None).unwrap_err().to_string();
    assert!(error.contains("host.key is not in the backup") && error.contains("--keys"), "{error}");
    // Red without `are_pairs`: a host that its clients do not know.
    let (other, _) = used().await;
    let mixed = tempfile::tempdir().unwrap();
    for (from, name) in [(&other, "host"), (&dir, "log"), (&dir, "client")] {
        let name = format!("{name}.key");
        fs::copy(from.path().join("keys").join(&name), mixed.path().join(&name)).unwrap();
    }
    let error = back(&without, &again, Some(mixed.path())).unwrap_err().to_string();
    assert!(error.contains("host.key is not the other half"), "{error}");
    assert!(!again.exists());
    back(&without, &again, Some(&dir.path().join("keys"))).unwrap();
    is_good(&again, taken.head);
    // It serves, and knows what the jobs left.
    let served = start(&again, |_| {}).await;
    let key = home.client_key().unwrap();
    let options = strongroom_sdk::ConnectOptions::new(served.local_addr(), *served.public_key(), key);
    let client = Client::connect(options).await.unwrap();
    let [short, long] = jobs;
    assert_eq!(finish(&client, short).await.stdout, b"a word that is kept");
    let long = finish(&client, long).await;
    assert_eq!((long.view.state, long.stdout.len()), (JobState::Succeeded, LONG as usize));
}

// Red without `known` in `restore`.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_behind_a_known_checkpoint_is_refused() {
    let (dir, _) = used().await;
    let home = Home::open(dir.path()).unwrap();
    let room = tempfile::tempdir().unwrap();
    let (backup, again) = (room.path().join("backup"), room.path().join("again"));
    take(&home, &backup, true, None).unwrap();
    let then = fs::read(home.audit().join("checkpoint")).unwrap();
    let host = start(dir.path(), |_| {}).await;
    Box::pin(host.stop(strongroom::host::Stop::Everything(Duration::from_secs(60)))).await;
    let now = fs::read(home.audit().join("checkpoint")).unwrap();
    let known = |bytes| restore(&Restore { from: &backup, dir: &again, keys: None, known: Some(bytes) });
    let error = known(&now).unwrap_err().to_string();
    assert!(error.contains("checkpoint"), "{error}");
    assert!(!again.exists());
    known(&then).unwrap();
}

// Red without the question for `NEXT` in `keys`.
#[tokio::test(flavor = "multi_thread")]
async fn rotated_keys_come_back_with_their_line_and_half_a_rotation_does_not() {
    let (dir, _) = used().await;
    let home = Home::open(dir.path()).unwrap();
    let config = Config::load(&home.config()).unwrap();
    let origin = config.log_origin.parse().unwrap();
    let locked = home.lock().unwrap();
    for role in [KeyRole::Host, KeyRole::Log] {
        locked.rotate_key(role, &origin, Timestamp::from_millis(1_800_000_000_000)).unwrap();
    }
    drop(locked);
    let room = tempfile::tempdir().unwrap();
    let (backup, again) = (room.path().join("backup"), room.path().join("again"));
    let taken = take(&home, &backup, true, None).unwrap();
    back(&backup, &again, None).unwrap();
    is_good(&again, taken.head);
    for role in [KeyRole::Host, KeyRole::Log] {
        let chain = |home: &Home| home.key_chain(role).unwrap().keys().to_vec();
        assert_eq!(chain(&Home::open(&again).unwrap()), chain(&home));
    }
    fs::write(dir.path().join("keys/host.next"), "a secret that is not one yet").unwrap();
    let error = take(&home, &room.path().join("other"), true, None).unwrap_err().to_string();
    assert!(error.contains("being replaced"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_files_of_an_earlier_backup_are_shared_and_damaged_ones_are_not() {
    let (dir, _) = used().await;
    let home = Home::open(dir.path()).unwrap();
    let room = tempfile::tempdir().unwrap();
    let (first, second) = (room.path().join("first"), room.path().join("second"));
    take(&home, &first, true, None).unwrap();
    let damaged = files(&first.join("blobs")).into_keys().next().unwrap();
    fs::write(&damaged, "damaged").unwrap();
    let taken = take(&home, &second, true, Some(&first)).unwrap();
    assert_eq!(taken.shared, taken.files - 1);
    for path in files(&second).keys().filter(|path| !path.ends_with("backup")) {
        let relative = path.strip_prefix(&second).unwrap();
        let linked = fs::metadata(path).unwrap().ino() == fs::metadata(first.join(relative)).unwrap().ino();
        assert_eq!(linked, first.join(relative) != damaged, "{relative:?}");
    }
    let again = room.path().join("again");
    back(&second, &again, None).unwrap();
    is_good(&again, taken.head);
    let before = files(&second);
    // A host never writes into the backup that it came from.
    let host = start(&again, |_| {}).await;
    drop(host);
    assert!(files(&second) == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_there_is_written_over() {
    let (dir, _) = used().await;
    let home = Home::open(dir.path()).unwrap();
    let room = tempfile::tempdir().unwrap();
    let backup = room.path().join("backup");
    take(&home, &backup, true, None).unwrap();
    let before = (files(&backup), files(dir.path()));
    assert!(matches!(take(&home, &backup, true, None), Err(BackupError::Exists(_))));
    assert!(matches!(back(&backup, dir.path(), None), Err(BackupError::Exists(_))));
    assert!(before == (files(&backup), files(dir.path())));
    // An empty one is what a service's directory is before the first start.
    let empty = room.path().join("empty");
    fs::create_dir(&empty).unwrap();
    back(&backup, &empty, None).unwrap();
}

/// A configuration that names what another machine has: volumes, certificates.
// Red when `restore` loads the whole configuration.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_names_need_not_be_where_a_backup_is_restored() {
    let (dir, _) = used().await;
    let home = Home::open(dir.path()).unwrap();
    let text = fs::read_to_string(home.config()).unwrap();
    let elsewhere =
        "\n[volumes.gone]\npath = \"/nowhere/at-all\"\n[http]\nca_file = \"/nowhere/at-all.pem\"\n";
    fs::write(home.config(), format!("{text}{elsewhere}")).unwrap();
    let room = tempfile::tempdir().unwrap();
    let (backup, again) = (room.path().join("backup"), room.path().join("again"));
    take(&home, &backup, true, None).unwrap();
    back(&backup, &again, None).unwrap();
    // Who would serve it there is told.
    let error = Config::load(&again.join("strongroom.toml")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at-all"), "{error}");
    fs::write(again.join("strongroom.toml"), text).unwrap();
    start(&again, |_| {}).await;
}

// Red without `room::check` in `take`, and when that does not know of the reserve.
#[tokio::test(flavor = "multi_thread")]
async fn no_backup_begins_that_the_disk_has_no_room_for() {
    let (dir, _) = used().await;
    let home = Home::open(dir.path()).unwrap();
    let text = fs::read_to_string(home.config()).unwrap();
    let line = "disk_reserve_bytes = 9000000000000000000";
    let with = match text.contains("\n[bounds]\n") {
        true => text.replace("\n[bounds]\n", &format!("\n[bounds]\n{line}\n")),
        false => format!("{text}\n[bounds]\n{line}\n"),
    };
    fs::write(home.config(), with).unwrap();
    // On the host's own disk.
    let room = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
    let dest = room.path().join("backup");
    let error = take(&home, &dest, false, None).unwrap_err();
    assert!(
        matches!(error, BackupError::Room { needed: 1.., reserve: 9_000_000_000_000_000_000, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("choose another disk"), "{error}");
    assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
    fs::write(home.config(), text).unwrap();
    take(&home, &dest, false, None).unwrap();
}
