//! Wiring: configuration to running service.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use chrono::TimeDelta;
use vmmgr_common::mtls::Role;
use vmmgr_common::server::{Readiness, Service};

use crate::config::Config;
use crate::{admin, listen, neighbours, serve, store};

/// Reads and checks the configuration.
pub(crate) fn configure(path: &Path) -> Result<Config, Box<dyn Error>> {
    let config: Config = vmmgr_common::config::load(path)?;
    config.check().map_err(|text| format!("configuration {}: {text}", path.display()))?;
    Ok(config)
}

/// Serves until told to stop.
pub(crate) async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    let (limits, ready) = (config.limits, Readiness::default());
    vmmgr_common::server::install_metrics();
    let store = Arc::new(store::Store::open(&config.state_dir, config.defaults)?);
    let guests = Arc::new(serve::Guests {
        store: Arc::clone(&store),
        neighbours: Box::new(neighbours::KernelTable::open()?),
        hold: Duration::from_millis(limits.hold_ms),
        secret: (limits.secret_s > 0).then(|| TimeDelta::seconds(limits.secret_s.into())),
        served: serve::Served::default(),
    });
    let bounds = listen::Bounds::new(limits, ready.clone());
    listen::start(&guests, &bounds, &config.guest_listen)?;
    let service = Service {
        name: "metadata-srv",
        tls: config.tls,
        listen: config.listen,
        ops_listen: config.ops_listen,
        accept: &[Role::HostAgent],
        ready,
    };
    let data = web::Data::from(store);
    vmmgr_common::server::run(service, move |app| {
        app.app_data(data.clone()).configure(admin::routes);
    })
    .await?;
    Ok(())
}
