//! Ids of our connections, by which the host tells whose a datagram is.
//!
//! quinn's own generator draws three random bytes of eight. The id that a retry gives a client is not held against those in use, and a datagram is looked up
//! among those first: with hundreds of connections, one of some thousand handshakes got somebody else's id, and no answer.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};

/// Among a million ids in use, the next one is new but for once in 10¹³ times.
const BYTES: usize = 8;

/// Ids that are random as a whole.
#[derive(Debug)]
pub(super) struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    #[expect(clippy::expect_used, reason = "the host's keys came from there")]
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).expect("the kernel has random bytes");
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
