//! The API of `vmmctl`, the web UI and new clients: JSON, `snake_case`, units in names.

#[cfg(test)]
mod access_tests;
mod addresses;
#[cfg(test)]
mod api_token_tests;
mod api_tokens;
mod audit;
#[cfg(test)]
mod audit_tests;
mod console;
mod devices;
mod hooks;
#[cfg(test)]
mod hostile_tests;
mod hosts;
mod links;
#[cfg(test)]
mod map_tests;
mod operations;
mod records;
mod session;
mod submit;
#[cfg(test)]
mod tests;
mod transfer;
mod tuning;
#[cfg(test)]
mod tuning_tests;
#[cfg(test)]
mod user_tests;
mod users;
mod vms;

use actix_web::http::header::{HeaderName, LINK};
use actix_web::web::{self, delete, get, patch, post, put};
use vmmgr_common::server::Routes;

pub(crate) use devices::device_ref;

/// Where the older ones are: `Link: …; rel="next"` (RFC 8288).
fn next_page(path: &str) -> (HeaderName, String) {
    (LINK, format!("<{path}>; rel=\"next\""))
}

/// All routes.
pub(crate) fn routes(service: &mut web::ServiceConfig) {
    const VM: &str = "/v1/hosts/{host}/vms/{vm}";
    let vm = |rest: &str| format!("{VM}{rest}");
    Routes::new(service)
        .route("/v1/version", get().to(session::version))
        .route("/v1/session", post().to(session::login))
        .route("/v1/session", get().to(session::me))
        .route("/v1/session", delete().to(session::logout))
        .route("/v1/session/password", put().to(users::change_password))
        .route("/v1/users", get().to(users::list))
        .route("/v1/users", post().to(users::add))
        .route("/v1/users/{name}", patch().to(users::change))
        .route("/v1/users/{name}", delete().to(users::remove))
        .route("/v1/tokens", get().to(api_tokens::list))
        .route("/v1/tokens", post().to(api_tokens::create))
        .route("/v1/tokens/{id}", delete().to(api_tokens::revoke))
        .route("/v1/audit", get().to(audit::list))
        .route("/v1/hosts", get().to(hosts::list))
        .route("/v1/hosts", post().to(hosts::add))
        .route("/v1/hosts/{host}", get().to(hosts::show))
        .route("/v1/hosts/{host}", delete().to(hosts::remove))
        .route("/v1/hosts/{host}/capabilities", get().to(hosts::capabilities))
        .route("/v1/images", get().to(records::list_images))
        .route("/v1/images", post().to(records::add_image))
        .route("/v1/images/{name}/{arch}", delete().to(records::remove_image))
        .route("/v1/isos", get().to(records::list_isos))
        .route("/v1/isos", post().to(records::add_iso))
        .route("/v1/isos/{name}", delete().to(records::remove_iso))
        .route("/v1/addresses", get().to(addresses::list))
        .route("/v1/addresses", post().to(addresses::add))
        .route("/v1/addresses/{range}", delete().to(addresses::remove))
        .route("/v1/addresses/{range}/reservations/{address}", delete().to(addresses::release))
        .route("/v1/free-address", get().to(addresses::free))
        .route("/v1/hook-reports", get().to(hooks::list))
        .route("/v1/hook-reports/{sender}/{guest}/xml", get().to(hooks::xml))
        .route("/v1/config/export", get().to(transfer::export))
        .route("/v1/config/import", post().to(transfer::import))
        .route("/v1/vms", get().to(vms::fleet))
        .route("/v1/hosts/{host}/vms", get().to(vms::list))
        .route("/v1/hosts/{host}/vms", post().to(vms::create))
        .route(VM, get().to(vms::show))
        .route(VM, delete().to(vms::remove))
        .route(VM, patch().to(tuning::configure))
        .route(&vm("/xml"), get().to(vms::xml))
        .route(&vm("/addresses"), get().to(vms::addresses))
        .route(&vm("/boot"), get().to(vms::boot))
        .route(&vm("/seed"), get().to(vms::seed))
        .route(&vm("/seed"), put().to(vms::put_seed))
        .route(&vm("/reseed"), post().to(vms::reseed))
        .route(&vm("/start"), post().to(vms::start))
        .route(&vm("/shutdown"), post().to(vms::shutdown))
        .route(&vm("/poweroff"), post().to(vms::poweroff))
        .route(&vm("/reset"), post().to(vms::reset))
        .route(&vm("/suspend"), post().to(vms::suspend))
        .route(&vm("/resume"), post().to(vms::resume))
        .route(&vm("/reboot"), post().to(vms::reboot))
        .route(&vm("/snapshots"), get().to(tuning::snapshots))
        .route(&vm("/snapshots"), post().to(tuning::create_snapshot))
        .route(&vm("/snapshots/{name}/revert"), post().to(tuning::revert_snapshot))
        .route(&vm("/snapshots/{name}"), delete().to(tuning::delete_snapshot))
        .route(&vm("/disks/{target}"), get().to(tuning::disk_usage))
        .route(&vm("/disks/{target}"), patch().to(tuning::resize_disk))
        .route(&vm("/nics/{device}/stats"), get().to(tuning::nic_stats))
        .route(&vm("/disks"), post().to(devices::attach_disk))
        .route(&vm("/nics"), post().to(devices::attach_nic))
        .route(&vm("/cdroms"), post().to(devices::attach_cdrom))
        .route(&vm("/media/{target}"), post().to(devices::change_medium))
        .route(&vm("/devices/{device}"), delete().to(devices::detach))
        .route(&vm("/links"), get().to(links::list))
        .route(&vm("/links"), post().to(links::create))
        .route(&vm("/links/{id}"), delete().to(links::revoke))
        .route(&vm("/console"), post().to(console::open))
        .route(&vm("/console/sessions"), get().to(console::sessions))
        .route(&vm("/console/log"), get().to(console::log))
        .route(&vm("/screenshot"), get().to(console::screenshot))
        .route("/v1/console/exchange", post().to(console::exchange))
        .route("/v1/console/sessions/{id}", delete().to(console::end))
        .route("/v1/operations", get().to(operations::list))
        .route("/v1/operations/{id}", get().to(operations::show))
        .route("/v1/operations/{id}/events", get().to(operations::events));
}
