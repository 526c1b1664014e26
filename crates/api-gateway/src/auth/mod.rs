//! Who calls, and what they may do.
//!
//! Handlers say it in their signature: `Caller<ManageVms>` is an authenticated caller whose role
//! covers [`ManageVms`]; `Tenant<Start>` is the holder of a link that allows to start its guest.
//! The only routes without either are `POST /v1/session` and `POST /api/login`, `GET /v1/version`, the document at
//! `GET /v1/openapi.json`, the one that refuses everything else below `/user/`, and `POST
//! /v1/console/exchange`, whose body is the credential.

mod caller;
pub(crate) mod key;
pub(crate) mod link;
pub(crate) mod login;
pub(crate) mod password;
pub(crate) mod reporter;
pub(crate) mod tenant;
pub(crate) mod token;
mod verified;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use caller::{Caller, Identity, LINK};

/// What an account may do; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Look.
    Viewer,
    /// Look, and do everything with guests.
    Operator,
    /// Everything, hosts and records included.
    Admin,
}

/// What a handler needs.
pub(crate) trait Policy: 'static {
    /// The least role that may call.
    const LEAST: Role;
}

macro_rules! policies {
    ($($(#[$doc:meta])* $name:ident => $role:ident;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;
            impl Policy for $name {
                const LEAST: Role = Role::$role;
            }
        )*
    };
}

policies! {
    /// Look at hosts, guests, records and operations.
    ReadFleet => Viewer;
    /// Start, stop, create, delete, attach and detach.
    ManageVms => Operator;
    /// Register and remove hosts, images and ISOs.
    ManageRecords => Admin;
    /// Read the audit log.
    ReadAudit => Admin;
    /// Add, change and remove accounts.
    ManageAccounts => Admin;
}
