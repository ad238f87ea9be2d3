//! The numbers with which a host ends a connection or a stream: QUIC application error codes.
//!
//! *Spec:* `docs/formats/wire.md`.

/// Why a connection or a stream was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseCode {
    /// All is well: nothing more to say.
    Done = 0,
    /// The host stops.
    ShuttingDown = 1,
    /// The key has all the connections that it may have.
    TooManyConnections = 2,
    /// The host no longer knows the key.
    KeyRevoked = 3,
    /// The other side did not keep to the protocol.
    Protocol = 4,
    /// The other side took too long.
    TooSlow = 5,
    /// Nobody wants the rest of this stream.
    NotNeeded = 6,
    /// The host failed in the middle of an answer: what came so far is not the whole.
    HostFault = 7,
}

impl CloseCode {
    const ALL: [Self; 8] = [
        Self::Done,
        Self::ShuttingDown,
        Self::TooManyConnections,
        Self::KeyRevoked,
        Self::Protocol,
        Self::TooSlow,
        Self::NotNeeded,
        Self::HostFault,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The code of a number, if this version knows it.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|code| u64::from(code.number()) == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_frozen_and_read_back() {
        for (number, code) in (0..).zip(CloseCode::ALL) {
            assert_eq!(u64::from(code.number()), number);
            assert_eq!(CloseCode::from_number(number), Some(code));
        }
        assert_eq!(CloseCode::from_number(8), None);
        assert_eq!(CloseCode::from_number(u64::MAX), None);
    }
}
