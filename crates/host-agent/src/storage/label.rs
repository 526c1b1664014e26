//! Labels of ISO and FAT images.
//!
//! cloud-init takes any medium with one of [`SEEDS`] for a seed and, on another instance id than
//! before, configures the guest anew from it: such a medium in a drive is a way into the guest.

use std::fs::File;
use std::io::Read as _;

/// Labels that cloud-init looks for: NoCloud's and config drive's, in any case.
const SEEDS: [&str; 2] = ["cidata", "config-2"];
/// ISO 9660 keeps its volume descriptors from sector 16 on.
const SECTOR: usize = 2048;
/// Descriptors that are looked at; images have three or four.
const MOST_DESCRIPTORS: usize = 16;
/// Where FAT12/16 and FAT32 keep the label in their boot sector.
const FAT_LABELS: [usize; 2] = [43, 71];

/// What an image begins with: all that is looked at, bytes.
pub(crate) const HEAD: usize = (16 + MOST_DESCRIPTORS) * SECTOR;

/// True if the image would be a seed to cloud-init. An image that cannot be read is none.
pub(crate) fn is_seed(file: &File) -> bool {
    let mut head = Vec::new();
    // What could be read before a failure is looked at.
    drop(file.take(HEAD as u64).read_to_end(&mut head));
    is_seed_head(&head)
}

/// As [`is_seed`], of what an image begins with.
pub(crate) fn is_seed_head(head: &[u8]) -> bool {
    iso_labels(head).into_iter().chain(fat_labels(head)).any(|label| {
        let label = label.trim_matches(['\0', ' ']).to_ascii_lowercase();
        SEEDS.contains(&label.as_str())
    })
}

fn iso_labels(head: &[u8]) -> Vec<String> {
    let mut labels = Vec::new();
    for number in 16..16 + MOST_DESCRIPTORS {
        let at = number * SECTOR;
        let Some(sector) = head.get(at..at + 72).filter(|sector| &sector[1..6] == b"CD001") else {
            break;
        };
        let label = &sector[40..72];
        labels.push(String::from_utf8_lossy(label).into_owned());
        // Joliet's is UCS-2, big endian.
        let wide: Vec<u16> =
            label.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        labels.push(String::from_utf16_lossy(&wide));
    }
    labels
}

fn fat_labels(head: &[u8]) -> Vec<String> {
    let Some(boot) = head.get(..512).filter(|boot| boot[510..] == [0x55, 0xaa]) else {
        return Vec::new();
    };
    let text = |at: usize| String::from_utf8_lossy(&boot[at..at + 11]).into_owned();
    FAT_LABELS.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn iso(dir: &std::path::Path, label: &str) -> File {
        fs_err::write(dir.join("f"), "x").unwrap();
        let path = dir.join(format!("{label}.iso"));
        let done = Command::new("genisoimage")
            .args(["-quiet", "-V", label, "-J", "-r", "-o"])
            .arg(&path)
            .arg(dir.join("f"))
            .status()
            .unwrap();
        assert!(done.success());
        File::open(path).unwrap()
    }

    #[test]
    fn a_seed_is_told_by_its_label_whatever_the_case() {
        let dir = tempfile::tempdir().unwrap();
        for label in ["cidata", "CIDATA", "config-2"] {
            assert!(is_seed(&iso(dir.path(), label)), "{label}");
        }
        for label in ["debian", "cidata2"] {
            assert!(!is_seed(&iso(dir.path(), label)), "{label}");
        }
        let mut fat = vec![0_u8; 512];
        fat[43..54].copy_from_slice(b"CIDATA     ");
        fat[510..].copy_from_slice(&[0x55, 0xaa]);
        fs_err::write(dir.path().join("fat"), &fat).unwrap();
        assert!(is_seed(&File::open(dir.path().join("fat")).unwrap()));
        fs_err::write(dir.path().join("short"), "CD001").unwrap();
        assert!(!is_seed(&File::open(dir.path().join("short")).unwrap()));
    }
}
