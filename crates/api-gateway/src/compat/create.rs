//! `POST /vm/create/{host}` with the seed's `vm_*` variables.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};
use vmmgr_common::api::domain::{DomainCreate, Firmware, GuestRecord, SeedMode};
use vmmgr_common::api::host::{Arch, HostInfo};
use vmmgr_common::api::operation::Work;
use vmmgr_common::api::seed::{SeedSpec, StaticNetwork};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, ResourceName, VmId};
use vmmgr_common::secret::Secret;

use super::envelope::{answer, ok};
use super::power::settle;
use crate::app::App;
use crate::app::operations::now;
use crate::auth::{Caller, Identity, ManageVms};

/// A number as the seed's scripts send it: `2` or `"2"`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
struct Number(u64);

impl TryFrom<Value> for Number {
    type Error = String;
    fn try_from(value: Value) -> Result<Self, String> {
        let number = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.map(Self).ok_or_else(|| format!("`{value}` is not a whole number"))
    }
}

#[derive(Debug, Deserialize)]
struct Body {
    #[serde(default)]
    vm_name: Option<ResourceName>,
    #[serde(default)]
    vm_desc: String,
    vm_arch: Option<Arch>,
    vm_uefi: Option<String>,
    vm_vcpus: Option<Number>,
    vm_vcpus_max: Option<Number>,
    vm_ram_mb: Option<Number>,
    vm_ram_mb_max: Option<Number>,
    vm_cpu: Option<ResourceName>,
    vm_ip: Option<String>,
    vm_gw: Option<String>,
    vm_hostname: Option<String>,
    vm_user: Option<String>,
    vm_password_hash: Option<Secret<String>>,
    sshkey: Option<String>,
    vm_sshkey: Option<String>,
    vm_timezone: Option<String>,
    vm_locale: Option<String>,
    vm_interface: Option<String>,
    #[serde(rename = "enum")]
    mode: Option<String>,
    /// The gateway's to decide; taken and ignored, as the seed does.
    #[serde(rename = "vm_uuid")]
    _uuid: Option<Value>,
    #[serde(rename = "create_tm")]
    _created: Option<Value>,
    #[serde(rename = "META_SRV")]
    _server: Option<Value>,
    /// Variables of the host's template.
    #[serde(flatten)]
    extra: BTreeMap<String, String>,
}

fn refuse(field: &str, rule: &str) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("{field}: {rule}"))
}

fn count(field: &str, number: Option<Number>, otherwise: u32) -> Result<u32, Problem> {
    number.map_or(Ok(otherwise), |n| u32::try_from(n.0).map_err(|_| refuse(field, "too large")))
}

fn firmware(arch: Arch, uefi: Option<&str>) -> Result<Firmware, Problem> {
    match uefi {
        None | Some("") if arch == Arch::Aarch64 => Ok(Firmware::Uefi),
        None | Some("") => Ok(Firmware::Bios),
        Some(path)
            if path.ends_with(".fd") && (path.contains("OVMF") || path.contains("AAVMF")) =>
        {
            Ok(Firmware::Uefi)
        }
        Some(_) => {
            Err(refuse("vm_uefi", "expected the path of an OVMF or AAVMF image, or nothing"))
        }
    }
}

fn seed(body: &Body) -> SeedSpec {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    SeedSpec {
        hostname: given(&body.vm_hostname)
            .or_else(|| body.vm_name.as_ref().map(ToString::to_string)),
        user: given(&body.vm_user),
        password_hash: body.vm_password_hash.clone(),
        ssh_keys: given(&body.vm_sshkey).or_else(|| given(&body.sshkey)).into_iter().collect(),
        timezone: given(&body.vm_timezone),
        locale: given(&body.vm_locale),
        network: given(&body.vm_ip).map(|address| StaticNetwork {
            interface: given(&body.vm_interface),
            address,
            gateway: given(&body.vm_gw),
            dns: Vec::new(),
        }),
        ..SeedSpec::default()
    }
}

/// Memory at start and at most, MiB: the seed's defaults, within what the host has.
fn memory(body: &Body, host: &HostInfo) -> Result<(u64, u64), Problem> {
    let here = host.memory_bytes >> 20;
    let start = body.vm_ram_mb.map_or(1024, |n| n.0);
    if start > here {
        return Err(refuse("vm_ram_mb", &format!("host `{}` has {here} MiB", host.host)));
    }
    let most = body.vm_ram_mb_max.map_or_else(|| here.clamp(start, start.max(16384)), |n| n.0);
    Ok((start, most))
}

fn domain(body: Body, host: &HostInfo, who: &Identity) -> Result<DomainCreate, Problem> {
    let arch = body.vm_arch.unwrap_or(host.arch);
    let vcpus = count("vm_vcpus", body.vm_vcpus, 1)?;
    let (memory_mib, memory_mib_max) = memory(&body, host)?;
    let seed_mode = match body.mode.as_deref() {
        None | Some("") => SeedMode::Iso,
        Some("NOCLOUD") => SeedMode::Http,
        Some(_) => return Err(refuse("enum", "expected NOCLOUD or nothing")),
    };
    let seed = seed(&body);
    let record = GuestRecord {
        creator: who.user.clone(),
        created: now(),
        ipaddr: body.vm_ip.clone().unwrap_or_default(),
        gateway: body.vm_gw.clone().unwrap_or_default(),
        ..GuestRecord::default()
    };
    Ok(DomainCreate {
        id: VmId::new(),
        name: body.vm_name.map_or_else(|| ResourceName::parse("srv"), Ok)?,
        description: body.vm_desc,
        arch,
        template: None,
        variables: body.extra,
        vcpus,
        vcpus_max: count("vm_vcpus_max", body.vm_vcpus_max, vcpus.max(8))?,
        memory_mib,
        memory_mib_max,
        firmware: firmware(arch, body.vm_uefi.as_deref())?,
        tpm: false,
        graphics: Default::default(),
        cpu_model: body.vm_cpu,
        machine: None,
        seed_mode,
        seed,
        record,
    })
}

async fn run(app: &App, who: &Identity, host: &str, body: &[u8]) -> Result<Value, Problem> {
    let host = HostId::parse(host)?;
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        let code =
            if error.is_data() { ErrorCode::InvalidValue } else { ErrorCode::MalformedRequest };
        Problem::new(code, format!("body: {error}"))
    })?;
    let domain = domain(body, &app.host_info(&host).await?, who)?;
    let vm = domain.id;
    settle(app, who, &host, Work::Create { domain: Box::new(domain) }).await?;
    Ok(ok(format!("create vm {vm} on {host} ok"), json!({ "uuid": vm })))
}

/// The body is read whatever its content type says: `curl -d` alone is enough.
pub(super) async fn create(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    host: web::Path<String>,
    body: web::Bytes,
) -> HttpResponse {
    answer("create", run(&app, &who.identity, &host, &body).await)
}
