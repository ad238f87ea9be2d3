//! Requests to stop: Ctrl-C and the service manager's SIGTERM; and to read the configuration again: SIGHUP.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Failure;

/// The signals that ask this process to stop, from the moment that this was made.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind).map_err(|error| Failure::fault(format_args!("cannot watch signals: {error}")))
        };
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// Returns when the next one comes.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signal that asks for the configuration to be read again, from the moment that this was made.
pub(super) struct Reload(Signal);

impl Reload {
    pub(super) fn listen() -> Result<Self, Failure> {
        signal(SignalKind::hangup())
            .map(Self)
            .map_err(|error| Failure::fault(format_args!("cannot watch signals: {error}")))
    }

    /// Returns when the next one comes.
    pub(super) async fn asked(&mut self) {
        self.0.recv().await;
    }
}
