//! Snapshots of a guest: its disks, and its memory where it runs, kept inside the disks' own files.

use serde::{Deserialize, Serialize};

use super::domain::DomainState;
use crate::ids::ResourceName;

/// One snapshot (`virDomainSnapshot`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Snapshot {
    /// Unique within the guest.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// What the guest did then; reverting makes it do so again.
    pub state: DomainState,
    /// The one that the guest's disks go on from.
    pub current: bool,
    /// The one that it was taken after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// A snapshot to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SnapshotCreate {
    /// Unique within the guest.
    pub name: ResourceName,
    /// For people; up to 1000 characters.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_length = 1000))]
    pub description: String,
}
