//! Polls a guest until it ends, or until it must.
//!
//! A guest yields at every tick, and waits in host calls without holding a thread. So between two polls there is always a
//! moment, soon, to look at the clock and at the cancel token, and dropping the future then is the whole of a kill.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::cancel::CancelToken;
use crate::standin::now;

/// How work ended.
pub(crate) enum Ended<T> {
    /// By itself.
    Done(T),
    /// The deadline passed.
    Deadline,
    /// It was on a processor for longer than it may be.
    Spent,
    /// The caller cancelled it.
    Cancelled,
    /// What goes on beside it said that there is no point in going on.
    Abandoned,
    /// Host code panicked; the payload's text.
    Panicked(String),
}

/// Time on a processor, as `Usage::cpu` tells it and `Limits::cpu` bounds it.
#[derive(Debug)]
pub(crate) struct Cpu {
    pub(crate) spent: Duration,
    allowed: Option<Duration>,
    begun: Begun,
}

/// When the first slice began; the others are measured whole.
#[derive(Debug)]
enum Begun {
    /// By the wall clock.
    At(Instant),
    /// By the thread's own.
    Having(Duration),
    Measured,
}

/// Polls `work` until it ends, `deadline` passes, or `cancel` fires. `work` is gone when this returns.
///
/// `beside` is polled whenever `work` waits; when it is ready, `work` is abandoned.
pub(crate) async fn drive<F: Future>(
    work: F,
    mut beside: impl FnMut(&mut Context<'_>) -> Poll<()>,
    deadline: Instant,
    cancel: &CancelToken,
    mut cpu: Option<&mut Cpu>,
) -> Ended<F::Output> {
    let mut work = pin!(Some(work));
    // Not a timer until first polled: most guests are done before they ever wait.
    let mut bell = pin!(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ended::Cancelled,
            () = tokio::time::sleep_until(deadline.into()) => Ended::Deadline,
        }
    });
    let mut waited = false;
    let mut ended = poll_fn(|cx| {
        // Looked at directly as well: under a busy runtime the timer fires late.
        if cancel.is_cancelled() {
            return Poll::Ready(Ended::Cancelled);
        }
        if std::mem::replace(&mut waited, true) && now() >= deadline {
            return Poll::Ready(Ended::Deadline);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut slice = || work.as_mut().as_pin_mut().map_or(Poll::Pending, |work| work.poll(cx));
            let polled = match &mut cpu {
                Some(cpu) => cpu.measure(slice),
                None => slice(),
            };
            match polled {
                Poll::Ready(value) => Poll::Ready(Ended::Done(value)),
                Poll::Pending if cpu.as_ref().is_some_and(|cpu| cpu.is_over()) => Poll::Ready(Ended::Spent),
                Poll::Pending => beside(cx).map(|()| Ended::Abandoned),
            }
        }));
        match polled {
            Ok(Poll::Ready(ended)) => Poll::Ready(ended),
            Ok(Poll::Pending) => bell.as_mut().poll(cx),
            Err(payload) => Poll::Ready(Ended::Panicked(panic_text(payload.as_ref()))),
        }
    })
    .await;
    // What is dropped here is host code on the guest's stack: it may panic, too.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| work.set(None))) {
        ended = Ended::Panicked(panic_text(payload.as_ref()));
    }
    ended
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

impl Cpu {
    /// Begins the first slice, at `start` and on this thread.
    ///
    /// Asking for the thread's time is a system call, which would cost a short job several percent: its one slice is measured by
    /// the wall clock. Under a limit nothing is guessed, since that clock also counts what other threads do meanwhile.
    pub(crate) fn since(start: Instant, allowed: Option<Duration>) -> Self {
        let begun = if allowed.is_some() { Begun::Having(thread_time()) } else { Begun::At(start) };
        Self { spent: Duration::ZERO, allowed, begun }
    }

    fn measure<T>(&mut self, slice: impl FnOnce() -> T) -> T {
        let before = match std::mem::replace(&mut self.begun, Begun::Measured) {
            Begun::At(start) => {
                let result = slice();
                self.spent = start.elapsed();
                return result;
            }
            Begun::Having(before) => before,
            Begun::Measured => thread_time(),
        };
        let result = slice();
        self.spent += thread_time().saturating_sub(before);
        result
    }

    fn is_over(&self) -> bool {
        self.allowed.is_some_and(|allowed| self.spent > allowed)
    }
}

#[cfg(unix)]
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(not(unix))]
fn thread_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(now).elapsed()
}
