//! The host and all its guests.

use actix_web::web;
use vmmgr_common::api::host::{Arch, DeviceKind, DeviceTemplate, HostInfo};
use vmmgr_common::api::inventory::Inventory;
use vmmgr_common::error::Problem;

use crate::config::{DeviceConfig, VirtType};
use crate::ops::{Context, Engine, plan};

/// What the host is.
pub(super) async fn host(engine: web::Data<Engine>) -> Result<web::Json<HostInfo>, Problem> {
    let context = engine.context();
    let raw = context.hypervisor.host().await?;
    let offers =
        |arch: Arch| raw.capabilities_xml.contains(&format!("<arch name='{}'>", arch.as_str()));
    Ok(web::Json(HostInfo {
        host: context.host.clone(),
        arch: raw.arch,
        guest_archs: [Arch::X86_64, Arch::Aarch64]
            .into_iter()
            .filter(|arch| offers(*arch))
            .collect(),
        virt_type: match context.virt_type {
            VirtType::Kvm => "kvm".to_owned(),
            VirtType::Auto | VirtType::Qemu => "qemu".to_owned(),
        },
        libvirt_version: raw.libvirt_version,
        hypervisor_version: raw.hypervisor_version,
        cpus: raw.cpus,
        cpu_mhz: raw.cpu_mhz,
        memory_bytes: raw.memory_bytes,
        memory_free_bytes: raw.memory_free_bytes,
        devices: context.devices.iter().map(|config| device(context, config)).collect(),
        templates: context.templates.domains().keys().cloned().collect(),
        template_variables: context.templates.domains().clone(),
        template_problems: [context.templates.problems(), context.hooks.problems()].concat(),
    }))
}

fn device(context: &Context, config: &DeviceConfig) -> DeviceTemplate {
    let (kind, description) = match config {
        DeviceConfig::Disk { description, .. } => (DeviceKind::Disk, description),
        DeviceConfig::Net { description, .. } => (DeviceKind::Net, description),
        DeviceConfig::Iso { description, .. } => (DeviceKind::Iso, description),
    };
    DeviceTemplate {
        name: config.name().clone(),
        kind,
        description: description.clone(),
        template: config.template().map_or_else(|| "built-in".to_owned(), ToString::to_string),
        variables: plan::hook::declared(context, config),
    }
}

/// All guests, from memory.
pub(super) async fn inventory(engine: web::Data<Engine>) -> web::Json<Inventory> {
    web::Json(engine.context().inventory.snapshot())
}
