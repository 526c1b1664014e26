//! From work to steps. Looks, decides and changes nothing: what is refused here has no effect.

mod devices;
pub(crate) mod hook;
mod seed;
mod tune;

use vmmgr_common::api::disk::DeviceRef;
use vmmgr_common::api::domain::{Disk, Domain, DomainCreate, DomainState, SeedMode};
use vmmgr_common::api::operation::{Outcome, Work};
use vmmgr_common::api::seed::SeedRecord;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{MacAddress, VmId};

use super::Context;
use super::step::{Step, Tune};
use crate::config::VirtType;
use crate::domain::cdrom::Inserted;
use crate::domain::spec::DomainSpec;
use crate::domain::target::{self, Found};
use crate::domain::template::HostFacts;
use crate::domain::{policy, read};
use crate::hypervisor::{HypervisorError, RawDomain};

/// Room that a pool must have before a thin disk is put into it, bytes.
const LEAST_ROOM: u64 = 64 << 20;
/// Slots for disks and interfaces that the built-in machines have.
const MOST_SLOTS: usize = 24;

/// Steps, and what is known of the result beforehand.
pub(super) struct Planned {
    pub(super) steps: Vec<Step>,
    pub(super) outcome: Outcome,
}

impl From<Vec<Step>> for Planned {
    fn from(steps: Vec<Step>) -> Self {
        Self { steps, outcome: Outcome::default() }
    }
}

/// Plans `work`.
pub(super) async fn make(context: &Context, work: &Work) -> Result<Planned, Problem> {
    match work {
        Work::Create { domain } => create(context, domain).await.map(Planned::from),
        Work::Start { vm } => simple(context, Step::Start { vm: *vm }, *vm).await,
        Work::Shutdown { vm } => simple(context, Step::Shutdown { vm: *vm }, *vm).await,
        Work::Destroy { vm } => simple(context, Step::Destroy { vm: *vm }, *vm).await,
        Work::Reset { vm } => simple(context, Step::Reset { vm: *vm }, *vm).await,
        Work::Suspend { vm } => simple(context, Step::Tune(Tune::Suspend { vm: *vm }), *vm).await,
        Work::Resume { vm } => simple(context, Step::Tune(Tune::Resume { vm: *vm }), *vm).await,
        Work::Reboot { vm } => simple(context, Step::Tune(Tune::Reboot { vm: *vm }), *vm).await,
        Work::Configure { vm, change } => tune::configure(context, *vm, change).await,
        Work::ResizeDisk { vm, target, size } => tune::resize(context, *vm, target, *size).await,
        Work::CreateSnapshot { vm, snapshot } => {
            tune::create_snapshot(context, *vm, snapshot).await
        }
        Work::RevertSnapshot { vm, name } => tune::revert_snapshot(context, *vm, name).await,
        Work::DeleteSnapshot { vm, name } => tune::delete_snapshot(context, *vm, name).await,
        Work::Reseed { vm, seed, new_instance } => {
            seed::reseed(context, *vm, seed.as_deref(), *new_instance).await
        }
        Work::Delete { vm } => delete(context, *vm).await,
        Work::Attach { vm, attachment } => devices::attach(context, *vm, attachment).await,
        Work::Detach { vm, device } => detach(context, *vm, device).await,
        Work::ChangeMedium { vm, device, medium } => {
            devices::change_medium(context, *vm, device, medium).await
        }
        Work::ImportImage { gold } => Ok(vec![Step::EnsureImage { gold: gold.clone() }].into()),
        Work::IfUnchanged { versions, work } => {
            if let Some(vm) = work.vm() {
                present(context, vm).await?.unchanged(versions)?;
            }
            Box::pin(make(context, work)).await
        }
    }
}

/// The guest as callers are shown it.
async fn present(context: &Context, vm: VmId) -> Result<Domain, Problem> {
    let raw = context.hypervisor.domain(vm).await?;
    read::parse(&raw).ok_or_else(|| {
        Problem::new(ErrorCode::HypervisorFailed, format!("guest {vm} cannot be read"))
    })
}

async fn simple(context: &Context, step: Step, vm: VmId) -> Result<Planned, Problem> {
    context.hypervisor.domain(vm).await?;
    Ok(vec![step].into())
}

async fn create(context: &Context, create: &DomainCreate) -> Result<Vec<Step>, Problem> {
    let spec = DomainSpec::try_from(create)?;
    let vm = create.id;
    match context.hypervisor.domain(vm).await {
        Err(HypervisorError::NoSuchDomain(_)) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(HypervisorError::AlreadyExists(vm).into()),
    }
    let host = HostFacts {
        virt_type: if context.virt_type == VirtType::Kvm { "kvm" } else { "qemu" },
        console_log_dir: &context.history.logs,
    };
    if host.virt_type != "kvm"
        && create.cpu_model.as_ref().is_some_and(|m| m.as_str().starts_with("host-"))
    {
        return Err(Problem::new(
            ErrorCode::InvalidValue,
            format!("cpu_model: host {} emulates, guests cannot have its CPU", context.host),
        )
        .hint("ask for `maximum` or a named model"));
    }
    let xml = context.templates.render_domain(&spec, &host)?;
    policy::check(&xml, &context.allowed())?;
    let mut steps = Vec::new();
    if create.seed_mode != SeedMode::None {
        let record =
            SeedRecord { vm, spec: create.seed.clone(), macs: Vec::new(), committed: false };
        steps.push(Step::PutSeed { record: Box::new(record) });
    }
    steps.push(Step::Define { vm, xml });
    if create.seed_mode == SeedMode::Iso {
        let path = context.volumes.files().seed_path(vm);
        let bus = "sata";
        let xml = context.templates.render_cdrom(
            &Inserted::File(path.clone()),
            "sda",
            cdrom_bus(create.arch.as_str(), bus),
        )?;
        policy::check_fragment(&xml, &context.allowed())?;
        steps.push(Step::WriteSeedIso { vm, path });
        steps.push(Step::Attach { vm, xml, device: "sda".to_owned() });
    }
    if create.seed_mode != SeedMode::None {
        steps.push(Step::CommitSeed { vm });
    }
    Ok(steps)
}

/// The `virt` machine has no SATA controller.
fn cdrom_bus<'a>(arch: &str, otherwise: &'a str) -> &'a str {
    if arch == "aarch64" { "scsi" } else { otherwise }
}

/// A guest as plans need it.
struct Guest {
    name: String,
    raw: RawDomain,
    definition: String,
    arch: String,
    machine: String,
    description: String,
    macs: Vec<MacAddress>,
    disks: Vec<Disk>,
}

impl Guest {
    async fn read(context: &Context, vm: VmId) -> Result<Self, Problem> {
        let raw = context.hypervisor.domain(vm).await?;
        let definition = context.hypervisor.definition(vm, false).await?;
        let domain = read::parse(&raw).ok_or_else(|| {
            Problem::new(ErrorCode::HypervisorFailed, format!("guest {vm}: its XML cannot be read"))
        })?;
        Ok(Self {
            machine: read::machine(&raw.xml),
            raw,
            definition,
            name: domain.name,
            arch: domain.arch,
            description: domain.description,
            macs: domain.nics.iter().map(|nic| nic.mac).collect(),
            disks: domain.disks,
        })
    }

    fn running(&self) -> bool {
        !matches!(
            self.raw.state,
            DomainState::ShutOff | DomainState::Crashed | DomainState::NoState
        )
    }

    fn next_target(&self, prefix: &str) -> String {
        target::next_free(prefix, &[&self.definition, &self.raw.xml])
    }

    fn find(&self, vm: VmId, device: &DeviceRef) -> Result<(String, Found), Problem> {
        let name = match device {
            DeviceRef::Mac(mac) => mac.to_string(),
            DeviceRef::Target(target) => target.to_string(),
        };
        target::find_device(&self.definition, &name)
            .or_else(|| target::find_device(&self.raw.xml, &name))
            .map(|found| (name.clone(), found))
            .ok_or_else(|| {
                Problem::new(ErrorCode::NoSuchDevice, format!("guest {vm} has no {name}"))
            })
    }
}

async fn detach(context: &Context, vm: VmId, device: &DeviceRef) -> Result<Planned, Problem> {
    let guest = Guest::read(context, vm).await?;
    let (name, found) = guest.find(vm, device)?;
    let mut steps = Vec::new();
    let mut outcome = Outcome { target: Some(name.clone()), ..Outcome::default() };
    let step = Step::Detach { vm, xml: found.xml.clone(), device: name.clone() };
    if let DeviceRef::Mac(mac) = device {
        let macs = guest.macs.iter().copied().filter(|m| m != mac).collect();
        steps.push(step);
        steps.extend(hook::gone(context, vm, Some(&name)).await?);
        steps.push(Step::SetCallers { vm, macs, old: guest.macs.clone() });
        return Ok(Planned { steps, outcome });
    }
    let boots =
        guest.disks.iter().find(|disk| disk.device == "disk").is_some_and(|d| d.target == name);
    if boots && guest.running() {
        return Err(Problem::new(
            ErrorCode::WrongState,
            format!("{name} is the boot disk of guest {vm}, which runs"),
        )
        .hint("shut the guest down first"));
    }
    if found.device == "cdrom" && guest.running() {
        return Err(Problem::new(
            ErrorCode::WrongState,
            format!("guest {vm} runs; {name} cannot be unplugged"),
        )
        .hint("change its medium instead, or shut the guest down"));
    }
    steps.push(step);
    steps.extend(hook::gone(context, vm, Some(&name)).await?);
    if context.journal.volumes(vm).await?.contains(&found.source) {
        context.volumes.holding(&found.source)?.ready().await?;
        steps.push(Step::DeleteVolume { path: found.source });
    } else if found.device == "disk" && !found.source.is_empty() {
        outcome.undeleted = guest.disks.into_iter().filter(|disk| disk.target == name).collect();
    }
    Ok(Planned { steps, outcome })
}

async fn delete(context: &Context, vm: VmId) -> Result<Planned, Problem> {
    let volumes = context.journal.volumes(vm).await?;
    let hooks = hook::gone(context, vm, None).await?;
    for volume in &volumes {
        context.volumes.holding(volume)?.ready().await?;
    }
    let mut outcome = Outcome::default();
    let mut steps = Vec::new();
    match Guest::read(context, vm).await {
        Ok(guest) => {
            let foreign = |disk: &Disk| disk.device == "disk" && !volumes.contains(&disk.source);
            outcome.undeleted = guest.disks.into_iter().filter(foreign).collect();
            steps.extend([Step::Destroy { vm }, Step::Undefine { vm }]);
        }
        // A delete that stopped half way left volumes, hooks or the seed: this one is for them.
        Err(problem)
            if problem.code == ErrorCode::NoSuchVm
                && (!volumes.is_empty() || !hooks.is_empty() || has_seed(context, vm).await?) => {}
        Err(problem) => return Err(problem),
    }
    // Before the volumes: a hook may hold what is in one.
    steps.extend(hooks);
    steps.extend(volumes.into_iter().map(|path| Step::DeleteVolume { path }));
    steps.extend([Step::DeleteHistory { vm }, Step::DeleteSeed { vm }]);
    Ok(Planned { steps, outcome })
}

async fn has_seed(context: &Context, vm: VmId) -> Result<bool, Problem> {
    let Some(metadata) = &context.metadata else { return Ok(false) };
    match metadata.boot(vm).await {
        Ok(_) => Ok(true),
        Err(problem) if problem.status == 404 => Ok(false),
        Err(problem) => Err(problem),
    }
}

impl Context {
    /// Where a guest's disks and files may be.
    fn allowed(&self) -> policy::Allowed<'_> {
        let mut roots = vec![self.volumes.dir().to_owned(), self.history.logs.clone()];
        roots.extend(self.local_roots.iter().cloned());
        let (rbd, origins) = (self.volumes.rbd_pools().collect(), Some(self.images.origins()));
        policy::Allowed { roots, rbd, origins }
    }
}
