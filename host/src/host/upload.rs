//! A blob on its way in: streamed to disk while it is hashed, registered once it is durable.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_job::{BlobKind, Event, ModuleRef, Refusal, RefusalCode};

use super::reserve::Promised;
use super::view::refuse_read;
use crate::blobs::{Blobs, Draft};
use crate::compile::LoadError;
use crate::config::{Principal, TenantRules};
use crate::dispatch::Dispatcher;
use crate::intake::Upload;
use crate::store::{CommitError, Store, Transition};

/// Modules that a tenant may have registered: their list must fit one answer.
pub(super) const MAX_MODULES: usize = 5_000;

/// The upload of one blob.
#[derive(Debug)]
pub(crate) struct Incoming {
    draft: Draft,
    store: Store,
    dispatcher: Dispatcher,
    who: Arc<Principal>,
    rules: Box<TenantRules>,
    kind: BlobKind,
    announced: ModuleRef,
    /// Until it is on the disk, or given up.
    promised: Promised,
}

impl Incoming {
    pub(super) async fn begin(
        blobs: &Blobs,
        store: Store,
        dispatcher: Dispatcher,
        who: Arc<Principal>,
        rules: Box<TenantRules>,
        kind: BlobKind,
        (announced, promised): (ModuleRef, Promised),
    ) -> Result<Self, Refusal> {
        let draft = blobs.draft().await.map_err(|error| refuse_disk(&error))?;
        Ok(Self { draft, store, dispatcher, who, rules, kind, announced, promised })
    }
}

impl Upload for Incoming {
    async fn write(&mut self, piece: Bytes) -> Result<(), Refusal> {
        self.draft.write(&piece).await.map_err(|error| refuse_disk(&error))
    }

    async fn finish(self) -> Result<bool, Refusal> {
        let Self { mut draft, store, dispatcher, who, rules, kind, announced, promised: _promised } = self;
        let digest = draft.digest();
        if digest != announced.digest || draft.length() != announced.length {
            let text = format!(
                "announced were {} bytes of {}; what came are {} bytes of {digest}: the file changed on the way, send it again",
                announced.length,
                announced.digest,
                draft.length()
            );
            return Err(Refusal::new(RefusalCode::DigestMismatch, text));
        }
        let known = store.has_blob(kind, &who.tenant, &digest).map_err(|error| refuse_read(&error))?;
        if known {
            return Ok(true);
        }
        if kind == BlobKind::Module {
            if store.modules(&who.tenant).take(MAX_MODULES).count() == MAX_MODULES {
                let text = format!(
                    "tenant {} has {MAX_MODULES} modules registered, which is the most; use one of them, or another tenant",
                    who.tenant
                );
                return Err(Refusal::new(RefusalCode::TooLarge, text));
            }
            draft.flush().await.map_err(|error| refuse_disk(&error))?;
            // Before the bytes are kept: what is no module leaves nothing behind.
            dispatcher.compile(&digest, draft.path()).await.map_err(|error| refuse_module(&error))?;
        }
        draft.keep().await.map_err(|error| refuse_disk(&error))?;
        let event = match kind {
            BlobKind::Module => Some(Event::ModuleRegistered { principal: who.key, module: announced }),
            BlobKind::Input => None,
        };
        let register =
            Transition::Register { kind, tenant: who.tenant.clone(), blob: announced, event, rules };
        store.commit(register).await.map_err(|error| match error {
            CommitError::Denied(refusal) => refusal,
            error => Refusal::new(RefusalCode::HostFault, error),
        })?;
        Ok(false)
    }
}

fn refuse_disk(error: &io::Error) -> Refusal {
    tracing::error!(%error, "a blob cannot be stored");
    Refusal::new(RefusalCode::HostFault, format!("the host cannot store the bytes: {error}"))
}

fn refuse_module(error: &LoadError) -> Refusal {
    let code = match error {
        LoadError::Module(_) | LoadError::TooCostly { .. } | LoadError::Crashed { .. } => {
            RefusalCode::BadModule
        }
        LoadError::ShuttingDown => RefusalCode::ShuttingDown,
        LoadError::Host(_) => RefusalCode::HostFault,
    };
    Refusal::new(code, error)
}
