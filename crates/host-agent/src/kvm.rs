//! What guests run on: KVM only where it works. Some machines have `/dev/kvm`, libvirt offers it, and
//! nothing is behind it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncBufReadExt as _;
use tokio::process::Command;

use crate::config::VirtType;
use crate::hypervisor::Hypervisor;

/// How long firmware may take under KVM; it takes a second where KVM works.
const FIRMWARE_WITHIN: Duration = Duration::from_secs(10);

/// `wanted`, with `auto` decided: KVM where libvirt offers it and a guest's first instructions
/// really run.
pub(crate) async fn decide(
    wanted: VirtType,
    hypervisor: &dyn Hypervisor,
) -> Result<VirtType, Box<dyn std::error::Error>> {
    if wanted != VirtType::Auto {
        return Ok(wanted);
    }
    let offered = offers(&hypervisor.host().await?.capabilities_xml);
    let works = match probe(std::env::consts::ARCH) {
        Some((machine, word)) if offered => says(machine, word, FIRMWARE_WITHIN).await,
        _ => false,
    };
    let chosen = if works { VirtType::Kvm } else { VirtType::Qemu };
    tracing::info!(offered, works, chosen = ?chosen, "decided what guests run on");
    Ok(chosen)
}

/// Whether libvirt's capabilities name KVM.
fn offers(capabilities: &str) -> bool {
    capabilities.contains("<domain type='kvm'/>") || capabilities.contains("<domain type='kvm'>")
}

/// A machine of this architecture without a disk under KVM, with the host's CPU as guests get it, whose
/// firmware talks on standard output; and the word that it says when its instructions ran.
fn probe(arch: &str) -> Option<(Command, &'static str)> {
    let (program, machine, word): (_, &[&str], _) = match arch {
        "x86_64" => (
            "qemu-system-x86_64",
            &[
                "-machine",
                "q35",
                "-chardev",
                "stdio,id=firmware",
                "-device",
                "isa-debugcon,iobase=0x402,chardev=firmware",
            ],
            "No bootable device",
        ),
        "aarch64" => (
            "qemu-system-aarch64",
            &[
                "-machine",
                "virt,gic-version=host",
                "-bios",
                "/usr/share/AAVMF/AAVMF_CODE.fd",
                "-serial",
                "stdio",
            ],
            "UEFI firmware",
        ),
        _ => return None,
    };
    let mut command = Command::new(program);
    command.args(["-accel", "kvm", "-cpu", "host", "-m", "128", "-nodefaults", "-display", "none"]);
    command.args(machine);
    Some((command, word))
}

/// Whether the program says `word` in time; one that dies or hangs never does. It is ended then.
async fn says(mut program: Command, word: &str, within: Duration) -> bool {
    let program = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut program) = program else { return false };
    let Some(output) = program.stdout.take() else { return false };
    let mut lines = tokio::io::BufReader::new(output).lines();
    let said = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains(word) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(within, said).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::fake::FakeHypervisor;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn only_firmware_that_runs_counts() {
        let says = |script: &str, ms| says(shell(script), "No boot", Duration::from_millis(ms));
        assert!(says("echo SeaBIOS; echo No bootable device; sleep 60", 20_000).await);
        assert!(!says("echo SeaBIOS; exit 1", 20_000).await);
        assert!(!says("echo SeaBIOS; sleep 60", 200).await);
        assert!(!super::says(Command::new("/absent"), "", FIRMWARE_WITHIN).await);
    }

    #[tokio::test]
    async fn what_is_asked_for_is_taken_and_auto_needs_an_offer() {
        let fake = FakeHypervisor::new();
        for wanted in [VirtType::Kvm, VirtType::Qemu] {
            assert_eq!(decide(wanted, fake.as_ref()).await.unwrap(), wanted);
        }
        // The fake's libvirt does not offer KVM.
        assert_eq!(decide(VirtType::Auto, fake.as_ref()).await.unwrap(), VirtType::Qemu);
        assert!(offers("<guest><domain type='qemu'/><domain type='kvm'/></guest>"));
    }

    /// The machines themselves, under emulation: the arguments are right, and firmware says its word.
    #[tokio::test]
    async fn both_machines_start_and_say_their_word() {
        for arch in ["x86_64", "aarch64"] {
            let (command, word) = probe(arch).unwrap();
            let mut emulated = Command::new(command.as_std().get_program());
            for argument in command.as_std().get_args() {
                emulated.arg(match argument.to_str().unwrap() {
                    "kvm" => "tcg",
                    "host" => "max",
                    "virt,gic-version=host" => "virt",
                    other => other,
                });
            }
            assert!(says(emulated, word, Duration::from_secs(120)).await, "{arch}");
        }
        assert!(probe("riscv64").is_none());
    }
}
