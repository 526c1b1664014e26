//! metadata-srv: serves cloud-init seeds to the guests of one host, and to nobody else.
//!
//! ```text
//!  agent --mTLS--> admin --> store --> one file a guest
//!                              |
//!  guest --HTTP, 169.254.169.254--> listen -> converse -> caller (neighbours) -> serve -> trace
//! ```

mod admin;
mod app;
mod caller;
mod config;
mod converse;
mod listen;
mod neighbours;
mod seed;
mod serve;
mod snapshot;
mod store;
mod trace;
mod wire;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vmmgr_common::error::Chain;
use vmmgr_common::telemetry::{self, LogConfig};

#[derive(Parser)]
#[command(version, about = "Serves cloud-init seeds to the guests of one host")]
struct Arguments {
    /// Configuration
    #[arg(long, global = true, default_value = "/etc/vmmgr/metadata.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Read the configuration, tell whether it is good, and end
    CheckConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    match start(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Only the first call has an effect: this one if the configuration was not read.
            telemetry::init(&LogConfig::default());
            tracing::error!("{}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn start(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let config = app::configure(&arguments.config)?;
    telemetry::init(&config.log);
    match arguments.command {
        Some(Command::CheckConfig) => {
            tracing::info!(config = %arguments.config.display(), "the configuration is good");
            Ok(())
        }
        None => app::run(config).await,
    }
}
