//! The agent's routes; each a few lines over [`crate::ops`], [`crate::inventory`] and
//! [`crate::console`].

mod console;
#[cfg(test)]
mod console_tests;
mod domains;
mod events;
mod host;
mod operations;
mod tuning;

use actix_web::web;
use vmmgr_common::server::Routes;

pub(crate) use console::Stopping;

/// Routes for gateways and operators.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    Routes::new(config)
        .route("/v1/host", web::get().to(host::host))
        .route("/v1/inventory", web::get().to(host::inventory))
        .route("/v1/events", web::get().to(events::host_events))
        .route("/v1/operations", web::post().to(operations::submit))
        .route("/v1/operations/{id}", web::get().to(operations::show))
        .route("/v1/operations/{id}/events", web::get().to(events::operation_events))
        .route("/v1/domains/{vm}", web::get().to(domains::show))
        .route("/v1/domains/{vm}/xml", web::get().to(domains::xml))
        .route("/v1/domains/{vm}/addresses", web::get().to(domains::addresses))
        .route("/v1/domains/{vm}/snapshots", web::get().to(tuning::snapshots))
        .route("/v1/domains/{vm}/disks/{target}", web::get().to(tuning::disk_usage))
        .route("/v1/domains/{vm}/nics/{mac}/stats", web::get().to(tuning::nic_stats))
        .route("/v1/domains/{vm}/console", web::get().to(console::info))
        .route("/v1/domains/{vm}/console/log", web::get().to(console::log))
        .route("/v1/domains/{vm}/screenshot", web::get().to(console::screenshot))
        .route("/v1/domains/{vm}/boot", web::get().to(domains::boot))
        .route("/v1/domains/{vm}/seed", web::get().to(domains::seed));
}

/// Routes for vnc-proxy.
pub(crate) fn console_routes(config: &mut web::ServiceConfig) {
    Routes::new(config)
        .route("/v1/domains/{vm}/console", web::get().to(console::info))
        .route("/v1/domains/{vm}/console/{kind}", web::get().to(console::open));
}
