//! Templates of domains and devices (minijinja, Jinja2's syntax), values XML-escaped.
//!
//! Built in: one domain per architecture and the three devices. Operators add `<name>.xml.j2`
//! files; a request may set the variables that a template itself names, and no others.

use std::collections::BTreeSet;
use std::path::Path;

use minijinja::{AutoEscape, Environment, Value, context};
use vmmgr_common::api::domain::{DomainCreate, Firmware, Graphics, SeedMode};
use vmmgr_common::api::host::Arch;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{MacAddress, ResourceName};

use super::spec::DomainSpec;

const BUILT_IN: [(&str, &str); 7] = [
    ("metadata", include_str!("../../templates/domain/metadata.xml.j2")),
    ("snapshot", include_str!("../../templates/domain/snapshot.xml.j2")),
    ("domain/x86_64", include_str!("../../templates/domain/x86_64.xml.j2")),
    ("domain/aarch64", include_str!("../../templates/domain/aarch64.xml.j2")),
    ("device/disk-file", include_str!("../../templates/device/disk-file.xml.j2")),
    ("device/net-bridge", include_str!("../../templates/device/net-bridge.xml.j2")),
    ("device/cdrom", include_str!("../../templates/device/cdrom.xml.j2")),
];
/// Instructions that a rendering may take; the built-in ones need some thousand.
const FUEL: u64 = 200_000;
/// What we set ourselves: a request cannot.
const OURS: [&str; 17] = [
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
    "cpu_model",
    "pcie",
    "console_log",
    "vnc",
    "spice",
];

/// What the host adds to a request.
pub(crate) struct HostFacts<'a> {
    /// `kvm` or `qemu`.
    pub(crate) virt_type: &'a str,
    /// Folder of serial logs.
    pub(crate) console_log_dir: &'a Path,
}

/// All templates of the host.
pub(crate) struct Templates {
    environment: Environment<'static>,
    names: Vec<ResourceName>,
}

fn broken(name: &str, error: &minijinja::Error) -> Problem {
    Problem::new(ErrorCode::XmlRefused, format!("template `{name}`: {error}"))
        .hint("mend the template on the host")
}

impl Templates {
    /// Built-in ones, and `<name>.xml.j2` of `dir`; a file that does not parse is an error.
    pub(crate) fn load(dir: Option<&Path>) -> Result<Self, Problem> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_fuel(Some(FUEL));
        for (name, text) in BUILT_IN {
            environment.add_template(name, text).map_err(|error| broken(name, &error))?;
        }
        let mut names = Vec::new();
        for (name, text) in operator_files(dir)? {
            environment
                .add_template_owned(format!("operator/{name}"), text)
                .map_err(|error| broken(name.as_str(), &error))?;
            names.push(name);
        }
        for arch in [Arch::X86_64, Arch::Aarch64] {
            names.extend(ResourceName::parse(arch.as_str()));
        }
        Ok(Self { environment, names })
    }

    /// Domain templates by name.
    pub(crate) fn names(&self) -> Vec<ResourceName> {
        self.names.clone()
    }

    fn render(&self, name: &str, values: Value) -> Result<String, Problem> {
        let template = self.environment.get_template(name).map_err(|_| {
            Problem::new(ErrorCode::NoSuchRecord, format!("no template `{name}` on this host"))
                .hint("the host's templates are in its record")
        })?;
        template.render(values).map_err(|error| broken(name, &error))
    }

    /// The XML of a guest; not yet judged by [`super::policy`].
    pub(crate) fn render_domain(
        &self,
        spec: &DomainSpec,
        host: &HostFacts<'_>,
    ) -> Result<String, Problem> {
        let create = spec.get();
        let name = match &create.template {
            Some(name)
                if Arch::X86_64.as_str() != name.as_str()
                    && Arch::Aarch64.as_str() != name.as_str() =>
            {
                format!("operator/{name}")
            }
            Some(name) => format!("domain/{name}"),
            None => format!("domain/{}", create.arch.as_str()),
        };
        self.check_variables(&name, create)?;
        let extra = Value::from(create.variables.clone());
        self.render(&name, context! { ..values(create, host), ..extra })
    }

    fn check_variables(&self, name: &str, create: &DomainCreate) -> Result<(), Problem> {
        if create.variables.is_empty() {
            return Ok(());
        }
        // A template that is not there is told by the rendering.
        let Ok(template) = self.environment.get_template(name) else { return Ok(()) };
        let declared: BTreeSet<String> = template.undeclared_variables(false).into_iter().collect();
        let odd: Vec<&str> = create
            .variables
            .keys()
            .map(String::as_str)
            .filter(|key| OURS.contains(key) || !declared.contains(*key))
            .collect();
        if odd.is_empty() {
            return Ok(());
        }
        let names: Vec<String> =
            odd.iter().map(|name| format!("`{}`", name.escape_debug())).collect();
        Err(Problem::new(
            ErrorCode::InvalidValue,
            format!("the template has no variable {}", names.join(", ")),
        ))
    }

    /// Our metadata block; libvirt adds its namespace.
    pub(crate) fn render_metadata(&self, rows: &[(String, String)]) -> Result<String, Problem> {
        self.render("metadata", context! { rows => rows.to_vec() })
    }

    /// A snapshot to be taken.
    pub(crate) fn render_snapshot(&self, name: &str, description: &str) -> Result<String, Problem> {
        self.render("snapshot", context! { name, description })
    }

    /// A disk of the pool.
    pub(crate) fn render_disk(&self, path: &str, target: &str) -> Result<String, Problem> {
        self.render("device/disk-file", context! { path, target })
    }

    /// A NIC on a bridge.
    pub(crate) fn render_nic(&self, mac: MacAddress, bridge: &str) -> Result<String, Problem> {
        self.render("device/net-bridge", context! { mac => mac.to_string(), bridge })
    }

    /// A CD-ROM drive.
    pub(crate) fn render_cdrom(
        &self,
        path: Option<&str>,
        target: &str,
        bus: &str,
    ) -> Result<String, Problem> {
        self.render("device/cdrom", context! { path, target, bus })
    }
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
        uefi => create.firmware == Firmware::Uefi,
        cpu_model => create.cpu_model.as_ref().map(ResourceName::as_str),
        console_log => host.console_log_dir.join(format!("console.{}.log", create.id)).to_string_lossy(),
        vnc => create.graphics == Graphics::Vnc,
        spice => create.graphics == Graphics::Spice,
    }
}

fn operator_files(dir: Option<&Path>) -> Result<Vec<(ResourceName, String)>, Problem> {
    let Some(dir) = dir.filter(|dir| dir.exists()) else { return Ok(Vec::new()) };
    let bad = |error: std::io::Error| Problem::new(ErrorCode::Internal, error.to_string());
    let mut files = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(bad)? {
        let path = entry.map_err(bad)?.path();
        let stem =
            path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".xml.j2"));
        if let Some(stem) = stem {
            files.push((ResourceName::parse(stem)?, fs_err::read_to_string(&path).map_err(bad)?));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::request;
    use super::super::{policy, read};
    use super::*;
    use crate::hypervisor::RawDomain;
    use vmmgr_common::api::domain::DomainState;

    fn render(create: &DomainCreate) -> Result<String, Problem> {
        let host = HostFacts { virt_type: "qemu", console_log_dir: "/var/log/vmmgr".as_ref() };
        Templates::load(None)?.render_domain(&DomainSpec::try_from(create)?, &host)
    }

    #[test]
    fn hostile_text_stays_text() {
        let mut create = request(Arch::X86_64, Firmware::Bios);
        create.description =
            "</description><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'/>{{ 7*7 }}".into();
        create.record.tenant = "a&b<c>\"'".into();
        let xml = render(&create).unwrap();
        let document = roxmltree::Document::parse(&xml).unwrap();
        assert!(!xml.contains("<qemu:"));
        policy::check(&xml, &["/var/log/vmmgr".into()]).unwrap();
        let described = document.descendants().find(|n| n.has_tag_name("description")).unwrap();
        assert_eq!(described.text(), Some(create.description.as_str()));
        let raw = RawDomain {
            id: create.id,
            xml,
            state: DomainState::ShutOff,
            memory_kib: 1,
            cpu_time_ns: 0,
            autostart: false,
        };
        let domain = read::parse(&raw).unwrap();
        assert_eq!(domain.record.tenant, create.record.tenant);
        assert_eq!(domain.vcpus_max, 2);
    }

    #[test]
    fn every_architecture_and_firmware_passes_the_policy() {
        for (arch, firmware, graphics) in [
            (Arch::X86_64, Firmware::Bios, Graphics::Vnc),
            (Arch::X86_64, Firmware::Uefi, Graphics::Spice),
            (Arch::X86_64, Firmware::Bios, Graphics::None),
            (Arch::Aarch64, Firmware::Uefi, Graphics::Vnc),
        ] {
            let mut create = request(arch, firmware);
            create.graphics = graphics;
            let xml = render(&create).unwrap();
            assert_eq!(xml.contains("<graphics type='spice'>"), graphics == Graphics::Spice);
            assert_eq!(xml.contains("<graphics type='vnc'>"), graphics == Graphics::Vnc);
            policy::check(&xml, &["/var/log/vmmgr".into()]).unwrap();
            assert_eq!(xml.contains("pflash"), firmware == Firmware::Uefi);
            assert!(xml.contains("ds=nocloud-net;s=http:"));
        }
    }

    #[test]
    fn only_variables_that_the_template_declares_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let text = include_str!("../../templates/domain/x86_64.xml.j2")
            .replace("<clock offset='utc'/>", "<clock offset='{{ clock }}'/>");
        fs_err::write(dir.path().join("clocked.xml.j2"), text).unwrap();
        let templates = Templates::load(Some(dir.path())).unwrap();
        let host = HostFacts { virt_type: "qemu", console_log_dir: "/l".as_ref() };
        let mut create = request(Arch::X86_64, Firmware::Bios);
        create.template = Some(ResourceName::parse("clocked").unwrap());
        create.variables.insert("clock".into(), "localtime".into());
        let xml = templates.render_domain(&DomainSpec::try_from(&create).unwrap(), &host).unwrap();
        assert!(xml.contains("offset='localtime'"));
        for odd in ["nope", "uuid", "virt_type"] {
            let mut create = create.clone();
            create.variables.insert(odd.into(), "x".into());
            let problem = templates
                .render_domain(&DomainSpec::try_from(&create).unwrap(), &host)
                .unwrap_err();
            assert_eq!(problem.status, 422, "{odd}");
        }
        create.template = Some(ResourceName::parse("absent").unwrap());
        let problem =
            templates.render_domain(&DomainSpec::try_from(&create).unwrap(), &host).unwrap_err();
        assert_eq!(problem.status, 404);
    }
}
