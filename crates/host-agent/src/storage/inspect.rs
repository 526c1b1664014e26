//! What an image file is, read by us: no foreign parser sees a header that was not judged first.
//!
//! qcow2 after QEMU's `docs/interop/qcow2.txt`. An image that names another file (backing file,
//! external data file) would have its reader open that file of the host: such images are refused.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use vmmgr_common::error::{ErrorCode, Problem};

/// Formats that a gold image may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// QEMU copy on write, version 2 or 3.
    Qcow2,
    /// Bytes of the disk.
    Raw,
}

impl Format {
    /// qemu-img's name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// An image that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inspected {
    /// Its format.
    pub(crate) format: Format,
    /// Size of the disk that it holds, bytes.
    pub(crate) virtual_size: u64,
}

/// Bit 0 dirty, bit 3 compression type, bit 4 extended L2: harmless. Bit 1 is corrupt, bit 2 an
/// external data file.
const HARMLESS_INCOMPATIBLE: u64 = 0b1_1001;
/// Header extension that names an external data file.
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
/// Largest disk of a gold image.
const LARGEST: u64 = 64 << 40;

/// Magics of formats that can name other files, or that we do not serve.
const FOREIGN: [(&[u8], &str); 8] = [
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"LUKS\xba\xbe", "luks"),
    (b"QED\0", "qed"),
    (b"<<< ", "vdi"),
];

fn unfit(why: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::UnfitImage, why)
        .hint("convert it with `qemu-img convert -O qcow2` to an image that stands alone")
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Judges the image in `file`.
pub(crate) fn inspect(file: &mut File) -> Result<Inspected, Problem> {
    let bad = |error: std::io::Error| unfit(format!("the image cannot be read: {error}"));
    let length = file.seek(SeekFrom::End(0)).map_err(bad)?;
    file.seek(SeekFrom::Start(0)).map_err(bad)?;
    let mut head = Vec::new();
    file.take(64 << 10).read_to_end(&mut head).map_err(bad)?;
    if let Some((_, name)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(unfit(format!("images of format {name} are not taken")));
    }
    let inspected = if head.starts_with(b"QFI\xfb") {
        Inspected { format: Format::Qcow2, virtual_size: qcow2(&head)? }
    } else if length >= 512 && length % 512 == 0 {
        Inspected { format: Format::Raw, virtual_size: length }
    } else {
        return Err(unfit("neither qcow2 nor a raw disk of whole sectors"));
    };
    if inspected.virtual_size == 0 || inspected.virtual_size > LARGEST {
        return Err(unfit(format!("a disk of {} bytes is not taken", inspected.virtual_size)));
    }
    Ok(inspected)
}

fn qcow2(head: &[u8]) -> Result<u64, Problem> {
    if head.len() < 72 {
        return Err(unfit("the qcow2 header is cut off"));
    }
    let version = number(head, 4, 4);
    if number(head, 8, 8) != 0 || number(head, 16, 4) != 0 {
        return Err(unfit("the image has a backing file"));
    }
    if number(head, 32, 4) != 0 {
        return Err(unfit("the image is encrypted"));
    }
    let extensions = match version {
        2 => 72,
        3 if head.len() >= 104 => {
            let incompatible = number(head, 72, 8);
            if incompatible & 0b100 != 0 {
                return Err(unfit("the image keeps its data in another file"));
            }
            if incompatible & !HARMLESS_INCOMPATIBLE != 0 {
                return Err(unfit("the image is marked corrupt or has features unknown to us"));
            }
            usize::try_from(number(head, 100, 4)).unwrap_or(usize::MAX)
        }
        _ => return Err(unfit(format!("qcow2 version {version} is not known"))),
    };
    check_extensions(head, extensions)?;
    Ok(number(head, 24, 8))
}

fn check_extensions(head: &[u8], mut at: usize) -> Result<(), Problem> {
    while let Some(next) = at.checked_add(8).filter(|end| *end <= head.len()) {
        let (kind, length) = (number(head, at, 4), number(head, at + 4, 4));
        if kind == 0 {
            return Ok(());
        }
        if kind == u64::from(EXTENSION_DATA_FILE) {
            return Err(unfit("the image names a data file"));
        }
        let padded = usize::try_from(length.next_multiple_of(8)).unwrap_or(usize::MAX);
        at = next
            .checked_add(padded)
            .ok_or_else(|| unfit("a qcow2 header extension is too long"))?;
    }
    Err(unfit("the qcow2 header extensions do not end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn qemu_img(args: &[&str], dir: &std::path::Path) {
        let done = Command::new("qemu-img").args(args).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn judge(dir: &std::path::Path, name: &str) -> Result<Inspected, Problem> {
        inspect(&mut File::open(dir.join(name)).unwrap())
    }

    #[test]
    fn images_that_stand_alone_are_taken_and_others_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        qemu_img(&["create", "-q", "-f", "qcow2", "plain", "64M"], at);
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", "compat=0.10", "old", "64M"], at);
        qemu_img(&["create", "-q", "-f", "raw", "raw", "1M"], at);
        for (name, format, size) in [
            ("plain", Format::Qcow2, 64 << 20),
            ("old", Format::Qcow2, 64 << 20),
            ("raw", Format::Raw, 1 << 20),
        ] {
            assert_eq!(
                judge(at, name).unwrap(),
                Inspected { format, virtual_size: size },
                "{name}"
            );
        }
        qemu_img(&["create", "-q", "-f", "qcow2", "-b", "plain", "-F", "qcow2", "backed"], at);
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", "data_file=elsewhere", "split", "64M"], at);
        qemu_img(&["create", "-q", "-f", "vmdk", "vmdk", "1M"], at);
        let extents = "subformat=twoGbMaxExtentFlat";
        qemu_img(&["create", "-q", "-f", "vmdk", "-o", extents, "extents", "1M"], at);
        qemu_img(&["create", "-q", "-f", "vdi", "vdi", "1M"], at);
        fs_err::write(at.join("short"), b"QFI\xfb\0\0\0\x03").unwrap();
        fs_err::write(at.join("odd"), b"hello").unwrap();
        fs_err::write(at.join("empty"), b"").unwrap();
        let mut future = fs_err::read(at.join("plain")).unwrap();
        future[72] = 0x80;
        fs_err::write(at.join("future"), future).unwrap();
        let unfit =
            ["backed", "split", "vmdk", "extents", "vdi", "short", "odd", "empty", "future"];
        for name in unfit {
            assert_eq!(judge(at, name).expect_err(name).code, ErrorCode::UnfitImage, "{name}");
        }
    }
}
