//! `vnc-proxy.toml`.

use std::net::SocketAddr;

use serde::Deserialize;
use vmmgr_common::mtls::TlsFiles;
use vmmgr_common::telemetry::LogConfig;

/// Everything that an operator can set; see `config.example.toml` for each key's meaning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// mTLS listener.
    pub(crate) listen: SocketAddr,
    /// Health and metrics.
    pub(crate) ops_listen: SocketAddr,
    /// Certificates.
    pub(crate) tls: TlsFiles,
    /// Logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_valid_configuration() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
        let config: Config = vmmgr_common::config::load(example.as_ref()).unwrap();
        assert_eq!(config.listen.port(), 7444);
    }
}
