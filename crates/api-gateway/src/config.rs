//! `gateway.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use vmmgr_common::mtls::TlsFiles;
use vmmgr_common::telemetry::LogConfig;

use crate::directory::LdapConfig;
use crate::limits::LimitConfig;

/// Everything that an operator can set; see `config.example.toml` for each key's meaning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// mTLS listener.
    pub(crate) listen: SocketAddr,
    /// Health and metrics.
    pub(crate) ops_listen: SocketAddr,
    /// Records and signing key.
    pub(crate) state_dir: PathBuf,
    /// Life of a token, seconds.
    #[serde(default = "default_token_seconds")]
    pub(crate) token_seconds: u64,
    /// Tenant links.
    #[serde(default)]
    pub(crate) links: LinkConfig,
    /// How much each caller may ask.
    #[serde(default)]
    pub(crate) limits: LimitConfig,
    /// How long ended operations are kept, days.
    #[serde(default = "default_operation_days")]
    pub(crate) operation_days: u32,
    /// Redis; the embedded store when absent.
    pub(crate) store: Option<RedisConfig>,
    /// A directory whose people may log in; nobody of any when absent.
    pub(crate) ldap: Option<LdapConfig>,
    /// Certificates.
    pub(crate) tls: TlsFiles,
    /// Logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
}

/// `[store]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedisConfig {
    /// File with the server's address on one line; it may hold a password.
    pub(crate) redis_url_file: PathBuf,
    /// PEM file that a `rediss://` server's certificate is judged by; the system's roots when absent.
    pub(crate) ca: Option<PathBuf>,
    /// Takes a server that may lose records that it has acknowledged.
    #[serde(default)]
    pub(crate) accept_loss: bool,
}

/// `[links]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkConfig {
    /// Longest life, days.
    #[serde(default = "default_max_days")]
    pub(crate) max_days: u64,
    /// File with the shared key of the described system's links; without it they are refused.
    pub(crate) legacy_key_file: Option<PathBuf>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self { max_days: default_max_days(), legacy_key_file: None }
    }
}

const fn default_max_days() -> u64 {
    90
}

const fn default_operation_days() -> u32 {
    30
}

const fn default_token_seconds() -> u64 {
    3600
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_valid_configuration() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
        let config: Config = vmmgr_common::config::load(example.as_ref()).unwrap();
        assert_eq!((config.token_seconds, config.links.max_days), (3600, 90));
    }

    #[test]
    fn so_is_what_it_says_of_a_directory() {
        let example = include_str!("../config.example.toml");
        let block = example.split("\n# [ldap]\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let is_key = |line: &&str| {
            line.starts_with('[')
                || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        };
        let keys: Vec<&str> =
            block.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_key).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let end = example.split("\n[limits]").nth(1).unwrap();
        let head = example.split("\n# [store]").next().unwrap();
        let text = format!("{head}\n[ldap]\n{}\n[limits]{end}", keys.join("\n"));
        fs_err::write(&path, text).unwrap();
        let config: Config = vmmgr_common::config::load(&path).unwrap();
        assert_eq!((config.ldap.is_some(), keys.len()), (true, 19), "{keys:?}");
    }
}
