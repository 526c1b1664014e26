//! `vmmctl` as its user meets it: the real program against a small server of the API's shapes,
//! a real nginx, and a PKI in a folder of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "tests of a program; what is skipped is said"
)]

mod changes;
mod console;
mod events;
mod exit_codes;
mod install;
mod listing;
mod nginx;
mod pages;
mod pki;
mod pki_layout;
mod pool_and_links;
mod support;
mod waiting;
