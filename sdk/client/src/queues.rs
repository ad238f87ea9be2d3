//! The host's queues: how full they are, and what they do.

use strongroom_job::{Name, QueueMode, QueueView, Request, Response};

use crate::{Client, Error};

impl Client {
    /// All queues, each with the jobs of our tenant that are in it.
    ///
    /// # Errors
    /// When the host cannot be asked.
    pub async fn queues(&self) -> Result<Vec<QueueView>, Error> {
        self.ask_for_queues(&Request::Queues {}).await
    }

    /// Pauses, drains or opens a queue, for good: also after a restart of the host. Returns how the queue then stands.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such queue, or our key is not one of the host's operators.
    pub async fn set_queue(&self, queue: &Name, mode: QueueMode) -> Result<QueueView, Error> {
        let queues = self.ask_for_queues(&Request::SetQueue { queue: queue.clone(), mode }).await?;
        let found = queues.into_iter().find(|view| view.queue == *queue && view.mode == mode);
        found.ok_or_else(|| {
            self.protocol("it was told to set a queue and spoke of another, or of another mode")
        })
    }

    async fn ask_for_queues(&self, request: &Request) -> Result<Vec<QueueView>, Error> {
        self.call(request, Some(self.link.options.timeouts.answer), |response| match response {
            Response::Queues { queues } => Some(queues),
            _ => None,
        })
        .await
    }
}
