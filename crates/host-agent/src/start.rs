//! Putting the agent together.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use vmmgr_common::client::MetadataClient;
use vmmgr_common::error::Chain;
use vmmgr_common::mtls::Role;
use vmmgr_common::server::{self, Door, Readiness, Service};

use crate::config::Config;
use crate::console::{Consoles, HistoryDirs};
use crate::domain::rbd::RbdPool;
use crate::domain::template::Templates;
use crate::handlers::{self, Stopping};
use crate::hooks::Hooks;
use crate::hypervisor::{Hypervisor, Libvirt};
use crate::inventory::InventoryService;
use crate::kvm;
use crate::ops::journal::Journal;
use crate::ops::{Context, Engine};
use crate::storage::image::Images;
use crate::storage::volume::{Fill, QemuImg, Volumes};

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
    let virt_type = kvm::decide(config.virt_type, hypervisor.as_ref()).await?;
    let metadata = config
        .metadata
        .as_ref()
        .map(|metadata| MetadataClient::new(&config.tls, &metadata.url, &config.host))
        .transpose()?;
    let history = HistoryDirs {
        logs: config.console_log_dir.clone(),
        anchors: config.state_dir.join("console"),
    };
    let fill: Arc<dyn Fill> = Arc::new(QemuImg(hypervisor.clone()));
    for pool in &config.rbd_pool {
        tokio::spawn(look_at_ceph(hypervisor.clone(), pool.clone()));
    }
    let context = Context {
        host: config.host.clone(),
        inventory: InventoryService::start(hypervisor.clone(), config.host.clone()),
        hypervisor: hypervisor.clone(),
        templates: Templates::load(config.template_dir.as_deref())?,
        images: Images::new(config.image_dir.clone(), config.local_roots.clone())?
            .with_origins(config.origins.clone()),
        volumes: Volumes::new(config.pool.path.clone(), pool).with_rbd(
            &config.rbd_pool,
            &hypervisor,
            &fill,
        ),
        metadata,
        journal: Journal::open(&config.state_dir)?,
        hooks: Hooks::load(config.device_hooks.clone(), &config.device),
        devices: config.device.clone(),
        virt_type,
        history: history.clone(),
        local_roots: config.local_roots.clone(),
    };
    let engine = Engine::new(Arc::new(context));
    engine.resume().await?;
    let consoles = Consoles::start(hypervisor.clone(), history)?;
    let (consoles, stopping) = (web::Data::from(consoles), web::Data::new(stopping()?));
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
    let shared = consoles.clone();
    let streams = Door::new(&[Role::VncProxy], move |app| {
        app.app_data(shared.clone()).app_data(stopping.clone());
        handlers::console_routes(app);
    });
    let routes = move |app: &mut web::ServiceConfig| {
        app.app_data(data.clone()).app_data(consoles.clone());
        handlers::routes(app);
    };
    server::run_with_doors(service, routes, vec![streams]).await?;
    Ok(())
}

/// Becomes true when the agent is told to stop: consoles come back by themselves, and a drain that
/// waited for them would never end.
fn stopping() -> std::io::Result<Stopping> {
    let (tell, told) = watch::channel(false);
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell.send_replace(true);
    });
    Ok(told)
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

/// Defines and starts a pool, so that a mistake is in the log and not only in the first disk's answer.
/// Ceph may be away: guests with disks elsewhere do not wait for it, and each use looks again.
async fn look_at_ceph(hypervisor: Arc<dyn Hypervisor>, pool: RbdPool) {
    match hypervisor.ensure_rbd_pool(&pool).await {
        Ok(()) => tracing::info!(pool = %pool.name, "a pool on Ceph is there"),
        Err(error) => {
            tracing::error!(pool = %pool.name, error = %Chain(&error), "a pool on Ceph cannot be used");
        }
    }
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
