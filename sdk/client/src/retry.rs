//! Repeating what failed for a temporary reason: a full queue, a busy or restarting host, a lost connection.
//!
//! Safe because every request may be repeated: a job is signed once, and the same bytes get the same answer.

use std::future::Future;
use std::time::Duration;

use strongroom_job::RefusalCode;

use crate::{Error, random};

/// How often and how patiently to repeat. The default: 8 attempts, pauses from 100 ms doubling up to 5 s, so that all pauses
/// together take 11.3 s at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all; 1 (or 0) repeats nothing.
    pub attempts: u32,
    /// The longest first pause. Each pause is drawn from its upper half.
    pub first_pause: Duration,
    /// No pause is longer.
    pub max_pause: Duration,
    /// Whether a full queue is waited for, too. If not, the caller sees [`QueueFull`](RefusalCode::QueueFull) at once and decides:
    /// wait longer, give up, or tell whoever asked. What was lost or is busy is repeated all the same.
    pub queue_full: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_pause: Duration::from_millis(100),
            max_pause: Duration::from_secs(5),
            queue_full: true,
        }
    }
}

impl Retry {
    /// Repeats nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self { attempts: 1, first_pause: Duration::ZERO, max_pause: Duration::ZERO, queue_full: false }
    }

    /// The same, but a full queue is told to the caller at once.
    #[must_use]
    pub const fn unless_full(self) -> Self {
        Self { queue_full: false, ..self }
    }

    /// The most that all pauses together can take.
    #[must_use]
    pub fn longest(&self) -> Duration {
        (1..self.attempts).map(|attempt| self.pause(attempt)).sum()
    }

    /// Runs `attempt` until it succeeds, fails for good, or was tried often enough.
    pub(crate) async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut tried = 0;
        loop {
            match attempt().await {
                Err(error) if error.is_temporary() && self.covers(&error) => {
                    tried += 1;
                    self.rest(tried, error).await?;
                }
                other => return other,
            }
        }
    }

    const fn covers(&self, error: &Error) -> bool {
        let full = matches!(error, Error::Refused(refusal) if matches!(refusal.code, RefusalCode::QueueFull));
        self.queue_full || !full
    }

    /// Waits before the next attempt; gives `error` back when there is none left after `tried`.
    pub(crate) async fn rest(&self, tried: u32, error: Error) -> Result<(), Error> {
        tokio::time::sleep(self.before_next(tried, error)?).await;
        Ok(())
    }

    /// How long to wait before the next attempt; gives `error` back when there is none left after `tried`.
    pub(crate) fn before_next(&self, tried: u32, error: Error) -> Result<Duration, Error> {
        if tried >= self.attempts {
            return Err(error);
        }
        let pause = random::jitter(self.pause(tried));
        tracing::debug!(%error, tried, ?pause, "temporary failure, trying again");
        Ok(pause)
    }

    /// The longest pause after the `tried`th attempt, from 1.
    fn pause(&self, tried: u32) -> Duration {
        let doubled = 2u32.saturating_pow(tried.saturating_sub(1));
        self.first_pause.saturating_mul(doubled).min(self.max_pause)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_job::Refusal;

    use super::*;

    fn quick(attempts: u32) -> Retry {
        let (first_pause, max_pause) = (Duration::from_micros(1), Duration::from_micros(2));
        Retry { attempts, first_pause, max_pause, queue_full: true }
    }

    async fn attempts_made(retry: Retry, code: RefusalCode, succeed_at: u32) -> (u32, bool) {
        let mut made = 0;
        let result = retry
            .run(|| {
                made += 1;
                let result = if made == succeed_at { Ok(()) } else { Err(Refusal::new(code, "no").into()) };
                async { result }
            })
            .await;
        (made, result.is_ok())
    }

    #[test]
    fn the_documented_maximum_is_true() {
        assert_eq!(Retry::default().longest(), Duration::from_millis(11_300));
        assert_eq!(Retry::none().longest(), Duration::ZERO);
    }

    #[tokio::test]
    async fn only_temporary_trouble_is_repeated_and_not_for_ever() {
        assert_eq!(attempts_made(quick(5), RefusalCode::QueueFull, 3).await, (3, true));
        assert_eq!(attempts_made(quick(5), RefusalCode::Busy, 9).await, (5, false));
        assert_eq!(attempts_made(quick(5), RefusalCode::Conflict, 3).await, (1, false));
        assert_eq!(attempts_made(Retry::none(), RefusalCode::QueueFull, 2).await, (1, false));
    }

    // Red without `covers`.
    #[tokio::test]
    async fn a_caller_can_choose_to_see_a_full_queue_at_once() {
        assert_eq!(attempts_made(quick(5).unless_full(), RefusalCode::QueueFull, 2).await, (1, false));
        assert_eq!(attempts_made(quick(5).unless_full(), RefusalCode::Busy, 2).await, (2, true));
    }

    #[test]
    fn jitter_stays_in_the_upper_half() {
        for _ in 0..200 {
            let pause = random::jitter(Duration::from_millis(100));
            assert!((50..=100).contains(&pause.as_millis()), "{pause:?}");
        }
    }
}
