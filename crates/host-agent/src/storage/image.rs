//! Gold images: brought to the host once, judged, and shared read-only by all disks over them.
//!
//! ```text
//!  uri --copy while hashing--> .part-… --judge, digest--> <sha256>.img (0444) <-- <name>-<arch>.json
//! ```

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vmmgr_common::api::disk::GoldImage;
use vmmgr_common::error::{ErrorCode, Problem};

use super::download::download;
use super::inspect::{Format, inspect};
use super::origin::Origins;
use super::sink::Sink;
use super::{io_problem, qemu_img, scp};

/// Read and written at once.
const CHUNK: usize = 1 << 20;

/// An imported image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// File on this host; never written again.
    pub(crate) path: PathBuf,
    /// Its format.
    pub(crate) format: Format,
    /// Size of its disk, bytes.
    pub(crate) virtual_size: u64,
}

/// What was imported under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    uri: String,
    /// Size and modification time of a local origin: another file is imported again.
    origin: String,
    sha256: String,
}

/// The folder of imported images.
pub(crate) struct Images {
    dir: PathBuf,
    local_roots: Vec<PathBuf>,
    origins: Origins,
    under_way: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Images {
    /// Images in `dir`; local origins only below `local_roots`. Removes what a crash left half done.
    pub(crate) fn new(dir: PathBuf, local_roots: Vec<PathBuf>) -> Result<Self, Problem> {
        let bad = |error: std::io::Error| io_problem("cannot use", &dir, &error);
        fs_err::create_dir_all(&dir).map_err(bad)?;
        for entry in fs_err::read_dir(&dir).map_err(bad)? {
            let entry = entry.map_err(bad)?;
            if entry.file_name().to_string_lossy().starts_with(".part-") {
                fs_err::remove_file(entry.path()).map_err(bad)?;
            }
        }
        Ok(Self { dir, local_roots, origins: Origins::default(), under_way: Mutex::default() })
    }

    /// The same with origins to download from; there are none otherwise.
    pub(crate) fn with_origins(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// Where images may be downloaded from.
    pub(crate) fn origins(&self) -> &Origins {
        &self.origins
    }

    /// The image on this host; imports it if it is not there. Asked twice at once, it is imported once.
    pub(crate) async fn ensure(
        &self,
        gold: &GoldImage,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Base, Problem> {
        let name = format!("{}-{}", gold.name, gold.arch.as_str());
        let turn = {
            let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(name.clone()).or_default().clone()
        };
        let _turn = turn.lock().await;
        let origin = self.origin(gold)?;
        let wanted = Record {
            uri: gold.uri.clone(),
            origin: origin.as_ref().map(|(_, stamp)| stamp.clone()).unwrap_or_default(),
            sha256: gold.sha256.clone().unwrap_or_default(),
        };
        if let Some(base) = self.imported(&name, &wanted) {
            return Ok(base);
        }
        progress(format!("importing gold image {} from {}", gold.name, gold.uri));
        let part = self.dir.join(format!(".part-{}", uuid::Uuid::new_v4().simple()));
        let brought = match &origin {
            Some((path, _)) => copy(path.clone(), part.clone()).await,
            None if gold.uri.starts_with("ssh://") => {
                match scp::copy(&self.origins, &gold.uri, &part).await {
                    Ok(()) => hash(part.clone()).await,
                    Err(problem) => Err(problem),
                }
            }
            None => {
                let pinned = gold.sha256.is_some();
                download(&self.origins, &gold.uri, &part, pinned, progress).await
            }
        };
        let done = match brought {
            Ok(sha256) => judge(&part).await.and_then(|()| {
                self.take(&name, &part, Record { sha256, ..wanted.clone() }, &wanted.sha256)
            }),
            Err(problem) => Err(problem),
        };
        if done.is_err() && part.exists() {
            fs_err::remove_file(&part)
                .map_err(|error| io_problem("cannot remove", &part, &error))?;
        }
        done
    }

    /// Path and stamp of a local origin; none for one that is downloaded.
    fn origin(&self, gold: &GoldImage) -> Result<Option<(PathBuf, String)>, Problem> {
        if ["https://", "http://", "ssh://"].iter().any(|scheme| gold.uri.starts_with(scheme)) {
            return self.origins.judge(&gold.uri).map(|_| None);
        }
        let refuse = |why: &str| {
            Problem::new(
                ErrorCode::InvalidValue,
                format!("uri: `{}` {why}", gold.uri.escape_debug()),
            )
            .hint(
                "expected http://, https://, ssh:// or a path below one of the agent's local_roots",
            )
        };
        if !gold.uri.starts_with('/') {
            return Err(refuse("is neither a URL nor an absolute path"));
        }
        // Links are followed first, so that none leads out of the allowed folders.
        let real =
            fs_err::canonicalize(&gold.uri).map_err(|_| refuse("does not exist on the host"))?;
        let allowed = self.local_roots.iter().filter_map(|root| fs_err::canonicalize(root).ok());
        let meta = fs_err::metadata(&real).map_err(|_| refuse("cannot be read"))?;
        if !allowed.into_iter().any(|root| real.starts_with(&root)) || !meta.is_file() {
            return Err(refuse("is not a file in an allowed folder"));
        }
        let stamp = format!("{}-{:?}", meta.len(), meta.modified().ok());
        Ok(Some((real, stamp)))
    }

    fn imported(&self, name: &str, wanted: &Record) -> Option<Base> {
        let text = fs_err::read(self.dir.join(format!("{name}.json"))).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let same = record.uri == wanted.uri
            && record.origin == wanted.origin
            && (wanted.sha256.is_empty() || wanted.sha256 == record.sha256);
        if same { self.base(&record.sha256).ok() } else { None }
    }

    fn base(&self, sha256: &str) -> Result<Base, Problem> {
        let path = self.dir.join(format!("{sha256}.img"));
        let mut file =
            std::fs::File::open(&path).map_err(|e| io_problem("cannot open", &path, &e))?;
        let found = inspect(&mut file)?;
        Ok(Base { path, format: found.format, virtual_size: found.virtual_size })
    }

    /// Gives what was judged its name.
    fn take(&self, name: &str, part: &Path, record: Record, pinned: &str) -> Result<Base, Problem> {
        if !pinned.is_empty() && pinned != record.sha256 {
            return Err(Problem::new(
                ErrorCode::UnfitImage,
                format!(
                    "gold image {}: its SHA-256 is {}, not the pinned one",
                    record.uri, record.sha256
                ),
            ));
        }
        let bad = |error: std::io::Error| io_problem("cannot finish", part, &error);
        let mut file = std::fs::File::open(part).map_err(bad)?;
        let (found, length) = (inspect(&mut file)?, file.metadata().map_err(bad)?.len());
        if length > self.origins.max_bytes || found.virtual_size > self.origins.max_virtual_bytes {
            return Err(Problem::new(
                ErrorCode::UnfitImage,
                format!(
                    "gold image {}: a file of {length} bytes with a disk of {} is larger than this host takes",
                    record.uri, found.virtual_size
                ),
            )
            .hint("see max_bytes and max_virtual_bytes in [origins] of the agent's configuration"));
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o444)).map_err(bad)?;
        file.sync_all().map_err(bad)?;
        let path = self.dir.join(format!("{}.img", record.sha256));
        if path.exists() {
            fs_err::remove_file(part).map_err(bad)?;
        } else {
            fs_err::rename(part, &path).map_err(bad)?;
        }
        let text = serde_json::to_vec(&record)
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
        let note = self.dir.join(format!("{name}.json"));
        let fresh = self.dir.join(format!(".part-{name}"));
        fs_err::write(&fresh, text).and_then(|()| fs_err::rename(&fresh, &note)).map_err(bad)?;
        self.base(&record.sha256)
    }
}

/// Our own look at the header first; only then does another program read it.
async fn judge(part: &Path) -> Result<(), Problem> {
    let mut file =
        std::fs::File::open(part).map_err(|error| io_problem("cannot open", part, &error))?;
    match inspect(&mut file)?.format {
        Format::Qcow2 => qemu_img::check(part).await,
        Format::Raw => Ok(()),
    }
}

fn joined<T>(done: Result<Result<T, Problem>, tokio::task::JoinError>) -> Result<T, Problem> {
    done.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?
}

/// SHA-256 of a file that another program wrote.
async fn hash(path: PathBuf) -> Result<String, Problem> {
    let work = move || -> Result<String, Problem> {
        let bad = |error: std::io::Error| io_problem("cannot read", &path, &error);
        let mut input = std::fs::File::open(&path).map_err(bad)?;
        let (mut digest, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
        loop {
            match input.read(&mut buffer).map_err(bad)? {
                0 => return Ok(digest.finalize().iter().map(|b| format!("{b:02x}")).collect()),
                count => digest.update(&buffer[..count]),
            }
        }
    };
    joined(tokio::task::spawn_blocking(work).await)
}

/// Copies a local origin while hashing.
async fn copy(from: PathBuf, to: PathBuf) -> Result<String, Problem> {
    let work = move || -> Result<String, Problem> {
        let bad = |error: std::io::Error| io_problem("cannot read", &from, &error);
        let mut input = std::fs::File::open(&from).map_err(bad)?;
        let mut sink = Sink::create(&to)?;
        loop {
            let mut chunk = BytesMut::zeroed(CHUNK);
            let count = input.read(&mut chunk).map_err(bad)?;
            if count == 0 {
                return sink.finish();
            }
            chunk.truncate(count);
            sink.write(chunk.freeze())?;
        }
    };
    joined(tokio::task::spawn_blocking(work).await)
}

#[cfg(test)]
mod tests;
