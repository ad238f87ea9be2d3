//! JSON lines in files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom::config::{Config, Forward, ForwardTo};
use strongroom::forward::statuses;
use strongroom::home::Home;
use strongroom::host::{Host, StartError, Stop};

use crate::common::live::{Live, compiler, start};
use crate::common::patience::bounded;
use crate::support::{log, to, work};

const ROTATE: u64 = 2048;

fn forward(path: &Path, keep: Option<u64>) -> Forward {
    let mut forward = to(&format!("file://{}", path.display()));
    let ForwardTo::File(rules) = &mut forward.to else { panic!("a file") };
    (rules.rotate_bytes, rules.keep) = (ROTATE, keep);
    forward
}

async fn stop(host: Host) {
    Box::pin(host.stop(Stop::Everything(Duration::from_secs(60)))).await;
}

/// The files of the destination, oldest first: the current one has the shortest name, and is the last.
fn files(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|file| file != path).collect();
    files.sort();
    files.push(path.to_owned());
    files
}

/// Index and record of each line of the files.
fn lines(files: &[PathBuf]) -> Vec<(u64, Vec<u8>)> {
    let mut lines = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.ends_with('\n') && text.len() as u64 <= ROTATE, "{}: {}", file.display(), text.len());
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let index = value["index"].as_u64().unwrap();
            let record = line.strip_prefix(&format!("{{\"index\":{index},\"record\":")).unwrap();
            lines.push((index, record.strip_suffix('}').unwrap().as_bytes().to_vec()));
        }
    }
    lines
}

fn assert_once(path: &Path, dir: &Path) {
    let expected: Vec<_> = (0..).zip(log(dir)).collect();
    assert_eq!(lines(&files(path)), expected);
}

// Red where the names of rotated files are not as long as each other.
#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_once_over_all_files() {
    bounded(async {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.jsonl");
        let live = Live::with(|config| config.forwards = vec![forward(&path, None)]).await;
        work(&live.client().await, 9).await;
        let dir = live.stop().await;
        assert!(files(&path).len() > 2, "it was rotated");
        assert_once(&path, dir.path());
    })
    .await;
}

// Red without the look at the newest rotated file in `FileSink::resume`.
#[tokio::test(flavor = "multi_thread")]
async fn after_any_crash_every_record_is_still_once_in_them() {
    bounded(async {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.jsonl");
        let live = Live::with(|config| config.forwards = vec![forward(&path, None)]).await;
        work(&live.client().await, 3).await;
        let dir = live.stop().await;
        let cursor = dir.path().join("forward/a.cursor");
        let first = std::fs::read(&cursor).unwrap();
        let again = || start(dir.path(), |config| config.forwards = vec![forward(&path, None)]);
        stop(again().await).await;
        // The cursor is older than the file.
        std::fs::write(&cursor, &first).unwrap();
        stop(again().await).await;
        assert_once(&path, dir.path());
        // The last line was cut off by the crash, at any byte.
        for cut in [1, 13, usize::MAX] {
            // Each start adds lines, and may rotate the file.
            let now = std::fs::read(&path).unwrap();
            let last = now[..now.len() - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            assert!(now.len() - last > 14, "a line that is longer than what is left of it");
            std::fs::write(&path, &now[..last.saturating_add(cut).min(now.len() - 1)]).unwrap();
            std::fs::write(&cursor, &first).unwrap();
            stop(again().await).await;
            assert_once(&path, dir.path());
        }
        // It crashed between a rotation and the first line of the new file.
        let text = std::fs::read_to_string(&path).unwrap();
        let index: u64 =
            serde_json::from_str::<serde_json::Value>(text.lines().next().unwrap()).unwrap()["index"]
                .as_u64()
                .unwrap();
        std::fs::rename(&path, format!("{}.{index:020}", path.display())).unwrap();
        std::fs::write(&cursor, &first).unwrap();
        stop(again().await).await;
        assert_once(&path, dir.path());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_files_are_kept_where_that_is_wanted() {
    bounded(async {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.jsonl");
        let live = Live::with(|config| config.forwards = vec![forward(&path, Some(1))]).await;
        work(&live.client().await, 9).await;
        let dir = live.stop().await;
        let files = files(&path);
        assert_eq!(files.len(), 2);
        let (lines, log) = (lines(&files), log(dir.path()));
        let expected: Vec<_> = (0..).zip(log).skip(usize::try_from(lines[0].0).unwrap()).collect();
        assert!(lines[0].0 > 0);
        assert_eq!(lines, expected, "the newest, without a hole");
    })
    .await;
}

// Red when a last line below the cursor is not compared: a hole, or two logs in one file.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_behind_its_cursor_is_filled_up_and_another_logs_is_left_alone() {
    bounded(async {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.jsonl");
        let mut whole = forward(&path, None);
        let ForwardTo::File(rules) = &mut whole.to else { panic!("a file") };
        rules.rotate_bytes = 1 << 20;
        let live = Live::with(|config| config.forwards = vec![whole.clone()]).await;
        work(&live.client().await, 2).await;
        let dir = live.stop().await;
        let again = || start(dir.path(), |config| config.forwards = vec![whole.clone()]);
        let text = std::fs::read_to_string(&path).unwrap();
        // What a file system gave back of an earlier time: whole lines, fewer of them.
        let earlier: String = text.split_inclusive('\n').take(3).collect();
        std::fs::write(&path, &earlier).unwrap();
        stop(again().await).await;
        let written = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<_> = (0..).zip(log(dir.path())).collect();
        assert!(written.starts_with(&text) && expected.len() > text.lines().count());
        let lines: Vec<_> = written.lines().collect();
        for (line, (index, record)) in lines.iter().zip(&expected) {
            assert_eq!(
                *line,
                format!("{{\"index\":{index},\"record\":{}}}", String::from_utf8_lossy(record))
            );
        }
        assert_eq!(lines.len(), expected.len());
        // The same index, of another log.
        let other = earlier.replace("\"time\":1", "\"time\":2");
        assert_ne!(other, earlier);
        std::fs::write(&path, &other).unwrap();
        stop(again().await).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), other, "nothing was mixed into it");
    })
    .await;
}

// Red without `problem::save` in `Course::work`, and without `problem::clear`.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_needs_somebody_says_so_until_a_host_starts_that_can_go_on() {
    bounded(async {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.jsonl");
        std::fs::write(&path, "what somebody else wrote\n").unwrap();
        let copy = forward(&path, None);
        let live = Live::with(|config| config.forwards = vec![copy.clone()]).await;
        let dir = live.stop().await;
        let problem = || statuses(dir.path(), None, std::slice::from_ref(&copy)).unwrap().remove(0).problem;
        let said = problem().expect("a problem, also when no host runs");
        assert!(said.contains("holds something else than forwarded records"), "{said}");
        std::fs::remove_file(&path).unwrap();
        stop(start(dir.path(), |config| config.forwards = vec![copy.clone()]).await).await;
        assert_eq!(problem(), None);
        assert_once(&path, dir.path());
    })
    .await;
}

// Red without `apart_from` in `Host::start_with`.
#[tokio::test(flavor = "multi_thread")]
async fn no_file_in_the_data_directory_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(dir.path()).unwrap().lock().unwrap();
    let mut config = Config::load(&home.config()).unwrap();
    config.listen = ([127, 0, 0, 1], 0).into();
    config.forwards = vec![forward(&home.audit().join("copy.jsonl"), None)];
    let started = Box::pin(Host::start(home, config, compiler())).await;
    let Err(StartError::Overlap(error)) = started else { panic!("it started, or says something else") };
    assert!(error.to_string().contains("lies in the host's own data directory"), "{error}");
}

// Red without the look at the last line in `resume`.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_somebody_else_is_left_alone() {
    bounded(async {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("passwd");
        for text in
            ["somebody:x:0:0::/:/bin/sh\n", "no newline at its end", "short", "{\"index\":0,\"record\":{}}\n"]
        {
            std::fs::write(&path, text).unwrap();
            let live = Live::with(|config| config.forwards = vec![forward(&path, None)]).await;
            live.stop().await;
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    })
    .await;
}
