//! `meta-data`.

use serde::Serialize;
use vmmgr_common::api::seed::SeedSpec;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::VmId;

use super::network;

/// What NoCloud reads of it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct MetaData<'a> {
    instance_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_hostname: Option<&'a str>,
    /// Debian's `interfaces(5)`: all that cloud-init before 24.3 reads of a fixed address over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    network_interfaces: Option<String>,
}

impl<'a> MetaData<'a> {
    /// The first spec of a guest has the guest's id as instance id, later ones a suffix.
    pub(super) fn new(vm: VmId, generation: u32, spec: &'a SeedSpec) -> Result<Self, Problem> {
        let instance_id =
            if generation <= 1 { vm.to_string() } else { format!("{vm}-{generation}") };
        Ok(Self {
            instance_id,
            local_hostname: spec.hostname.as_deref(),
            network_interfaces: spec.network.as_ref().map(network::interfaces).transpose()?,
        })
    }
}
