//! What a reader of a log asks of its witnesses: so many of these must have cosigned.

use clap::Args;
use serde::Serialize;
use strongroom_job::cosignature::{CosignerKey, Quorum};

use crate::audit::verify::Verified;

use super::exit::Failure;
use super::view::time;

/// Witnesses, and how many of them are enough.
#[derive(Args, Debug)]
pub(super) struct QuorumArgs {
    /// A witness that must have cosigned the log: its verifier key, as in its witness.pub. May be repeated
    #[arg(long = "witness", value_name = "KEY")]
    witnesses: Vec<CosignerKey>,
    /// So many of them are enough [default: all]
    #[arg(long, value_name = "K", requires = "witnesses")]
    require: Option<usize>,
}

impl QuorumArgs {
    pub(super) fn quorum(&self) -> Result<Option<Quorum>, Failure> {
        if self.witnesses.is_empty() {
            return Ok(None);
        }
        let need = self.require.unwrap_or(self.witnesses.len());
        Quorum::new(need, self.witnesses.clone()).map(Some).map_err(Failure::usage)
    }
}

/// What witnesses vouch for.
#[derive(Serialize)]
pub(super) struct Cosigned {
    size: u64,
    root: String,
    witnesses: Vec<By>,
}

#[derive(Serialize)]
struct By {
    name: String,
    time: String,
}

impl Cosigned {
    /// The cosignatures of a log that was verified, or what is missing.
    pub(super) fn of(verified: &Verified, quorum: &Quorum) -> Result<Self, String> {
        let Some(checkpoint) = &verified.cosigned else {
            return Err("no witness cosigned this log: there is no checkpoint.cosigned. It may be another history than the \
                        one that they know"
                .into());
        };
        let found = quorum.check(checkpoint).map_err(|error| format!("checkpoint.cosigned: {error}"))?;
        let by = |one: &strongroom_job::cosignature::Cosignature| By {
            name: one.by().to_string(),
            time: time(one.time()),
        };
        let head = checkpoint.head();
        Ok(Self {
            size: head.size.get(),
            root: head.root.to_string(),
            witnesses: found.iter().map(by).collect(),
        })
    }

    /// For people: a line for each witness, and what is newer than all of them.
    pub(super) fn words(&self, size: u64) -> String {
        let Self { size: cosigned, witnesses, .. } = self;
        let mut text = match size - cosigned {
            0 => format!("cosigned all {size} records, by"),
            newer => format!("cosigned the first {cosigned} records; the last {newer} are not yet; by"),
        };
        for By { name, time } in witnesses {
            text.push_str(&format!("\n         {name} at {time}"));
        }
        text
    }
}
