//! Wire types between the services and to their callers, one file per noun. No HTTP in here.

pub mod audit;
pub mod console;
pub mod disk;
pub mod domain;
pub mod host;
pub mod inventory;
pub mod iso;
pub mod operation;
pub mod seed;
pub mod snapshot;
pub mod tuning;
