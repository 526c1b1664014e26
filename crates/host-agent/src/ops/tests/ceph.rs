//! Disks on Ceph, from the request to libvirt's pool.

use std::sync::Arc;

use serde_json::json;
use vmmgr_common::api::operation::{OperationState, Work};
use vmmgr_common::error::{ErrorCode, Problem};

use super::lab::Lab;
use crate::domain::read;
use crate::hypervisor::{Affect, Hypervisor as _, HypervisorError, Storage as _};
use crate::ops::Engine;
use crate::storage::volume::{Fill, Volumes};

fn failed(code: i32, message: &str) -> HypervisorError {
    HypervisorError::Failed { code, message: message.to_owned() }
}

/// A host with a guest that is off and has one disk on Ceph.
async fn with_disk() -> (Lab, Engine) {
    let lab = Lab::new();
    let engine = lab.engine();
    for work in [lab.create("none"), lab.disk_of("rbd-disk", "1G")] {
        assert_eq!(lab.run(&engine, work).await.state, OperationState::Succeeded);
    }
    (lab, engine)
}

async fn refused(lab: &Lab, engine: &Engine, work: Work) -> Problem {
    let before = lab.host().await;
    let problem = lab.run(engine, work).await.problem.unwrap();
    assert_eq!(lab.host().await, before, "{problem}");
    problem
}

fn blank(lab: &Lab) -> Work {
    let disk = json!({"kind": "disk", "device": "rbd-disk", "size": "2G"});
    lab.work(json!({"verb": "attach", "attachment": disk}))
}

fn resize(lab: &Lab, size: &str) -> Work {
    lab.work(json!({"verb": "resize_disk", "target": "vda", "size": size}))
}

#[tokio::test]
async fn a_disk_is_an_image_of_the_pool_and_is_shown_as_such() {
    let (lab, engine) = with_disk().await;
    let guest = read::parse(&lab.fake.domain(lab.vm).await.unwrap()).unwrap();
    let disk = &guest.disks[0];
    assert_eq!((disk.source_type.as_str(), disk.target.as_str()), ("rbd", "vda"));
    let (name, volume) = lab.fake.volumes("ceph").pop_first().unwrap();
    assert_eq!(disk.source, format!("vms/{name}"));
    assert!(name.starts_with(&format!("vda-{}-", lab.vm)) && name.ends_with(".raw"), "{name}");
    assert_eq!((volume.bytes, volume.filled), (1 << 30, true));
    assert_eq!(lab.run(&engine, blank(&lab)).await.state, OperationState::Succeeded);
    let data = lab.fake.volumes("ceph").into_iter().find(|(name, _)| name.starts_with("vdb-"));
    let data = data.unwrap().1;
    assert_eq!((data.bytes, data.filled), (2 << 30, false));
    let done = lab.run(&engine, lab.work(json!({"verb": "delete"}))).await;
    assert_eq!(done.state, OperationState::Succeeded);
    assert!(lab.fake.volumes("ceph").is_empty() && done.outcome.undeleted.is_empty());
}

#[tokio::test]
async fn a_copy_that_breaks_off_leaves_no_image() {
    let lab = Lab::new();
    let engine = lab.engine();
    assert_eq!(lab.run(&engine, lab.create("none")).await.state, OperationState::Succeeded);
    lab.fake.failing_on("fill", failed(1, "broken"));
    let problem = refused(&lab, &engine, lab.disk_of("rbd-disk", "1G")).await;
    assert!(problem.detail.contains("broken") && !problem.detail.contains("undone"), "{problem}");
    let small = refused(&lab, &engine, lab.disk_of("rbd-disk", "1M")).await;
    assert_eq!((small.status, lab.fake.volumes("ceph").len()), (422, 0));
}

#[tokio::test]
async fn what_ceph_cannot_do_is_refused_with_a_hint() {
    let (lab, engine) = with_disk().await;
    let qcow2 = json!({"kind": "disk", "device": "rbd-disk", "size": "2G", "format": "qcow2"});
    let qcow2 = lab.work(json!({"verb": "attach", "attachment": qcow2}));
    let problem = refused(&lab, &engine, qcow2).await;
    assert_eq!(problem.status, 422);
    let snapshot = lab.work(json!({"verb": "create_snapshot", "snapshot": {"name": "s"}}));
    let problem = refused(&lab, &engine, snapshot).await;
    assert_eq!(problem.code, ErrorCode::WrongState);
    assert!(problem.hint.unwrap().contains("`rbd snap create vms/vda-"));
    let problem = refused(&lab, &engine, resize(&lab, "512M")).await;
    assert_eq!(problem.status, 422);
}

#[tokio::test]
async fn a_disk_grows_in_its_pool_while_the_guest_is_off_and_in_qemu_while_it_runs() {
    let (lab, engine) = with_disk().await;
    let size = || lab.fake.volumes("ceph").pop_first().unwrap().1.bytes;
    assert_eq!(lab.run(&engine, resize(&lab, "3G")).await.state, OperationState::Succeeded);
    assert_eq!(size(), 3 << 30);
    assert_eq!(engine.context().disk_usage(lab.vm, "vda").await.unwrap().capacity_bytes, 3 << 30);
    lab.fake.failing_on("resize_volume", failed(38, "cannot resize"));
    let ended = lab.run(&engine, resize(&lab, "4G")).await;
    assert!(ended.problem.unwrap().detail.contains("cannot resize"), "not ignored");
    lab.run(&engine, lab.work(json!({"verb": "start"}))).await;
    assert_eq!(lab.run(&engine, resize(&lab, "5G")).await.state, OperationState::Succeeded);
    assert_eq!(engine.context().disk_usage(lab.vm, "vda").await.unwrap().capacity_bytes, 5 << 30);
    assert_eq!(size(), 3 << 30, "QEMU holds the image");
}

#[tokio::test]
async fn while_ceph_is_away_nothing_begins() {
    let (lab, engine) = with_disk().await;
    for verb in ["attach", "detach", "delete", "resize"] {
        let work = match verb {
            "attach" => blank(&lab),
            "detach" => lab.work(json!({"verb": "detach", "device": "vda"})),
            "resize" => resize(&lab, "3G"),
            _ => lab.work(json!({ "verb": verb })),
        };
        lab.fake
            .failing_on("ensure_rbd_pool", failed(38, "failed to connect to the RADOS monitor"));
        let problem = refused(&lab, &engine, work).await;
        assert_eq!((problem.status, problem.code), (502, ErrorCode::HypervisorFailed), "{verb}");
        assert!(problem.hint.unwrap().contains("monitors"), "{verb}");
    }
    // Guests elsewhere do not notice.
    lab.fake.failing_on("ensure_rbd_pool", failed(38, "away"));
    let local = lab.run(&engine, lab.disk_of("local-disk", "1G")).await;
    assert_eq!((local.state, lab.fake.failures_left()), (OperationState::Succeeded, 1));
}

#[tokio::test]
async fn an_image_that_is_still_in_use_is_waited_for() {
    let (lab, engine) = with_disk().await;
    for _ in 0..2 {
        lab.fake.failing_on("delete_volume", HypervisorError::InUse("has watchers".into()));
    }
    let done = lab.run(&engine, lab.work(json!({"verb": "detach", "device": "vda"}))).await;
    assert_eq!(done.state, OperationState::Succeeded);
    assert!(lab.fake.volumes("ceph").is_empty() && lab.fake.failures_left() == 0);
}

#[tokio::test]
async fn images_of_others_stay() {
    let (lab, engine) = with_disk().await;
    let theirs = "<disk type='network' device='disk'><driver type='raw'/><source protocol='rbd' \
                  name='vms/theirs'/><target dev='vdb' bus='virtio'/></disk>";
    lab.fake.create_volume("ceph", "theirs", 1 << 20).await.unwrap();
    lab.fake.attach(lab.vm, theirs, Affect { live: false, config: true }).await.unwrap();
    let done = lab.run(&engine, lab.work(json!({"verb": "delete"}))).await;
    assert_eq!(done.state, OperationState::Succeeded);
    assert_eq!(done.outcome.undeleted[0].source, "vms/theirs");
    assert_eq!(lab.fake.volumes("ceph").into_keys().collect::<Vec<_>>(), ["theirs"]);
}

#[tokio::test]
async fn a_pool_that_the_configuration_lost_keeps_its_disks() {
    let (lab, engine) = with_disk().await;
    drop(engine);
    let poorer = lab.engine_with(|context| {
        let hypervisor: Arc<dyn crate::hypervisor::Hypervisor> = lab.fake.clone();
        let fill: Arc<dyn Fill> = lab.fake.clone();
        let files = Volumes::new(lab.path("pool"), "default".to_owned());
        context.volumes = files.with_rbd(&[], &hypervisor, &fill);
    });
    let problem = refused(&lab, &poorer, lab.work(json!({"verb": "delete"}))).await;
    assert_eq!(problem.code, ErrorCode::WrongState);
    assert!(problem.hint.unwrap().contains("[[rbd_pool]]"));
    assert_eq!(lab.fake.ids(), [lab.vm]);
}
