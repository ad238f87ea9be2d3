//! Grants: rights that principals gave to other keys.

use strongroom_job::delegation::{GrantId, SignedDelegation};
use strongroom_job::{GrantView, Request, Response};

use crate::{Client, Error};

impl Client {
    /// Gives the host a grant, as who signed it or as an operator. Once this returns, it is durable and in the audit log, and the delegate may
    /// connect. Safe to repeat while it stands.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) with the host's reason.
    pub async fn add_grant(&self, grant: &SignedDelegation) -> Result<GrantView, Error> {
        let bytes = bytes::Bytes::from(grant.to_bytes());
        let request = Request::AddGrant { length: bytes.len() as u64 };
        let answer = Some(self.link.options.timeouts.answer);
        let (grants, _) = self.exchange(&request, &bytes, answer, grants).await?;
        let id = grant.body().id;
        let view = grants.into_iter().find(|view| view.grant == id);
        view.ok_or_else(|| self.protocol("it was given a grant and spoke of another"))
    }

    /// Every grant of our tenant that stands.
    ///
    /// # Errors
    /// When the host cannot be asked, or our key lacks the role view.
    pub async fn grants(&self) -> Result<Vec<GrantView>, Error> {
        let mut all: Vec<GrantView> = Vec::new();
        loop {
            let after = all.last().map(|view| view.grant);
            let (page, more) = self.ask_for_grants(&Request::Grants { after }).await?;
            let goes_on = page.first().is_none_or(|first| after.is_none_or(|after| first.grant > after));
            if !goes_on || !page.is_sorted_by(|one, next| one.grant < next.grant) {
                return Err(self.protocol("its grants are not in the order of their ids"));
            }
            let empty = page.is_empty();
            all.extend(page);
            if !more || empty {
                return Ok(all);
            }
        }
    }

    /// Ends a grant, and all below it: their connections are closed and their jobs stopped when this returns. Gives those that ended.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such grant, or our key is neither its delegator, nor above that, nor an operator.
    pub async fn revoke_grant(&self, grant: GrantId) -> Result<Vec<GrantView>, Error> {
        Ok(self.ask_for_grants(&Request::RevokeGrant { grant }).await?.0)
    }

    async fn ask_for_grants(&self, request: &Request) -> Result<(Vec<GrantView>, bool), Error> {
        self.call(request, Some(self.link.options.timeouts.answer), grants).await
    }
}

fn grants(response: Response) -> Option<(Vec<GrantView>, bool)> {
    match response {
        Response::Grants { grants, more } => Some((grants, more)),
        _ => None,
    }
}
