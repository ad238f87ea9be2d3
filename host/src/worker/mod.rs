//! Guests in processes of their own, one for each tenant: the second wall, for those who want one (`isolation = "process"`).
//!
//! ```text
//! attempt ─► Workers ─► Process ══ control socket: files of the next job ═════════► child ─► Sandbox
//!               └─► converse ════ one socket for each job: order ─►, ◄─ output, end ═┘
//! ```
//!
//! * `Workers` says which process a job goes to, and starts and ends them;
//! * `process` is the life of one, `walls` what it may touch, `confine` (of the host) how the rest is taken from it;
//! * `converse` is the host's end of one job, `child` the worker's; `message` is what they say, `pass` hands files over.
//!
//! A worker has what its tenant's jobs may touch and nothing else: no keys, no state, no log, no socket of the host's, no other tenant's
//! files. So a guest that breaks out of its sandbox has come into its own tenant's cell.
//!
//! *Owns:* the workers' processes. *Never:* believes a worker: what it sends is counted, measured and held against the job's limits, and one
//! that breaks a rule is killed. *Bound:* `max_workers` processes.
//! *Crash:* of a worker: its jobs' attempts end as faults of the host, which their plans may try again. Of the host: its workers see their
//! sockets closed, and end.
//! *Spec:* `docs/formats/worker.md`, `docs/adr/0020-a-process-for-each-tenant.md`.

mod child;
mod converse;
mod message;
mod pass;
mod pool;
mod process;
mod source;
mod walls;

pub use child::{COMMAND, main as child_main};
pub(crate) use message::Order;
pub(crate) use pass::seal;
pub(crate) use pool::{Area, Work, Workers};
pub(crate) use source::Source;
