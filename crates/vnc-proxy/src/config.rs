//! `vnc-proxy.toml`.

use std::net::SocketAddr;

use serde::Deserialize;
use vmmgr_common::mtls::TlsFiles;
use vmmgr_common::telemetry::LogConfig;

/// Everything that an operator can set; see `config.example.toml` for each key's meaning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// mTLS listener.
    pub listen: SocketAddr,
    /// Health and metrics.
    pub ops_listen: SocketAddr,
    /// Sites whose pages may open consoles.
    pub origins: Vec<String>,
    /// Most sessions at a time.
    pub sessions: usize,
    /// Between two pings, seconds.
    pub ping_seconds: u64,
    /// Who redeems tickets: all gateways of one store.
    pub gateway: Vec<Gateway>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
}

/// Where a gateway is, and who it must be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// `https://address:port`.
    pub url: String,
    /// Instance in its certificate.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_valid_configuration() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
        let mut config: Config = vmmgr_common::config::load(example.as_ref()).unwrap();
        assert_eq!(config.listen.port(), 7444);
        crate::server::check(&config).unwrap();
        let mut nobody = config.clone();
        nobody.gateway.clear();
        assert!(crate::server::check(&nobody).is_err());
        config.origins.push("*".to_owned());
        assert!(crate::server::check(&config).is_err());
    }
}
