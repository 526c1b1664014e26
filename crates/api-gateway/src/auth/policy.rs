//! What a route demands, as types: a handler names one in its signature.

use crate::store::UserRole;

/// A demand; implemented by marker types only.
pub(crate) trait Policy: 'static {
    /// As it stands in refusals and logs.
    const NAME: &'static str;
    /// Least role that fulfils it.
    const LEAST: UserRole;
}

macro_rules! policies {
    ($($(#[$doc:meta])* $name:ident: $least:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub(crate) struct $name;

            impl Policy for $name {
                const NAME: &'static str = stringify!($name);
                const LEAST: UserRole = UserRole::$least;
            }
        )*
    };
}

policies! {
    /// One's own session.
    OwnSession: Viewer;
    /// See hosts, guests, records and operations.
    ReadFleet: Viewer;
    /// Start, shut down, reset, cut the power.
    PowerVm: Operator;
    /// Make, change and delete guests; see definitions and seeds.
    ManageVm: Operator;
    /// Gold images and ISOs: what is read from the hosts' disks and the network.
    ManageRecords: Admin;
    /// Hosts and accounts.
    ManageSystem: Admin;
}
