//! `metadata.toml`.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use serde::Deserialize;
use vmmgr_common::mtls::TlsFiles;
use vmmgr_common::telemetry::LogConfig;

/// Everything that an operator can set; see `config.example.toml` for each key's meaning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// mTLS administration.
    pub(crate) listen: SocketAddr,
    /// Health and metrics.
    pub(crate) ops_listen: SocketAddr,
    /// One file per guest.
    pub(crate) state_dir: PathBuf,
    /// Where guests ask.
    pub(crate) guest_listen: Vec<GuestListen>,
    /// Bounds of the guests' side.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// What every guest is told unless its own seed says otherwise.
    #[serde(default)]
    pub(crate) defaults: Defaults,
    /// Certificates.
    pub(crate) tls: TlsFiles,
    /// Logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
}

/// One address that guests ask.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestListen {
    /// Literal address and port; guests must name exactly this in `Host`.
    pub(crate) address: SocketAddrV4,
    /// Bridge the listener is bound to; any device when absent.
    #[serde(default)]
    pub(crate) bridge: Option<String>,
}

/// Bounds of the guests' side.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Open connections in all; more wait.
    pub(crate) connections: usize,
    /// Open connections of one address; more are closed at once.
    pub(crate) connections_per_guest: usize,
    /// From the first byte to the last, milliseconds.
    pub(crate) request_ms: u64,
    /// How long an older cloud-init is held while its guest is being created, milliseconds.
    pub(crate) hold_ms: u64,
    /// How long after the first reading the password's hash is still given, seconds; 0 is for ever.
    pub(crate) secret_s: u32,
    /// IP time to live of answers: 1 keeps them on the bridge.
    pub(crate) ttl: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_guest: 16,
            request_ms: 5000,
            hold_ms: 4000,
            secret_s: 900,
            ttl: 1,
        }
    }
}

/// Operator's defaults, part of every vendor-data.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Defaults {
    /// Used where the seed names none.
    pub(crate) timezone: Option<String>,
    /// Used where the seed names none.
    pub(crate) locale: Option<String>,
    /// Let cloud-init keep `/etc/hosts` in step with the host name.
    pub(crate) manage_etc_hosts: bool,
    /// Grow the root partition and file system to the disk.
    pub(crate) growpart: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { timezone: None, locale: None, manage_etc_hosts: true, growpart: true }
    }
}

impl Config {
    /// Checks what the types cannot; the text names the key.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.guest_listen.is_empty() {
            return Err("`guest_listen` must have at least one entry".into());
        }
        if self.limits.hold_ms >= self.limits.request_ms {
            return Err("`limits.hold_ms` must be less than `limits.request_ms`".into());
        }
        if self.limits.connections == 0 || self.limits.connections_per_guest == 0 {
            return Err(
                "`limits.connections` and `limits.connections_per_guest` must not be 0".into()
            );
        }
        if !(1..=255).contains(&self.limits.ttl) {
            return Err("`limits.ttl` must be 1 to 255".into());
        }
        for listen in &self.guest_listen {
            let good = |name: &String| crate::seed::validate::interface_name(name);
            if !listen.bridge.as_ref().is_none_or(good) {
                return Err("`guest_listen.bridge` must be an interface name".into());
            }
        }
        crate::seed::validate::defaults(&self.defaults).map_err(|problem| problem.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Config {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
        vmmgr_common::config::load(example.as_ref()).unwrap()
    }

    #[test]
    fn the_example_is_a_valid_configuration_and_shows_the_defaults() {
        let config = example();
        config.check().unwrap();
        assert_eq!(config.guest_listen[0].address.to_string(), "169.254.169.254:80");
        let limits = Limits::default();
        assert_eq!(config.limits.hold_ms, limits.hold_ms);
        assert_eq!(config.limits.connections, limits.connections);
    }

    #[test]
    fn a_hold_longer_than_the_budget_is_refused() {
        let mut config = example();
        config.limits.hold_ms = 5000;
        assert!(config.check().unwrap_err().contains("hold_ms"));
        let mut config = example();
        config.defaults.timezone = Some("../etc/passwd".into());
        assert!(config.check().unwrap_err().contains("defaults.timezone"));
    }
}
