//! A file that is hashed while it is written, with holes where it has zeros.
//!
//! ```text
//!  pieces --> write (this thread)
//!        \--> SHA-256 (a thread of its own): the slower of the two sets the pace, not their sum
//! ```

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use vmmgr_common::error::Problem;

use super::io_problem;

/// Pieces that may wait for the hash.
const WAITING: usize = 4;
/// A file system's block: less than one is not worth a hole.
const BLOCK: usize = 4096;

/// The file.
pub(super) struct Sink {
    path: PathBuf,
    file: File,
    length: u64,
    to_hash: SyncSender<Bytes>,
    hash: JoinHandle<String>,
}

impl Sink {
    /// Makes an empty file.
    pub(super) fn create(path: &Path) -> Result<Self, Problem> {
        let bad = |error: io::Error| io_problem("cannot write", path, &error);
        let file = File::create(path).map_err(bad)?;
        let (to_hash, pieces) = sync_channel::<Bytes>(WAITING);
        let hash = std::thread::Builder::new().name("sha256".to_owned()).spawn(move || {
            let mut digest = Sha256::new();
            for piece in pieces {
                digest.update(&piece);
            }
            digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
        });
        let hash = hash.map_err(bad)?;
        Ok(Self { path: path.to_owned(), file, length: 0, to_hash, hash })
    }

    /// Appends a piece.
    pub(super) fn write(&mut self, piece: Bytes) -> Result<(), Problem> {
        // The other end is gone only if it panicked, and `finish` tells that.
        let sent = self.to_hash.send(piece.clone());
        let written = if piece.len() >= BLOCK && is_zero(&piece) {
            let step = i64::try_from(piece.len()).unwrap_or_default();
            self.file.seek(SeekFrom::Current(step)).map(drop)
        } else {
            self.file.write_all(&piece)
        };
        self.length += piece.len() as u64;
        written.map_err(|error| self.bad(&error))?;
        sent.map_err(|_| self.bad(&io::Error::other("the hash ended early")))
    }

    /// Ends the file; gives its SHA-256 in hexadecimal.
    pub(super) fn finish(self) -> Result<String, Problem> {
        let Self { path, file, length, to_hash, hash } = self;
        let bad = |error: io::Error| io_problem("cannot write", &path, &error);
        // A hole at the end has no length yet.
        file.set_len(length).map_err(bad)?;
        drop(to_hash);
        hash.join().map_err(|_| bad(io::Error::other("the hash ended early")))
    }

    fn bad(&self, error: &io::Error) -> Problem {
        io_problem("cannot write", &self.path, error)
    }
}

/// Whether all bytes are zero; blocks are compared at once.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    bytes.chunks(BLOCK).all(|block| *block == ZEROS[..block.len()])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_hashed_and_zeros_take_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut sink = Sink::create(&path).unwrap();
        let pieces = [vec![7; 5000], vec![0; 1 << 20], vec![0; 100], vec![9], vec![0; 1 << 20]];
        for piece in &pieces {
            sink.write(piece.clone().into()).unwrap();
        }
        let whole = pieces.concat();
        let expected: String =
            Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sink.finish().unwrap(), expected);
        assert_eq!(fs_err::read(&path).unwrap(), whole);
        assert!(fs_err::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn an_empty_file_has_the_hash_of_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let hash = Sink::create(&dir.path().join("f")).unwrap().finish().unwrap();
        assert!(hash.starts_with("e3b0c442"), "{hash}");
        assert!(Sink::create(&dir.path().join("absent/f")).is_err());
    }
}
