//! A host in a folder, the work that is done on it, and what it looks like.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use vmmgr_common::api::operation::{Operation, OperationRequest, OperationState, Work};
use vmmgr_common::client::MetadataClient;
use vmmgr_common::ids::{HostId, OperationId, VmId};

use super::seeds::Seeds;
use crate::config::{Config, VirtType};
use crate::console::HistoryDirs;
use crate::domain::read;
use crate::domain::template::Templates;
use crate::hypervisor::Hypervisor as _;
use crate::hypervisor::fake::FakeHypervisor;
use crate::inventory::InventoryService;
use crate::ops::journal::Journal;
use crate::ops::{Context, Engine};
use crate::storage::image::Images;
use crate::storage::volume::Volumes;

/// Longest time that an operation may take here.
const PATIENCE: Duration = Duration::from_secs(60);
/// The address that cases attach and detach.
const MAC: &str = "52:54:00:00:00:07";

/// What a plan can be made for; each with the guest that it needs.
pub(super) const CASES: [&str; 14] = [
    "create",
    "create with an ISO",
    "start",
    "shutdown",
    "destroy",
    "reset",
    "delete",
    "attach a disk",
    "attach a NIC",
    "attach a drive",
    "detach a disk",
    "detach a NIC",
    "change a medium",
    "import an image",
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
        for name in ["pool", "origin", "console"] {
            fs_err::create_dir(lab.path(name)).unwrap();
        }
        fs_err::write(lab.gold(), vec![7; 2 << 20]).unwrap();
        lab
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
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
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
        let config: Config = vmmgr_common::config::load(example.as_ref()).unwrap();
        let (host, seeds) = (HostId::parse("host01").unwrap(), Seeds::shared());
        let roots = vec![self.path("origin")];
        Engine::impatient(Arc::new(Context {
            host: host.clone(),
            inventory: InventoryService::start(self.fake.clone(), host.clone()),
            hypervisor: self.fake.clone(),
            templates: Templates::load(None).unwrap(),
            images: Images::new(self.path("images"), roots.clone()).unwrap(),
            volumes: Volumes::new(self.path("pool")),
            pool: "default".to_owned(),
            metadata: Some(MetadataClient::new(&seeds.tls, &seeds.url, &host).unwrap()),
            journal: Journal::open(&self.path("state")).unwrap(),
            devices: config.device,
            virt_type: VirtType::Qemu,
            history: self.history(),
            local_roots: roots,
        }))
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

    fn disk(&self, size: &str) -> Work {
        let disk = json!({"kind": "disk", "device": "local-disk", "size": size, "gold": self.gold_record()});
        self.work(json!({"verb": "attach", "attachment": disk}))
    }

    /// Makes what the case needs; gives its work.
    pub(super) async fn prepare(&self, engine: &Engine, case: &str) -> Work {
        let nic = json!({"kind": "nic", "device": "net-br-ext", "mac": MAC});
        let nic = self.work(json!({"verb": "attach", "attachment": nic}));
        let drive = |medium: &str| {
            let drive = json!({"kind": "cdrom", "device": "cdrom", "medium": {"kind": medium}});
            self.work(json!({"verb": "attach", "attachment": drive}))
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
            "delete" => (vec![self.disk("1G"), nic, verb("start")], verb("delete")),
            "attach a disk" => (vec![verb("start")], self.disk("1G")),
            "attach a NIC" => (vec![], nic),
            "attach a drive" => (vec![], drive("seed")),
            "detach a disk" => {
                (vec![self.disk("1G")], self.work(json!({"verb": "detach", "device": "vda"})))
            }
            "detach a NIC" => (vec![nic], self.work(json!({"verb": "detach", "device": MAC}))),
            "change a medium" => {
                let medium =
                    json!({"verb": "change_medium", "device": "sda", "medium": {"kind": "seed"}});
                (vec![drive("empty")], self.work(medium))
            }
            _ => panic!("no case `{case}`"),
        };
        for work in [self.create("http")].into_iter().chain(before) {
            let done = self.run(engine, work).await;
            assert_eq!(done.state, OperationState::Succeeded, "{done:?}");
        }
        work
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
        let mut wrong = String::new();
        for domain in &mut domains {
            domain.disks.sort_by(|a, b| a.target.cmp(&b.target));
            domain.nics.sort_by_key(|nic| nic.mac.to_string());
            for disk in domain.disks.iter().filter(|disk| !disk.source.is_empty()) {
                if !owned.contains(&disk.source) || !fs_err::exists(&disk.source).unwrap() {
                    wrong += &format!("\ncontradiction: {disk:?}");
                }
            }
        }
        let mut files: Vec<String> = fs_err::read_dir(self.path("pool"))
            .unwrap()
            .map(|entry| entry.unwrap().path().to_string_lossy().into_owned())
            .collect();
        files.sort();
        if files != owned {
            wrong += &format!("\ncontradiction: {owned:?} are called ours");
        }
        let mut said: Vec<_> = fs_err::read_dir(self.path("console"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        said.sort();
        let seed = Seeds::shared().of(self.vm).map(|seed| (seed.macs, seed.committed));
        masked(
            &format!("{domains:#?}\n{files:#?}\n{said:?}\n{seed:?}{wrong}"),
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
