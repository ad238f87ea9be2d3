//! Progress of uploads and of jobs: a bar on a terminal, nothing anywhere else.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use strongroom_job::{JobState, JobView};
use strongroom_sdk::Progress;

use super::console::Console;
use super::escape::line;
use super::view::standing;

/// A bar that goes away with its upload.
pub(super) struct Upload(ProgressBar, &'static str);

/// A bar for an upload that may turn out not to be needed.
///
/// When all bytes are sent, it says `then`.
pub(super) fn upload(console: &Console, what: &'static str, then: &'static str) -> Upload {
    let bar = bar(console);
    bar.set_message(what);
    Upload(bar, then)
}

fn bar(console: &Console) -> ProgressBar {
    if console.json() || !console.stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

/// Something that is counted while it is checked, such as the entries of a log.
pub(super) fn count(console: &Console, total: u64) -> ProgressBar {
    let bar = bar(console);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.set_length(total);
    bar
}

impl Upload {
    pub(super) fn show(&self, progress: Progress) {
        self.0.set_length(progress.total);
        self.0.set_position(progress.sent);
        if progress.sent == progress.total {
            // The host now checks, and for a module compiles: that has no length.
            self.0.set_style(ProgressStyle::default_spinner());
            self.0.set_message(self.1);
            self.0.enable_steady_tick(Duration::from_millis(100));
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How a job stands, in the last line of a terminal on which its guest writes, too.
///
/// The guest's own words come first: the line goes away before they are written, and does not come back while the cursor stands in
/// the middle of a line of theirs.
pub(super) struct Standing {
    shows: bool,
    at: Mutex<At>,
}

#[derive(Default)]
struct At {
    bar: Option<ProgressBar>,
    in_a_line: bool,
}

impl Standing {
    pub(super) fn new(console: &Console) -> Self {
        Self { shows: !console.json() && console.stderr_is_terminal(), at: Mutex::default() }
    }

    /// Whether there is anybody to be shown anything.
    pub(super) const fn shows(&self) -> bool {
        self.shows
    }

    /// Shows what the job waits for or how far it is.
    pub(super) fn show(&self, view: &JobView) {
        let mut at = self.lock();
        let words = standing(view).filter(|_| view.end.is_none() && !at.in_a_line);
        let Some(words) = words else { return at.clear() };
        let bar = at
            .bar
            .get_or_insert_with(|| ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr()));
        let (template, percent) = match &view.progress {
            Some(progress) if view.state == JobState::Running => ("{wide_bar} {msg}", progress.percent),
            _ => ("{msg}", 0),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(format!("{} {}", view.state, line(&words)));
        bar.set_position(percent.into());
        bar.tick();
    }

    /// Makes way for `bytes` on the terminal.
    pub(super) fn make_way(&self, bytes: &[u8]) {
        let mut at = self.lock();
        at.clear();
        if let Some(last) = bytes.last() {
            at.in_a_line = *last != b'\n';
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, At> {
        // A bar that is drawn by half does no harm.
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl At {
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
