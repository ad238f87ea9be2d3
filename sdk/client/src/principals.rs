//! Principals of a host, and commands of operators that change them.

use strongroom_job::principal::SignedCommand;
use strongroom_job::{PrincipalView, PublicKey, Request, Response};

use crate::{Client, Error};

impl Client {
    /// Has the host do what a command orders that we signed. Once this returns, it is durable and in the audit log; connections of a key that it takes
    /// out are closed and its jobs stopped. Safe to repeat: it is done once. Gives what is so now of the keys that it speaks of.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) with the host's reason.
    pub async fn change_principal(&self, command: &SignedCommand) -> Result<Vec<PrincipalView>, Error> {
        let bytes = bytes::Bytes::from(command.to_bytes());
        let request = Request::ChangePrincipal { length: bytes.len() as u64 };
        let answer = Some(self.link.options.timeouts.answer);
        Ok(self.exchange(&request, &bytes, answer, principals).await?.0)
    }

    /// Every principal of the host, by its file and by commands, and every key that a command took out.
    ///
    /// # Errors
    /// When the host cannot be asked, or our key lacks the role admin.
    pub async fn principals(&self) -> Result<Vec<PrincipalView>, Error> {
        let mut all: Vec<PrincipalView> = Vec::new();
        loop {
            let after = all.last().map(|view| view.key);
            let request = Request::Principals { after };
            let (page, more) =
                self.call(&request, Some(self.link.options.timeouts.answer), principals).await?;
            let behind = |one: &PublicKey, next: &PublicKey| one.as_bytes() < next.as_bytes();
            let goes_on =
                page.first().is_none_or(|first| after.is_none_or(|after| behind(&after, &first.key)));
            if !goes_on || !page.is_sorted_by(|one, next| behind(&one.key, &next.key)) {
                return Err(self.protocol("its principals are not in the order of their keys"));
            }
            let empty = page.is_empty();
            all.extend(page);
            if !more || empty {
                return Ok(all);
            }
        }
    }
}

fn principals(response: Response) -> Option<(Vec<PrincipalView>, bool)> {
    match response {
        Response::Principals { principals, more } => Some((principals, more)),
        _ => None,
    }
}
