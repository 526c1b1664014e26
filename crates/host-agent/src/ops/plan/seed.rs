//! Plans of seeds that are written anew.

use vmmgr_common::api::seed::{SeedSpec, StoredSeed};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::VmId;

use super::{Context, Guest, Planned, Step};
use crate::domain::policy;

/// The seed again, or another one. Drives that hold it as an ISO get a new file; the old one goes.
pub(super) async fn reseed(
    context: &Context,
    vm: VmId,
    spec: Option<&SeedSpec>,
    new_instance: bool,
) -> Result<Planned, Problem> {
    let guest = Guest::read(context, vm).await?;
    let old = context.stored_seed(vm).await?;
    let mut record = old.record.clone();
    record.macs.clone_from(&guest.macs);
    if let Some(spec) = spec {
        record.spec = spec.clone();
    }
    let another = new_instance || record.spec != old.record.spec;
    let generation = old.generation.saturating_add(u32::from(another));
    let seed = Box::new(StoredSeed { generation, record });
    let mut steps = vec![Step::ReplaceSeed { seed, old: Box::new(old) }];
    let ours = context.journal.volumes(vm).await?;
    let mut gone = Vec::new();
    for disk in guest.disks.iter().filter(|d| d.device == "cdrom" && ours.contains(&d.source)) {
        let path = context.volumes.files().seed_path(vm);
        let render = |path: &str| {
            let (target, bus) = (disk.target.as_str(), disk.bus.as_str());
            context.templates.render_cdrom(Some(path), target, bus)
        };
        let (xml, old_xml) = (render(&path)?, render(&disk.source)?);
        policy::check_fragment(&xml, &context.allowed())?;
        steps.extend([Step::WriteSeedIso { vm, path }, Step::Update { vm, xml, old_xml }]);
        gone.push(Step::DeleteVolume { path: disk.source.clone() });
    }
    // Last, because deleting has no undo.
    steps.extend(gone);
    Ok(steps.into())
}
