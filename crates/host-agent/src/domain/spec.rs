//! A request for a guest, checked.

use vmmgr_common::api::domain::{DomainCreate, Firmware, Graphics};
use vmmgr_common::api::host::Arch;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::text;

/// libvirt and QEMU take more; nobody means to.
const MOST_VCPUS: u32 = 512;
const LEAST_MEMORY_MIB: u64 = 16;
const MOST_MEMORY_MIB: u64 = 16 << 20;
const LONGEST_DESCRIPTION: usize = 1000;
const LONGEST_VARIABLE: usize = 4096;

/// A request that can become a domain: every value is within its limits.
#[derive(Debug, Clone)]
pub(crate) struct DomainSpec(DomainCreate);

impl DomainSpec {
    /// The checked request.
    pub(crate) fn get(&self) -> &DomainCreate {
        &self.0
    }
}

fn refuse(field: &str, rule: &str) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("{field}: {rule}"))
}

/// A description within its limits.
pub(crate) fn check_description(given: &str) -> Result<(), Problem> {
    text::check("description", given, LONGEST_DESCRIPTION)
}

/// A number of CPUs that a guest can have.
pub(crate) fn check_vcpus(count: u32) -> Result<(), Problem> {
    if (1..=MOST_VCPUS).contains(&count) {
        return Ok(());
    }
    Err(refuse("vcpus", &format!("expected 1 to {MOST_VCPUS}")))
}

/// A size of memory that a guest can have.
pub(crate) fn check_memory(mib: u64) -> Result<(), Problem> {
    if (LEAST_MEMORY_MIB..=MOST_MEMORY_MIB).contains(&mib) {
        return Ok(());
    }
    Err(refuse("memory_mib", &format!("expected {LEAST_MEMORY_MIB} to {MOST_MEMORY_MIB}")))
}

impl TryFrom<&DomainCreate> for DomainSpec {
    type Error = Problem;

    fn try_from(create: &DomainCreate) -> Result<Self, Problem> {
        if create.name.as_str().len() > 63 {
            return Err(refuse("name", "longer than 63 characters"));
        }
        text::check("description", &create.description, LONGEST_DESCRIPTION)?;
        for (name, value) in &create.variables {
            text::check(&format!("variable `{}`", name.escape_debug()), value, LONGEST_VARIABLE)?;
        }
        let record = &create.record;
        for (field, value) in [
            ("tenant", &record.tenant),
            ("creator", &record.creator),
            ("created", &record.created),
            ("ipaddr", &record.ipaddr),
            ("gateway", &record.gateway),
            ("template", &record.template),
        ] {
            text::check_line(field, value, 200)?;
        }
        if create.vcpus == 0 || create.vcpus > create.vcpus_max || create.vcpus_max > MOST_VCPUS {
            return Err(refuse(
                "vcpus",
                &format!("expected 1 <= vcpus <= vcpus_max <= {MOST_VCPUS}"),
            ));
        }
        if create.memory_mib < LEAST_MEMORY_MIB
            || create.memory_mib > create.memory_mib_max
            || create.memory_mib_max > MOST_MEMORY_MIB
        {
            return Err(refuse(
                "memory_mib",
                &format!(
                    "expected {LEAST_MEMORY_MIB} <= memory_mib <= memory_mib_max <= {MOST_MEMORY_MIB}"
                ),
            ));
        }
        if create.arch == Arch::Aarch64 && create.firmware == Firmware::Bios {
            return Err(refuse("firmware", "aarch64 guests have no BIOS").hint("ask for `uefi`"));
        }
        let built_in = create.template.is_none();
        if create.arch == Arch::Aarch64 && create.graphics == Graphics::Spice && built_in {
            return Err(refuse("graphics", "aarch64 guests have no SPICE").hint("ask for `vnc`"));
        }
        Ok(Self(create.clone()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use vmmgr_common::ids::VmId;

    /// A small valid request.
    pub(crate) fn request(arch: Arch, firmware: Firmware) -> DomainCreate {
        serde_json::from_value(serde_json::json!({
            "id": VmId::new(), "name": "web1", "arch": arch, "vcpus": 1, "vcpus_max": 2,
            "memory_mib": 256, "memory_mib_max": 512, "firmware": firmware,
        }))
        .unwrap()
    }

    #[test]
    fn values_outside_their_limits_are_refused_by_name() {
        type Spoil = fn(&mut DomainCreate);
        let spoils: [(&str, Spoil); 9] = [
            ("vcpus", |c| c.vcpus = 0),
            ("vcpus", |c| c.vcpus = 3),
            ("vcpus", |c| c.vcpus_max = 1000),
            ("memory_mib", |c| c.memory_mib = 1),
            ("memory_mib", |c| c.memory_mib = 1024),
            ("description", |c| c.description = "a\u{0}b".into()),
            ("description", |c| c.description = "a\u{1b}[2J".into()),
            ("description", |c| c.description = "x".repeat(1001)),
            ("tenant", |c| c.record.tenant = "a\u{7}".into()),
        ];
        for (field, spoil) in spoils {
            let mut create = request(Arch::X86_64, Firmware::Bios);
            spoil(&mut create);
            let problem = DomainSpec::try_from(&create).unwrap_err();
            assert_eq!(problem.status, 422);
            assert!(problem.detail.starts_with(field), "{problem}");
        }
        let odd = DomainSpec::try_from(&request(Arch::Aarch64, Firmware::Bios)).unwrap_err();
        assert!(odd.hint.is_some());
        let mut create = request(Arch::Aarch64, Firmware::Uefi);
        create.graphics = Graphics::Spice;
        assert_eq!(DomainSpec::try_from(&create).unwrap_err().status, 422);
        let mut create = request(Arch::X86_64, Firmware::Bios);
        create.description = "测试VM <&>\"'\n".into();
        assert!(DomainSpec::try_from(&create).is_ok());
    }
}
