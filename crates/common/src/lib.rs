//! What the services of vmmgr share: wire types, names, the failure body, mutual TLS, typed
//! clients and, behind the feature `server`, the chassis that every service runs on.

pub mod api;
pub mod client;
pub mod config;
pub mod error;
pub mod ids;
pub mod mtls;
#[cfg(feature = "openapi")]
mod openapi;
pub mod request_id;
pub mod secret;
#[cfg(feature = "server")]
pub mod server;
pub mod strict;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
