//! Progress of uploads: a bar on a terminal, nothing anywhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use strongroom_sdk::Progress;

use super::console::Console;

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
