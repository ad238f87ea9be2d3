//! What the store remembers of the published log.

/// Size and root of the log that was last published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedHead {
    /// Leaves.
    pub size: u64,
    /// Root hash of their tree.
    pub root: [u8; 32],
}

impl PublishedHead {
    pub(super) fn as_bytes(&self) -> Vec<u8> {
        [self.size.to_be_bytes().as_slice(), &self.root].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (size, root) = bytes.split_first_chunk::<8>()?;
        Some(Self { size: u64::from_be_bytes(*size), root: root.try_into().ok()? })
    }
}
