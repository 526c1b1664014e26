//! What cloud-init is told, and what metadata-srv reports of it.

use serde::{Deserialize, Serialize};

use crate::ids::{MacAddress, VmId};
use crate::secret::Secret;

/// The typed part of a seed (cloud-init's NoCloud, `doc/rtd/reference/datasources/nocloud.rst`).
/// Text fields refuse control characters. Everything is optional.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SeedSpec {
    /// Host name, RFC 1123.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// First user; sudo without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// crypt(3) hash (`$6$…`, `$y$…`); clear text is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = Password))]
    pub password_hash: Option<Secret<String>>,
    /// OpenSSH public keys, one each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// `en_US.UTF-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Static address; DHCP when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<StaticNetwork>,
    /// Commands of first boot, each an argv.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runcmd: Vec<Vec<String>>,
    /// The user's own document, served as user-data byte for byte; up to 256 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
}

/// One interface with a fixed address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StaticNetwork {
    /// Name in the guest; `eth0` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Address with prefix length.
    pub address: String,
    /// Default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
}

/// `PUT /v1/seeds/{vm}`: everything metadata-srv holds of a guest. Replaces what was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedRecord {
    /// Whose seed.
    pub vm: VmId,
    /// What to render.
    pub spec: SeedSpec,
    /// Addresses of the guest's NICs: who may read the seed.
    pub macs: Vec<MacAddress>,
    /// False while the creation runs: guests get 503 and try again.
    pub committed: bool,
}

/// `GET /v1/seeds/{vm}`: a record, secrets included, and its instance; for the host's agent alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSeed {
    /// Instances that this guest has been, from 1; the instance id follows from it.
    pub generation: u32,
    /// What is rendered.
    pub record: SeedRecord,
}

/// `POST /v1/hosts/{host}/vms/{vm}/reseed`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Reseed {
    /// Another instance id: cloud-init configures the guest anew at its next boot. Without it the
    /// files are written again and the secrets can be read once more.
    #[serde(default)]
    pub new_instance: bool,
}

/// `PUT /v1/seeds/{vm}/callers`: the guest's NICs changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedCallers {
    /// All addresses that may read the seed from now on.
    pub macs: Vec<MacAddress>,
}

/// `GET /v1/seeds/{vm}/preview`: the four files as served; secrets masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SeedPreview {
    /// `meta-data`.
    pub meta_data: String,
    /// `user-data`.
    pub user_data: String,
    /// `vendor-data`.
    pub vendor_data: String,
    /// `network-config`.
    pub network_config: String,
}

/// `GET /v1/seeds/{vm}/boot`: what the guest fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BootTrace {
    /// Latest fetches, oldest first, at most 64.
    pub fetches: Vec<SeedFetch>,
    /// Fetches since the seed was written.
    pub total: u64,
}

/// One request of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SeedFetch {
    /// RFC 3339, UTC, with milliseconds.
    pub at: String,
    /// `meta-data`, `user-data`, …
    pub file: String,
    /// Answer.
    pub status: u16,
    /// What the guest calls itself, at most 120 characters.
    pub user_agent: String,
    /// Time to answer, microseconds.
    pub micros: u64,
}
