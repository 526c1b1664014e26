//! All seeds, rendered: an immutable map swapped as a whole.
//!
//! ```text
//!  PUT -> check and render -> file (tmp, fsync, rename) -> swap map -> wake held requests
//!                                                            |
//!  guest's GET ----------------------------------- one look-up, no lock
//! ```

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use chrono::{TimeDelta, Utc};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use vmmgr_common::api::seed::{SeedPreview, SeedRecord, StoredSeed};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{MacAddress, VmId};

use crate::config::Defaults;
use crate::seed::{self, Rendered, SeedFile};
use crate::snapshot::{Saved, Snapshots};
use crate::trace::Trace;
use crate::wire::Answer;

/// One guest's seed. Never changes; a change makes another.
pub(crate) struct Seed {
    saved: Saved,
    /// What is served.
    open: Files,
    /// What is served once the secrets were read.
    locked: Files,
    /// Survives changes that leave the instance the same.
    pub(crate) trace: Arc<Trace>,
}

impl Seed {
    fn new(saved: Saved, trace: Arc<Trace>, defaults: &Defaults) -> Result<Self, Problem> {
        let rendered = seed::render(&saved.record, saved.generation, defaults)?;
        let locked = rendered.locked(&saved.record.spec, defaults)?;
        Ok(Self { saved, open: Files::new(rendered), locked: Files::new(locked), trace })
    }

    /// The record as it was written.
    pub(crate) fn stored(&self) -> StoredSeed {
        StoredSeed { generation: self.saved.generation, record: self.saved.record.clone() }
    }

    /// Whether the guest may have it.
    pub(crate) fn committed(&self) -> bool {
        self.saved.record.committed
    }

    /// Whether `mac` is one of the guest's NICs.
    pub(crate) fn belongs_to(&self, mac: MacAddress) -> bool {
        self.saved.record.macs.contains(&mac)
    }

    /// Whether the guest has read its secrets, `window` ago or longer.
    pub(crate) fn locked(&self, window: TimeDelta) -> bool {
        let read_at = self.saved.read_at;
        read_at.is_some_and(|at| Utc::now().timestamp() - at >= window.num_seconds())
    }

    /// A file as a guest gets it after its secrets were locked.
    pub(crate) fn locked_file(&self, file: SeedFile) -> Result<Answer, Problem> {
        self.locked.get(file)
    }

    /// Whether a reading of `file` is the first of the secrets.
    pub(crate) fn opens_secrets(&self, file: SeedFile) -> bool {
        let secret = matches!(file, SeedFile::VendorData | SeedFile::Iso);
        secret && self.saved.read_at.is_none() && self.saved.record.spec.password_hash.is_some()
    }

    /// A file.
    pub(crate) fn file(&self, file: SeedFile) -> Result<Answer, Problem> {
        self.open.get(file)
    }
}

/// The files of a seed as they go out.
struct Files {
    rendered: Rendered,
    /// All but the ISO, in the order of [`SeedFile::ALL`].
    small: [Answer; 4],
    /// Built when first asked for: most guests never do.
    iso: OnceLock<Answer>,
}

impl Files {
    fn new(rendered: Rendered) -> Self {
        let small = [
            &rendered.meta_data,
            &rendered.user_data,
            &rendered.vendor_data,
            &rendered.network_config,
        ]
        .map(|bytes| Answer::file(false, bytes.clone()));
        Self { rendered, small, iso: OnceLock::new() }
    }

    fn get(&self, file: SeedFile) -> Result<Answer, Problem> {
        let at = match file {
            SeedFile::MetaData => 0,
            SeedFile::UserData => 1,
            SeedFile::VendorData => 2,
            SeedFile::NetworkConfig => 3,
            SeedFile::Iso => {
                if let Some(image) = self.iso.get() {
                    return Ok(image.clone());
                }
                let image = Answer::file(true, self.rendered.iso()?);
                return Ok(self.iso.get_or_init(|| image).clone());
            }
        };
        Ok(self.small[at].clone())
    }
}

type Seeds = HashMap<VmId, Arc<Seed>>;

/// The seeds of this host.
pub(crate) struct Store {
    seeds: ArcSwap<Seeds>,
    /// Held while a change goes to disk and into the map.
    snapshots: Mutex<Snapshots>,
    changed: Notify,
    defaults: Defaults,
}

impl Store {
    /// Opens the folder and renders what is there.
    pub(crate) fn open(folder: &Path, defaults: Defaults) -> io::Result<Self> {
        let snapshots = Snapshots::open(folder)?;
        let mut seeds = Seeds::new();
        for saved in snapshots.load()? {
            let vm = saved.record.vm;
            match Seed::new(saved, Arc::default(), &defaults) {
                Ok(seed) => {
                    seeds.insert(vm, Arc::new(seed));
                }
                Err(problem) => {
                    tracing::error!(vm.id = %vm, %problem, "skipped a seed that no longer renders; write it again");
                }
            }
        }
        tracing::info!(seeds = seeds.len(), "seeds loaded");
        Ok(Self {
            seeds: ArcSwap::from_pointee(seeds),
            snapshots: Mutex::new(snapshots),
            changed: Notify::new(),
            defaults,
        })
    }

    /// A guest's seed.
    pub(crate) fn get(&self, vm: VmId) -> Option<Arc<Seed>> {
        self.seeds.load().get(&vm).cloned()
    }

    /// A guest's seed, or the failure for the agent.
    pub(crate) fn require(&self, vm: VmId) -> Result<Arc<Seed>, Problem> {
        self.get(vm).ok_or_else(|| no_seed(vm))
    }

    /// Waits for the seed to be committed, `until` at the latest; `None` when it is removed.
    pub(crate) async fn committed(&self, vm: VmId, until: Instant) -> Option<Arc<Seed>> {
        loop {
            let changed = self.changed.notified();
            let seed = self.get(vm)?;
            if seed.committed() || timeout_at(until, changed).await.is_err() {
                return Some(seed);
            }
        }
    }

    /// As [`Self::put_as`], another instance where the spec is another.
    #[cfg(test)]
    pub(crate) fn put(&self, record: SeedRecord) -> Result<(), Problem> {
        self.put_as(record, None)
    }

    /// Writes a record, replacing what was there; blocks on the disk. It is the instance of number
    /// `generation`; if none is given, another spec than before makes the next one. Another
    /// instance has an empty trace. Secrets can be read again.
    pub(crate) fn put_as(
        &self,
        record: SeedRecord,
        generation: Option<u32>,
    ) -> Result<(), Problem> {
        self.change(record.vm, |old| {
            let next = match old {
                None => 1,
                Some(old) if old.saved.record.spec == record.spec => old.saved.generation,
                Some(old) => old.saved.generation.saturating_add(1),
            };
            let generation = generation.unwrap_or(next).max(1);
            let same = old.filter(|old| old.saved.generation == generation);
            let trace = same.map_or_else(Arc::default, |old| Arc::clone(&old.trace));
            Ok((Saved { generation, read_at: None, record }, trace))
        })
    }

    /// Replaces who may read; blocks on the disk.
    pub(crate) fn set_callers(&self, vm: VmId, macs: Vec<MacAddress>) -> Result<(), Problem> {
        self.amend(vm, |record| record.macs = macs)
    }

    /// Opens a seed to its guest; blocks on the disk.
    pub(crate) fn commit(&self, vm: VmId) -> Result<(), Problem> {
        self.amend(vm, |record| record.committed = true)
    }

    /// Notes that the guest read its secrets; blocks on the disk.
    pub(crate) fn note_read(&self, vm: VmId) -> Result<(), Problem> {
        self.edit(vm, |saved| {
            saved.read_at.get_or_insert_with(|| Utc::now().timestamp());
        })
    }

    /// Removes a seed for good; one that is not there is fine. Blocks on the disk.
    pub(crate) fn delete(&self, vm: VmId) -> Result<(), Problem> {
        let snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        // First from the map: what cannot be deleted from the disk is at least not served.
        self.swap(|seeds| {
            seeds.remove(&vm);
        });
        snapshots.remove(vm).map_err(|error| disk("remove", vm, &error))
    }

    /// The files for an operator's eyes.
    pub(crate) fn preview(&self, vm: VmId) -> Result<SeedPreview, Problem> {
        let seed = self.require(vm)?;
        seed::preview(&seed.saved.record, seed.saved.generation, &self.defaults)
    }

    fn amend(&self, vm: VmId, edit: impl FnOnce(&mut SeedRecord)) -> Result<(), Problem> {
        self.edit(vm, |saved| edit(&mut saved.record))
    }

    fn edit(&self, vm: VmId, edit: impl FnOnce(&mut Saved)) -> Result<(), Problem> {
        self.change(vm, |old| {
            let old = old.ok_or_else(|| no_seed(vm))?;
            let mut saved = old.saved.clone();
            edit(&mut saved);
            Ok((saved, Arc::clone(&old.trace)))
        })
    }

    fn change(
        &self,
        vm: VmId,
        next: impl FnOnce(Option<&Seed>) -> Result<(Saved, Arc<Trace>), Problem>,
    ) -> Result<(), Problem> {
        let snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        let (saved, trace) = next(self.get(vm).as_deref())?;
        let seed = Seed::new(saved, trace, &self.defaults)?;
        snapshots.write(&seed.saved).map_err(|error| disk("write", vm, &error))?;
        self.swap(|seeds| {
            seeds.insert(vm, Arc::new(seed));
        });
        Ok(())
    }

    fn swap(&self, edit: impl FnOnce(&mut Seeds)) {
        let mut seeds = Seeds::clone(&self.seeds.load());
        edit(&mut seeds);
        metrics::gauge!("vmmgr_seeds").set(seeds.len() as f64);
        self.seeds.store(Arc::new(seeds));
        self.changed.notify_waiters();
    }
}

fn no_seed(vm: VmId) -> Problem {
    Problem::new(ErrorCode::NoSuchVm, format!("guest {vm} has no seed on this host"))
}

fn disk(verb: &str, vm: VmId, error: &io::Error) -> Problem {
    tracing::error!(vm.id = %vm, %error, "cannot {verb} a seed");
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::NoSpace,
        _ => ErrorCode::Internal,
    };
    Problem::new(code, format!("cannot {verb} the seed of guest {vm}: {}", error.kind()))
        .hint("check the space and the owner of metadata-srv's `state_dir`")
}

#[cfg(test)]
mod tests;
