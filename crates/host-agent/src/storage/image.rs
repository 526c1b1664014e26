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

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use vmmgr_common::api::disk::GoldImage;
use vmmgr_common::error::{ErrorCode, Problem};

use super::inspect::{Format, inspect};
use super::sink::Sink;
use super::{io_problem, qemu_img};

/// Read and written at once.
const CHUNK: usize = 1 << 20;
/// Pieces of a download that may wait for the disk.
const ARRIVING: usize = 64;
/// Between two lines of progress, bytes.
const TELL_EVERY: u64 = 256 << 20;

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
    under_way: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    http: reqwest::Client,
}

fn origin_failed(uri: &str, why: &str) -> Problem {
    Problem::new(ErrorCode::OriginFailed, format!("gold image {uri}: {why}"))
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
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(std::time::Duration::from_secs(10))
            .read_timeout(std::time::Duration::from_secs(60))
            .build()
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
        Ok(Self { dir, local_roots, under_way: Mutex::default(), http })
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
            None => self.download(&gold.uri, &part, progress).await,
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
        if gold.uri.starts_with("https://") || gold.uri.starts_with("http://") {
            return Ok(None);
        }
        let refuse = |why: &str| {
            Problem::new(
                ErrorCode::InvalidValue,
                format!("uri: `{}` {why}", gold.uri.escape_debug()),
            )
            .hint("expected http://, https:// or a path below one of the agent's local_roots")
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
        let file = std::fs::File::open(part).map_err(bad)?;
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

    async fn download(
        &self,
        uri: &str,
        part: &Path,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<String, Problem> {
        let response = self
            .http
            .get(uri)
            .send()
            .await
            .map_err(|error| origin_failed(uri, &error.to_string()))?;
        if !response.status().is_success() {
            return Err(origin_failed(uri, &format!("the origin answered {}", response.status())));
        }
        let expected = response.content_length();
        let mut body = response.bytes_stream();
        let sink = Sink::create(part)?;
        // The network is read while the disk is written.
        let (to_disk, mut arriving) = tokio::sync::mpsc::channel::<Bytes>(ARRIVING);
        let written = tokio::task::spawn_blocking(move || {
            let mut sink = sink;
            while let Some(bytes) = arriving.blocking_recv() {
                sink.write(bytes)?;
            }
            sink.finish()
        });
        let (mut length, mut told) = (0_u64, 0_u64);
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| origin_failed(uri, &error.to_string()))?;
            length += bytes.len() as u64;
            if to_disk.send(bytes).await.is_err() {
                // It has failed and says why below.
                break;
            }
            if length - told >= TELL_EVERY {
                told = length;
                progress(format!("{} MiB", length >> 20));
            }
        }
        drop(to_disk);
        let sha256 = joined(written.await)?;
        match expected {
            Some(expected) if expected != length => {
                Err(origin_failed(uri, &format!("{length} of {expected} bytes came")))
            }
            _ => Ok(sha256),
        }
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
mod tests {
    use super::*;

    fn gold(uri: &str) -> GoldImage {
        serde_json::from_value(serde_json::json!({"name": "g", "arch": "x86_64", "uri": uri}))
            .unwrap()
    }

    #[tokio::test]
    async fn an_image_is_imported_once_and_again_when_its_origin_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (dir.path().join("src"), dir.path().join("store"));
        fs_err::create_dir(&source).unwrap();
        let file = source.join("g.raw");
        fs_err::write(&file, vec![7; 4096]).unwrap();
        let images = Images::new(store.clone(), vec![source.clone()]).unwrap();
        let lines = Mutex::new(0);
        let tell = |_: String| *lines.lock().unwrap() += 1;
        let gold_record = gold(file.to_str().unwrap());
        let (a, b) =
            tokio::join!(images.ensure(&gold_record, &tell), images.ensure(&gold_record, &tell));
        assert_eq!(a.unwrap(), b.unwrap());
        assert_eq!(*lines.lock().unwrap(), 1);
        fs_err::write(&file, vec![8; 8192]).unwrap();
        assert_eq!(images.ensure(&gold_record, &tell).await.unwrap().virtual_size, 8192);
        assert_eq!(*lines.lock().unwrap(), 2);
    }

    #[tokio::test]
    async fn an_image_that_was_cut_off_is_told_from_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (dir.path().join("src"), dir.path().join("store"));
        fs_err::create_dir(&source).unwrap();
        let raw: Vec<u8> =
            (0..4_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        fs_err::write(source.join("raw"), raw).unwrap();
        let done = std::process::Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2", "raw", "whole"])
            .current_dir(&source)
            .status();
        assert!(done.unwrap().success());
        let whole = fs_err::read(source.join("whole")).unwrap();
        fs_err::write(source.join("cut"), &whole[..whole.len() / 2]).unwrap();
        let images = Images::new(store.clone(), vec![source.clone()]).unwrap();
        let at = |name: &str| gold(source.join(name).to_str().unwrap());
        let problem = images.ensure(&at("cut"), &|_| {}).await.unwrap_err();
        assert_eq!((problem.status, problem.code), (422, ErrorCode::UnfitImage), "{problem}");
        assert_eq!(fs_err::read_dir(&store).unwrap().count(), 0);
        images.ensure(&at("whole"), &|_| {}).await.unwrap();
    }

    #[tokio::test]
    async fn bad_origins_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (dir.path().join("src"), dir.path().join("store"));
        fs_err::create_dir(&source).unwrap();
        fs_err::write(source.join("odd"), b"x").unwrap();
        fs_err::write(dir.path().join("outside.raw"), vec![0; 512]).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside.raw"), source.join("link.raw"))
            .unwrap();
        let images = Images::new(store.clone(), vec![source.clone()]).unwrap();
        let at = |name: &str| source.join(name).to_string_lossy().into_owned();
        for (uri, status) in [
            (at("odd"), 422),
            (at("absent"), 422),
            (at("link.raw"), 422),
            (at("../outside.raw"), 422),
            ("relative.raw".into(), 422),
            ("file:///etc/passwd".into(), 422),
            ("http://127.0.0.1:1/x".into(), 502),
        ] {
            let problem = images.ensure(&gold(&uri), &|_| {}).await.expect_err(&uri);
            assert_eq!(problem.status, status, "{uri}: {problem}");
        }
        fs_err::write(source.join("good"), vec![1; 512]).unwrap();
        let mut pinned = gold(&at("good"));
        pinned.sha256 = Some("00".repeat(32));
        assert_eq!(images.ensure(&pinned, &|_| {}).await.unwrap_err().code, ErrorCode::UnfitImage);
        assert_eq!(fs_err::read_dir(&store).unwrap().count(), 0);
    }
}
