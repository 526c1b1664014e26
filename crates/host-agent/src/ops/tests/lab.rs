//! A host in a folder, the work that is done on it, and what it looks like.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use vmmgr_common::api::domain::Disk;
use vmmgr_common::api::operation::{Operation, OperationRequest, OperationState, Work};
use vmmgr_common::client::MetadataClient;
use vmmgr_common::ids::{HostId, OperationId, VmId};

use super::seeds::Seeds;
use crate::config::tests::with_ceph;
use crate::config::{DeviceHooks, VirtType};
use crate::console::HistoryDirs;
use crate::domain::read;
use crate::domain::template::Templates;
use crate::hooks::Hooks;
use crate::hypervisor::Hypervisor;
use crate::hypervisor::fake::FakeHypervisor;
use crate::inventory::InventoryService;
use crate::ops::journal::Journal;
use crate::ops::{Context, Engine};
use crate::storage::image::Images;
use crate::storage::remote_iso::tests::Server;
use crate::storage::volume::{Fill, Volumes};

/// Longest time that an operation may take here.
const PATIENCE: Duration = Duration::from_secs(60);
/// The address that cases attach and detach.
const MAC: &str = "52:54:00:00:00:07";

/// What a plan can be made for; each with the guest that it needs.
pub(super) const CASES: [&str; 26] = [
    "create",
    "create with an ISO",
    "start",
    "shutdown",
    "destroy",
    "reset",
    "delete",
    "attach a disk",
    "attach a NIC",
    "attach a NIC with a hook",
    "attach a drive",
    "attach a disk with a hook",
    "detach a disk",
    "detach a disk with a hook",
    "detach a NIC",
    "detach a NIC with a hook",
    "change a medium",
    "attach a network drive",
    "change to a network medium",
    "change from a network medium",
    "write another seed",
    "write another seed onto its drive",
    "import an image",
    "attach an image on Ceph",
    "detach an image on Ceph",
    "delete with an image on Ceph",
];

/// One host.
pub(super) struct Lab {
    dir: tempfile::TempDir,
    pub(super) fake: Arc<FakeHypervisor>,
    /// The guest that all work is about.
    pub(super) vm: VmId,
}

impl Lab {
    /// An empty host.
    pub(super) fn new() -> Self {
        let lab = Self {
            // In memory where there is such a folder: hundreds of labs are made, each syncs its journal.
            dir: tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap(),
            fake: FakeHypervisor::new(),
            vm: VmId::new(),
        };
        for name in ["pool", "origin", "console", "hooks", "hooked"] {
            fs_err::create_dir(lab.path(name)).unwrap();
        }
        lab.write_hook();
        fs_err::write(lab.gold(), vec![7; 2 << 20]).unwrap();
        lab
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A hook that keeps a file for every device that there is; it fails once where [`Self::break_hook`]
    /// says so.
    fn write_hook(&self) {
        let script = format!(
            "#!/bin/sh\ncd {} || exit 9\n\
             fail() {{ [ ! -e fails-$1 ] || {{ rm fails-$1; echo no way; exit 3; }}; }}\n\
             fail before; fail $1\n\
             case $1 in attach) cat >hooked/$4 ;; detach) rm -f hooked/$4 ;; esac\n\
             fail after\necho $1 is done\n",
            self.dir.path().display()
        );
        let path = self.path("hooks/note");
        fs_err::write(&path, script).unwrap();
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The hook's next run fails `before` or `after` its effect, or if it is for `attach`, `detach`.
    pub(super) fn break_hook(&self, when: &str) {
        fs_err::write(self.path(&format!("fails-{when}")), "").unwrap();
    }

    /// Failures that the hook has not had.
    pub(super) fn hook_failures_left(&self) -> usize {
        let all = ["before", "after", "attach", "detach"];
        all.iter().filter(|when| self.path(&format!("fails-{when}")).exists()).count()
    }

    /// The origin of the gold image.
    pub(super) fn gold(&self) -> PathBuf {
        self.path("origin/gold.raw")
    }

    pub(super) fn gold_record(&self) -> serde_json::Value {
        json!({"name": "gold", "arch": "x86_64", "uri": self.gold()})
    }

    /// An agent as after a start: its own memory, the journal on disk.
    pub(super) fn engine(&self) -> Engine {
        self.engine_with(|_| ())
    }

    /// One that was configured otherwise.
    pub(super) fn engine_with(&self, change: impl FnOnce(&mut Context)) -> Engine {
        let mut config = with_ceph(|example| example);
        let hypervisor: Arc<dyn Hypervisor> = self.fake.clone();
        let fill: Arc<dyn Fill> = self.fake.clone();
        for hooked in [
            json!({"kind": "disk", "name": "hooked-disk", "hook": "note"}),
            json!({"kind": "net", "name": "hooked-net", "bridge": "br-ext", "hook": "note"}),
        ] {
            config.device.push(serde_json::from_value(hooked).unwrap());
        }
        let hooks = DeviceHooks::of_test(self.path("hooks"), 60);
        let (host, seeds) = (HostId::parse("host01").unwrap(), Seeds::shared());
        let roots = vec![self.path("origin")];
        let mut context = Context {
            host: host.clone(),
            inventory: InventoryService::start(self.fake.clone(), host.clone()),
            hypervisor: hypervisor.clone(),
            templates: Templates::load(None).unwrap(),
            images: Images::new(self.path("images"), roots.clone())
                .unwrap()
                .with_origins(Server::shared().origins()),
            volumes: Volumes::new(self.path("pool"), "default".to_owned()).with_rbd(
                &config.rbd_pool,
                &hypervisor,
                &fill,
            ),
            metadata: Some(MetadataClient::new(&seeds.tls, &seeds.url, &host).unwrap()),
            journal: Journal::open(&self.path("state")).unwrap(),
            hooks: Hooks::of_test(Some(hooks), &config.device),
            devices: config.device,
            virt_type: VirtType::Qemu,
            history: self.history(),
            local_roots: roots,
        };
        change(&mut context);
        Engine::impatient(Arc::new(context))
    }

    /// Serial logs; their anchors beside them.
    pub(super) fn history(&self) -> HistoryDirs {
        HistoryDirs { logs: self.path("console"), anchors: self.path("console") }
    }

    pub(super) fn create(&self, seed_mode: &str) -> Work {
        let domain = json!({"id": self.vm, "name": "web1", "arch": "x86_64", "vcpus": 1,
            "vcpus_max": 2, "memory_mib": 256, "memory_mib_max": 512, "seed_mode": seed_mode,
            "seed": {"hostname": "web1"}});
        Work::Create { domain: serde_json::from_value(domain).unwrap() }
    }

    pub(super) fn work(&self, work: serde_json::Value) -> Work {
        let mut work = work;
        if work["verb"] != "import_image" {
            work["vm"] = json!(self.vm);
        }
        serde_json::from_value(work).unwrap()
    }

    fn disk(&self, device: &str) -> Work {
        self.disk_of(device, "1G")
    }

    pub(super) fn disk_of(&self, device: &str, size: &str) -> Work {
        let disk =
            json!({"kind": "disk", "device": device, "size": size, "gold": self.gold_record()});
        self.work(json!({"verb": "attach", "attachment": disk}))
    }

    fn reseed(&self) -> Work {
        let network = json!({"address": "10.0.0.9/24", "gateway": "10.0.0.1"});
        let seed = json!({"hostname": "web2", "network": network});
        self.work(json!({"verb": "reseed", "seed": seed}))
    }

    /// Makes what the case needs; gives its work.
    pub(super) async fn prepare(&self, engine: &Engine, case: &str) -> Work {
        let nic = |device: &str| {
            let nic = json!({"kind": "nic", "device": device, "mac": MAC});
            self.work(json!({"verb": "attach", "attachment": nic}))
        };
        let detach = |device: &str| self.work(json!({"verb": "detach", "device": device}));
        let drive_with = |medium: &serde_json::Value| {
            let drive = json!({"kind": "cdrom", "device": "cdrom", "medium": medium});
            self.work(json!({"verb": "attach", "attachment": drive}))
        };
        let drive = |medium: &str| drive_with(&json!({"kind": medium}));
        let network = json!({"kind": "network", "url": Server::shared().url("good")});
        let change = |medium: serde_json::Value| {
            self.work(json!({"verb": "change_medium", "device": "sda", "medium": medium}))
        };
        let verb = |verb: &str| self.work(json!({"verb": verb}));
        let (before, work) = match case {
            "create" => return self.create("http"),
            "create with an ISO" => return self.create("iso"),
            "import an image" => {
                return self.work(json!({"verb": "import_image", "gold": self.gold_record()}));
            }
            "start" => (vec![], verb("start")),
            "shutdown" | "destroy" | "reset" => (vec![verb("start")], verb(case)),
            "delete" => {
                let devices = vec![self.disk("local-disk"), nic("net-br-ext")];
                let hooked = vec![self.disk("hooked-disk"), verb("start")];
                (devices.into_iter().chain(hooked).collect(), verb("delete"))
            }
            "attach a disk" => (vec![verb("start")], self.disk("local-disk")),
            "attach a disk with a hook" => (vec![verb("start")], self.disk("hooked-disk")),
            "attach a NIC" => (vec![], nic("net-br-ext")),
            "attach a NIC with a hook" => (vec![], nic("hooked-net")),
            "attach a drive" => (vec![], drive("seed")),
            "detach a disk" => (vec![self.disk("local-disk")], detach("vda")),
            "detach a disk with a hook" => (vec![self.disk("hooked-disk")], detach("vda")),
            "detach a NIC" => (vec![nic("net-br-ext")], detach(MAC)),
            "detach a NIC with a hook" => (vec![nic("hooked-net")], detach(MAC)),
            "attach an image on Ceph" => (vec![verb("start")], self.disk("rbd-disk")),
            "detach an image on Ceph" => (vec![self.disk("rbd-disk")], detach("vda")),
            "delete with an image on Ceph" => {
                (vec![self.disk("rbd-disk"), verb("start")], verb("delete"))
            }
            "change a medium" => (vec![drive("empty")], change(json!({"kind": "seed"}))),
            "attach a network drive" => (vec![], drive_with(&network)),
            "change to a network medium" => (vec![drive("seed")], change(network)),
            "change from a network medium" => {
                (vec![drive_with(&network)], change(json!({"kind": "seed"})))
            }
            "write another seed" => (vec![], self.reseed()),
            "write another seed onto its drive" => (vec![drive("seed")], self.reseed()),
            _ => panic!("no case `{case}`"),
        };
        for work in [self.create("http")].into_iter().chain(before) {
            let done = self.run(engine, work).await;
            assert_eq!(done.state, OperationState::Succeeded, "{done:?}");
        }
        work
    }

    /// What the hook keeps: devices, and what it was told of them.
    pub(super) fn hooked(&self) -> BTreeMap<String, String> {
        let kept = fs_err::read_dir(self.path("hooked")).unwrap();
        kept.map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs_err::read_to_string(path).unwrap())
        })
        .collect()
    }

    /// Submits and waits for the end.
    pub(super) async fn run(&self, engine: &Engine, work: Work) -> Operation {
        let request = OperationRequest { id: OperationId::new(), work };
        let accepted = engine.submit(request).await.unwrap();
        self.ended(engine, accepted.id).await
    }

    pub(super) async fn ended(&self, engine: &Engine, id: OperationId) -> Operation {
        let operation = engine.wait(id, PATIENCE).await.unwrap();
        assert!(operation.state.is_final(), "{operation:?}");
        operation
    }

    /// [`Self::look`], which must not find a contradiction.
    pub(super) async fn host(&self) -> String {
        let seen = self.look().await;
        assert!(!seen.contains("contradiction"), "{seen}");
        seen
    }

    /// Everything that an operation may change, with random parts masked; ends with what does not
    /// fit together: a file without an owner, an owner's file or a guest's disk that is not there.
    pub(super) async fn look(&self) -> String {
        let journal = Journal::open(&self.path("state")).unwrap();
        let owned = journal.volumes(self.vm).await.unwrap();
        let mut domains: Vec<_> =
            self.fake.list().await.unwrap().iter().filter_map(read::parse).collect();
        let images: Vec<String> = self
            .fake
            .volumes("ceph")
            .into_iter()
            .map(|(name, volume)| {
                assert!(volume.filled, "{name} is no whole copy");
                format!("vms/{name}")
            })
            .collect();
        let mut wrong = String::new();
        for domain in &mut domains {
            domain.disks.sort_by(|a, b| a.target.cmp(&b.target));
            domain.nics.sort_by_key(|nic| nic.mac.to_string());
            let on_this_host =
                |disk: &&Disk| !disk.source.is_empty() && !disk.source.starts_with("http://");
            for disk in domain.disks.iter().filter(on_this_host) {
                let there = images.contains(&disk.source) || fs_err::exists(&disk.source).unwrap();
                if !owned.contains(&disk.source) || !there {
                    wrong += &format!("\ncontradiction: {disk:?}");
                }
            }
        }
        let mut files: Vec<String> = fs_err::read_dir(self.path("pool"))
            .unwrap()
            .map(|entry| entry.unwrap().path().to_string_lossy().into_owned())
            .chain(images)
            .collect();
        files.sort();
        if files != owned {
            wrong += &format!("\ncontradiction: {owned:?} are called ours");
        }
        let hooked = self.hooked();
        let known = journal.hooked(self.vm).await.unwrap();
        if !hooked.keys().eq(known.iter().map(|hooked| &hooked.device)) {
            wrong += &format!("\ncontradiction: the journal knows of hooks for {known:?}");
        }
        let mut said: Vec<_> = fs_err::read_dir(self.path("console"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        said.sort();
        let seed = Seeds::shared().of(self.vm).map(|seed| serde_json::to_string(&seed).unwrap());
        masked(
            &format!("{domains:#?}\n{files:#?}\n{said:?}\n{seed:?}\n{hooked:?}{wrong}"),
            &self.vm.to_string(),
        )
        .replace(&*self.dir.path().to_string_lossy(), "DIR")
    }
}

/// Volumes are named `<target>-<guest>-<8 random digits>`.
fn masked(text: &str, vm: &str) -> String {
    let mut parts = text.split(vm);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let random =
            part.strip_prefix('-').and_then(|rest| rest.split_once('.')).filter(|(random, _)| {
                random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit())
            });
        masked += "GUEST";
        masked += &random.map_or(part.to_owned(), |(_, rest)| format!("-RANDOM.{rest}"));
    }
    masked
}
