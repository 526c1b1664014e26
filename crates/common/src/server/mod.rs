//! The chassis of every service.
//!
//! ```text
//!  peer --mTLS--> role check -> request id -> handlers        ops listener (plain, loopback):
//!                     |                                        /healthz /readyz /metrics
//!                     +-- other role: 403
//! ```

mod caller;
mod failure;
mod ops;
mod readiness;
mod routes;
mod run;

pub use caller::{Peer, RequestId};
pub use ops::install_metrics;
pub use readiness::Readiness;
pub use routes::Routes;
pub use run::{ServeError, Service, Side, run};
