//! Backups: the record files as one `.tgz`. An archive from outside is read as data, in memory;
//! nothing of it is ever unpacked onto a disk.

use std::io::Read as _;
use std::path::Component;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, EntryType, Header};
use vmmgr_common::error::{ErrorCode, Problem};

use super::transfer::{FILES, Files};
use crate::store::failed;

/// Most bytes of all that is in an archive; a record file of 20000 rows is smaller.
const LARGEST_CONTENT: u64 = 16 << 20;
/// Most entries; the described system's backups have templates beside the files.
const MOST_ENTRIES: usize = 1000;

/// What an archive holds.
#[derive(Debug)]
pub(crate) struct Content {
    /// Files that are ours.
    pub(crate) files: Files,
    /// Names of the others; they are not read.
    pub(crate) skipped: Vec<String>,
}

fn refuse(why: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("archive: {why}"))
}

/// Packs files.
pub(crate) fn pack(files: &Files) -> Result<Vec<u8>, Problem> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, value) in files {
        let text = serde_json::to_vec_pretty(value).map_err(failed)?;
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_entry_type(EntryType::Regular);
        archive.append_data(&mut header, name, text.as_slice()).map_err(failed)?;
    }
    archive.into_inner().and_then(GzEncoder::finish).map_err(failed)
}

/// Reads an archive; refuses it as a whole when anything in it is not a plain file or folder.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Content, Problem> {
    let mut archive = Archive::new(GzDecoder::new(bytes).take(LARGEST_CONTENT));
    let mut content = Content { files: Files::new(), skipped: Vec::new() };
    let mut entries = 0;
    for entry in archive.entries().map_err(refuse)? {
        let mut entry = entry.map_err(refuse)?;
        entries += 1;
        if entries > MOST_ENTRIES {
            return Err(refuse(format!("more than {MOST_ENTRIES} entries")));
        }
        let path = entry.path().map_err(refuse)?.into_owned();
        let shown = path.to_string_lossy().escape_debug().to_string();
        let fits = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !path.components().all(fits) {
            return Err(refuse(format!("`{shown}` leads out of the archive")));
        }
        match entry.header().entry_type() {
            EntryType::Directory => continue,
            EntryType::Regular => {}
            _ => return Err(refuse(format!("`{shown}` is no plain file"))),
        }
        let name = path.strip_prefix(".").unwrap_or(&path).to_string_lossy().into_owned();
        if !FILES.contains(&name.as_str()) {
            content.skipped.push(shown);
            continue;
        }
        let mut text = Vec::new();
        entry.read_to_end(&mut text).map_err(refuse)?;
        let value = serde_json::from_slice(&text).map_err(|e| refuse(format!("{name}: {e}")))?;
        if content.files.insert(name, value).is_some() {
            return Err(refuse(format!("`{shown}` is in it twice")));
        }
    }
    // Tar stops before the end, and gzip's checksum is behind it: damage that is still a tar is found
    // only here.
    let mut rest = archive.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(refuse)?;
    if rest.limit() == 0 {
        return Err(refuse(format!("holds more than {LARGEST_CONTENT} bytes")));
    }
    if content.files.is_empty() {
        return Err(refuse(format!("holds none of {}", FILES.join(", "))));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn archive(fill: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        fill(&mut archive);
        archive.into_inner().unwrap().finish().unwrap()
    }

    fn entry(kind: EntryType, name: &str, link: Option<&str>, text: &[u8]) -> Vec<u8> {
        archive(|archive| {
            let mut header = Header::new_gnu();
            // Past the library's own checks: a hostile archive is not made with it.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if let Some(link) = link {
                header.set_link_name_literal(link).unwrap();
            }
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            header.set_cksum();
            archive.append(&header, text).unwrap();
        })
    }

    #[test]
    fn what_is_packed_is_unpacked_and_templates_beside_it_are_left_out() {
        let files = Files::from([("iso.json".to_owned(), json!([{"name": "a"}]))]);
        let content = unpack(&pack(&files).unwrap()).unwrap();
        assert_eq!((content.files, content.skipped.len()), (files, 0));
        let both = archive(|archive| {
            for name in ["domains/kvm.tpl", "./golds.json"] {
                let mut header = Header::new_gnu();
                header.set_size(2);
                archive.append_data(&mut header, name, b"[]".as_slice()).unwrap();
            }
        });
        let content = unpack(&both).unwrap();
        assert_eq!(content.skipped, ["domains/kvm.tpl"]);
        assert!(content.files.contains_key("golds.json"));
    }

    /// Some of these are still a tar with JSON in it, with other words.
    #[test]
    fn no_flipped_byte_of_the_content_goes_unseen() {
        let rows = json!([{"name": "a", "arch": "x86_64", "uri": "/gold/a.qcow2"}]);
        let good = pack(&Files::from([("golds.json".to_owned(), rows)])).unwrap();
        // Before it is gzip's header, whose time and system mean nothing here.
        for at in 10..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 0xff;
            assert!(unpack(&damaged).is_err(), "byte {at} of {}", good.len());
        }
    }

    #[test]
    fn a_hostile_or_damaged_archive_is_refused() {
        let good = entry(EntryType::Regular, "iso.json", None, b"[]");
        assert!(unpack(&good).is_ok());
        let mut damaged = good.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        let bomb = vec![b' '; 40 << 20];
        for (what, bytes) in [
            ("nothing", Vec::new()),
            ("no gzip", b"PK\x03\x04 something else".to_vec()),
            ("cut", good[..good.len() / 2].to_vec()),
            ("damaged", damaged),
            ("symbolic link", entry(EntryType::Symlink, "iso.json", Some("/etc/shadow"), b"")),
            ("hard link", entry(EntryType::Link, "iso.json", Some("/etc/shadow"), b"")),
            ("device", entry(EntryType::Char, "iso.json", None, b"")),
            ("fifo", entry(EntryType::Fifo, "x", None, b"")),
            ("upwards", entry(EntryType::Regular, "../iso.json", None, b"[]")),
            ("upwards inside", entry(EntryType::Regular, "a/../../iso.json", None, b"[]")),
            ("absolute", entry(EntryType::Regular, "/etc/iso.json", None, b"[]")),
            ("bomb", entry(EntryType::Regular, "iso.json", None, &bomb)),
            ("bomb beside", entry(EntryType::Regular, "other", None, &bomb)),
            ("no JSON", entry(EntryType::Regular, "iso.json", None, b"{")),
            ("nothing of ours", entry(EntryType::Regular, "other", None, b"[]")),
        ] {
            let refusal = unpack(&bytes).map(|_| ()).expect_err(what);
            assert_eq!(refusal.status, 422, "{what}: {refusal}");
        }
    }
}
