//! One connection of a known key: its place, its streams, its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quinn::Connection;
use rustls::pki_types::CertificateDer;
use strongroom_job::{CloseCode, PublicKey};
use tokio::sync::watch;

use super::service::Service;
use super::{Shared, stream};
use crate::meters::Meters;

/// Serves every request of a connection until it is closed. Requests in progress then end by themselves.
pub(super) async fn serve<S: Service>(shared: Arc<Shared<S>>, connection: Connection) {
    let Some(key) = proven_key(&connection) else {
        // Cannot be: the handshake demands a key. If it ever is, nobody is served.
        close(&connection, CloseCode::Protocol, "no key was proven");
        return shared.strangers.add();
    };
    let Some(share) = shared.keyring.admit(key, &connection) else {
        return close(&connection, CloseCode::TooManyConnections, "this key has no connection left");
    };
    // Once more, now that it can be closed from outside: it may have been revoked since its handshake.
    if shared.service.principal(&key).is_none() {
        shared.keyring.close(|known| *known == key, CloseCode::KeyRevoked, "this key is no longer known");
        return;
    }
    let counted = Open::new(&shared.meters);
    tracing::debug!(key = %key.short(), remote = %connection.remote_address(), "connected");
    loop {
        // First the permit, then the stream: what is not accepted waits in the connection's bounded window.
        let permit = tokio::select! {
            permit = Arc::clone(&share.requests).acquire_owned() => permit,
            // A closed connection gives its place back, also while its key's requests are all taken.
            _ = connection.closed() => break,
        };
        let Ok(permit) = permit else { break };
        let Ok((send, recv)) = connection.accept_bi().await else { break };
        // Asked again for every request: a key that was removed loses its live connections too.
        let Some(who) = shared.service.principal(&key) else {
            close(&connection, CloseCode::KeyRevoked, "this key is no longer known");
            break;
        };
        let in_progress = InProgress::new(&shared.in_progress);
        let (shared, share) = (Arc::clone(&shared), Arc::clone(&share));
        tokio::spawn(async move {
            let delivered = stream::serve(&shared, &who, &share, send, recv).await;
            drop(permit);
            // Counted until the answer has arrived, because closing the endpoint throws away what has not.
            delivered.await;
            drop(in_progress);
        });
    }
    shared.keyring.leave(&key, &connection);
    drop(counted);
    tracing::debug!(key = %key.short(), "disconnected");
}

fn close(connection: &Connection, code: CloseCode, reason: &str) {
    connection.close(code.number().into(), reason.as_bytes());
}

/// The key that the client proved to hold.
fn proven_key(connection: &Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let [spki] = identity.as_slice() else { return None };
    PublicKey::from_spki(spki).ok()
}

/// One connection that is open, for whoever watches the host.
struct Open(Arc<Meters>);

impl Open {
    fn new(meters: &Arc<Meters>) -> Self {
        meters.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(meters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request in progress, counted down even by a panic.
struct InProgress(watch::Sender<usize>);

impl InProgress {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
