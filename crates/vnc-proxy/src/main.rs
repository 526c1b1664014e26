//! The program; see the library for what it does.

use std::path::PathBuf;
use std::process::ExitCode;

use vmmgr_common::error::Chain;
use vnc_proxy::config::Config;
use vnc_proxy::server;

fn main() -> ExitCode {
    let (command, path) = match arguments() {
        Ok(found) => found,
        Err(usage) => return fail(&usage),
    };
    let config: Config = match vmmgr_common::config::load(&path) {
        Ok(config) => config,
        Err(error) => return fail(&Chain(&error).to_string()),
    };
    if let Err(error) = server::check(&config) {
        return fail(&format!("configuration {}: {}", path.display(), Chain(&error)));
    }
    if command == "check-config" {
        return ExitCode::SUCCESS;
    }
    vmmgr_common::telemetry::init(&config.log);
    if let Err(error) = more_files() {
        tracing::warn!(%error, "cannot raise the limit of open files; each session needs two");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    match runtime.block_on(server::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&Chain(&error).to_string()),
    }
}

/// As many open files as the system gives us.
fn more_files() -> std::io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
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
