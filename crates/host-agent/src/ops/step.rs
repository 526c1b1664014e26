//! The vocabulary of plans: each step with what it does and how it is undone.
//!
//! A plan is made up front and journaled; a step that a crash interrupted is run again with
//! `again = true`, and then "it is so already" counts as done.

mod hook;
mod tune;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use vmmgr_common::api::disk::{DiskFormat, DiskSize, GoldImage};
use vmmgr_common::api::domain::DomainState;
use vmmgr_common::api::seed::{SeedCallers, SeedRecord, StoredSeed};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{MacAddress, OperationId, VmId};

use super::Context;
use crate::domain::target;
use crate::hypervisor::{Affect, HypervisorError};
use crate::storage::volume::{NewVolume, Tell};

pub(crate) use hook::RunHook;
pub(crate) use tune::Tune;

/// How long a guest may take to let go of a device, and a stopped one to be off.
const LET_GO: Duration = Duration::from_secs(20);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One step of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(crate) enum Step {
    /// Write a seed, closed to the guest; undo: remove it.
    PutSeed { record: Box<SeedRecord> },
    /// Write a seed anew; undo: the one of before, as the instance that it was.
    ReplaceSeed { seed: Box<StoredSeed>, old: Box<StoredSeed> },
    /// Open a seed; no undo: the step before takes the seed away as a whole.
    CommitSeed { vm: VmId },
    /// Write the seed as an ISO into the pool; undo: remove the file.
    WriteSeedIso { vm: VmId, path: String },
    /// Define a domain; undo: undefine it.
    Define { vm: VmId, xml: String },
    /// Bring a gold image; no undo: the next disk wants it too.
    EnsureImage { gold: GoldImage },
    /// Make a volume; undo: delete it.
    CreateVolume {
        vm: VmId,
        path: String,
        size: DiskSize,
        gold: Option<GoldImage>,
        #[serde(default)]
        format: DiskFormat,
    },
    /// Attach a device; undo: detach it.
    Attach { vm: VmId, xml: String, device: String },
    /// Take a device away; undo: attach it again.
    Detach { vm: VmId, xml: String, device: String },
    /// Change a medium; undo: put the old one back.
    Update { vm: VmId, xml: String, old_xml: String },
    /// Tell metadata-srv the guest's addresses; undo: tell it the old ones.
    SetCallers { vm: VmId, macs: Vec<MacAddress>, old: Vec<MacAddress> },
    /// Start; no undo: a guest that runs is not stopped because of an answer that got lost.
    Start { vm: VmId },
    /// Ask to shut down; no undo: the guest decides.
    Shutdown { vm: VmId },
    /// Reset; no undo.
    Reset { vm: VmId },
    /// Cut the power and see that it is off; no undo: what ran is gone.
    Destroy { vm: VmId },
    /// Undefine and see that it is gone; no undo: after this the plan goes forward only.
    Undefine { vm: VmId },
    /// Delete a volume of ours; no undo: data is gone.
    DeleteVolume { path: String },
    /// Delete what the guest's serial line has said; no undo: data is gone.
    DeleteHistory { vm: VmId },
    /// Remove a seed; no undo, like the guest's.
    DeleteSeed { vm: VmId },
    /// Tell a device's hook that it comes or has gone; undo: tell it the opposite.
    Hook(RunHook),
    /// Change something of a guest that exists; undone as the change says.
    Tune(Tune),
}

impl Step {
    /// One line for people.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::PutSeed { .. } => "writing the seed".into(),
            Self::ReplaceSeed { .. } => "writing the seed anew".into(),
            Self::CommitSeed { .. } => "opening the seed".into(),
            Self::WriteSeedIso { .. } => "writing the seed as an ISO".into(),
            Self::Define { .. } => "defining the guest".into(),
            Self::EnsureImage { gold } => format!("gold image {}", gold.name),
            Self::CreateVolume { size, .. } => {
                format!("creating a volume of {} MiB", size.bytes() >> 20)
            }
            Self::Attach { device, .. } => format!("attaching {device}"),
            Self::Detach { device, .. } => format!("detaching {device}"),
            Self::Update { .. } => "changing the medium".into(),
            Self::SetCallers { .. } => "telling the seed service the guest's addresses".into(),
            Self::Start { .. } => "starting".into(),
            Self::Shutdown { .. } => "asking the guest to shut down".into(),
            Self::Reset { .. } => "resetting".into(),
            Self::Destroy { .. } => "cutting the power".into(),
            Self::Undefine { .. } => "undefining".into(),
            Self::DeleteVolume { .. } => "deleting a volume".into(),
            Self::DeleteHistory { .. } => "deleting the serial log".into(),
            Self::DeleteSeed { .. } => "removing the seed".into(),
            Self::Hook(hook) => hook.line(),
            Self::Tune(tune) => tune.line(),
        }
    }

    /// Does it. `again` says that it was begun before a crash.
    pub(crate) async fn run(
        &self,
        context: &Context,
        operation: OperationId,
        again: bool,
        progress: Tell<'_>,
    ) -> Result<(), Problem> {
        let hypervisor = &context.hypervisor;
        let done: Result<(), HypervisorError> = match self {
            Self::PutSeed { record } => return context.put_seed(record).await,
            Self::ReplaceSeed { seed, .. } => return context.replace_seed(seed).await,
            Self::CommitSeed { vm } => return context.commit_seed(*vm).await,
            Self::WriteSeedIso { vm, path } => {
                context.journal.own_volume(path, *vm, operation).await?;
                return context.write_seed_iso(*vm, path).await;
            }
            Self::EnsureImage { gold } => {
                return context.images.ensure(gold, progress).await.map(drop);
            }
            Self::CreateVolume { vm, path, size, gold, format } => {
                context.journal.own_volume(path, *vm, operation).await?;
                let disk = (*size, *format);
                if again {
                    // What the crash left of it.
                    context.volumes.holding(path)?.delete(path).await?;
                }
                return context.create_volume(path, disk, gold.as_ref(), progress).await;
            }
            Self::Hook(hook) => return hook.run(context, progress).await,
            Self::Tune(tune) => return tune.run(context, again).await,
            Self::SetCallers { vm, macs, .. } => return context.set_callers(*vm, macs).await,
            Self::DeleteVolume { path } => return context.delete_volume(path).await,
            Self::DeleteHistory { vm } => {
                let kept = |error| {
                    let said = format!("guest {vm}: its serial log cannot be deleted: {error}");
                    Problem::new(ErrorCode::HypervisorFailed, said)
                        .hint("see to it that host-agent may write to `console_log_dir`")
                };
                return context.history.remove(*vm).map_err(kept);
            }
            Self::DeleteSeed { vm } => return context.delete_seed(*vm).await,
            Self::Destroy { vm } => return destroy(context, *vm).await,
            Self::Undefine { vm } => return undefine(context, *vm).await,
            Self::Detach { vm, xml, device } => return detach(context, *vm, xml, device).await,
            Self::Attach { vm, xml, device } => {
                return attach(context, *vm, xml, device, again).await;
            }
            Self::Update { vm, xml, .. } => {
                let affect = affect(context, *vm).await?;
                hypervisor.update(*vm, xml, affect).await
            }
            Self::Define { vm, xml } => match hypervisor.define(*vm, xml).await {
                Err(HypervisorError::AlreadyExists(_)) if again => Ok(()),
                other => other,
            },
            Self::Start { vm } => match hypervisor.start(*vm).await {
                Err(HypervisorError::WrongState(_)) if again => Ok(()),
                other => other,
            },
            Self::Shutdown { vm } => match hypervisor.shutdown(*vm).await {
                Err(HypervisorError::WrongState(_)) if again => Ok(()),
                other => other,
            },
            Self::Reset { vm } => hypervisor.reset(*vm).await,
        };
        done.map_err(Problem::from)
    }

    /// True for what is gone once it is done: a plan does not turn back behind it.
    pub(crate) const fn is_irrevocable(&self) -> bool {
        matches!(
            self,
            Self::Destroy { .. }
                | Self::Undefine { .. }
                | Self::DeleteVolume { .. }
                | Self::DeleteHistory { .. }
                | Self::DeleteSeed { .. }
                | Self::Tune(Tune::RevertSnapshot { .. } | Tune::DeleteSnapshot { .. })
        )
    }

    /// True if the failure says that the step did nothing, so that its undo would hit what is there
    /// of somebody else's: a guest that has the name or the UUID already. A hook that was refused
    /// has not run.
    pub(crate) fn left_untouched(&self, problem: &Problem, again: bool) -> bool {
        !again
            && match self {
                Self::Define { .. } => problem.code == ErrorCode::AlreadyExists,
                Self::Hook(_) => RunHook::left_untouched(problem),
                _ => false,
            }
    }

    /// Takes it back; a step that had no effect is taken back without complaint.
    pub(crate) async fn undo(
        &self,
        context: &Context,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Problem> {
        match self {
            Self::PutSeed { record } => context.delete_seed(record.vm).await,
            Self::ReplaceSeed { old, .. } => context.replace_seed(old).await,
            Self::WriteSeedIso { path, .. } | Self::CreateVolume { path, .. } => {
                context.delete_volume(path).await
            }
            Self::Define { vm, .. } => undefine(context, *vm).await,
            Self::Attach { vm, xml, device } => {
                if theirs(context, *vm, xml, device).await? {
                    return Ok(());
                }
                detach(context, *vm, xml, device).await
            }
            Self::Detach { vm, xml, device } => attach(context, *vm, xml, device, true).await,
            Self::Update { vm, old_xml, .. } => {
                let affect = affect(context, *vm).await?;
                context.hypervisor.update(*vm, old_xml, affect).await.map_err(Problem::from)
            }
            Self::SetCallers { vm, old, .. } => context.set_callers(*vm, old).await,
            Self::Hook(hook) => hook.undo(context, progress).await,
            Self::Tune(tune) => tune.undo(context).await,
            Self::CommitSeed { .. }
            | Self::EnsureImage { .. }
            | Self::Start { .. }
            | Self::Shutdown { .. }
            | Self::Reset { .. }
            | Self::Destroy { .. }
            | Self::Undefine { .. }
            | Self::DeleteVolume { .. }
            | Self::DeleteHistory { .. }
            | Self::DeleteSeed { .. } => Ok(()),
        }
    }
}

async fn affect(context: &Context, vm: VmId) -> Result<Affect, Problem> {
    let state = context.hypervisor.domain(vm).await?.state;
    Ok(Affect {
        live: state != DomainState::ShutOff && state != DomainState::Crashed,
        config: true,
    })
}

async fn attach(
    context: &Context,
    vm: VmId,
    xml: &str,
    device: &str,
    again: bool,
) -> Result<(), Problem> {
    if again && has_device(context, vm, device).await? {
        return Ok(());
    }
    let affect = affect(context, vm).await?;
    context.hypervisor.attach(vm, xml, affect).await.map_err(Problem::from)
}

/// True if the definition or, while it runs, the live guest has the device.
async fn has_device(context: &Context, vm: VmId, device: &str) -> Result<bool, Problem> {
    let definition = context.hypervisor.definition(vm, false).await?;
    let live = context.hypervisor.domain(vm).await?.xml;
    Ok([definition, live].iter().any(|xml| target::find_device(xml, device).is_some()))
}

/// True if the guest's device of that name is another one than `xml`: someone beside us was faster.
async fn theirs(context: &Context, vm: VmId, xml: &str, device: &str) -> Result<bool, Problem> {
    let definition = match context.hypervisor.definition(vm, false).await {
        Err(HypervisorError::NoSuchDomain(_)) => return Ok(false),
        other => other?,
    };
    let ours = target::find_device(&format!("<domain><devices>{xml}</devices></domain>"), device);
    let found = target::find_device(&definition, device);
    Ok(matches!((ours, found), (Some(ours), Some(found)) if ours.source != found.source))
}

/// Detaches and waits until no definition has it: a volume must not go while a guest writes to it.
async fn detach(context: &Context, vm: VmId, xml: &str, device: &str) -> Result<(), Problem> {
    let give_up = tokio::time::Instant::now() + LET_GO;
    let mut asked = false;
    loop {
        match has_device(context, vm, device).await {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(problem) if problem.code == ErrorCode::NoSuchVm => return Ok(()),
            Err(problem) => return Err(problem),
        }
        if !asked {
            let affect = affect(context, vm).await?;
            context.hypervisor.detach(vm, xml, affect).await?;
            asked = true;
            continue;
        }
        if tokio::time::Instant::now() >= give_up {
            return Err(Problem::new(
                ErrorCode::WrongState,
                format!("guest {vm} does not let go of {device}"),
            )
            .hint(
                "a guest that is still booting ignores the request; try again, or stop it first",
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn destroy(context: &Context, vm: VmId) -> Result<(), Problem> {
    match context.hypervisor.destroy(vm).await {
        Ok(()) | Err(HypervisorError::NoSuchDomain(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn undefine(context: &Context, vm: VmId) -> Result<(), Problem> {
    match context.hypervisor.undefine(vm).await {
        Ok(()) | Err(HypervisorError::NoSuchDomain(_)) => {}
        Err(error) => return Err(error.into()),
    }
    // Proof before anything that the guest used is removed.
    match context.hypervisor.domain(vm).await {
        Err(HypervisorError::NoSuchDomain(_)) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Problem::new(
            ErrorCode::HypervisorFailed,
            format!("guest {vm} is still there after it was undefined"),
        )),
    }
}

impl Context {
    fn no_metadata(&self) -> Problem {
        Problem::new(
            ErrorCode::MetadataUnreachable,
            format!("host {} has no seed service configured", self.host),
        )
        .hint("set [metadata] in the agent's configuration, or create the guest without a seed")
    }

    async fn put_seed(&self, record: &SeedRecord) -> Result<(), Problem> {
        self.metadata.as_ref().ok_or_else(|| self.no_metadata())?.put(record).await
    }

    async fn replace_seed(&self, seed: &StoredSeed) -> Result<(), Problem> {
        self.metadata.as_ref().ok_or_else(|| self.no_metadata())?.put_as(seed).await
    }

    /// A guest's seed as it is stored.
    pub(super) async fn stored_seed(&self, vm: VmId) -> Result<StoredSeed, Problem> {
        match self.metadata.as_ref().ok_or_else(|| self.no_metadata())?.stored(vm).await {
            Err(problem) if problem.code == ErrorCode::NoSuchVm => Err(Problem::new(
                ErrorCode::WrongState,
                format!("guest {vm} was made without a seed"),
            )),
            other => other,
        }
    }

    async fn commit_seed(&self, vm: VmId) -> Result<(), Problem> {
        self.metadata.as_ref().ok_or_else(|| self.no_metadata())?.commit(vm).await
    }

    async fn delete_seed(&self, vm: VmId) -> Result<(), Problem> {
        match &self.metadata {
            Some(metadata) => metadata.delete(vm).await,
            None => Ok(()),
        }
    }

    async fn set_callers(&self, vm: VmId, macs: &[MacAddress]) -> Result<(), Problem> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        match metadata.set_callers(vm, &SeedCallers { macs: macs.to_vec() }).await {
            // A guest without a seed has no callers to tell.
            Err(problem) if problem.status == 404 => Ok(()),
            other => other,
        }
    }

    async fn write_seed_iso(&self, vm: VmId, path: &str) -> Result<(), Problem> {
        let metadata = self.metadata.as_ref().ok_or_else(|| self.no_metadata())?;
        let image = metadata.iso(vm).await?;
        self.volumes.files().write_file(path, &image).await
    }

    async fn create_volume(
        &self,
        path: &str,
        (size, format): (DiskSize, DiskFormat),
        gold: Option<&GoldImage>,
        progress: Tell<'_>,
    ) -> Result<(), Problem> {
        let base = match gold {
            Some(gold) => Some(self.images.ensure(gold, progress).await?),
            None => None,
        };
        let new = NewVolume { size, format, base: base.as_ref() };
        self.volumes.holding(path)?.create(path, new, progress).await
    }

    async fn delete_volume(&self, path: &str) -> Result<(), Problem> {
        self.volumes.holding(path)?.delete(path).await?;
        self.journal.disown_volume(path).await
    }
}
