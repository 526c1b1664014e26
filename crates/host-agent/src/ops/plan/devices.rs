//! Plans of devices that come, change and go.

use std::collections::BTreeMap;

use serde_json::json;
use vmmgr_common::api::disk::{
    Attachment, DeviceRef, DiskBus, DiskFormat, DiskSize, GoldImage, Medium, NicModel,
};
use vmmgr_common::api::operation::Outcome;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{MacAddress, ResourceName, VmId};

use super::{Context, Guest, LEAST_ROOM, MOST_SLOTS, Planned, Step, cdrom_bus, hook};
use crate::config::{DeviceConfig, IsoContent};
use crate::domain::cdrom::{Inserted, NetworkIso};
use crate::domain::policy;
use crate::domain::target;
use crate::domain::template::{DiskValues, Own};
use crate::storage::volume::Store;
use crate::storage::{label, qemu_img, remote_iso};

fn device<'a>(context: &'a Context, name: &ResourceName) -> Result<&'a DeviceConfig, Problem> {
    context.devices.iter().find(|device| device.name() == name).ok_or_else(|| {
        Problem::new(
            ErrorCode::NoSuchRecord,
            format!("host {} has no device `{name}`", context.host),
        )
        .hint("the host's devices are in its record (`GET /v1/hosts/{host}`)")
    })
}

fn wrong_kind(name: &ResourceName, wanted: &str) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("device `{name}` is no {wanted}"))
}

/// A new disk, interface or drive.
pub(super) async fn attach(
    context: &Context,
    vm: VmId,
    attachment: &Attachment,
) -> Result<Planned, Problem> {
    let guest = Guest::read(context, vm).await?;
    if guest.disks.len() + guest.macs.len() >= MOST_SLOTS {
        return Err(Problem::new(
            ErrorCode::WrongState,
            format!("guest {vm} has {MOST_SLOTS} disks and interfaces, there is no slot left"),
        ));
    }
    match attachment {
        Attachment::Disk { device: name, size, gold, bus, format, variables } => {
            let config = device(context, name)?;
            let DeviceConfig::Disk { bus: usual, format: normal, pool, .. } = config else {
                return Err(wrong_kind(name, "disk"));
            };
            let values = hook::values(context, config, variables)?;
            let store = context.volumes.of_device(pool.as_ref())?;
            let disk = NewDisk {
                size: *size,
                gold: gold.as_ref(),
                bus: bus.unwrap_or(*usual),
                format: format_of(name, store, format.or(*normal))?,
                store,
            };
            attach_disk(context, vm, &guest, disk, (config, &values)).await
        }
        Attachment::Nic { device: name, mac, model, variables } => {
            let config = device(context, name)?;
            let DeviceConfig::Net { bridge, model: usual, .. } = config else {
                return Err(wrong_kind(name, "network device"));
            };
            let values = hook::values(context, config, variables)?;
            let nic =
                NewNic { bridge, model: model.unwrap_or(*usual), mac: mac.unwrap_or_default() };
            attach_nic(context, vm, &guest, &nic, (config, &values)).await
        }
        Attachment::Cdrom { device: name, medium } => {
            let config = device(context, name)?;
            let DeviceConfig::Iso { content, .. } = config else {
                return Err(wrong_kind(name, "CD-ROM drive"));
            };
            attach_cdrom(context, vm, &guest, &content_of(name, content, medium)?, config).await
        }
    }
}

/// What a drive begins with: what the device always holds, or what was asked for.
fn content_of(
    name: &ResourceName,
    content: &IsoContent,
    asked: &Medium,
) -> Result<Medium, Problem> {
    let fixed = match content {
        IsoContent::Any => return Ok(asked.clone()),
        IsoContent::Seed => Medium::Seed,
        IsoContent::Iso(path) => Medium::Iso { path: path.to_string_lossy().into_owned() },
        IsoContent::Network { url, tls_verify } => {
            Medium::Network { url: url.clone(), tls_verify: *tls_verify }
        }
    };
    if *asked == Medium::Empty || *asked == fixed {
        return Ok(fixed);
    }
    Err(Problem::new(
        ErrorCode::InvalidValue,
        format!("device `{name}` comes with a medium of its own"),
    )
    .hint("attach it without a medium, or use a device without one"))
}

struct NewDisk<'a> {
    size: DiskSize,
    gold: Option<&'a GoldImage>,
    bus: DiskBus,
    format: DiskFormat,
    store: &'a dyn Store,
}

/// The format that was asked for, if the device's pool has it, or the pool's usual one.
fn format_of(
    name: &ResourceName,
    store: &dyn Store,
    wanted: Option<DiskFormat>,
) -> Result<DiskFormat, Problem> {
    let formats = store.formats();
    let format = wanted.unwrap_or(formats[0]);
    if formats.contains(&format) {
        return Ok(format);
    }
    Err(Problem::new(
        ErrorCode::InvalidValue,
        format!("device `{name}` has no disks of format {}", format.as_str()),
    )
    .hint("leave the format out: the device has one of its own"))
}

struct NewNic<'a> {
    bridge: &'a ResourceName,
    model: NicModel,
    mac: MacAddress,
}

/// The operator's template of the device, and the request's values for it.
fn own<'a>(config: &'a DeviceConfig, values: &'a hook::Values) -> Own<'a> {
    Own { template: config.template(), variables: &values.template }
}

/// Buses that the guest's machine does not have, and those that take nothing while it runs.
fn check_bus(vm: VmId, guest: &Guest, bus: DiskBus) -> Result<(), Problem> {
    let refuse = |why: &str, hint: &str| {
        let detail = format!("guest {vm} {why}");
        Err(Problem::new(ErrorCode::WrongState, detail).hint(hint.to_owned()))
    };
    let virt = guest.arch == "aarch64";
    match bus {
        DiskBus::Ide if virt || guest.machine.contains("q35") => {
            refuse("has no IDE bus", "use virtio, scsi or sata, or a guest of machine `pc`")
        }
        DiskBus::Sata if virt => refuse("has no SATA bus", "use virtio or scsi"),
        DiskBus::Ide | DiskBus::Sata if guest.running() => refuse(
            "runs, and its bus takes no disk while it does",
            "shut it down first, or use virtio or scsi",
        ),
        _ => Ok(()),
    }
}

/// A template that does not say what it was told would make a device that we do not find again.
fn check_made(context: &Context, xml: &str, name: &str) -> Result<(), Problem> {
    policy::check_fragment(xml, &context.allowed())?;
    if target::device_name(xml).as_deref() == Some(name) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::XmlRefused,
        format!("the device template makes something else than {name}"),
    )
    .hint("it must use `target` for a disk, `mac` for an interface"))
}

async fn attach_disk(
    context: &Context,
    vm: VmId,
    guest: &Guest,
    disk: NewDisk<'_>,
    (config, values): (&DeviceConfig, &hook::Values),
) -> Result<Planned, Problem> {
    check_bus(vm, guest, disk.bus)?;
    context.room(disk.store, LEAST_ROOM).await?;
    let target = guest.next_target(disk.bus.prefix());
    let path = disk.store.fresh(&target, vm, disk.format);
    let (bus, format) = (disk.bus.as_str(), disk.format.as_str());
    let rbd = disk.store.rbd();
    let made = DiskValues { path: &path, target: &target, bus, format, rbd };
    let xml = context.templates.render_disk(&made, own(config, values))?;
    check_made(context, &xml, &target)?;
    let facts = json!({"kind": "disk", "path": path, "size_bytes": disk.size.bytes(), "bus": bus,
        "format": format, "gold": disk.gold.map(|gold| &gold.name)});
    let hook = hook::attaching(context, (vm, guest), (config, &target), values, facts).await?;
    let (size, gold, format) = (disk.size, disk.gold.cloned(), disk.format);
    let mut steps = Vec::new();
    if let Some(gold) = &gold {
        steps.push(Step::EnsureImage { gold: gold.clone() });
    }
    steps.push(Step::CreateVolume { vm, path, size, gold, format });
    steps.extend(hook);
    steps.push(Step::Attach { vm, xml, device: target.clone() });
    Ok(Planned { steps, outcome: Outcome { target: Some(target), ..Outcome::default() } })
}

async fn attach_nic(
    context: &Context,
    vm: VmId,
    guest: &Guest,
    nic: &NewNic<'_>,
    (config, values): (&DeviceConfig, &hook::Values),
) -> Result<Planned, Problem> {
    let (mac, bridge, model) = (nic.mac, nic.bridge.as_str(), nic.model.as_str());
    let taken =
        context.inventory.snapshot().domains.iter().any(|d| d.nics.iter().any(|n| n.mac == mac));
    if taken || guest.macs.contains(&mac) {
        return Err(Problem::new(
            ErrorCode::AlreadyExists,
            format!("address {mac} is in use on host {}", context.host),
        ));
    }
    let xml = context.templates.render_nic(mac, bridge, model, own(config, values))?;
    let target = mac.to_string();
    check_made(context, &xml, &target)?;
    let facts = json!({"kind": "net", "bridge": bridge, "model": model});
    let hook = hook::attaching(context, (vm, guest), (config, &target), values, facts).await?;
    let mut macs = guest.macs.clone();
    macs.push(mac);
    // The seed service first: a running guest may ask as soon as the interface is there.
    let mut steps = vec![Step::SetCallers { vm, macs, old: guest.macs.clone() }];
    steps.extend(hook);
    steps.push(Step::Attach { vm, xml, device: target });
    Ok(Planned { steps, outcome: Outcome { mac: Some(mac), ..Outcome::default() } })
}

async fn attach_cdrom(
    context: &Context,
    vm: VmId,
    guest: &Guest,
    medium: &Medium,
    config: &DeviceConfig,
) -> Result<Planned, Problem> {
    if guest.running() {
        return Err(Problem::new(
            ErrorCode::WrongState,
            format!("guest {vm} runs; a CD-ROM drive cannot be plugged in"),
        )
        .hint("shut it down first; a medium can be changed while it runs"));
    }
    let target = guest.next_target("sd");
    let (mut steps, inserted) = insert(context, vm, medium).await?;
    let bus = cdrom_bus(&guest.arch, "sata");
    let xml = context.templates.render_cdrom(&inserted, &target, bus)?;
    policy::check_fragment(&xml, &context.allowed())?;
    let facts = match &inserted {
        Inserted::Nothing => json!({"kind": "cdrom", "path": null, "bus": bus}),
        Inserted::File(path) => json!({"kind": "cdrom", "path": path, "bus": bus}),
        Inserted::Network(iso) => json!({"kind": "cdrom", "url": iso.url, "bus": bus}),
    };
    let values = hook::values(context, config, &BTreeMap::new())?;
    steps.extend(hook::attaching(context, (vm, guest), (config, &target), &values, facts).await?);
    steps.push(Step::Attach { vm, xml, device: target.clone() });
    Ok(Planned { steps, outcome: Outcome { target: Some(target), ..Outcome::default() } })
}

/// What the drive will hold, and what has to be done to have it.
async fn insert(
    context: &Context,
    vm: VmId,
    medium: &Medium,
) -> Result<(Vec<Step>, Inserted), Problem> {
    match medium {
        Medium::Empty => Ok((Vec::new(), Inserted::Nothing)),
        Medium::Seed => {
            let path = context.volumes.files().seed_path(vm);
            Ok((vec![Step::WriteSeedIso { vm, path: path.clone() }], Inserted::File(path)))
        }
        Medium::Iso { path } => Ok((Vec::new(), Inserted::File(iso_path(context, path)?))),
        Medium::Network { url, tls_verify } => {
            let iso = NetworkIso { url: url.clone(), tls_verify: *tls_verify || !url.is_tls() };
            remote_iso::look(context.images.origins(), &iso).await?;
            qemu_img::reads_over(url.url().scheme()).await?;
            Ok((Vec::new(), Inserted::Network(iso)))
        }
    }
}

/// The ISO's real path; only a file in an allowed folder, and no seed: cloud-init would configure
/// the guest anew from whatever another seed says.
fn iso_path(context: &Context, path: &str) -> Result<String, Problem> {
    let refuse = |why: &str, hint: &str| {
        let detail = format!("`{}` {why} of host {}", path.escape_debug(), context.host);
        Problem::new(ErrorCode::InvalidValue, detail).hint(hint.to_owned())
    };
    let real = fs_err::canonicalize(path).ok().filter(|real| {
        real.is_file() && context.local_roots.iter().any(|root| real.starts_with(root))
    });
    let outside = || {
        refuse(
            "is not a file in an allowed folder",
            "put the ISO below one of the agent's local_roots",
        )
    };
    let real = real.ok_or_else(outside)?;
    let file = std::fs::File::open(&real).map_err(|_| outside())?;
    if label::is_seed(&file) {
        return Err(refuse(
            "is a seed for cloud-init, which may not be put into a guest",
            "the guest's own seed is the medium `seed`",
        ));
    }
    Ok(real.to_string_lossy().into_owned())
}

/// Another medium in a drive. A seed that was in it is not needed any more.
pub(super) async fn change_medium(
    context: &Context,
    vm: VmId,
    device: &DeviceRef,
    medium: &Medium,
) -> Result<Planned, Problem> {
    let guest = Guest::read(context, vm).await?;
    let (name, found) = guest.find(vm, device)?;
    if found.device != "cdrom" {
        return Err(Problem::new(
            ErrorCode::InvalidValue,
            format!("{name} of guest {vm} is no CD-ROM drive"),
        ));
    }
    let (mut steps, inserted) = insert(context, vm, medium).await?;
    let xml = context.templates.render_cdrom(&inserted, &name, &found.bus)?;
    policy::check_fragment(&xml, &context.allowed())?;
    let old_xml = match &found.inserted {
        Some(old) => context.templates.render_cdrom(old, &name, &found.bus)?,
        None => found.xml.clone(),
    };
    steps.push(Step::Update { vm, xml, old_xml });
    if context.journal.volumes(vm).await?.contains(&found.source) {
        context.volumes.holding(&found.source)?.ready().await?;
        steps.push(Step::DeleteVolume { path: found.source });
    }
    Ok(Planned { steps, outcome: Outcome { target: Some(name), ..Outcome::default() } })
}
