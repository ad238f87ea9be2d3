//! Commands of operators about principals, each with the record that says so.
//!
//! *Never:* whether one is taken: that was asked before (`admission/command`). *Spec:* `docs/formats/state.md`, `docs/formats/principal.md`.

use serde::{Deserialize, Serialize};
use strongroom_job::principal::{CommandId, SignedCommand};
use strongroom_job::{Base64Bytes, Event};

use super::group::{Group, Refused};
use super::rows::Rows;
use super::{Committed, ReadError, Store, keys};
use crate::admission::command::Kept;

/// A command as it stands in a row: what was signed, and where the log says so.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    payload: Base64Bytes,
    signature: Base64Bytes,
    log_index: u64,
}

impl Group<'_> {
    pub(super) fn command(
        &mut self,
        signed: &SignedCommand,
        forgets: Vec<CommandId>,
    ) -> Result<Committed, Refused> {
        let body = signed.body();
        for forgotten in &forgets {
            self.batch.remove(keys::command(forgotten));
        }
        let log_index = self.log(Event::PrincipalChanged {
            command: body.id,
            principal: body.operator,
            revoked: body.revoke,
            restored: body.restore,
            added: body.add.as_ref().map(|entry| entry.key),
            forgets,
            payload: signed.payload(),
            signature: signed.signature(),
        });
        let row = Row { payload: signed.payload(), signature: signed.signature(), log_index };
        let row = serde_json::to_vec(&row).map_err(ReadError::from)?;
        self.batch.insert(keys::command(&body.id), row);
        Ok(Committed::Granted { log_index })
    }
}

fn commands(rows: &dyn Rows) -> Result<Vec<Kept>, ReadError> {
    let mut kept = Vec::new();
    for row in rows.under(keys::COMMANDS) {
        let (key, value) = row?;
        let Row { payload, signature, log_index } = serde_json::from_slice(&value)?;
        let signed = SignedCommand::from_parts(&payload, &signature);
        let signed = signed.map_err(|_| ReadError::Damaged("an operator's command"))?;
        if key[keys::COMMANDS.len()..] != *signed.body().id.as_bytes() {
            return Err(ReadError::Damaged("an operator's command under another one's id"));
        }
        kept.push(Kept { signed, log_index });
    }
    Ok(kept)
}

impl Store {
    /// Every command about principals that is kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn commands(&self) -> Result<Vec<Kept>, ReadError> {
        commands(&self.current)
    }
}
