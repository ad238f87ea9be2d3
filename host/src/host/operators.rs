//! Who may ask for what: the roles of each request, and who may do what only operators may, by the clock of that moment.
//!
//! *Never:* lets the configuration alone make an operator once there is a trust file.

use strongroom_job::trust::{TrustBody, TrustFile};
use strongroom_job::{Event, JobId, Refusal, RefusalCode, Request};

use super::service::HostService;
use crate::admission::role;
use crate::config::Principal;
use crate::store::Transition;

impl HostService {
    /// The same service, whose operators this file names.
    pub(super) fn trusting(mut self, file: Option<TrustFile>) -> Self {
        self.trust = file.map(|file| file.in_force().clone());
        self
    }

    /// Lets a request come in, or says which role is missing. Whoever is refused is in the log: once for each role and hour.
    pub(super) fn check_role(&self, who: &Principal, request: &Request) -> Result<(), Refusal> {
        let Some(role) = role::lacking(who.roles, request) else { return Ok(()) };
        let refusal = role::missing(who, role);
        if let Some(suppressed) = self.refusals().count_role(&who.key, role, self.now()) {
            let (job, code) = (role::names(request), refusal.code);
            let event = Event::Refused { principal: who.key, job, code, suppressed, role: Some(role) };
            // As below.
            let _ = self.store().offer(Transition::Log(event));
        }
        Err(refusal)
    }

    /// Lets an operator pass whom the trust file names, if there is one. Whoever is refused is in the log, as with jobs. `what` completes "only operators …".
    pub(super) fn check_operator(
        &self,
        who: &Principal,
        what: &str,
        job: Option<JobId>,
    ) -> Result<(), Refusal> {
        let Some(text) = self.problem(who, what) else { return Ok(()) };
        let refusal = Refusal::new(RefusalCode::Forbidden, text);
        self.note_refusal(who, &refusal, job);
        Err(refusal)
    }

    /// What is said to somebody who is no operator and wants to change principals.
    pub(super) fn no_operator(&self, who: &Principal) -> Refusal {
        let text = self.problem(who, "change principals").unwrap_or_default();
        Refusal::new(RefusalCode::Forbidden, text)
    }

    /// Whether the trust file, if there is one, names this key and is valid.
    pub(super) fn is_operator(&self, who: &Principal) -> bool {
        self.problem(who, "may").is_none()
    }

    fn problem(&self, who: &Principal, what: &str) -> Option<String> {
        let name = &who.name;
        let trust: &TrustBody = self.trust.as_ref()?;
        let version = trust.version();
        if !trust.names(&who.key) {
            return Some(format!(
                "{name} is not in version {version} of this host's trust file, and only operators who are in it {what}: ask one, or have \
                 them sign a next version that names {}",
                who.key
            ));
        }
        if trust.has_expired(self.now()) {
            let at = trust.expires().to_rfc3339();
            return Some(format!(
                "version {version} of this host's trust file expired at {at}, and only operators whom a valid one names {what}: sign and \
                 install a next version (`strongroom trust new`)"
            ));
        }
        None
    }

    /// Has the log say that a known principal was refused, or counts it when there were many.
    pub(super) fn note_refusal(&self, who: &Principal, refusal: &Refusal, job: Option<JobId>) {
        if !refusal.code.is_temporary()
            && let Some(suppressed) = self.refusals().count(&who.key, self.now())
        {
            let event =
                Event::Refused { principal: who.key, job, code: refusal.code, suppressed, role: None };
            // Nobody waits for it: a principal who sends rubbish must not make the host wait for its disk.
            let _ = self.store().offer(Transition::Log(event));
        }
    }
}
