//! Plans of seeds that are written anew.

use vmmgr_common::api::seed::{SeedSpec, StaticNetwork, StoredSeed};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::VmId;

use super::{Context, Guest, Planned, Step};
use crate::domain::cdrom::Inserted;
use crate::domain::{policy, read};
use crate::ops::step::Tune;

/// The seed again, or another one. What the guest's record says of its address follows; drives that
/// hold the seed as an ISO get a new file, and the old one goes.
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
    let address = (seed.record.spec.network != old.record.spec.network)
        .then(|| readdress(context, vm, &guest, seed.record.spec.network.as_ref()))
        .transpose()?;
    let mut steps = vec![Step::ReplaceSeed { seed, old: Box::new(old) }];
    steps.extend(address);
    let ours = context.journal.volumes(vm).await?;
    let mut gone = Vec::new();
    for disk in guest.disks.iter().filter(|d| d.device == "cdrom" && ours.contains(&d.source)) {
        let path = context.volumes.files().seed_path(vm);
        let render = |path: &str| {
            let (target, bus) = (disk.target.as_str(), disk.bus.as_str());
            context.templates.render_cdrom(&Inserted::File(path.to_owned()), target, bus)
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

/// The record's address and gateway as the seed gives them now; empty where it gives none.
fn readdress(
    context: &Context,
    vm: VmId,
    guest: &Guest,
    network: Option<&StaticNetwork>,
) -> Result<Step, Problem> {
    let old = read::metadata_rows(&guest.definition);
    let mut rows = old.clone();
    for (key, value) in [
        ("ipaddr", network.map(|network| network.address.clone())),
        ("gateway", network.and_then(|network| network.gateway.clone())),
    ] {
        let value = value.unwrap_or_default();
        match rows.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None => rows.push((key.to_owned(), value)),
        }
    }
    let xml = context.templates.render_metadata(&rows)?;
    let old_xml = context.templates.render_metadata(&old)?;
    Ok(Step::Tune(Tune::Metadata { vm, xml, old_xml }))
}
