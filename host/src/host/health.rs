//! Whether a host that runs also works.

use super::Host;
use crate::store::Transition;

impl Host {
    /// Waits until the store's writer has answered a question that changes nothing, and says whether the host keeps its promises. One whose
    /// writer stands still gives no answer at all.
    pub async fn is_well(&self) -> bool {
        // No row and no record: the writer answers without its disk, after whatever it is doing.
        let nothing = Transition::ForgetInputs { inputs: Vec::new() };
        let publishing = self.publisher.failed().borrow().is_none();
        self.service.store().commit(nothing).await.is_ok() && publishing
    }
}
