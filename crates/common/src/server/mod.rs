//! The chassis of every service.
//!
//! ```text
//!  peer --mTLS--> role check -> request id -> the role's door -> handlers
//!                     |                          +-- a route of another door: 404
//!                     +-- a role without a door: 403
//!  ops listener (plain, loopback): /healthz /readyz /metrics
//! ```

mod caller;
mod door;
mod draining;
mod failure;
mod ops;
mod readiness;
mod routes;
mod run;

pub use caller::{Peer, RequestId, loggable};
pub use door::Door;
pub use draining::Draining;
pub use ops::install_metrics;
pub use readiness::Readiness;
pub use routes::Routes;
pub use run::{ServeError, Service, Side, run, run_until, run_with_doors};
