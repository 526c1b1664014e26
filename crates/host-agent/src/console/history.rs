//! What a serial line said, by offset.
//!
//! ```text
//!  our guests:  QEMU -> virtlogd -> console.<uuid>.log, .log.0, .log.1, .log.2   (rotated)
//!                       oldest |--.2--|--.1--|--.0--|--.log--| end      offsets never go back
//!  others:      pseudo-terminal -> Ring, 1 MiB in memory while somebody looks
//! ```
//!
//! A file's offset is anchored by its identity (inode and birth) in a small file of ours, so that
//! a rotation, or a restart of the agent, does not change what an offset means. If all files that
//! were known are gone, offsets jump ahead: a reader sees that it lost something.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use vmmgr_common::ids::VmId;

/// Rotated files that are looked for; virtlogd keeps three.
const MOST_FILES: usize = 16;
/// What a ring keeps, bytes.
const RING: usize = 1 << 20;

/// Which file it is: inode numbers come back, births do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FileId {
    inode: u64,
    born_ns: u64,
}

/// A file whose first byte has a known offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Anchor {
    file: FileId,
    base: u64,
}

/// Offsets of files, oldest first. `fresh` is an offset beyond all that were ever told.
fn layout(files: &[(FileId, u64)], anchor: Option<Anchor>, fresh: u64) -> Vec<u64> {
    let anchored =
        anchor.and_then(|a| Some((files.iter().position(|(id, _)| *id == a.file)?, a.base)));
    let before = |upto: usize| files[..upto].iter().map(|(_, len)| len).sum::<u64>();
    let first = match (anchored, anchor) {
        // Older files than the anchored one were counted when it was new.
        (Some((at, base)), _) => base.saturating_sub(before(at)),
        (None, None) => 0,
        (None, Some(lost)) => fresh.max(lost.base + 1),
    };
    (0..files.len()).map(|at| first + before(at)).collect()
}

struct Segment {
    file: File,
    id: FileId,
    base: u64,
    len: u64,
}

/// Where the history of a guest is on the disk.
#[derive(Debug, Clone)]
pub(crate) struct HistoryDirs {
    /// Serial logs.
    pub(crate) logs: PathBuf,
    /// What their offsets are.
    pub(crate) anchors: PathBuf,
}

impl HistoryDirs {
    /// The log that QEMU writes.
    pub(super) fn log(&self, vm: VmId) -> PathBuf {
        self.logs.join(format!("console.{vm}.log"))
    }

    /// Its anchor.
    pub(super) fn anchor(&self, vm: VmId) -> PathBuf {
        self.anchors.join(format!("{vm}.json"))
    }

    /// Removes all that a guest's line has said.
    pub(crate) fn remove(&self, vm: VmId) -> std::io::Result<()> {
        let log = self.log(vm);
        let names = (0..=MOST_FILES).map(|number| numbered(&log, number));
        for path in names.chain([self.anchor(vm)]) {
            match fs_err::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The newest is number 0; virtlogd counts the older ones from 0.
fn numbered(log: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return log.to_owned();
    }
    let mut name = log.to_owned().into_os_string();
    name.push(format!(".{}", number - 1));
    name.into()
}

/// The log files of one guest.
pub(super) struct LogFile {
    path: PathBuf,
    anchor_path: PathBuf,
    anchor: Mutex<Option<Anchor>>,
}

impl LogFile {
    /// The log at `path`; its anchor is kept at `anchor_path`.
    pub(super) fn new(path: PathBuf, anchor_path: PathBuf) -> Self {
        let known = fs_err::read(&anchor_path).ok();
        let anchor = known.and_then(|text| serde_json::from_slice(&text).ok());
        Self { path, anchor_path, anchor: Mutex::new(anchor) }
    }

    fn segments(&self) -> std::io::Result<Vec<Segment>> {
        // Held while looking: two readers must not anchor a new file differently.
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<(File, FileId, u64)> = Vec::new();
        for number in 0..=MOST_FILES {
            let Some(file) = open(&numbered(&self.path, number))? else {
                // The newest may be missing for an instant while it is rotated.
                if number == 0 { continue } else { break }
            };
            let (id, len) = identify(&file)?;
            // Rotated while we looked: the same file has a new name.
            if found.iter().all(|(_, known, _)| *known != id) {
                found.push((file, id, len));
            }
        }
        found.reverse();
        let files: Vec<(FileId, u64)> = found.iter().map(|(_, id, len)| (*id, *len)).collect();
        let bases = layout(&files, *anchor, epoch());
        let segments: Vec<Segment> = found
            .into_iter()
            .zip(bases)
            .map(|((file, id, len), base)| Segment { file, id, base, len })
            .collect();
        if let Some(newest) = segments.last() {
            let fresh = Anchor { file: newest.id, base: newest.base };
            if *anchor != Some(fresh) {
                self.keep(fresh)?;
                *anchor = Some(fresh);
            }
        }
        Ok(segments)
    }

    fn keep(&self, anchor: Anchor) -> std::io::Result<()> {
        let text = serde_json::to_vec(&anchor)?;
        let fresh = self.anchor_path.with_extension("new");
        fs_err::write(&fresh, text)?;
        fs_err::rename(&fresh, &self.anchor_path)
    }

    /// Offset behind the last byte.
    pub(super) fn end(&self) -> std::io::Result<u64> {
        Ok(self.segments()?.last().map_or(0, |newest| newest.base + newest.len))
    }

    /// Up to `limit` bytes from `from` on, or from the oldest that is kept; with the real offset.
    pub(super) fn read(&self, from: u64, limit: usize) -> std::io::Result<(u64, Vec<u8>)> {
        let segments = self.segments()?;
        let Some(oldest) = segments.first() else { return Ok((0, Vec::new())) };
        let end = segments.last().map_or(0, |newest| newest.base + newest.len);
        let start = from.clamp(oldest.base, end);
        let mut data = Vec::new();
        for segment in segments {
            let at = start + data.len() as u64;
            let Some(inside) = at.checked_sub(segment.base).filter(|inside| *inside < segment.len)
            else {
                continue;
            };
            let want = (segment.len - inside).min((limit - data.len()) as u64);
            let old = data.len();
            data.resize(old + usize::try_from(want).unwrap_or(0), 0);
            segment.file.read_exact_at(&mut data[old..], inside)?;
        }
        Ok((start, data))
    }
}

fn open(path: &Path) -> std::io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn identify(file: &File) -> std::io::Result<(FileId, u64)> {
    let metadata = file.metadata()?;
    let born = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let born_ns = born.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
    Ok((FileId { inode: metadata.ino(), born_ns }, metadata.len()))
}

/// An offset that no line has reached before: lines say less than a byte a microsecond.
pub(super) fn epoch() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp_micros()).unwrap_or(0)
}

/// The newest bytes of a line that nobody logs.
pub(super) struct Ring {
    data: std::collections::VecDeque<u8>,
    end: u64,
}

impl Ring {
    /// Empty; its first byte will be at `base`.
    pub(super) fn new(base: u64) -> Self {
        Self { data: std::collections::VecDeque::new(), end: base }
    }

    /// Appends; the oldest go.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.data.extend(bytes);
        let surplus = self.data.len().saturating_sub(RING);
        drop(self.data.drain(..surplus));
        self.end += bytes.len() as u64;
    }

    /// Offset behind the last byte.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// As [`LogFile::read`].
    pub(super) fn read(&self, from: u64, limit: usize) -> (u64, Vec<u8>) {
        let oldest = self.end - self.data.len() as u64;
        let start = from.clamp(oldest, self.end);
        let skip = usize::try_from(start - oldest).unwrap_or(usize::MAX);
        (start, self.data.iter().skip(skip).take(limit).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(inode: u64) -> FileId {
        FileId { inode, born_ns: 7 }
    }

    #[test]
    fn offsets_survive_rotations_and_jump_ahead_when_all_is_lost() {
        let (a, b, c) = ((id(1), 100), (id(2), 50), (id(3), 10));
        assert_eq!(layout(&[a, b], None, 999), [0, 100]);
        let anchor = Some(Anchor { file: id(2), base: 100 });
        assert_eq!(layout(&[a, b], anchor, 999), [0, 100]);
        assert_eq!(layout(&[b, c], anchor, 999), [100, 150]);
        assert_eq!(layout(&[c], anchor, 999), [999]);
        assert_eq!(layout(&[c], anchor, 5), [101]);
        assert_eq!(layout(&[], anchor, 5), Vec::<u64>::new());
        let reused = FileId { inode: 2, born_ns: 8 };
        assert_eq!(layout(&[(reused, 1)], anchor, 999), [999]);
    }

    #[test]
    fn a_log_reads_the_same_by_offset_through_rotations_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let (path, anchor) = (dir.path().join("c.log"), dir.path().join("c.json"));
        let log = LogFile::new(path.clone(), anchor.clone());
        assert_eq!((log.end().unwrap(), log.read(5, 10).unwrap()), (0, (0, vec![])));
        fs_err::write(&path, "hello ").unwrap();
        assert_eq!(log.read(0, 100).unwrap(), (0, b"hello ".to_vec()));
        fs_err::rename(&path, dir.path().join("c.log.0")).unwrap();
        assert_eq!(log.end().unwrap(), 6);
        fs_err::write(&path, "world").unwrap();
        let log = LogFile::new(path.clone(), anchor.clone());
        assert_eq!(log.read(3, 100).unwrap(), (3, b"lo world".to_vec()));
        assert_eq!(log.read(3, 4).unwrap(), (3, b"lo w".to_vec()));
        assert_eq!(log.read(7, 100).unwrap(), (7, b"orld".to_vec()));
        assert_eq!(log.read(99, 100).unwrap(), (11, vec![]));
        fs_err::rename(&path, dir.path().join("c.log.0")).unwrap();
        fs_err::write(&path, "!").unwrap();
        let log = LogFile::new(path.clone(), anchor);
        assert_eq!(log.read(0, 100).unwrap(), (6, b"world!".to_vec()));
    }

    #[test]
    fn a_ring_keeps_the_newest() {
        let mut ring = Ring::new(1000);
        ring.push(b"abc");
        assert_eq!(ring.read(0, 10), (1000, b"abc".to_vec()));
        assert_eq!(ring.read(1001, 1), (1001, b"b".to_vec()));
        ring.push(&vec![b'x'; RING]);
        assert_eq!(ring.read(0, 2), (1003, b"xx".to_vec()));
        assert_eq!((ring.end(), ring.read(u64::MAX, 9).1.len()), (1003 + RING as u64, 0));
    }
}
