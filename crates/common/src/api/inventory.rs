//! All guests of one host, and how they change.
//!
//! An agent numbers its changes: `epoch` is minted when it starts, `generation` grows by one with
//! each change. A consumer that sees another epoch, or a gap, takes a fresh snapshot.

use serde::{Deserialize, Serialize};

use super::domain::Domain;
use crate::ids::{HostId, OperationId, VmId};

/// `GET /v1/inventory`, and the first line of the event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Whose.
    pub host: HostId,
    /// Minted at each start of the agent.
    pub epoch: OperationId,
    /// Last change in here.
    pub generation: u64,
    /// False while libvirtd cannot be reached; the guests are then the last known ones.
    pub connected: bool,
    /// Seconds since the last full read from libvirt.
    pub age_seconds: u64,
    /// Guests, by id.
    pub domains: Vec<Domain>,
}

/// One line of `GET /v1/events` (newline-delimited JSON, `application/x-ndjson`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum HostEvent {
    /// Everything; always first, and again after a resync.
    Snapshot(Inventory),
    /// A guest is new or has changed.
    Changed {
        /// Number of this change.
        generation: u64,
        /// As it is now.
        domain: Box<Domain>,
    },
    /// A guest is gone: undefined, proven by libvirt.
    Removed {
        /// Number of this change.
        generation: u64,
        /// Which.
        id: VmId,
    },
    /// libvirtd was lost or came back.
    Connection {
        /// Number of this change.
        generation: u64,
        /// Reachable now.
        connected: bool,
    },
    /// Sent every 5 s when nothing else is; proves that the stream lives.
    Heartbeat {
        /// Last change sent.
        generation: u64,
    },
}
