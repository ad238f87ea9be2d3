//! Looks at the clock once a second, and has the log say when it was set.
//!
//! *Never:* sets anything right: the host's own clock does not go back, whatever this finds (`clock`).

use std::sync::Arc;
use std::time::Duration;

use strongroom_job::Event;
use tokio::time::MissedTickBehavior;

use crate::clock::{Clock, Step, Steps};
use crate::store::{Store, Transition};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Looks until it is aborted, or the store takes nothing any more.
pub(super) async fn watch(clock: Arc<Clock>, store: Store, mut steps: Steps) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(Step { from, to, steps }) = steps.look(clock.reading()) else { continue };
        tracing::warn!(from = from.as_millis(), to = to.as_millis(), steps, "the system's clock was set");
        if store.commit(Transition::Log(Event::ClockStepped { from, to, steps })).await.is_err() {
            // The store has failed, and the host stops.
            return;
        }
    }
}
