//! Disks, interfaces and drives of a guest.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::vm::Place;
use super::{done, part};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Format;

/// Disks.
#[derive(Subcommand)]
pub(crate) enum Disk {
    /// Attach a new disk, from a gold image or blank
    Attach {
        #[command(flatten)]
        place: Place,
        /// Device of the host
        #[arg(long, default_value = "local-disk")]
        device: String,
        /// Size: 10 or 10G, 512M, 2T
        #[arg(long)]
        size: String,
        /// Gold image; a blank data disk without
        #[arg(long)]
        gold: Option<String>,
    },
}

impl Disk {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let Self::Attach { place, device, size, gold } = self;
        let mut body = json!({"device": device, "size": size});
        if let Some(gold) = gold {
            body["gold"] = gold.into();
        }
        let path = format!("{}/disks", place.path()?);
        let operation = client.change(Method::POST, &path, Some(&body)).await?;
        let target = operation.outcome.target.clone().unwrap_or_default();
        done(format, &operation, &target, &format!("disk {target} is attached"))
    }
}

/// Interfaces.
#[derive(Subcommand)]
pub(crate) enum Nic {
    /// Attach a network interface
    Attach {
        #[command(flatten)]
        place: Place,
        /// Device of the host
        #[arg(long, default_value = "net-br-ext")]
        device: String,
        /// Hardware address; minted without
        #[arg(long)]
        mac: Option<String>,
    },
}

impl Nic {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let Self::Attach { place, device, mac } = self;
        let mut body = json!({ "device": device });
        if let Some(mac) = mac {
            body["mac"] = mac.into();
        }
        let path = format!("{}/nics", place.path()?);
        let operation = client.change(Method::POST, &path, Some(&body)).await?;
        let mac = operation.outcome.mac.map(|mac| mac.to_string()).unwrap_or_default();
        done(format, &operation, &mac, &format!("interface {mac} is attached"))
    }
}

/// What goes into a drive.
#[derive(Args)]
pub(crate) struct Medium {
    /// ISO by name
    #[arg(long, conflicts_with = "seed")]
    iso: Option<String>,
    /// The guest's own seed
    #[arg(long)]
    seed: bool,
}

impl Medium {
    fn body(self) -> serde_json::Value {
        match self.iso {
            Some(iso) => json!({ "iso": iso }),
            None => json!({ "seed": self.seed }),
        }
    }
}

/// Drives.
#[derive(Subcommand)]
pub(crate) enum Media {
    /// Attach a CD-ROM drive
    Attach {
        #[command(flatten)]
        place: Place,
        /// Device of the host
        #[arg(long, default_value = "cdrom")]
        device: String,
        #[command(flatten)]
        medium: Medium,
    },
    /// Change what is in a drive; nothing ejects
    Change {
        #[command(flatten)]
        place: Place,
        /// Drive (sda)
        target: String,
        #[command(flatten)]
        medium: Medium,
    },
}

impl Media {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let (path, body) = match self {
            Self::Attach { place, device, medium } => {
                let mut body = medium.body();
                body["device"] = device.into();
                (format!("{}/cdroms", place.path()?), body)
            }
            Self::Change { place, target, medium } => {
                (format!("{}/media/{}", place.path()?, part(&target)?), medium.body())
            }
        };
        let operation = client.change(Method::POST, &path, Some(&body)).await?;
        let target = operation.outcome.target.clone().unwrap_or_default();
        done(format, &operation, &target, &format!("drive {target} is ready"))
    }
}

/// Devices.
#[derive(Subcommand)]
pub(crate) enum Device {
    /// Detach a disk (its volume is deleted), drive or interface
    Detach {
        #[command(flatten)]
        place: Place,
        /// Target (vdb) or hardware address
        device: String,
    },
}

impl Device {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let Self::Detach { place, device } = self;
        let path = format!("{}/devices/{}", place.path()?, part(&device)?);
        let operation = client.change(Method::DELETE, &path, None).await?;
        done(format, &operation, &device, &format!("{device} is detached"))
    }
}
