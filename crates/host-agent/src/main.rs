//! host-agent: drives the libvirtd of one host for the gateways.
//!
//! Data flows one way: handlers -> ops (journal, plan, steps) -> hypervisor, storage, metadata-srv;
//! handlers -> console -> hypervisor.

mod config;
mod console;
mod domain;
mod handlers;
mod hooks;
mod hypervisor;
mod inventory;
mod kvm;
mod ops;
mod start;
mod storage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use vmmgr_common::error::Chain;

/// After the drain: what has not ended by then is in the journal.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let (command, path) = match arguments() {
        Ok(found) => found,
        Err(usage) => return fail(&usage),
    };
    let config: config::Config = match vmmgr_common::config::load(&path) {
        Ok(config) => config,
        Err(error) => return fail(&Chain(&error).to_string()),
    };
    if let Err(why) = config.check() {
        return fail(&format!("configuration {}: {why}", path.display()));
    }
    if command == "check-config" {
        return ExitCode::SUCCESS;
    }
    vmmgr_common::telemetry::init(&config.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let result = runtime.block_on(start::run(config));
    // What still reads or writes a disk goes on after the next start; nothing waits for it here.
    runtime.shutdown_timeout(SHUTDOWN_WITHIN);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&Chain(error.as_ref()).to_string()),
    }
}

/// `[check-config] --config FILE`.
fn arguments() -> Result<(String, PathBuf), String> {
    let usage = "usage: host-agent [check-config] --config FILE".to_owned();
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
    eprintln!("host-agent: {why}");
    ExitCode::FAILURE
}
