//! Disks, interfaces and drives of a guest.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::vm::Place;
use super::{done, part};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Prints what was measured, a line a figure.
async fn measured(client: &Client, format: Format, path: &str) -> Result<(), Failure> {
    let value = client.get(path).await?;
    let rows = value.as_object().into_iter().flatten();
    let lines: Vec<String> = rows.map(|(key, value)| format!("{key} {value}")).collect();
    output::one(format, &value, path, &lines.join("\n"))
}

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
        /// virtio, scsi, sata or ide; the device's without
        #[arg(long)]
        bus: Option<String>,
        /// qcow2 or raw; the device's without
        #[arg(long = "disk-format")]
        disk_format: Option<String>,
    },
    /// Make a disk larger; it cannot become smaller
    Resize {
        #[command(flatten)]
        place: Place,
        /// Target (vda)
        target: String,
        /// New size: 10 or 10G, 512M, 2T
        #[arg(long)]
        size: String,
    },
    /// Print the room that a disk takes
    Usage {
        #[command(flatten)]
        place: Place,
        /// Target (vda)
        target: String,
    },
}

impl Disk {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let (place, device, size, options) = match self {
            Self::Attach { place, device, size, gold, bus, disk_format } => {
                (place, device, size, [("gold", gold), ("bus", bus), ("format", disk_format)])
            }
            Self::Resize { place, target, size } => {
                let path = format!("{}/disks/{}", place.path()?, part(&target)?);
                let body = json!({ "size": size });
                let operation = client.change(Method::PATCH, &path, Some(&body)).await?;
                return done(format, &operation, &target, &format!("disk {target} has {size}"));
            }
            Self::Usage { place, target } => {
                let path = format!("{}/disks/{}", place.path()?, part(&target)?);
                return measured(client, format, &path).await;
            }
        };
        let mut body = json!({"device": device, "size": size});
        for (key, value) in options {
            if let Some(value) = value {
                body[key] = value.into();
            }
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
        /// virtio, e1000, e1000e or rtl8139; the device's without
        #[arg(long)]
        model: Option<String>,
    },
    /// Print its counters since the guest's start
    Stats {
        #[command(flatten)]
        place: Place,
        /// Hardware address
        mac: String,
    },
}

impl Nic {
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let (place, device, options) = match self {
            Self::Attach { place, device, mac, model } => {
                (place, device, [("mac", mac), ("model", model)])
            }
            Self::Stats { place, mac } => {
                let path = format!("{}/nics/{}/stats", place.path()?, part(&mac)?);
                return measured(client, format, &path).await;
            }
        };
        let mut body = json!({ "device": device });
        for (key, value) in options {
            if let Some(value) = value {
                body[key] = value.into();
            }
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
