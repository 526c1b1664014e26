//! vnc-proxy: consoles between browsers and hosts.
//!
//! ```text
//!  nginx --mTLS--> server -> request (one parser) -> session: redeem at the gateway, once
//!                                                       |      open at the agent, mTLS
//!                                                       v
//!                     browser <-- wire -- relay -- wire --> guest
//!                                   frame | rfb
//! ```
//!
//! A library, so that its parsers can be fuzzed and its relay measured; the program is `main.rs`.

mod agent;
pub mod config;
pub mod frame;
pub mod relay;
pub mod request;
pub mod rfb;
pub mod server;
mod session;
pub mod ticket;
pub mod wire;
