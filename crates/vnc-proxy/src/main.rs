//! vnc-proxy: consoles between browsers and hosts.
//!
//! So far the service itself: certificates, health, drain. It relays nothing yet, every console
//! route is answered with "no such route".

mod config;

use std::path::PathBuf;
use std::process::ExitCode;

use vmmgr_common::error::Chain;
use vmmgr_common::mtls::Role;
use vmmgr_common::server::{self, Readiness, Service};

use crate::config::Config;

fn main() -> ExitCode {
    let (command, path) = match arguments() {
        Ok(found) => found,
        Err(usage) => return fail(&usage),
    };
    let config: Config = match vmmgr_common::config::load(&path) {
        Ok(config) => config,
        Err(error) => return fail(&Chain(&error).to_string()),
    };
    if command == "check-config" {
        return ExitCode::SUCCESS;
    }
    vmmgr_common::telemetry::init(&config.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let service = Service {
        name: "vnc-proxy",
        tls: config.tls,
        listen: config.listen,
        ops_listen: config.ops_listen,
        accept: &[Role::Nginx],
        ready: Readiness::default(),
    };
    match runtime.block_on(server::run(service, |_| ())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&Chain(&error).to_string()),
    }
}

/// `[check-config] --config FILE`.
fn arguments() -> Result<(String, PathBuf), String> {
    let usage = "usage: vnc-proxy [check-config] --config FILE".to_owned();
    let mut given: Vec<String> = std::env::args().skip(1).collect();
    let command = match given.first() {
        Some(first) if !first.starts_with('-') => given.remove(0),
        _ => "run".to_owned(),
    };
    match (command.as_str(), given.as_slice()) {
        ("run" | "check-config", [flag, path]) if flag == "--config" => Ok((command, path.into())),
        _ => Err(usage),
    }
}

#[expect(clippy::print_stderr, reason = "before and after logging there is only stderr")]
fn fail(why: &str) -> ExitCode {
    eprintln!("vnc-proxy: {why}");
    ExitCode::FAILURE
}
