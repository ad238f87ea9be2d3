//! Commands of operators about principals, each with the record that says so.
//!
//! *Never:* whether one is taken: that was asked before (`admission/command`). *Spec:* `docs/formats/state.md`, `docs/formats/principal.md`.

use strongroom_job::Event;
use strongroom_job::principal::{CommandBody, CommandId, SignedCommand};

use super::group::{Group, Refused};
use super::{Committed, ReadError, Store, keys, statement};
use crate::admission::command::Kept;

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
        self.batch.insert(keys::command(&body.id), statement::row(signed, log_index)?);
        Ok(Committed::Granted { log_index })
    }
}

impl Store {
    /// Every command about principals that is kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn commands(&self) -> Result<Vec<Kept>, ReadError> {
        let all = statement::all(
            &self.current,
            keys::COMMANDS,
            |body: &CommandBody| *body.id.as_bytes(),
            "an operator's command",
        )?;
        Ok(all.into_iter().map(|(signed, log_index)| Kept { signed, log_index }).collect())
    }
}
