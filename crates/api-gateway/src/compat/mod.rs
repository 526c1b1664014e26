//! The seed's routes with the seed's shapes, over the same application.
//!
//! Success is `{"result":"OK","desc":…}`, failure `{"result":"ERR","code","name","desc"}` with an
//! honest HTTP status. Verbs that change something are taken as POST, and as GET too because the
//! seed's scripts use it: a caller always sends its token as a header here, never as a cookie.

mod conf;
#[cfg(test)]
mod conf_tests;
mod console;
mod create;
#[cfg(test)]
mod defects_tests;
mod devices;
mod envelope;
mod hook;
mod link;
#[cfg(test)]
mod link_tests;
mod lists;
mod multipart;
mod power;
mod session;
#[cfg(test)]
mod session_tests;
mod tenant;
#[cfg(test)]
mod tests;
mod tuning;

use actix_web::middleware::from_fn;
use actix_web::web::{self, delete, get, post, route};
use vmmgr_common::server::Routes;

/// All routes, with every failure in the seed's envelope. The scope takes what is left over, so it
/// comes last.
pub(crate) fn routes(service: &mut web::ServiceConfig) {
    service.service(web::scope("").wrap(from_fn(envelope::everywhere)).configure(all));
}

fn all(service: &mut web::ServiceConfig) {
    const AT: &str = "{host}/{uuid}";
    let service = &mut Routes::new(service);
    let both = |service: &mut Routes<'_>, verb: &str| {
        for path in [format!("/vm/{verb}/{AT}"), format!("/vm/{verb}/{AT}/")] {
            service.route(&path, get().to(power::act)).route(&path, post().to(power::act));
        }
    };
    service
        .route("/api/login", post().to(session::log_in))
        .route("/api/refresh", get().to(session::refresh))
        .route("/tpl/host/", get().to(lists::hosts))
        .route("/tpl/iso/", get().to(lists::isos))
        .route("/tpl/device/", get().to(lists::all_devices))
        .route("/tpl/gold/", get().to(lists::all_golds))
        .route("/tpl/device/{host}", get().to(lists::devices))
        .route("/tpl/gold/{host}", get().to(lists::golds))
        .route("/vm/list/", get().to(lists::fleet))
        .route("/vm/list/{host}", get().to(lists::host))
        .route("/vm/list/{host}/{uuid}", get().to(lists::guest))
        .route("/vm/list/{host}/{uuid}/get_ipaddr", get().to(lists::addresses))
        .route("/vm/ipaddr/{host}/{uuid}", get().to(lists::addresses))
        .route("/vm/xml/{host}/{uuid}", get().to(lists::xml))
        .route("/vm/freeip/", get().to(lists::free_address))
        .route("/domain/{op}/{action}/{uuid}", post().to(hook::report))
        .route("/conf/", get().to(conf::show))
        .route("/conf/domains/", get().to(conf::domains))
        .route("/conf/devices/", get().to(conf::device_list))
        .route("/conf/host/", post().to(conf::put_host))
        .route("/conf/host/", delete().to(conf::remove_host))
        .route("/conf/iso/", post().to(conf::put_iso))
        .route("/conf/iso/", delete().to(conf::remove_iso))
        .route("/conf/gold/", post().to(conf::put_gold))
        .route("/conf/gold/", delete().to(conf::remove_gold))
        .route("/conf/backup/", get().to(conf::backup))
        .route("/conf/restore/", post().to(conf::restore))
        .route("/conf/ssh_pubkey/", get().to(conf::keys))
        .route("/conf/add_authorized_keys/{host}", post().to(conf::keys))
        .route("/vm/ui/{host}/{uuid}/{epoch}", get().to(link::ui))
        .route("/vm/ctrl_url/{host}/{uuid}", get().to(link::ctrl_url))
        .route("/user/vm/list/{link:.*}", route().to(tenant::list))
        .route("/user/vm/getiso/{link:.*}", route().to(tenant::isos))
        .route("/user/vm/start/{link:.*}", route().to(tenant::start))
        .route("/user/vm/reset/{link:.*}", route().to(tenant::reset))
        .route("/user/vm/stop/{link:.*}", route().to(tenant::stop))
        .route("/user/vm/display/{link:.*}", route().to(console::tenant_display))
        .route("/user/vm/console/{link:.*}", route().to(console::tenant_console))
        .route("/user/vm/cdrom/{link:.*}", route().to(tenant::cdrom))
        .route("/user/vm/snapshot/{link:.*}", route().to(tenant::snapshot))
        .route("/user/vm/revert_snapshot/{link:.*}", route().to(tenant::revert_snapshot))
        .route("/user/vm/delete_snapshot/{link:.*}", route().to(tenant::delete_snapshot))
        .route("/user/{link:.*}", route().to(tenant::refused))
        .route("/vm/display/{host}/{uuid}", get().to(console::display))
        .route("/vm/console/{host}/{uuid}", get().to(console::console))
        .route("/vm/create/{host}", post().to(create::create))
        .route("/vm/attach_device/{host}/{uuid}", post().to(devices::attach))
        .route("/vm/detach_device/{host}/{uuid}", post().to(devices::detach))
        .route("/vm/detach_device/{host}/{uuid}/{dev}", post().to(devices::detach))
        .route("/vm/cdrom/{host}/{uuid}", post().to(devices::cdrom))
        .route("/vm/cdrom/{host}/{uuid}/{dev}", post().to(devices::cdrom))
        .route("/vm/blksize/{host}/{uuid}", get().to(tuning::blksize))
        .route("/vm/netstat/{host}/{uuid}", get().to(tuning::netstat))
        .route("/vm/desc/{host}/{uuid}", get().to(tuning::set))
        .route("/vm/desc/{host}/{uuid}", post().to(tuning::set))
        .route("/vm/setmem/{host}/{uuid}", get().to(tuning::set))
        .route("/vm/setmem/{host}/{uuid}", post().to(tuning::set))
        .route("/vm/setcpu/{host}/{uuid}", get().to(tuning::set))
        .route("/vm/setcpu/{host}/{uuid}", post().to(tuning::set))
        .route("/vm/metadata/{host}/{uuid}", post().to(tuning::metadata))
        .route("/vm/snapshot/{host}/{uuid}", get().to(tuning::snapshots))
        .route("/vm/snapshot/{host}/{uuid}", post().to(tuning::snapshot))
        .route("/vm/revert_snapshot/{host}/{uuid}", get().to(tuning::change_snapshot))
        .route("/vm/revert_snapshot/{host}/{uuid}", post().to(tuning::change_snapshot))
        .route("/vm/delete_snapshot/{host}/{uuid}", get().to(tuning::change_snapshot))
        .route("/vm/delete_snapshot/{host}/{uuid}", post().to(tuning::change_snapshot));
    for verb in ["start", "stop", "reset", "delete"] {
        both(service, verb);
    }
}
