//! A whole system: real libvirtd, real guests under TCG, real nginx, and the very scripts of `make demo`.
//!
//! ```text
//!  tools/e2e -> tools/lab (own network, processes, libvirt) -> this program -> tools/stack, tools/demo
//! ```
//!
//! Outside such a lab every test says that it is skipped: nothing here may touch other guests.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "a test program; clippy takes helpers of tests for something else"
)]

mod accounts;
mod agent;
mod another_agent;
mod api;
mod bad_input;
mod boot;
mod browser;
mod consoles;
mod directory;
mod events;
mod firmware;
mod guest;
mod hooks;
mod lab;
mod lifecycle;
mod network_media;
mod origins;
mod outages;
mod readme;
mod reports;
mod second_host;
mod seeds;
mod services;
mod slapd;
mod stores;
mod templates;
mod tuning;
mod websocket;
