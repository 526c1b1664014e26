//! What a change of a host means for those who follow the fleet.

use serde::Serialize;
use utoipa::ToSchema;
use vmmgr_common::api::domain::Domain;
use vmmgr_common::api::inventory::HostEvent;
use vmmgr_common::ids::{HostId, VmId};

use super::{Face, Guest, Guests, HostState, HostView};
use crate::feed::{Feed, Topic};

/// Data of `vm_removed`: the guest is gone.
#[derive(Serialize, ToSchema)]
pub(crate) struct VmRemoved<'a> {
    /// Its host.
    #[schema(value_type = HostId)]
    host: &'a HostId,
    /// Which.
    id: VmId,
}

/// Data of `host`: how a host is now. Its guests are as last known while it is not `reachable`.
#[derive(Serialize, ToSchema)]
pub(crate) struct HostChanged<'a> {
    /// Which.
    #[schema(value_type = HostId)]
    host: &'a HostId,
    /// How it is.
    state: HostState,
    /// Why it is not reachable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    reason: Option<&'a str>,
    /// Seconds since it was last heard, 0 while it is reachable.
    age_seconds: u64,
}

/// Data of `host_removed`: it is not registered any more, so its guests are in no list.
#[derive(Serialize, ToSchema)]
pub(crate) struct HostRemoved<'a> {
    /// Which.
    #[schema(value_type = HostId)]
    host: &'a HostId,
}

/// What precedes each `/v1` row of a host's guests, with the row's opening brace.
pub(crate) fn start(host: &HostId, view: &HostView) -> String {
    let state = serde_json::to_string(&view.state).unwrap_or_else(|_| "null".to_owned());
    let age = view.staleness_seconds();
    // A host's name needs no escapes.
    format!("{{\"host\":\"{host}\",\"host_state\":{state},\"age_seconds\":{age},")
}

/// A guest's `/v1` row, without its host.
pub(crate) fn row(guest: &Guest) -> &str {
    guest.row(Face::V1, |domain| serde_json::to_string(domain).unwrap_or_default())
}

/// A host and what it may have to tell: noted before an event is applied, told after it.
pub(super) struct Before {
    state: HostState,
    about: About,
}

enum About {
    Nothing,
    Guest(VmId),
    /// All guests, as they were.
    All(Guests),
}

impl Before {
    pub(super) fn of(view: &HostView, event: Option<&HostEvent>) -> Self {
        let about = match event {
            Some(HostEvent::Snapshot(_)) => About::All(view.guests.clone()),
            Some(HostEvent::Changed { domain, .. }) => About::Guest(domain.id),
            Some(HostEvent::Removed { id, .. }) => About::Guest(*id),
            Some(HostEvent::Connection { .. } | HostEvent::Heartbeat { .. }) | None => {
                About::Nothing
            }
        };
        Self { state: view.state, about }
    }

    /// Tells what differs now.
    pub(super) fn tell(self, feed: &Feed, host: &HostId, now: &HostView) {
        if self.state != now.state {
            tell_host(feed, host, now);
        }
        match self.about {
            About::Nothing => {}
            About::Guest(id) => tell_guest(feed, host, now, id),
            About::All(was) => {
                for (id, guest) in now.guests.iter() {
                    if !was.get(id).is_some_and(|was| alike(&was.domain, &guest.domain)) {
                        tell_guest(feed, host, now, *id);
                    }
                }
                for id in was.keys().filter(|id| !now.guests.contains_key(id)) {
                    tell_guest(feed, host, now, *id);
                }
            }
        }
    }
}

/// True if nothing differs but the CPU time used, which every running guest uses.
fn alike(one: &Domain, other: &Domain) -> bool {
    one == other || Domain { cpu_time_ns: other.cpu_time_ns, ..one.clone() } == *other
}

fn tell_guest(feed: &Feed, host: &HostId, view: &HostView, id: VmId) {
    match view.guest(id) {
        Some(guest) => {
            let row = row(guest);
            let data = start(host, view) + row.strip_prefix('{').unwrap_or(row);
            feed.tell(Topic::Vm, "vm", host, &data);
        }
        None => feed.tell_json(Topic::Vm, "vm_removed", host, &VmRemoved { host, id }),
    }
}

/// Tells how a host is.
pub(super) fn tell_host(feed: &Feed, host: &HostId, view: &HostView) {
    let changed = HostChanged {
        host,
        state: view.state,
        reason: view.reason.as_deref(),
        age_seconds: view.staleness_seconds(),
    };
    feed.tell_json(Topic::Host, "host", host, &changed);
}

/// Tells that a host is not registered any more.
pub(super) fn tell_host_removed(feed: &Feed, host: &HostId) {
    feed.tell_json(Topic::Host, "host_removed", host, &HostRemoved { host });
}
