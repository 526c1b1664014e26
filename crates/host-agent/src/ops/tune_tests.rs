//! Changes to a guest that exists: made, refused before anything happens, and taken back.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use vmmgr_common::api::disk::{DiskFormat, DiskSize};
use vmmgr_common::api::domain::{Domain, DomainState};
use vmmgr_common::api::operation::{Operation, OperationRequest};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, OperationId, VmId};

use super::{Context, Engine, journal::Journal};
use crate::config::VirtType;
use crate::console::HistoryDirs;
use crate::domain::{read, template::Templates};
use crate::hooks::Hooks;
use crate::hypervisor::fake::FakeHypervisor;
use crate::hypervisor::{Hypervisor as _, HypervisorError};
use crate::inventory::InventoryService;
use crate::storage::{
    image::Images,
    volume::{NewVolume, Volumes},
};

/// An engine over the fake, with one guest that is off.
struct Bench {
    engine: Engine,
    fake: Arc<FakeHypervisor>,
    vm: VmId,
    dir: tempfile::TempDir,
}

fn guest_xml(vm: VmId, pool: &str, extra: &str) -> String {
    format!(
        "<domain type='qemu'><name>t-{vm}</name><uuid>{vm}</uuid><description>old</description>\
         <metadata><m:meta xmlns:m='urn:iso-meta'><m:creator>ada</m:creator></m:meta></metadata>\
         <memory unit='MiB'>512</memory><currentMemory unit='MiB'>256</currentMemory>\
         <vcpu current='1'>2</vcpu><os><type arch='x86_64' machine='q35'>hvm</type>{extra}</os>\
         <devices><disk type='file' device='disk'><driver type='qcow2'/><source file='{pool}/a.qcow2'/>\
         <target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
}

impl Bench {
    async fn new(firmware: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (pool, host) = (dir.path().join("pool"), HostId::parse("host01").unwrap());
        fs_err::create_dir(&pool).unwrap();
        let fake = FakeHypervisor::new();
        let context = Context {
            host: host.clone(),
            inventory: InventoryService::start(fake.clone(), host),
            hypervisor: fake.clone(),
            templates: Templates::load(None).unwrap(),
            images: Images::new(dir.path().join("images"), Vec::new()).unwrap(),
            volumes: Volumes::new(pool.clone(), "vmmgr".to_owned()),
            metadata: None,
            journal: Journal::open(&dir.path().join("state")).unwrap(),
            devices: Vec::new(),
            hooks: Hooks::of_test(None, &[]),
            virt_type: VirtType::Qemu,
            history: HistoryDirs {
                logs: dir.path().join("console"),
                anchors: dir.path().join("console"),
            },
            local_roots: Vec::new(),
        };
        let vm = VmId::new();
        fake.define(vm, &guest_xml(vm, pool.to_str().unwrap(), firmware)).await.unwrap();
        Self { engine: Engine::new(Arc::new(context)), fake, vm, dir }
    }

    async fn run(&self, mut work: Value) -> Result<Operation, Problem> {
        work["vm"] = json!(self.vm);
        let work = serde_json::from_value(work).unwrap();
        let request = OperationRequest { id: OperationId::new(), work };
        let id = self.engine.submit(request).await.unwrap().id;
        let operation = self.engine.wait(id, Duration::from_secs(10)).await.unwrap();
        assert!(operation.state.is_final());
        operation.problem.clone().map_or(Ok(operation), Err)
    }

    async fn configure(&self, change: Value) -> Result<Operation, Problem> {
        self.run(json!({"verb": "configure", "change": change})).await
    }

    async fn guest(&self) -> Domain {
        read::parse(&self.fake.domain(self.vm).await.unwrap()).unwrap()
    }

    async fn refused(&self, work: Value, code: ErrorCode) {
        let before = self.fake.domain(self.vm).await.unwrap();
        let problem = self.run(work.clone()).await.expect_err(&work.to_string());
        assert_eq!(problem.code, code, "{work}: {problem}");
        assert_eq!(self.fake.domain(self.vm).await.unwrap(), before, "{work}");
    }
}

#[tokio::test]
async fn a_guest_is_changed_as_a_whole() {
    let bench = Bench::new("").await;
    let all = json!({"vcpus": 2, "memory_mib": 512, "description": "新 <&>", "autostart": true,
        "metadata": {"owner": "a&b", "cost.center": "7"}});
    let done = bench.configure(all).await.unwrap();
    assert!(!done.outcome.restart_needed);
    let guest = bench.guest().await;
    assert_eq!((guest.vcpus, guest.memory_kib, guest.autostart), (2, 512 << 10, true));
    assert_eq!(guest.description, "新 <&>");
    assert_eq!((guest.metadata["owner"].as_str(), guest.metadata.len()), ("a&b", 2));
    assert_eq!(guest.record.creator, "ada", "the record stays");
    bench.configure(json!({"metadata": {"owner": null}})).await.unwrap();
    assert_eq!(bench.guest().await.metadata.len(), 1);
}

#[tokio::test]
async fn a_guest_that_is_not_as_it_was_read_stays_as_it_is() {
    let bench = Bench::new("").await;
    let read = bench.guest().await.version();
    let change = async |versions: &[&String], text: &str| {
        let work = json!({"verb": "if_unchanged", "versions": versions, "work":
            {"verb": "configure", "vm": bench.vm, "change": {"description": text}}});
        let work = serde_json::from_value(work).unwrap();
        let request = OperationRequest { id: OperationId::new(), work };
        let id = bench.engine.submit(request).await.unwrap().id;
        let ended = bench.engine.wait(id, Duration::from_secs(10)).await.unwrap();
        (ended.verb, ended.problem.map(|problem| problem.code))
    };
    let done = ("configure".to_owned(), None);
    let refused = ("configure".to_owned(), Some(ErrorCode::PreconditionFailed));
    assert_eq!(change(&[&read], "first").await, done);
    assert_eq!(change(&[&read], "second").await, refused);
    assert_eq!(change(&[], "second").await, refused);
    assert_eq!(bench.guest().await.description, "first");
    let present = bench.guest().await.version();
    assert_eq!(change(&[&read, &present], "second").await, done);
    assert_eq!(bench.guest().await.description, "second");
}

#[tokio::test]
async fn a_level_above_the_maximum_waits_for_the_next_start() {
    let bench = Bench::new("").await;
    bench.fake.start(bench.vm).await.unwrap();
    assert!(!bench.configure(json!({"vcpus": 2})).await.unwrap().outcome.restart_needed);
    let more = bench.configure(json!({"vcpus": 4, "memory_mib": 1024})).await.unwrap();
    assert!(more.outcome.restart_needed);
    let guest = bench.guest().await;
    assert_eq!((guest.vcpus_max, guest.memory_kib_max), (4, 1024 << 10));
}

#[tokio::test]
async fn a_change_that_fails_half_way_is_taken_back() {
    let bench = Bench::new("").await;
    let before = bench.guest().await;
    for call in ["set_memory", "set_description", "set_metadata", "set_autostart"] {
        bench.fake.failing_on(call, HypervisorError::WrongState("because".into()));
        let all = json!({"vcpus": 2, "memory_mib": 512, "description": "new",
            "metadata": {"owner": "me"}, "autostart": true});
        let problem = bench.configure(all).await.unwrap_err();
        assert_eq!(problem.detail, "because", "{call}");
        assert_eq!(bench.guest().await, before, "{call}");
    }
}

#[tokio::test]
async fn bad_changes_are_refused_and_change_nothing() {
    let bench = Bench::new("").await;
    let bad = [
        json!({}),
        json!({"vcpus": 0}),
        json!({"vcpus": 513}),
        json!({"memory_mib": 1}),
        json!({"memory_mib": 18_000_000_000_000_000_u64}),
        json!({"description": "a\u{1b}[2J"}),
        json!({"description": "x".repeat(1001)}),
        json!({"metadata": {"tenant": "other"}}),
        json!({"metadata": {"ipaddr": "10.0.0.1"}}),
        json!({"metadata": {"a><b": "c"}}),
        json!({"metadata": {"k": "x\u{0}"}}),
        json!({"metadata": {"k": "x".repeat(1001)}}),
        json!({"vcpus": 2, "metadata": {"creator": null}}),
    ];
    for change in bad {
        let work = json!({"verb": "configure", "change": change});
        bench.refused(work, ErrorCode::InvalidValue).await;
    }
    let many: serde_json::Map<_, _> = (0..70).map(|n| (format!("k{n}"), json!("v"))).collect();
    let work = json!({"verb": "configure", "change": {"metadata": many}});
    bench.refused(work, ErrorCode::InvalidValue).await;
    for verb in ["suspend", "resume", "reboot"] {
        bench.refused(json!({ "verb": verb }), ErrorCode::WrongState).await;
    }
}

#[tokio::test]
async fn a_disk_only_grows_and_only_if_it_is_one() {
    let bench = Bench::new("").await;
    let resize =
        |target: &str, size: &str| json!({"verb": "resize_disk", "target": target, "size": size});
    bench.refused(resize("vda", "32M"), ErrorCode::InvalidValue).await;
    bench.refused(resize("vdb", "1G"), ErrorCode::NoSuchDevice).await;
    bench.refused(resize("vda", "1G"), ErrorCode::WrongState).await;
    bench.fake.start(bench.vm).await.unwrap();
    bench.run(resize("vda", "1G")).await.unwrap();
    bench.refused(resize("vda", "512M"), ErrorCode::InvalidValue).await;
    bench.fake.set_available(1 << 20);
    bench.refused(resize("vda", "2G"), ErrorCode::NoSpace).await;
    bench.fake.destroy(bench.vm).await.unwrap();
    bench.fake.set_available(1 << 40);
    // A volume of ours is grown by qemu-img while the guest is off.
    let path = bench.dir.path().join("pool/a.qcow2").to_string_lossy().into_owned();
    let context = bench.engine.context();
    let size = DiskSize::parse("64M").unwrap();
    let blank = NewVolume { size, format: DiskFormat::Qcow2, base: None };
    context.volumes.holding(&path).unwrap().create(&path, blank, &|_| {}).await.unwrap();
    context.journal.own_volume(&path, bench.vm, OperationId::new()).await.unwrap();
    bench.run(resize("vda", "2G")).await.unwrap();
    let info = std::process::Command::new("qemu-img")
        .args(["info", "--output=json", &path])
        .output()
        .unwrap();
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(info["virtual-size"], 2_u64 << 30);
}

#[tokio::test]
async fn snapshots_are_taken_reverted_to_and_deleted() {
    let bench = Bench::new("").await;
    let create = |name: &str| json!({"verb": "create_snapshot", "snapshot": {"name": name}});
    let named = |verb: &str, name: &str| json!({"verb": verb, "name": name});
    bench.run(create("before")).await.unwrap();
    bench.refused(create("before"), ErrorCode::AlreadyExists).await;
    bench.refused(named("revert_snapshot", "absent"), ErrorCode::NoSuchRecord).await;
    bench.refused(named("delete_snapshot", "absent"), ErrorCode::NoSuchRecord).await;
    bench.fake.start(bench.vm).await.unwrap();
    bench.configure(json!({"description": "later"})).await.unwrap();
    bench.run(named("revert_snapshot", "before")).await.unwrap();
    let guest = bench.guest().await;
    assert_eq!((guest.state, guest.description.as_str()), (DomainState::ShutOff, "old"));
    let other = "<disk type='file' device='disk'><driver type='qcow2'/><source file='/p/b'/>\
                 <target dev='vdb' bus='virtio'/></disk>";
    let affect = crate::hypervisor::Affect { live: false, config: true };
    bench.fake.attach(bench.vm, other, affect).await.unwrap();
    bench.refused(named("revert_snapshot", "before"), ErrorCode::WrongState).await;
    bench.run(named("delete_snapshot", "before")).await.unwrap();
    bench.refused(named("delete_snapshot", "before"), ErrorCode::NoSuchRecord).await;
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_is_refused_before_libvirt_hears_of_it() {
    let create = json!({"verb": "create_snapshot", "snapshot": {"name": "s"}});
    let uefi = Bench::new("<loader type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>").await;
    uefi.refused(create.clone(), ErrorCode::WrongState).await;
    let raw = Bench::new("").await;
    let disk = "<disk type='file' device='disk'><driver type='raw'/><source file='/p/b'/>\
                <target dev='vdb' bus='virtio'/></disk>";
    let affect = crate::hypervisor::Affect { live: false, config: true };
    raw.fake.attach(raw.vm, disk, affect).await.unwrap();
    raw.refused(create.clone(), ErrorCode::WrongState).await;
    let full = Bench::new("").await;
    full.fake.set_available(1 << 20);
    full.refused(create, ErrorCode::NoSpace).await;
}
