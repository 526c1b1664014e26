//! Guests.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{done, part};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: [Column; 7] = [
    ("ID", "/id"),
    ("HOST", "/host"),
    ("HOST STATE", "/host_state"),
    ("STATE", "/state"),
    ("VCPUS", "/vcpus"),
    ("MEMORY KIB", "/memory_kib"),
    ("NAME", "/name"),
];
/// Between two looks while waiting for a guest.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A guest on a host.
#[derive(Args)]
pub(crate) struct Place {
    /// Host
    host: String,
    /// Guest id
    pub(crate) vm: String,
}

impl Place {
    /// Its path in the API.
    pub(crate) fn path(&self) -> Result<String, Failure> {
        Ok(format!("/v1/hosts/{}/vms/{}", part(&self.host)?, part(&self.vm)?))
    }
}

/// What a new guest is.
#[derive(Args)]
pub(crate) struct Create {
    /// Host
    host: String,
    /// Short name
    #[arg(long)]
    name: String,
    /// For people
    #[arg(long, default_value = "")]
    description: String,
    /// x86_64 or aarch64; the host's without
    #[arg(long)]
    arch: Option<String>,
    /// Virtual CPUs
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u64,
    /// Most virtual CPUs that it can be given while it runs
    #[arg(long)]
    vcpus_max: Option<u32>,
    /// Most memory that it can be given while it runs, MiB
    #[arg(long)]
    memory_max: Option<u64>,
    /// bios, uefi or uefi_secure
    #[arg(long)]
    firmware: Option<String>,
    /// Give it a TPM 2.0
    #[arg(long)]
    tpm: bool,
    /// CPU model, or host-model, host-passthrough, maximum
    #[arg(long)]
    cpu_model: Option<String>,
    /// Machine type: q35, pc, virt
    #[arg(long)]
    machine: Option<String>,
    /// vnc or none
    #[arg(long)]
    graphics: Option<String>,
    /// Template of the host; the architecture's without
    #[arg(long)]
    template: Option<String>,
    /// Variable of the template as NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    variable: Vec<String>,
    /// How cloud-init gets its seed: http, iso or none
    #[arg(long, default_value = "http")]
    seed: String,
    /// Host name in the guest; the short name without
    #[arg(long)]
    hostname: Option<String>,
    /// First user, with sudo
    #[arg(long)]
    user: Option<String>,
    /// File with an OpenSSH public key; may be repeated
    #[arg(long)]
    ssh_key: Vec<PathBuf>,
    /// File with a crypt(3) hash of the user's password
    #[arg(long)]
    password_hash_file: Option<PathBuf>,
    /// Europe/Berlin
    #[arg(long)]
    timezone: Option<String>,
    /// en_US.UTF-8
    #[arg(long)]
    locale: Option<String>,
    /// Shell command of the first boot; may be repeated
    #[arg(long)]
    runcmd: Vec<String>,
    /// Your own user-data document, served as it is
    #[arg(long)]
    user_data: Option<PathBuf>,
}

/// Guests.
#[derive(Subcommand)]
pub(crate) enum Vm {
    /// Create a guest; attach a disk and an interface, then start it
    Create(Box<Create>),
    /// List guests, of one host if named
    List {
        /// Host
        host: Option<String>,
    },
    /// Show a guest
    Show(Place),
    /// Start it
    Start(Place),
    /// Ask it to shut down
    Shutdown(Place),
    /// Cut its power
    Poweroff(Place),
    /// Press its reset button
    Reset(Place),
    /// Stop its CPUs; its memory stays
    Suspend(Place),
    /// Let its CPUs go on
    Resume(Place),
    /// Ask it to restart
    Reboot(Place),
    /// Change CPUs, memory, description, metadata or autostart
    Set(super::tuning::Set),
    /// Delete it with its disks and its seed
    Delete {
        #[command(flatten)]
        place: Place,
        /// Do not ask
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Print its libvirt XML
    Xml(Place),
    /// Print its addresses
    Addresses(Place),
    /// Print what it fetched of its seed
    Boot(Place),
    /// Print its seed as served
    Seed(Place),
    /// Wait until it has fetched its seed and has an address
    Wait {
        #[command(flatten)]
        place: Place,
        /// Seconds
        #[arg(long, default_value_t = 600)]
        timeout: u64,
    },
}

impl Vm {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(client, format).await,
            Self::List { host } => list(client, format, host.as_deref()).await,
            Self::Show(place) => show(client, format, &place, "").await,
            Self::Boot(place) => show(client, format, &place, "/boot").await,
            Self::Seed(place) => show(client, format, &place, "/seed").await,
            Self::Start(place) => act(client, format, &place, "start").await,
            Self::Shutdown(place) => act(client, format, &place, "shutdown").await,
            Self::Poweroff(place) => act(client, format, &place, "poweroff").await,
            Self::Reset(place) => act(client, format, &place, "reset").await,
            Self::Suspend(place) => act(client, format, &place, "suspend").await,
            Self::Resume(place) => act(client, format, &place, "resume").await,
            Self::Reboot(place) => act(client, format, &place, "reboot").await,
            Self::Set(set) => set.run(client, format).await,
            Self::Delete { place, yes } => {
                confirm(&place, yes)?;
                let operation = client.change(Method::DELETE, &place.path()?, None).await?;
                for disk in &operation.outcome.undeleted {
                    eprintln!("warning: {} stays: it was not made here", disk.source);
                }
                done(format, &operation, &place.vm, &format!("guest {} is gone", place.vm))
            }
            Self::Xml(place) => {
                output::lines(client.text(&format!("{}/xml", place.path()?)).await?.trim_end())?;
                Ok(())
            }
            Self::Addresses(place) => addresses(client, format, &place).await,
            Self::Wait { place, timeout } => {
                wait(client, format, &place, Duration::from_secs(timeout)).await
            }
        }
    }
}

pub(crate) async fn list(
    client: &Client,
    format: Format,
    host: Option<&str>,
) -> Result<(), Failure> {
    let path = match host {
        Some(host) => format!("/v1/hosts/{}/vms", part(host)?),
        None => "/v1/vms".to_owned(),
    };
    output::rows(format, &client.get(&path).await?, &COLUMNS)
}

async fn show(client: &Client, format: Format, place: &Place, what: &str) -> Result<(), Failure> {
    let value = client.get(&format!("{}{what}", place.path()?)).await?;
    let text = serde_json::to_string_pretty(&value).map_err(Failure::local)?;
    output::one(format, &value, &place.vm, &text)
}

async fn act(client: &Client, format: Format, place: &Place, verb: &str) -> Result<(), Failure> {
    let operation = client.change(Method::POST, &format!("{}/{verb}", place.path()?), None).await?;
    done(format, &operation, &place.vm, &format!("{verb} of guest {} succeeded", place.vm))
}

fn confirm(place: &Place, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("deleting needs -y where nobody can be asked".to_owned()));
    }
    eprint!("delete guest {} on {} with all its disks? [y/N] ", place.vm, place.host);
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Failure::local)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Usage("not deleted".to_owned())),
    }
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    fs_err::read_to_string(path).map_err(Failure::local)
}

impl Create {
    fn seed(&self) -> Result<Value, Failure> {
        let mut seed = json!({ "hostname": self.hostname.as_ref().unwrap_or(&self.name) });
        let texts = [("user", &self.user), ("timezone", &self.timezone), ("locale", &self.locale)];
        for (key, value) in texts {
            if let Some(value) = value {
                seed[key] = value.as_str().into();
            }
        }
        if let Some(path) = &self.password_hash_file {
            seed["password_hash"] = read(path)?.trim().into();
        }
        if let Some(path) = &self.user_data {
            seed["user_data"] = read(path)?.into();
        }
        let keys: Result<Vec<String>, Failure> =
            self.ssh_key.iter().map(|path| Ok(read(path)?.trim().to_owned())).collect();
        seed["ssh_keys"] = keys?.into();
        seed["runcmd"] = self.runcmd.iter().map(|command| json!(["sh", "-c", command])).collect();
        Ok(seed)
    }

    async fn run(&self, client: &Client, format: Format) -> Result<(), Failure> {
        let mut body = json!({
            "name": self.name, "description": self.description, "vcpus": self.vcpus,
            "memory_mib": self.memory, "seed_mode": self.seed, "seed": self.seed()?,
        });
        for (key, value) in
            [("vcpus_max", self.vcpus_max.map(u64::from)), ("memory_mib_max", self.memory_max)]
        {
            if let Some(value) = value {
                body[key] = value.into();
            }
        }
        if self.tpm {
            body["tpm"] = true.into();
        }
        for pair in &self.variable {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Failure::Usage(format!("`{}` is no NAME=VALUE", pair.escape_debug()))
            })?;
            body["variables"][name] = value.into();
        }
        for (key, value) in [
            ("arch", &self.arch),
            ("firmware", &self.firmware),
            ("cpu_model", &self.cpu_model),
            ("machine", &self.machine),
            ("graphics", &self.graphics),
            ("template", &self.template),
        ] {
            if let Some(value) = value {
                body[key] = value.as_str().into();
            }
        }
        let path = format!("/v1/hosts/{}/vms", part(&self.host)?);
        let operation = client.change(Method::POST, &path, Some(&body)).await?;
        let vm = operation.vm.map(|vm| vm.to_string()).unwrap_or_default();
        done(format, &operation, &vm, &format!("guest {vm} is defined on {}", self.host))
    }
}

async fn addresses(client: &Client, format: Format, place: &Place) -> Result<(), Failure> {
    let value = client.get(&format!("{}/addresses", place.path()?)).await?;
    let lines: Vec<String> = first_addresses(&value);
    output::one(format, &value, &lines.join("\n"), &lines.join("\n"))
}

fn first_addresses(value: &Value) -> Vec<String> {
    let interfaces = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let all = interfaces.iter().filter_map(|i| i["addresses"].as_array()).flatten();
    let plain = |a: &Value| {
        a["address"].as_str().and_then(|text| text.split('/').next()).map(str::to_owned)
    };
    all.filter_map(plain).collect()
}

async fn wait(
    client: &Client,
    format: Format,
    place: &Place,
    timeout: Duration,
) -> Result<(), Failure> {
    let (started, path) = (Instant::now(), place.path()?);
    let mut told = BTreeSet::new();
    let mut say = |line: String| {
        if told.insert(line.clone()) {
            eprintln!("  [{:>3} s] {line}", started.elapsed().as_secs());
        }
    };
    loop {
        let boot = client.get(&format!("{path}/boot")).await?;
        let mut fetched = BTreeSet::new();
        for fetch in boot["fetches"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let file = fetch["file"].as_str().unwrap_or_default().to_owned();
            say(format!("the guest fetched {file}: {}", fetch["status"]));
            if fetch["status"] == 200 {
                fetched.insert(file);
            }
        }
        let addresses = first_addresses(&client.get(&format!("{path}/addresses")).await?);
        if let Some(address) = addresses.first() {
            say(format!("the guest has the address {address}"));
        }
        let seeded =
            ["meta-data", "user-data", "vendor-data"].iter().all(|file| fetched.contains(*file));
        if let (true, Some(address)) = (seeded, addresses.first()) {
            return output::one(
                format,
                &json!({ "address": address, "boot": boot }),
                address,
                address,
            );
        }
        if started.elapsed() > timeout {
            return Err(Failure::Timeout(format!(
                "guest {} is not up after {} s",
                place.vm,
                timeout.as_secs()
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
