//! The word for what a record tells: its `type`.

use super::Event;

impl Event {
    /// Every word, in the order of `docs/formats/record.md`.
    pub const KINDS: [&'static str; 26] = [
        "host-started",
        "host-stopped",
        "module-registered",
        "refused",
        "admitted",
        "started",
        "cancel-requested",
        "requeued",
        "released",
        "retried",
        "merged",
        "fired",
        "missed",
        "queue-set",
        "forgotten",
        "erased",
        "state-rebuilt",
        "clock-stepped",
        "configuration-changed",
        "trust-changed",
        "key-rotated",
        "grant-added",
        "grants-ended",
        "principal-changed",
        "checked",
        "finished",
    ];

    /// The word for this one, as it stands in the record.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::HostStarted { .. } => "host-started",
            Self::HostStopped {} => "host-stopped",
            Self::ModuleRegistered { .. } => "module-registered",
            Self::Refused { .. } => "refused",
            Self::Admitted { .. } => "admitted",
            Self::Started { .. } => "started",
            Self::CancelRequested { .. } => "cancel-requested",
            Self::Requeued { .. } => "requeued",
            Self::Released { .. } => "released",
            Self::Retried { .. } => "retried",
            Self::Merged { .. } => "merged",
            Self::Fired { .. } => "fired",
            Self::Missed { .. } => "missed",
            Self::QueueSet { .. } => "queue-set",
            Self::Forgotten { .. } => "forgotten",
            Self::Erased { .. } => "erased",
            Self::StateRebuilt { .. } => "state-rebuilt",
            Self::ClockStepped { .. } => "clock-stepped",
            Self::ConfigurationChanged { .. } => "configuration-changed",
            Self::TrustChanged { .. } => "trust-changed",
            Self::KeyRotated { .. } => "key-rotated",
            Self::GrantAdded { .. } => "grant-added",
            Self::GrantsEnded { .. } => "grants-ended",
            Self::PrincipalChanged { .. } => "principal-changed",
            Self::Checked { .. } => "checked",
            Self::Finished { .. } => "finished",
        }
    }
}
