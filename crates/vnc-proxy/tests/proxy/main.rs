//! The program itself, over sockets and mutual TLS, between a gateway and an agent of these tests.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking")]

mod agent;
mod browser;
mod front;
mod gateway;
mod lifecycle;
mod load;
mod modes;
mod protocol;
mod stack;
mod takeover;
