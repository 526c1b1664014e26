//! Typed clients of the services, over mutual TLS.
//!
//! Every call has a deadline, sends the request id on, and turns each failure into a [`Problem`]:
//! the peer's own one when it sent one, else who could not be reached.

mod agent;
mod gateway;
mod http;
mod metadata;
mod sse;

pub use agent::AgentClient;
pub use gateway::GatewayClient;
pub use http::ClientError;
pub use metadata::MetadataClient;
pub use sse::{EventTooLong, ServerEvent, ServerEvents};

#[cfg(doc)]
use crate::error::Problem;
