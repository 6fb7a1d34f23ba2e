//! Several processes run one sweep: each takes trials by leases, and what one leaves unfinished another goes on with.
//!
//! A process here is a *worker*, with an id and a heartbeat (`workers/ID.json`). A lease is a file `leases/TRIAL.G` that
//! only one worker can create; the owner of the highest generation G owns the trial. A worker trains in folders of its own
//! (`.work/ID/TRIAL`), and concludes a trial by one rename to `TRIAL`, which fails if another one did so before. No clock is
//! compared and no lock is needed: the protocol works where files can be created exclusively and folders renamed.
//!
//! Read [`leases`] and [`heartbeat`] first, then [`conclude`], then [`run`].

pub mod agree;
pub mod alone;
pub mod cleanup;
pub mod conclude;
pub mod earlier;
pub mod exclusive;
pub mod fail;
pub mod heartbeat;
pub mod identity;
pub mod inherit;
pub mod leases;
pub mod run;
pub mod settings;
pub mod share;
pub mod watch;

pub use identity::WorkerId;

/// The folder of heartbeats within that of a sweep.
pub const WORKERS: &str = "workers";
/// The folder of leases.
pub const LEASES: &str = "leases";
/// The folder in which workers train, each in a folder with its id.
pub const WORK: &str = ".work";
