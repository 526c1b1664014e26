//! api-gateway: accounts, records, the fleet in memory, and the REST API behind nginx.
//!
//! Data flows one way: v1, compat (shapes) -> app (no HTTP) -> agents. [`doors`] lists every route.

mod app;
mod auth;
mod compat;
mod config;
mod directory;
#[cfg(test)]
mod fake;
mod feed;
mod fleet;
mod internal;
mod limits;
mod listing;
mod private;
mod query;
mod sse;
mod store;
mod v1;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use actix_web::middleware::from_fn;
use actix_web::web;
use vmmgr_common::error::Chain;
use vmmgr_common::mtls::Role;
use vmmgr_common::server::{self, Door, Readiness, Service};

use crate::app::App;
use crate::app::links::Links;
use crate::auth::password;
use crate::auth::token::Tokens;
use crate::config::Config;
use crate::directory::Directory;
use crate::limits::Limits;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if std::env::args().skip(1).eq(["openapi"]) {
        return print_document();
    }
    let (command, path, file) = match arguments() {
        Ok(found) => found,
        Err(usage) => return fail(&usage),
    };
    let config: Config = match vmmgr_common::config::load(&path) {
        Ok(config) => config,
        Err(error) => return fail(&Chain(&error).to_string()),
    };
    if command == "check-config" {
        let directory = config.ldap.as_ref().map(Directory::open).transpose();
        return directory.map_or_else(|problem| fail(&problem.detail), |_| ExitCode::SUCCESS);
    }
    vmmgr_common::telemetry::init(&config.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let result = match command.as_str() {
        "init-admin" => runtime.block_on(init_admin(&config)),
        "backup" => runtime.block_on(backup(&config, &file)),
        "restore" => runtime.block_on(restore(&config, &file)),
        _ => runtime.block_on(run(config)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&Chain(error.as_ref()).to_string()),
    }
}

/// Command, configuration and, of `backup` and `restore`, the file; `openapi` is answered before.
fn arguments() -> Result<(String, PathBuf, PathBuf), String> {
    let usage = "usage: api-gateway [check-config | init-admin] --config FILE\n       \
         api-gateway backup --config FILE --to FILE\n       \
         api-gateway restore --config FILE --from FILE\n       \
         api-gateway openapi";
    let mut given: Vec<String> = std::env::args().skip(1).collect();
    let command = match given.first() {
        Some(first) if !first.starts_with('-') => given.remove(0),
        _ => "run".to_owned(),
    };
    let plain = ["run", "check-config", "init-admin"].contains(&command.as_str());
    let words: Vec<&str> = given.iter().map(String::as_str).collect();
    let (path, file) = match (command.as_str(), words.as_slice()) {
        (_, ["--config", path]) if plain => (*path, ""),
        ("backup", ["--config", path, "--to", file])
        | ("restore", ["--config", path, "--from", file]) => (*path, *file),
        _ => return Err(usage.to_owned()),
    };
    Ok((command, path.into(), file.into()))
}

#[expect(clippy::print_stderr, reason = "before and after logging there is only stderr")]
fn fail(why: &str) -> ExitCode {
    eprintln!("api-gateway: {why}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the document is what the command is for")]
fn print_document() -> ExitCode {
    match v1::document::text(&v1::document()) {
        Ok(text) => print!("{text}"),
        Err(error) => return fail(&error.to_string()),
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the password is shown once, to who runs the command")]
async fn init_admin(config: &Config) -> Result<(), Failure> {
    let store = store::open(config).await?;
    match password::create_admin(store.as_ref()).await? {
        Some(password) => println!("{password}"),
        None => tracing::info!("the account `admin` exists"),
    }
    Ok(())
}

/// All records and keys into one new file; the gateway may run meanwhile.
#[expect(clippy::print_stdout, reason = "people want to know how much it is")]
async fn backup(config: &Config, file: &Path) -> Result<(), Failure> {
    let store = store::open(config).await?;
    let (text, records) = store::dump::dump(store.as_ref(), &config.state_dir).await?;
    private::write_new(file, text.as_bytes())?;
    println!(
        "{records} records are in {}; it is as secret as the gateway's state_dir",
        file.display()
    );
    Ok(())
}

/// A backup into an empty store.
#[expect(clippy::print_stdout, reason = "people want to know how much it is")]
async fn restore(config: &Config, file: &Path) -> Result<(), Failure> {
    let text = fs_err::read_to_string(file)?;
    let store = store::open(config).await?;
    let records = store::dump::load(store.as_ref(), &config.state_dir, &text).await?;
    println!("{records} records are back; start the gateways");
    Ok(())
}

async fn run(config: Config) -> Result<(), Failure> {
    let store = store::open(&config).await?;
    let tokens = Tokens::open(&config.state_dir, config.token_seconds)?;
    let links = Links::open(&config.state_dir, &config.links)?;
    let limits = Limits::new(&config.limits);
    let directory = config.ldap.as_ref().map(Directory::open).transpose()?;
    let app = App::start(store, tokens, links, limits, directory, config.tls.clone()).await?;
    let ready = Readiness::default();
    let app = Arc::new(app);
    tokio::spawn(app::housekeeping::keep_house(app.clone(), ready.clone(), config.operation_days));
    if config.store.is_some() {
        tokio::spawn(app::follow::follow(app.clone(), ready.clone()));
    }
    let service = Service {
        name: "api-gateway",
        tls: config.tls,
        listen: config.listen,
        ops_listen: config.ops_listen,
        accept: &[Role::Nginx, Role::Operator],
        ready,
    };
    app::consoles::keep(&app);
    app::progress::keep(&app);
    let data = web::Data::from(app);
    let (routes, proxies) = doors(data);
    server::run_with_doors(service, routes, vec![proxies]).await?;
    Ok(())
}

/// Every route of both faces, and what only vnc-proxy finds.
fn doors(app: web::Data<App>) -> (impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static, Door) {
    let shared = app.clone();
    let people = move |service: &mut web::ServiceConfig| {
        service.app_data(app.clone());
        let routes = web::scope("").wrap(from_fn(watch::watch)).configure(|service| {
            v1::routes(service);
            compat::routes(service);
        });
        service.service(routes);
    };
    let proxies = Door::new(&[Role::VncProxy], move |service| {
        service.app_data(shared.clone());
        internal::routes(service);
    });
    (people, proxies)
}
