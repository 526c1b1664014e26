//! Mutual TLS inside vmmgr: who a certificate is, and TLS configurations that check it.
//!
//! Every leaf names one role and instance in a URI SAN (`vmmgr://host-agent/host01`). Servers
//! accept any leaf of the private CA and then ask for the role; clients ask for role *and*
//! instance while the handshake runs, and do not care for DNS names.

mod client;
mod identity;
pub mod issue;
mod reload;
mod server;
mod trust;

pub use client::client_config;
pub use identity::{Identity, InvalidIdentity, Role};
pub use reload::{TlsError, TlsFiles};
pub use server::server_config;
pub use trust::trusting;

/// DNS name that every leaf of `role` carries, for peers that can only check names (nginx).
#[must_use]
pub fn dns_name(role: Role) -> String {
    format!("{}.vmmgr.internal", role.as_str())
}
