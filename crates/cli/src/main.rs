//! vmmctl: the operator's command line. Everything but `pki` and `nginx` goes through the public API.
//!
//! Results go to standard output, progress and failures to standard error. Exit codes: 0 done,
//! 1 failed, 2 usage, 3 not found, 4 denied, 5 conflict, 6 timeout, 7 unreachable.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "a command line prints"
)]

mod client;
mod cmd;
mod failure;
mod lint;
mod output;
mod terminal;
mod websocket;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::Format;

/// Drives vmmgr: KVM guests on many hosts.
#[derive(Parser)]
#[command(name = "vmmctl", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    server: Server,
    /// How results are printed
    #[arg(short = 'o', long, global = true, value_enum, default_value = "table")]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

/// Which gateway, and as whom. The token is read from `VMMGR_TOKEN` or a file, never from an argument.
#[derive(Args)]
pub(crate) struct Server {
    /// Address of the API
    #[arg(long, global = true, env = "VMMGR_URL", default_value = "https://127.0.0.1:8443")]
    server: String,
    /// CA certificate of the API, PEM
    #[arg(long, global = true, env = "VMMGR_CA")]
    ca: Option<PathBuf>,
    /// File with the token; `VMMGR_TOKEN` otherwise
    #[arg(long, global = true)]
    token_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Log in and print a token
    Login(cmd::session::Login),
    /// Who am I
    Whoami,
    /// Change the own password; all other sessions end
    Password(cmd::user::Password),
    /// Accounts
    #[command(subcommand)]
    User(cmd::user::User),
    /// Tokens for scripts
    #[command(subcommand)]
    Token(cmd::token::Token),
    /// Who changed what, and who was refused
    #[command(subcommand)]
    Audit(cmd::audit::Audit),
    /// Hosts
    #[command(subcommand)]
    Host(cmd::host::Host),
    /// Gold images
    #[command(subcommand)]
    Image(cmd::records::Image),
    /// ISOs
    #[command(subcommand)]
    Iso(cmd::records::Iso),
    /// Guests
    #[command(subcommand)]
    Vm(cmd::vm::Vm),
    /// All guests of all hosts (`vm list`)
    List,
    /// Disks of a guest
    #[command(subcommand)]
    Disk(cmd::device::Disk),
    /// Network interfaces of a guest
    #[command(subcommand)]
    Nic(cmd::device::Nic),
    /// CD-ROM drives of a guest
    #[command(subcommand)]
    Media(cmd::device::Media),
    /// What cloud-init is told
    #[command(subcommand)]
    Seed(cmd::seed::Seed),
    /// Snapshots of a guest
    #[command(subcommand)]
    Snapshot(cmd::snapshot::Snapshot),
    /// Devices of a guest
    #[command(subcommand)]
    Device(cmd::device::Device),
    /// Serial console of a guest in this terminal
    Console(cmd::console::Console),
    /// Screen of a guest: its page, or a port for a native viewer
    Vnc(cmd::console::Vnc),
    /// Screen of a guest as PNG
    Screenshot(cmd::console::Screenshot),
    /// What the serial line of a guest said
    ConsoleLog(cmd::console::ConsoleLog),
    /// Links with which somebody without an account drives one guest
    #[command(subcommand)]
    Link(cmd::link::Link),
    /// Addresses that new guests can be given
    #[command(subcommand)]
    Address(cmd::address::Address),
    /// Read record files in, with a report of what does not resolve
    Import(cmd::transfer::Import),
    /// Write the record files
    Export(cmd::transfer::Export),
    /// Operations
    #[command(subcommand)]
    Op(cmd::operation::Op),
    /// Follow what happens in the fleet
    Events(cmd::event::Events),
    /// Certificates of the private CA
    #[command(subcommand)]
    Pki(cmd::pki::Pki),
    /// Configuration of nginx
    #[command(subcommand)]
    Nginx(cmd::nginx::Nginx),
    /// Print the completion of a shell: `source <(vmmctl completion bash)`
    Completion {
        /// Which
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let format = cli.format;
    match cli.command {
        Command::Pki(pki) => return pki.run(),
        Command::Nginx(nginx) => return nginx.run(),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vmmctl", &mut script);
            return output::lines(String::from_utf8_lossy(&script).trim_end());
        }
        Command::Seed(cmd::seed::Seed::Lint { file }) => return cmd::seed::lint_file(&file),
        _ => {}
    }
    let client = Client::new(&cli.server)?;
    match cli.command {
        Command::Login(login) => login.run(&client, format).await,
        Command::Whoami => cmd::session::whoami(&client, format).await,
        Command::Password(password) => password.run(&client, format).await,
        Command::User(user) => user.run(&client, format).await,
        Command::Token(token) => token.run(&client, format).await,
        Command::Audit(audit) => audit.run(&client, format).await,
        Command::Host(host) => host.run(&client, format).await,
        Command::Image(image) => image.run(&client, format).await,
        Command::Iso(iso) => iso.run(&client, format).await,
        Command::Vm(vm) => vm.run(&client, format).await,
        Command::List => cmd::vm::list(&client, format, None).await,
        Command::Disk(disk) => disk.run(&client, format).await,
        Command::Nic(nic) => nic.run(&client, format).await,
        Command::Media(media) => media.run(&client, format).await,
        Command::Seed(seed) => seed.run(&client, format).await,
        Command::Snapshot(snapshot) => snapshot.run(&client, format).await,
        Command::Device(device) => device.run(&client, format).await,
        Command::Console(console) => console.run(&client).await,
        Command::Vnc(vnc) => vnc.run(&client).await,
        Command::Screenshot(screenshot) => screenshot.run(&client).await,
        Command::ConsoleLog(log) => log.run(&client).await,
        Command::Link(link) => link.run(&client, format).await,
        Command::Address(address) => address.run(&client, format).await,
        Command::Import(import) => import.run(&client, format).await,
        Command::Export(export) => export.run(&client, format).await,
        Command::Op(op) => op.run(&client, format).await,
        Command::Events(events) => events.run(&client, format).await,
        Command::Pki(_) | Command::Nginx(_) | Command::Completion { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap_complete::Shell;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_shell_completes_nouns_and_verbs() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut super::Cli::command(), "vmmctl", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(
            script.contains("vmmctl__subcmd__snapshot") && script.contains("console-log"),
            "{script}"
        );
    }
}
