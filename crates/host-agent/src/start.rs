//! Putting the agent together.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use vmmgr_common::client::MetadataClient;
use vmmgr_common::mtls::Role;
use vmmgr_common::server::{self, Readiness, Service};

use crate::config::{Config, VirtType};
use crate::domain::template::Templates;
use crate::handlers;
use crate::hypervisor::{Hypervisor, Libvirt};
use crate::inventory::InventoryService;
use crate::ops::journal::Journal;
use crate::ops::{Context, Engine};
use crate::storage::image::Images;
use crate::storage::volume::Volumes;

/// How long a start waits for libvirtd before it gives up.
const LIBVIRT_WITHIN: Duration = Duration::from_secs(60);

/// Runs the agent until it is told to stop.
pub(crate) async fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let hypervisor: Arc<dyn Hypervisor> =
        Libvirt::connect(config.libvirt_uri.clone(), config.libvirt_workers)?;
    for dir in [&config.console_log_dir, &config.pool.path] {
        fs_err::create_dir_all(dir)?;
    }
    wait_connected(hypervisor.as_ref()).await?;
    let pool = config.pool.name.to_string();
    hypervisor.ensure_dir_pool(&pool, &config.pool.path.to_string_lossy()).await?;
    let virt_type = decide(config.virt_type, hypervisor.as_ref()).await?;
    let metadata = config
        .metadata
        .as_ref()
        .map(|metadata| MetadataClient::new(&config.tls, &metadata.url, &config.host))
        .transpose()?;
    let context = Context {
        host: config.host.clone(),
        inventory: InventoryService::start(hypervisor.clone(), config.host.clone()),
        hypervisor: hypervisor.clone(),
        templates: Templates::load(config.template_dir.as_deref())?,
        images: Images::new(config.image_dir.clone(), config.local_roots.clone())?,
        volumes: Volumes::new(config.pool.path.clone()),
        pool,
        metadata,
        journal: Journal::open(&config.state_dir)?,
        devices: config.device.clone(),
        virt_type,
        console_log_dir: config.console_log_dir.clone(),
        local_roots: config.local_roots.clone(),
    };
    let engine = Engine::new(Arc::new(context));
    engine.resume().await?;
    let ready = Readiness::default();
    tokio::spawn(tell_readiness(ready.clone(), hypervisor));
    let service = Service {
        name: "host-agent",
        tls: config.tls,
        listen: config.listen,
        ops_listen: config.ops_listen,
        accept: &[Role::Gateway, Role::Operator],
        ready,
    };
    let data = web::Data::new(engine);
    server::run(service, move |app| {
        app.app_data(data.clone());
        handlers::routes(app);
    })
    .await?;
    Ok(())
}

async fn wait_connected(hypervisor: &dyn Hypervisor) -> Result<(), Box<dyn std::error::Error>> {
    let give_up = tokio::time::Instant::now() + LIBVIRT_WITHIN;
    while !hypervisor.connected() {
        if tokio::time::Instant::now() > give_up {
            return Err("libvirtd does not answer; is it running?".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// `auto` is KVM only where libvirt offers it and a guest's first instructions really run: some
/// machines have `/dev/kvm` and nothing behind it.
async fn decide(
    wanted: VirtType,
    hypervisor: &dyn Hypervisor,
) -> Result<VirtType, Box<dyn std::error::Error>> {
    if wanted != VirtType::Auto {
        return Ok(wanted);
    }
    let offered = hypervisor.host().await?.capabilities_xml.contains("<domain type='kvm'/>");
    let works = offered && kvm_runs().await;
    let chosen = if works { VirtType::Kvm } else { VirtType::Qemu };
    tracing::info!(offered, works, chosen = ?chosen, "decided what guests run on");
    Ok(chosen)
}

/// Runs a machine without a disk under KVM; firmware that works resets or halts it within seconds,
/// one that does not hangs. The machine's exit on its debug port is the proof.
async fn kvm_runs() -> bool {
    // `mov dx,0xf4; mov al,0; out dx,al` at the reset vector, padded to a 64 KiB ROM.
    let mut rom = vec![0x90_u8; 64 << 10];
    let at = rom.len() - 16;
    rom[at..at + 6].copy_from_slice(&[0xba, 0xf4, 0x00, 0xb0, 0x00, 0xee]);
    let path = std::env::temp_dir().join(format!("vmmgr-kvm-probe-{}", uuid::Uuid::new_v4().simple()));
    if fs_err::write(&path, rom).is_err() {
        return false;
    }
    let machine = tokio::process::Command::new("qemu-system-x86_64")
        .args(["-accel", "kvm", "-machine", "pc", "-m", "16", "-nodefaults", "-display", "none"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x4", "-bios"])
        .arg(&path)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .status();
    let ended = tokio::time::timeout(Duration::from_secs(5), machine).await;
    if let Err(error) = fs_err::remove_file(&path) {
        tracing::debug!(%error, "the probe's file stays");
    }
    // isa-debug-exit ends QEMU with (value << 1) | 1.
    matches!(ended, Ok(Ok(status)) if status.code() == Some(1))
}

async fn tell_readiness(ready: Readiness, hypervisor: Arc<dyn Hypervisor>) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tick.tick().await;
        let state = if hypervisor.connected() {
            Ok(())
        } else {
            Err("libvirtd cannot be reached".to_owned())
        };
        ready.set("libvirt", state);
    }
}
