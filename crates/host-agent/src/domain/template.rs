//! Templates of domains and devices (minijinja, Jinja2's syntax), values XML-escaped.
//!
//! Built in: one domain per architecture, and the devices. Operators add their own:
//!
//! ```text
//!  template_dir/<name>.xml.j2          a domain          template_dir/<name>.vars.json
//!  template_dir/device/<name>.xml.j2   a device          template_dir/device/<name>.vars.json
//!  template_dir/vars.json              help for variables of all of them
//! ```
//!
//! A file that is broken is left out and named in the log and in the host's record: the agent and
//! the other templates are not held up by it.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::{AutoEscape, Environment, Value, context};
use vmmgr_common::api::domain::{DomainCreate, Firmware, Graphics, SeedMode};
use vmmgr_common::api::host::Arch;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{MacAddress, ResourceName};

use super::cdrom::Inserted;
use super::rbd::RbdPool;
use super::spec::DomainSpec;
use super::variables::{self, Variables};

const X86_64: &str = include_str!("../../templates/domain/x86_64.xml.j2");
const AARCH64: &str = include_str!("../../templates/domain/aarch64.xml.j2");
const DOMAINS: [(&str, &str, &str); 2] = [
    ("x86_64", X86_64, include_str!("../../templates/domain/x86_64.vars.json")),
    ("aarch64", AARCH64, include_str!("../../templates/domain/aarch64.vars.json")),
];
const PARTS: [(&str, &str); 6] = [
    ("metadata", include_str!("../../templates/domain/metadata.xml.j2")),
    ("snapshot", include_str!("../../templates/domain/snapshot.xml.j2")),
    ("device/disk-file", include_str!("../../templates/device/disk-file.xml.j2")),
    ("device/disk-rbd", include_str!("../../templates/device/disk-rbd.xml.j2")),
    ("device/net-bridge", include_str!("../../templates/device/net-bridge.xml.j2")),
    ("device/cdrom", include_str!("../../templates/device/cdrom.xml.j2")),
];
/// Instructions that a rendering may take; the built-in ones need some thousand.
const FUEL: u64 = 200_000;
/// What we set ourselves: a request cannot.
const OURS: [&str; 27] = [
    "virt_type",
    "name",
    "uuid",
    "description",
    "record",
    "memory_mib",
    "memory_mib_max",
    "vcpus",
    "vcpus_max",
    "seed_serial",
    "machine",
    "uefi",
    "secure_boot",
    "tpm",
    "cpu_mode",
    "cpu_model",
    "pcie",
    "console_log",
    "vnc",
    "spice",
    "path",
    "target",
    "bus",
    "format",
    "rbd",
    "mac",
    "bridge",
];
/// Set for interfaces only; a name that operators may want elsewhere.
const MODEL: &str = "model";

/// What the host adds to a request.
pub(crate) struct HostFacts<'a> {
    /// `kvm` or `qemu`.
    pub(crate) virt_type: &'a str,
    /// Folder of serial logs.
    pub(crate) console_log_dir: &'a Path,
}

/// A disk to be rendered.
pub(crate) struct DiskValues<'a> {
    /// Its volume: a file, or an image as `<ceph pool>/<image>`.
    pub(crate) path: &'a str,
    /// Target (`vda`).
    pub(crate) target: &'a str,
    /// libvirt's bus.
    pub(crate) bus: &'a str,
    /// libvirt's driver type.
    pub(crate) format: &'a str,
    /// The image's pool; none for a file.
    pub(crate) rbd: Option<&'a RbdPool>,
}

/// An operator's device template, and values for its variables.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    /// Its name; the built-in one otherwise.
    pub(crate) template: Option<&'a ResourceName>,
    /// Values of the request.
    pub(crate) variables: &'a BTreeMap<String, String>,
}

/// All templates of the host.
pub(crate) struct Templates {
    environment: Environment<'static>,
    domains: BTreeMap<ResourceName, Variables>,
    devices: BTreeMap<ResourceName, Variables>,
    problems: Vec<String>,
}

fn broken(name: &str, error: &minijinja::Error) -> Problem {
    Problem::new(ErrorCode::XmlRefused, format!("template `{name}`: {error}"))
        .hint("mend the template on the host")
}

impl Templates {
    /// Built-in ones, and those of `dir`.
    pub(crate) fn load(dir: Option<&Path>) -> Result<Self, Problem> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_fuel(Some(FUEL));
        for (name, text) in PARTS {
            environment.add_template(name, text).map_err(|error| broken(name, &error))?;
        }
        let (domains, devices) = (BTreeMap::new(), BTreeMap::new());
        let mut all = Self { environment, domains, devices, problems: Vec::new() };
        for (name, text, help) in DOMAINS {
            let bad = |why: String| Problem::new(ErrorCode::Internal, why);
            all.add("domain", name, text.to_owned(), &variables::read(help).map_err(bad)?)
                .map_err(bad)?;
        }
        if let Some(dir) = dir {
            let help = all.help(&dir.join("vars.json"));
            all.add_folder("domain", dir, &help);
            all.add_folder("device", &dir.join("device"), &help);
        }
        for problem in &all.problems {
            tracing::error!(problem, "a template file is left out");
        }
        Ok(all)
    }

    /// Adds one; `kind` is `domain` or `device`.
    fn add(
        &mut self,
        kind: &str,
        name: &str,
        text: String,
        help: &Variables,
    ) -> Result<(), String> {
        let parsed = ResourceName::parse(name).map_err(|error| error.to_string())?;
        let full = format!("own/{kind}/{name}");
        if self.environment.get_template(&full).is_ok() {
            return Err(format!("the name `{name}` is that of a built-in template"));
        }
        self.environment
            .add_template_owned(full.clone(), text)
            .map_err(|error| error.to_string())?;
        let template = self.environment.get_template(&full).map_err(|error| error.to_string())?;
        let named = template.undeclared_variables(false).into_iter();
        let ours = |name: &String| {
            OURS.contains(&name.as_str()) || (kind == "device" && name == MODEL) || name == "range"
        };
        let declared = named
            .filter(|name| !ours(name))
            .map(|name| (name.clone(), help.get(&name).cloned().unwrap_or_default()))
            .collect();
        let list = if kind == "domain" { &mut self.domains } else { &mut self.devices };
        list.insert(parsed, declared);
        Ok(())
    }

    /// A file of help; one that is absent says nothing.
    fn help(&mut self, path: &Path) -> Variables {
        let text = match fs_err::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Variables::new(),
            Err(error) => {
                self.problems.push(error.to_string());
                return Variables::new();
            }
        };
        variables::read(&text).unwrap_or_else(|why| {
            self.problems.push(format!("{}: {why}", path.display()));
            Variables::new()
        })
    }

    fn add_folder(&mut self, kind: &str, dir: &Path, shared: &Variables) {
        if !dir.exists() {
            return;
        }
        let mut paths: Vec<_> = match fs_err::read_dir(dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) => return self.problems.push(error.to_string()),
        };
        paths.sort();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(stem) = name.and_then(|name| name.strip_suffix(".xml.j2")) else { continue };
            let stem = stem.to_owned();
            let mut help = shared.clone();
            help.extend(self.help(&dir.join(format!("{stem}.vars.json"))));
            let added = fs_err::read_to_string(&path)
                .map_err(|error| error.to_string())
                .and_then(|text| self.add(kind, &stem, text, &help));
            if let Err(why) = added {
                self.problems.push(format!("{}: {why}", path.display()));
            }
        }
    }

    /// Domain templates with their variables.
    pub(crate) fn domains(&self) -> &BTreeMap<ResourceName, Variables> {
        &self.domains
    }

    /// Variables of an operator's device template.
    pub(crate) fn device_variables(&self, name: &ResourceName) -> Variables {
        self.devices.get(name).cloned().unwrap_or_default()
    }

    /// Files that were left out, and why.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    fn render(&self, name: &str, values: Value) -> Result<String, Problem> {
        let template = self.environment.get_template(name).map_err(|error| broken(name, &error))?;
        template.render(values).map_err(|error| broken(name, &error))
    }

    /// The XML of a guest; not yet judged by [`super::policy`].
    pub(crate) fn render_domain(
        &self,
        spec: &DomainSpec,
        host: &HostFacts<'_>,
    ) -> Result<String, Problem> {
        let create = spec.get();
        let name = create.template.as_ref().map_or(create.arch.as_str(), ResourceName::as_str);
        let declared = ResourceName::parse(name).ok().and_then(|name| self.domains.get(&name));
        let declared = declared.ok_or_else(|| absent(name))?;
        let extra = Value::from(variables::settle(declared, &create.variables)?);
        self.render(&format!("own/domain/{name}"), context! { ..values(create, host), ..extra })
    }

    /// Our metadata block; libvirt adds its namespace.
    pub(crate) fn render_metadata(&self, rows: &[(String, String)]) -> Result<String, Problem> {
        self.render("metadata", context! { rows => rows.to_vec() })
    }

    /// A snapshot to be taken.
    pub(crate) fn render_snapshot(&self, name: &str, description: &str) -> Result<String, Problem> {
        self.render("snapshot", context! { name, description })
    }

    fn render_device(
        &self,
        built_in: &str,
        own: Own<'_>,
        values: Value,
    ) -> Result<String, Problem> {
        let (name, declared) = match own.template {
            None => (built_in.to_owned(), Variables::new()),
            Some(name) => {
                let declared = self.devices.get(name).ok_or_else(|| absent(name.as_str()))?;
                (format!("own/device/{name}"), declared.clone())
            }
        };
        let extra = Value::from(variables::settle(&declared, own.variables)?);
        self.render(&name, context! { ..values, ..extra })
    }

    /// A disk of a pool.
    pub(crate) fn render_disk(
        &self,
        disk: &DiskValues<'_>,
        own: Own<'_>,
    ) -> Result<String, Problem> {
        let DiskValues { path, target, bus, format, rbd } = *disk;
        let built_in = if rbd.is_some() { "device/disk-rbd" } else { "device/disk-file" };
        let rbd = rbd.map(ceph);
        self.render_device(built_in, own, context! { path, target, bus, format, rbd })
    }

    /// A NIC on a bridge.
    pub(crate) fn render_nic(
        &self,
        mac: MacAddress,
        bridge: &str,
        model: &str,
        own: Own<'_>,
    ) -> Result<String, Problem> {
        let values = context! { mac => mac.to_string(), bridge, model };
        self.render_device("device/net-bridge", own, values)
    }

    /// A CD-ROM drive.
    pub(crate) fn render_cdrom(
        &self,
        inserted: &Inserted,
        target: &str,
        bus: &str,
    ) -> Result<String, Problem> {
        let (path, network) = match inserted {
            Inserted::Nothing => (None, None),
            Inserted::File(path) => (Some(path), None),
            Inserted::Network(iso) => (
                None,
                Some(context! {
                    protocol => iso.url.url().scheme(),
                    path => iso.url.url().path().trim_start_matches('/'),
                    host => iso.host(),
                    port => iso.port(),
                    tls => iso.url.is_tls(),
                    verify => if iso.tls_verify { "yes" } else { "no" },
                }),
            ),
        };
        self.render("device/cdrom", context! { path, network, target, bus })
    }
}

fn absent(name: &str) -> Problem {
    Problem::new(ErrorCode::NoSuchRecord, format!("no template `{name}` on this host"))
        .hint("the host's templates are in its record")
}

/// What a disk's template must know of the image's pool.
fn ceph(pool: &RbdPool) -> Value {
    let monitors: Vec<Value> = pool
        .monitors
        .iter()
        .map(|monitor| context! { host => monitor.host.as_str(), port => monitor.port })
        .collect();
    context! { monitors, user => pool.user.as_str(), secret => pool.secret.to_string() }
}

/// libvirt's mode for what was asked, and the best that the machine gives otherwise.
fn cpu(create: &DomainCreate, host: &HostFacts<'_>) -> (String, Option<String>) {
    let kvm = host.virt_type == "kvm";
    let (mode, model) = match create.cpu_model.as_ref().map(ResourceName::as_str) {
        Some(mode @ ("host-model" | "host-passthrough" | "maximum")) => (mode, None),
        Some(model) => ("custom", Some(model)),
        None => match (create.arch, kvm) {
            (Arch::X86_64, true) => ("host-model", None),
            (Arch::Aarch64, true) => ("host-passthrough", None),
            (Arch::X86_64, false) => ("maximum", None),
            (Arch::Aarch64, false) => ("custom", Some("cortex-a57")),
        },
    };
    (mode.to_owned(), model.map(str::to_owned))
}

fn values(create: &DomainCreate, host: &HostFacts<'_>) -> Value {
    let record = &create.record;
    let machine = create.machine.as_ref().map_or_else(
        || if create.arch == Arch::Aarch64 { "virt" } else { "q35" },
        ResourceName::as_str,
    );
    let rows: Vec<(String, String)> = [
        ("tenant", &record.tenant),
        ("creator", &record.creator),
        ("created", &record.created),
        ("ipaddr", &record.ipaddr),
        ("gateway", &record.gateway),
        ("template", &record.template),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(key, value)| (key.to_owned(), value.clone()))
    .collect();
    // `nocloud-net`: with plain `nocloud` cloud-init 22.4 looks for local media only.
    let seed_serial = (create.seed_mode == SeedMode::Http)
        .then(|| format!("ds=nocloud-net;s=http://169.254.169.254/{}/", create.id));
    let (cpu_mode, cpu_model) = cpu(create, host);
    context! {
        virt_type => host.virt_type,
        name => create.name.as_str(),
        uuid => create.id.to_string(),
        description => create.description.clone(),
        record => rows,
        memory_mib => create.memory_mib,
        memory_mib_max => create.memory_mib_max,
        vcpus => create.vcpus,
        vcpus_max => create.vcpus_max,
        seed_serial,
        machine,
        pcie => machine.contains("q35") || machine.starts_with("virt"),
        uefi => create.firmware != Firmware::Bios,
        secure_boot => create.firmware == Firmware::UefiSecure,
        tpm => create.tpm,
        cpu_mode,
        cpu_model,
        console_log => host.console_log_dir.join(format!("console.{}.log", create.id)).to_string_lossy(),
        vnc => create.graphics == Graphics::Vnc,
        spice => create.graphics == Graphics::Spice,
    }
}

#[cfg(test)]
mod tests;
