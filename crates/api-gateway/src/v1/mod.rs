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
mod body;
mod console;
mod devices;
#[cfg(test)]
mod directory_tests;
pub(crate) mod document;
#[cfg(test)]
mod document_tests;
mod events;
#[cfg(test)]
mod events_tests;
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

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, LINK};
use actix_web::web;
use utoipa::openapi::{HttpMethod, OpenApi};
use vmmgr_common::api::disk::TargetName;
use vmmgr_common::api::host::Arch;
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{ConsoleSessionId, HostId, MacAddress, OperationId, ResourceName, VmId};
use vmmgr_common::server::Routes;

pub(crate) use devices::device_ref;
use document::Shared;

/// Where the older ones are: `Link: …; rel="next"` (RFC 8288).
fn next_page(path: &str) -> (HeaderName, String) {
    (LINK, format!("<{path}>; rel=\"next\""))
}

/// The routes and their document, from the one list of handlers: method and path of each stand in
/// its `#[utoipa::path]`. The first path that fits is taken.
macro_rules! operations {
    ($($room:ident::$handler:ident,)*) => { pastey::paste! {
        /// Registers all routes.
        pub(crate) fn routes(service: &mut web::ServiceConfig) {
            let mut routes = Routes::new(service);
            $(
                let path = <$room::[<__path_ $handler>] as utoipa::Path>::path();
                for method in <$room::[<__path_ $handler>] as utoipa::Path>::methods() {
                    routes.route(&path, web::method(verb(&method)).to($room::$handler));
                }
            )*
        }

        #[derive(utoipa::OpenApi)]
        #[openapi(
            info(
                title = "vmmgr",
                description = "Control plane for KVM hosts: guests, their devices, consoles and seeds.",
                license(name = "Apache-2.0", identifier = "Apache-2.0"),
            ),
            paths($($room::$handler),*),
            // What stands in failures and in paths.
            components(schemas(
                Problem, HostId, VmId, OperationId, ConsoleSessionId, MacAddress, ResourceName, Arch, TargetName,
            )),
            modifiers(&Shared),
            security(("bearer" = [])),
            tags(
                (name = "session", description = "Logging in and out"),
                (name = "service", description = "This service"),
                (name = "users", description = "Accounts"),
                (name = "tokens", description = "Named tokens for scripts"),
                (name = "audit", description = "Who changed what, and who was refused"),
                (name = "hosts", description = "Hosts"),
                (name = "images", description = "Gold images and ISOs"),
                (name = "addresses", description = "The pool of addresses"),
                (name = "hooks", description = "Reports of libvirt's hooks"),
                (name = "config", description = "Record files of the described system"),
                (name = "events", description = "Changes as they happen"),
                (name = "vms", description = "Guests"),
                (name = "seed", description = "What cloud-init is told"),
                (name = "snapshots", description = "Snapshots of guests"),
                (name = "devices", description = "Disks, drives and interfaces of guests"),
                (name = "links", description = "Tenant links: one guest, some verbs, for a time"),
                (name = "console", description = "Screens and serial lines of guests"),
                (name = "operations", description = "How far changes are"),
            ),
        )]
        struct Document;
    }};
}

/// The OpenAPI document of all routes.
pub(crate) fn document() -> OpenApi {
    <Document as utoipa::OpenApi>::openapi()
}

fn verb(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
    }
}

operations! {
    document::openapi,
    session::version,
    session::login,
    session::me,
    session::logout,
    users::change_password,
    users::list,
    users::add,
    users::change,
    users::remove,
    api_tokens::list,
    api_tokens::create,
    api_tokens::revoke,
    audit::list,
    hosts::list,
    hosts::add,
    hosts::show,
    hosts::remove,
    hosts::capabilities,
    records::list_images,
    records::add_image,
    records::remove_image,
    records::list_isos,
    records::add_iso,
    records::remove_iso,
    addresses::list,
    addresses::add,
    addresses::remove,
    addresses::release,
    addresses::free,
    hooks::list,
    hooks::xml,
    transfer::export,
    transfer::import,
    events::follow,
    vms::fleet,
    vms::list,
    vms::create,
    vms::show,
    vms::remove,
    tuning::configure,
    vms::xml,
    vms::addresses,
    vms::boot,
    vms::seed,
    vms::put_seed,
    vms::reseed,
    vms::start,
    vms::shutdown,
    vms::poweroff,
    vms::reset,
    vms::suspend,
    vms::resume,
    vms::reboot,
    tuning::snapshots,
    tuning::create_snapshot,
    tuning::revert_snapshot,
    tuning::delete_snapshot,
    tuning::disk_usage,
    tuning::resize_disk,
    tuning::nic_stats,
    devices::attach_disk,
    devices::attach_nic,
    devices::attach_cdrom,
    devices::change_medium,
    devices::detach,
    links::list,
    links::create,
    links::revoke,
    console::open,
    console::sessions,
    console::log,
    console::screenshot,
    console::exchange,
    console::end,
    operations::list,
    operations::show,
    operations::events,
}
