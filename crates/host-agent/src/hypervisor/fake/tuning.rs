//! [`Tuning`] in memory: the domain's XML is edited as libvirt would.

use async_trait::async_trait;
use vmmgr_common::api::domain::DomainState;
use vmmgr_common::api::snapshot::Snapshot;
use vmmgr_common::api::tuning::{DiskUsage, NicStats};
use vmmgr_common::ids::{MacAddress, VmId};

use super::super::tuning::{Level, Tuning};
use super::super::{Affect, HypervisorError};
use super::FakeHypervisor;
use crate::domain::{read, target};

/// Replaces the element `name` directly below the root, or adds it.
fn replace(xml: &str, name: &str, fresh: &str) -> String {
    let document = roxmltree::Document::parse(xml).unwrap();
    let old = document.root_element().children().find(|n| n.has_tag_name(name));
    match old {
        Some(old) => format!("{}{fresh}{}", &xml[..old.range().start], &xml[old.range().end..]),
        None => xml.replacen("<devices>", &format!("{fresh}<devices>"), 1),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn needs(state: DomainState, wanted: DomainState) -> Result<(), HypervisorError> {
    if state == wanted {
        return Ok(());
    }
    Err(HypervisorError::WrongState(format!("domain is not {wanted:?}")))
}

#[async_trait]
impl Tuning for FakeHypervisor {
    async fn suspend(&self, id: VmId) -> Result<(), HypervisorError> {
        self.change("suspend", id, |domain| {
            needs(domain.1, DomainState::Running)?;
            domain.1 = DomainState::Paused;
            Ok(())
        })
    }
    async fn resume(&self, id: VmId) -> Result<(), HypervisorError> {
        self.change("resume", id, |domain| {
            needs(domain.1, DomainState::Paused)?;
            domain.1 = DomainState::Running;
            Ok(())
        })
    }
    async fn reboot(&self, id: VmId) -> Result<(), HypervisorError> {
        self.change("reboot", id, |domain| needs(domain.1, DomainState::Running))
    }
    async fn set_vcpus(&self, id: VmId, level: Level) -> Result<(), HypervisorError> {
        self.change("set_vcpus", id, |domain| {
            let fresh = format!("<vcpu current='{}'>{}</vcpu>", level.config, level.config_max);
            domain.0 = replace(&domain.0, "vcpu", &fresh);
            Ok(())
        })
    }
    async fn set_memory(&self, id: VmId, level: Level) -> Result<(), HypervisorError> {
        self.change("set_memory", id, |domain| {
            let most = format!("<memory unit='KiB'>{}</memory>", level.config_max);
            let now = format!("<currentMemory unit='KiB'>{}</currentMemory>", level.config);
            domain.0 = replace(&replace(&domain.0, "memory", &most), "currentMemory", &now);
            Ok(())
        })
    }
    async fn set_description(
        &self,
        id: VmId,
        text: &str,
        _: Affect,
    ) -> Result<(), HypervisorError> {
        self.change("set_description", id, |domain| {
            let fresh = format!("<description>{}</description>", escape(text));
            domain.0 = replace(&domain.0, "description", &fresh);
            Ok(())
        })
    }
    async fn set_metadata(&self, id: VmId, xml: &str, _: Affect) -> Result<(), HypervisorError> {
        self.change("set_metadata", id, |domain| {
            let block = xml.replacen("<meta>", "<meta xmlns='urn:iso-meta'>", 1);
            domain.0 = replace(&domain.0, "metadata", &format!("<metadata>{block}</metadata>"));
            Ok(())
        })
    }
    async fn set_autostart(&self, id: VmId, on: bool) -> Result<(), HypervisorError> {
        self.change("set_autostart", id, |_| Ok(()))?;
        let mut state = self.lock();
        if on {
            state.autostart.insert(id)
        } else {
            state.autostart.remove(&id)
        };
        Ok(())
    }
    async fn resize_disk(&self, id: VmId, target: &str, bytes: u64) -> Result<(), HypervisorError> {
        let mut state = self.enter("resize_disk")?;
        state.disk_bytes.insert((id, target.to_owned()), bytes);
        Ok(())
    }
    async fn disk_usage(&self, id: VmId, target: &str) -> Result<DiskUsage, HypervisorError> {
        let state = self.enter("disk_usage")?;
        let bytes = state.disk_bytes.get(&(id, target.to_owned())).copied().unwrap_or(64 << 20);
        Ok(DiskUsage {
            target: target.to_owned(),
            capacity_bytes: bytes,
            allocation_bytes: 0,
            physical_bytes: 0,
        })
    }
    async fn nic_stats(&self, id: VmId, mac: MacAddress) -> Result<NicStats, HypervisorError> {
        let state = self.enter("nic_stats")?;
        let domain = state.domains.get(&id).ok_or(HypervisorError::NoSuchDomain(id))?;
        needs(domain.1, DomainState::Running)?;
        target::find_device(&domain.0, &mac.to_string())
            .map(|_| NicStats {
                mac,
                rx_bytes: 1,
                rx_packets: 1,
                rx_errors: 0,
                rx_dropped: 0,
                tx_bytes: 1,
                tx_packets: 1,
                tx_errors: 0,
                tx_dropped: 0,
            })
            .ok_or(HypervisorError::Failed { code: 8, message: "no such device".into() })
    }
    async fn snapshots(&self, id: VmId) -> Result<Vec<(Snapshot, String)>, HypervisorError> {
        let state = self.enter("snapshots")?;
        state.domains.get(&id).ok_or(HypervisorError::NoSuchDomain(id))?;
        Ok(state.snapshots.get(&id).cloned().unwrap_or_default())
    }
    async fn create_snapshot(&self, id: VmId, xml: &str) -> Result<(), HypervisorError> {
        let mut state = self.enter("create_snapshot")?;
        let domain = state.domains.get(&id).cloned().ok_or(HypervisorError::NoSuchDomain(id))?;
        let run = if domain.1 == DomainState::Running { "running" } else { "shutoff" };
        let full = xml.replacen(
            "</domainsnapshot>",
            &format!(
                "<state>{run}</state><creationTime>1700000000</creationTime>{}</domainsnapshot>",
                domain.0
            ),
            1,
        );
        let read = read::snapshot(&full, true).unwrap();
        state.snapshots.entry(id).or_default().push((read, full));
        Ok(())
    }
    async fn revert_snapshot(&self, id: VmId, name: &str) -> Result<(), HypervisorError> {
        let mut state = self.enter("revert_snapshot")?;
        let known = state.snapshots.get(&id).and_then(|all| all.iter().find(|s| s.0.name == name));
        let (snapshot, xml) =
            known.cloned().ok_or_else(|| HypervisorError::NoSuchSnapshot(id, name.to_owned()))?;
        let from = xml.find("<domain ").unwrap();
        let domain = xml[from..].trim_end_matches("</domainsnapshot>").to_owned();
        state.domains.insert(id, (domain, snapshot.state));
        Ok(())
    }
    async fn delete_snapshot(&self, id: VmId, name: &str) -> Result<(), HypervisorError> {
        let mut state = self.enter("delete_snapshot")?;
        let all = state.snapshots.entry(id).or_default();
        let before = all.len();
        all.retain(|snapshot| snapshot.0.name != name);
        if all.len() == before {
            return Err(HypervisorError::NoSuchSnapshot(id, name.to_owned()));
        }
        Ok(())
    }
}
