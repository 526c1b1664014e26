//! [`Tuning`] on libvirt.

use std::time::Duration;

use async_trait::async_trait;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;
use vmmgr_common::api::snapshot::Snapshot;
use vmmgr_common::api::tuning::{DiskUsage, NicStats};
use vmmgr_common::ids::{MacAddress, VmId};

use super::super::tuning::{Level, Tuning};
use super::super::{Affect, HypervisorError};
use super::{CHANGE, Libvirt, READ, flags};
use crate::domain::policy::METADATA_NAMESPACE;
use crate::domain::read;

/// A snapshot writes the guest's memory into its disk.
const SNAPSHOT: Duration = Duration::from_secs(600);
/// Prefix of our element.
const METADATA_PREFIX: &str = "mdconfig";

/// Sets the definition's maximum and present value in the order that never has one above the other.
fn in_order(
    level: Level,
    max_now: u64,
    set: impl Fn(u64, u32) -> Result<(), Error>,
    maximum: u32,
) -> Result<(), Error> {
    let config = sys::VIR_DOMAIN_AFFECT_CONFIG;
    if level.config_max > max_now {
        set(level.config_max, config | maximum)?;
    }
    set(level.config, config)?;
    if level.config_max < max_now {
        set(level.config_max, config | maximum)?;
    }
    match level.live {
        Some(live) => set(live, sys::VIR_DOMAIN_AFFECT_LIVE),
        None => Ok(()),
    }
}

fn set_vcpus(domain: &Domain, level: Level) -> Result<(), Error> {
    let maximum = sys::VIR_DOMAIN_VCPU_MAXIMUM;
    let max_now = domain.vcpus_flags(sys::VIR_DOMAIN_AFFECT_CONFIG | maximum)?;
    let set =
        |count: u64, flags| domain.set_vcpus_flags(u32::try_from(count).unwrap_or(u32::MAX), flags);
    in_order(level, max_now.into(), set, maximum)
}

fn set_memory(domain: &Domain, level: Level) -> Result<(), Error> {
    let inactive = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
    let max_now = read::memory_levels(&inactive).map_or(0, |(_, max)| max);
    in_order(
        level,
        max_now,
        |kib, flags| domain.set_memory_flags(kib, flags),
        sys::VIR_DOMAIN_MEM_MAXIMUM,
    )
}

fn count(number: i64) -> u64 {
    // libvirt says -1 for what a driver does not count.
    u64::try_from(number).unwrap_or(0)
}

fn snapshots(domain: &Domain) -> Result<Vec<(Snapshot, String)>, Error> {
    let mut all = Vec::new();
    for snapshot in domain.list_all_snapshots(0)? {
        let xml = snapshot.xml_desc(0)?;
        let current = snapshot.is_current(0)?;
        all.extend(read::snapshot(&xml, current).map(|read| (read, xml)));
    }
    all.sort_by(|a, b| (&a.0.created, &a.0.name).cmp(&(&b.0.created, &b.0.name)));
    Ok(all)
}

impl Libvirt {
    async fn on_snapshot(
        &self,
        call: &'static str,
        id: VmId,
        name: &str,
        work: impl FnOnce(&virt::domain_snapshot::DomainSnapshot) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), HypervisorError> {
        let (name, wanted) = (name.to_owned(), name.to_owned());
        let result = self
            .on_domain(call, SNAPSHOT, id, move |domain| {
                match Domain::lookup_snapshot_by_name(domain, &name, 0) {
                    Ok(snapshot) => work(&snapshot).map(|()| true),
                    Err(error) if error.code().to_raw() == sys::VIR_ERR_NO_DOMAIN_SNAPSHOT => {
                        Ok(false)
                    }
                    Err(error) => Err(error),
                }
            })
            .await?;
        if result { Ok(()) } else { Err(HypervisorError::NoSuchSnapshot(id, wanted)) }
    }
}

#[async_trait]
impl Tuning for Libvirt {
    async fn suspend(&self, id: VmId) -> Result<(), HypervisorError> {
        self.on_domain("suspend", CHANGE, id, Domain::suspend).await
    }

    async fn resume(&self, id: VmId) -> Result<(), HypervisorError> {
        self.on_domain("resume", CHANGE, id, Domain::resume).await
    }

    async fn reboot(&self, id: VmId) -> Result<(), HypervisorError> {
        self.on_domain("reboot", READ, id, |domain| domain.reboot(0)).await
    }

    async fn set_vcpus(&self, id: VmId, level: Level) -> Result<(), HypervisorError> {
        self.on_domain("set_vcpus", CHANGE, id, move |domain| set_vcpus(domain, level)).await
    }

    async fn set_memory(&self, id: VmId, level: Level) -> Result<(), HypervisorError> {
        self.on_domain("set_memory", CHANGE, id, move |domain| set_memory(domain, level)).await
    }

    async fn set_description(
        &self,
        id: VmId,
        text: &str,
        affect: Affect,
    ) -> Result<(), HypervisorError> {
        let text = (!text.is_empty()).then(|| text.to_owned());
        let kind = sys::VIR_DOMAIN_METADATA_DESCRIPTION as i32;
        self.on_domain("set_description", CHANGE, id, move |domain| {
            domain.set_metadata(kind, text.as_deref(), None, None, flags(affect))
        })
        .await
    }

    async fn set_metadata(
        &self,
        id: VmId,
        xml: &str,
        affect: Affect,
    ) -> Result<(), HypervisorError> {
        let xml = xml.to_owned();
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
        self.on_domain("set_metadata", CHANGE, id, move |domain| {
            let (key, uri) = (Some(METADATA_PREFIX), Some(METADATA_NAMESPACE));
            domain.set_metadata(kind, Some(&xml), key, uri, flags(affect))
        })
        .await
    }

    async fn set_autostart(&self, id: VmId, on: bool) -> Result<(), HypervisorError> {
        self.on_domain("set_autostart", READ, id, move |domain| domain.set_autostart(on)).await
    }

    async fn resize_disk(&self, id: VmId, target: &str, bytes: u64) -> Result<(), HypervisorError> {
        let target = target.to_owned();
        let how = sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES;
        self.on_domain("resize_disk", CHANGE, id, move |domain| {
            domain.block_resize(&target, bytes, how)
        })
        .await
    }

    async fn disk_usage(&self, id: VmId, target: &str) -> Result<DiskUsage, HypervisorError> {
        let target = target.to_owned();
        self.on_domain("disk_usage", READ, id, move |domain| {
            let info = domain.block_info(&target, 0)?;
            Ok(DiskUsage {
                target,
                capacity_bytes: info.capacity,
                allocation_bytes: info.allocation,
                physical_bytes: info.physical,
            })
        })
        .await
    }

    async fn nic_stats(&self, id: VmId, mac: MacAddress) -> Result<NicStats, HypervisorError> {
        self.on_domain("nic_stats", READ, id, move |domain| {
            let stats = domain.interface_stats(&mac.to_string())?;
            Ok(NicStats {
                mac,
                rx_bytes: count(stats.rx_bytes),
                rx_packets: count(stats.rx_packets),
                rx_errors: count(stats.rx_errs),
                rx_dropped: count(stats.rx_drop),
                tx_bytes: count(stats.tx_bytes),
                tx_packets: count(stats.tx_packets),
                tx_errors: count(stats.tx_errs),
                tx_dropped: count(stats.tx_drop),
            })
        })
        .await
    }

    async fn snapshots(&self, id: VmId) -> Result<Vec<(Snapshot, String)>, HypervisorError> {
        self.on_domain("snapshots", READ, id, snapshots).await
    }

    async fn create_snapshot(&self, id: VmId, xml: &str) -> Result<(), HypervisorError> {
        let xml = xml.to_owned();
        self.on_domain("create_snapshot", SNAPSHOT, id, move |domain| {
            domain.create_snapshot_xml(&xml, 0).map(drop)
        })
        .await
    }

    async fn revert_snapshot(&self, id: VmId, name: &str) -> Result<(), HypervisorError> {
        self.on_snapshot("revert_snapshot", id, name, |snapshot| snapshot.revert(0)).await
    }

    async fn delete_snapshot(&self, id: VmId, name: &str) -> Result<(), HypervisorError> {
        self.on_snapshot("delete_snapshot", id, name, |snapshot| snapshot.delete(0)).await
    }
}
