//! The real glue against libvirt's own test driver, which needs no daemon.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::domain::rbd::RbdPool;

fn xml(id: VmId, name: &str) -> String {
    format!(
        "<domain type='test'><name>{name}</name><uuid>{id}</uuid><memory unit='KiB'>65536</memory>\
         <vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os></domain>"
    )
}

async fn notice(notices: &mut broadcast::Receiver<Notice>) -> Notice {
    tokio::time::timeout(Duration::from_secs(10), notices.recv()).await.unwrap().unwrap()
}

async fn connected() -> (Arc<Libvirt>, broadcast::Receiver<Notice>) {
    let libvirt = Libvirt::connect("test:///default".into(), 2).unwrap();
    let notices = libvirt.notices();
    let all = tokio::time::timeout(Duration::from_secs(10), async {
        while !libvirt.connected() {
            tokio::task::yield_now().await;
        }
    });
    all.await.unwrap();
    (libvirt, notices)
}

#[tokio::test]
async fn a_domain_lives_its_life_and_each_step_is_told() {
    let (libvirt, mut notices) = connected().await;
    let id = VmId::new();
    let name = format!("t-{id}");
    libvirt.define(id, &xml(id, &name)).await.unwrap();
    while notice(&mut notices).await != Notice::Dirty(id) {}
    assert_eq!(libvirt.domain(id).await.unwrap().state, DomainState::ShutOff);
    assert!(libvirt.definition(id, false).await.unwrap().contains(&name));
    let again = libvirt.define(id, &xml(id, &name)).await;
    assert_eq!(again, Err(HypervisorError::AlreadyExists(id)));
    libvirt.start(id).await.unwrap();
    while notice(&mut notices).await != Notice::Dirty(id) {}
    assert_eq!(libvirt.domain(id).await.unwrap().state, DomainState::Running);
    assert!(libvirt.start(id).await.is_err());
    assert!(libvirt.list().await.unwrap().iter().any(|domain| domain.id == id));
    libvirt.destroy(id).await.unwrap();
    libvirt.destroy(id).await.unwrap();
    libvirt.undefine(id).await.unwrap();
    assert_eq!(libvirt.domain(id).await, Err(HypervisorError::NoSuchDomain(id)));
    assert_eq!(libvirt.start(id).await, Err(HypervisorError::NoSuchDomain(id)));
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_as_such() {
    let (libvirt, _) = connected().await;
    let (first, second) = (VmId::new(), VmId::new());
    let name = format!("t-{first}");
    libvirt.define(first, &xml(first, &name)).await.unwrap();
    let refused = libvirt.define(second, &xml(second, &name)).await;
    assert_eq!(refused, Err(HypervisorError::AlreadyExists(second)));
    libvirt.undefine(first).await.unwrap();
}

#[tokio::test]
async fn an_absent_libvirtd_is_unreachable_at_once() {
    let uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock";
    let libvirt = Libvirt::connect(uri.into(), 1).unwrap();
    assert!(!libvirt.connected());
    assert_eq!(libvirt.list().await, Err(HypervisorError::Unreachable));
}

#[tokio::test]
async fn a_domain_s_settings_are_changed_and_read_back() {
    use crate::domain::read;
    let (libvirt, _) = connected().await;
    let id = VmId::new();
    libvirt.define(id, &xml(id, &format!("t-{id}"))).await.unwrap();
    let config = Affect { live: false, config: true };
    libvirt.set_description(id, "新 <&>", config).await.unwrap();
    libvirt.set_metadata(id, "<meta><owner>a&amp;b</owner></meta>", config).await.unwrap();
    let domain = read::parse(&libvirt.domain(id).await.unwrap()).unwrap();
    assert_eq!((domain.description.as_str(), domain.metadata["owner"].as_str()), ("新 <&>", "a&b"));
    libvirt.set_autostart(id, true).await.unwrap();
    libvirt.set_vcpus(id, Level { live: None, config: 3, config_max: 4 }).await.unwrap();
    libvirt
        .set_memory(id, Level { live: None, config: 1 << 15, config_max: 1 << 17 })
        .await
        .unwrap();
    let inactive = libvirt.definition(id, false).await.unwrap();
    assert_eq!(read::vcpu_levels(&inactive), Some((3, 4)));
    assert_eq!(read::memory_levels(&inactive), Some((1 << 15, 1 << 17)));
    libvirt.set_vcpus(id, Level { live: None, config: 1, config_max: 1 }).await.unwrap();
    assert_eq!(read::vcpu_levels(&libvirt.definition(id, false).await.unwrap()), Some((1, 1)));
    assert!(libvirt.domain(id).await.unwrap().autostart);
    libvirt.start(id).await.unwrap();
    libvirt.suspend(id).await.unwrap();
    assert_eq!(libvirt.domain(id).await.unwrap().state, DomainState::Paused);
    libvirt.resume(id).await.unwrap();
    let wanted = "<domainsnapshot><name>s1</name><description>d</description></domainsnapshot>";
    libvirt.create_snapshot(id, wanted).await.unwrap();
    let (snapshot, _) = libvirt.snapshots(id).await.unwrap().remove(0);
    assert_eq!((snapshot.name.as_str(), snapshot.current), ("s1", true));
    assert_eq!((snapshot.description.as_str(), snapshot.state), ("d", DomainState::Running));
    libvirt.destroy(id).await.unwrap();
    libvirt.revert_snapshot(id, "s1").await.unwrap();
    assert_eq!(libvirt.domain(id).await.unwrap().state, DomainState::Running);
    let absent = HypervisorError::NoSuchSnapshot(id, "s2".into());
    assert_eq!(libvirt.revert_snapshot(id, "s2").await, Err(absent.clone()));
    assert_eq!(libvirt.delete_snapshot(id, "s2").await, Err(absent));
    libvirt.delete_snapshot(id, "s1").await.unwrap();
    libvirt.destroy(id).await.unwrap();
    libvirt.undefine(id).await.unwrap();
}

#[tokio::test]
async fn a_pool_on_ceph_is_as_configured_and_another_s_is_left_alone() {
    let (libvirt, _) = connected().await;
    let pool = crate::domain::rbd::tests::pool();
    for _ in 0..2 {
        libvirt.ensure_rbd_pool(&pool).await.unwrap();
    }
    let name = pool.name.as_str();
    libvirt.create_volume(name, "vda-1.raw", 1 << 20).await.unwrap();
    assert!(libvirt.create_volume(name, "vda-1.raw", 1 << 20).await.is_err());
    assert_eq!(libvirt.volume_info(name, "vda-1.raw").await.unwrap().capacity_bytes, 1 << 20);
    for _ in 0..2 {
        libvirt.delete_volume(name, "vda-1.raw").await.unwrap();
    }
    assert!(libvirt.volume_info(name, "vda-1.raw").await.is_err());
    let mut changed = pool.clone();
    changed.monitors.pop();
    libvirt.ensure_rbd_pool(&changed).await.unwrap();
    libvirt.ensure_rbd_pool(&changed).await.unwrap();
    let other = RbdPool { ceph_pool: pool.user.clone(), ..pool.clone() };
    let refused = libvirt.ensure_rbd_pool(&other).await.unwrap_err().to_string();
    assert!(refused.contains("`ceph`") && refused.contains("`vms`"), "{refused}");
    // libvirt's test driver brings a pool of its own.
    let name = vmmgr_common::ids::ResourceName::parse("default-pool").unwrap();
    let refused = libvirt.ensure_rbd_pool(&RbdPool { name, ..pool }).await.unwrap_err();
    assert!(refused.to_string().contains("of type dir"), "{refused}");
}
