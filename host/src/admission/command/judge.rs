//! Whether a command is taken: the questions of `docs/formats/principal.md`, in their order.

use strongroom_job::principal::{CommandBody, CommandId, Entry, SignedCommand};
use strongroom_job::{Access, MAX_MISSING, PublicKey, Refusal, RefusalCode, Timestamp};

use super::{Commands, MAX_ADDING, MAX_COMMANDS};
use crate::admission::delegation::{Grants, not_locked};
use crate::config::{Config, Principal};

/// What a command is held against, besides the other commands.
pub struct Asking<'a> {
    /// The host's key.
    pub host: &'a PublicKey,
    /// Who hands it in; that it is an operator was asked before.
    pub who: &'a PublicKey,
    /// The configuration's file.
    pub file: &'a Config,
    /// The same, with the commands so far.
    pub config: &'a Config,
    /// The grants.
    pub grants: &'a Grants,
    /// Whether the configuration is locked.
    pub locked: bool,
    /// This moment.
    pub now: Timestamp,
}

/// What comes of a command that may be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It was taken before, and is not taken again.
    Before,
    /// It is new, and lets go of these.
    New(Vec<CommandId>),
}

fn conflict<T>(text: String) -> Result<T, Refusal> {
    Err(Refusal::new(RefusalCode::Conflict, text))
}

impl Commands {
    /// Whether a command is taken.
    ///
    /// # Errors
    /// The refusal, in words for who hands it in.
    pub fn judge(&self, signed: &SignedCommand, asking: &Asking<'_>) -> Result<Judged, Refusal> {
        let body = signed.body();
        let refuse = |code, text: String| Err(Refusal::new(code, text));
        if body.audience != *asking.host {
            let (audience, host) = (&body.audience, asking.host);
            let text = format!(
                "the command is signed for the host {audience}, and this host is {host}: sign it for this host"
            );
            return refuse(RefusalCode::WrongAudience, text);
        }
        if body.operator != *asking.who {
            let text = format!(
                "a command is handed in by who signed it: connect with the key of {}, or sign it yourself",
                body.operator
            );
            return refuse(RefusalCode::Forbidden, text);
        }
        if let Some(kept) = self.get(&body.id) {
            if kept.signed.digest() == signed.digest() {
                return Ok(Judged::Before);
            }
            return conflict(format!("the command {} is another one here: sign one with a new id", body.id));
        }
        not_locked(asking.locked, "takes no commands about principals")?;
        if asking.now < body.not_before {
            let text =
                "the command's time has not begun: hand it in later, or set the clock of who signs right";
            return refuse(RefusalCode::NotYetValid, text.into());
        }
        if body.not_after <= asking.now {
            let text = "the command's time is up: sign it anew, or set the clock of who signs right";
            return refuse(RefusalCode::Expired, text.into());
        }
        if let Some(key) = &body.revoke {
            self.can_go(key, body, asking)?;
        }
        self.is_later(body)?;
        if let Some(key) = &body.restore {
            self.can_come_back(key, asking)?;
        }
        if let Some(entry) = &body.add {
            self.is_free(entry, body, asking)?;
            has(entry, asking.file)?;
        }
        let spent = self.spent(asking.now);
        let kept = self.kept.len() - spent.len();
        // Another key for a principal holds a place for good, too: with that, one operator could take them all, and nobody could be taken out any more.
        let most = if body.add.is_some() { MAX_ADDING } else { MAX_COMMANDS };
        if kept >= most {
            let text = format!(
                "this host keeps {kept} commands about principals, and takes {most} at most: write those principals into its configuration, and \
                 revoke and restore what they name no more"
            );
            return refuse(RefusalCode::QuotaReached, text);
        }
        Ok(Judged::New(spent))
    }

    /// A key that somebody has, and not who signs: so an operator is always left.
    fn can_go(&self, key: &PublicKey, body: &CommandBody, asking: &Asking<'_>) -> Result<(), Refusal> {
        if *key == body.operator {
            let text = format!(
                "{key} signed this command itself, and nobody takes out his own key: so an operator is always left. Add another operator, and let that \
                 one do it"
            );
            return Err(Refusal::new(RefusalCode::Forbidden, text));
        }
        if self.is_revoked(key) {
            return conflict(format!("{key} is out already"));
        }
        let who = asking.config.principals.iter().find(|who| who.key == *key);
        let Some(entry) = &body.add else {
            return match who.is_some() || self.added(key).is_some() || asking.grants.is_delegate(key) {
                true => Ok(()),
                false => conflict(format!(
                    "{key} is nobody's key on this host: compare it with `strongroom principal list` and `strongroom grant list`"
                )),
            };
        };
        let Some(who) = who else {
            return conflict(format!(
                "{key} is no principal of this host, so no other key can take its place: a delegate gets another grant, with `strongroom grant new`"
            ));
        };
        let Some(before) = super::entry(who) else {
            return conflict(format!(
                "{} may do what no command can give (any_directory, any_network, or long lists): change its key in the configuration",
                who.name
            ));
        };
        if (Entry { key: entry.key, ..before }) != **entry {
            return conflict(format!(
                "the new key of {} must have its name, tenant, roles and rights as they are now, and no others: list them, and sign anew",
                who.name
            ));
        }
        Ok(())
    }

    /// Whether what lets a key in was not signed before what took it out: who signed it did not know of that. What takes a key out may be older than anything.
    fn is_later(&self, body: &CommandBody) -> Result<(), Refusal> {
        let key = body.restore.or_else(|| body.add.as_ref().map(|entry| entry.key));
        let out = key.and_then(|key| self.kept.get(self.revoked.get(&key)?));
        match out.map(|out| out.signed.body()) {
            Some(out) if body.not_before < out.not_before => conflict(format!(
                "the command is older than {}, which took the key out: its time begins before that one's. Sign it anew, or set the clock of who signs right",
                out.id
            )),
            _ => Ok(()),
        }
    }

    fn can_come_back(&self, key: &PublicKey, asking: &Asking<'_>) -> Result<(), Refusal> {
        if !self.is_revoked(key) {
            return conflict(format!("no command took {key} out"));
        }
        let named = asking.file.principals.iter().find(|who| who.key == *key);
        let taken = named.filter(|named| asking.config.principals.iter().any(|who| who.name == named.name));
        taken.map_or(Ok(()), |named| {
            conflict(format!(
                "somebody else is called {} by now: revoke that one first, or call it otherwise in the configuration",
                named.name
            ))
        })
    }

    /// Whether key and name are nobody's.
    fn is_free(&self, entry: &Entry, body: &CommandBody, asking: &Asking<'_>) -> Result<(), Refusal> {
        let Entry { key, name, .. } = entry;
        if key == asking.host {
            return conflict(format!("{key} is this host's own key: use another one for {name}"));
        }
        if let Some(who) = asking.file.principals.iter().find(|who| who.key == *key) {
            let how = match self.is_revoked(key) {
                true => "and a command took it out: restore it instead",
                false => "and what the file says of a key is all that counts for it: change it there",
            };
            return conflict(format!(
                "{key} stands in the [[principals]] of the configuration as {}, {how}",
                who.name
            ));
        }
        if self.added(key).is_some() {
            return conflict(format!("{key} is a principal already, by a command: revoke it first"));
        }
        if asking.grants.is_delegate(key) {
            return conflict(format!(
                "{key} is somebody's delegate: end that grant first, or use another key"
            ));
        }
        let goes = |who: &PublicKey| body.revoke.is_some_and(|revoked| revoked == *who);
        let principal = |who: &Principal| who.name == *name && !goes(&who.key);
        let made = |other: &Entry| other.name == *name && !goes(&other.key);
        if asking.config.principals.iter().any(principal)
            || self.entries().any(made)
            || asking.grants.is_called(name)
        {
            return conflict(format!(
                "somebody is called {name} here already: call the new principal otherwise"
            ));
        }
        Ok(())
    }
}

/// Whether the configuration has what is given.
fn has(entry: &Entry, file: &Config) -> Result<(), Refusal> {
    let lacks = |(name, access): (&_, &Access)| {
        let has = file.volumes.get(name).is_some_and(|volume| volume.access >= *access);
        let how = if *access == Access::Read { "read" } else { "write" };
        (!has).then(|| format!("volume {name} ({how})"))
    };
    let missing: Vec<String> = entry.volumes.iter().filter_map(lacks).take(MAX_MISSING).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the command gives {} what this host's configuration does not have: {}. Give less, or have the configuration name it",
        entry.name,
        missing.join("; ")
    );
    Err(Refusal { missing, ..Refusal::new(RefusalCode::NotGranted, text) })
}
