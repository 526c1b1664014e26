//! What libvirt does not hand out itself: a run's name, and the host's side of a serial line.

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::net::unix::pipe;
use virt::domain::Domain;
use virt::error::Error;

use super::SerialLine;

/// Where libvirt's system daemon keeps the process id of each guest.
const PID_DIR: &str = "/run/libvirt/qemu";

/// Names the run of a domain: libvirt's id of it and the start of its process, because libvirtd
/// counts anew when it is restarted. None when it does not run.
pub(super) fn run_of(domain: &Domain) -> Result<Option<String>, Error> {
    // The handle was looked up just now and carries the id of then.
    let Some(id) = domain.id() else { return Ok(None) };
    let started = started(&domain.name()?).unwrap_or(0);
    Ok(Some(format!("{id}-{started}")))
}

/// Start of a guest's process in clock ticks since the host's boot (`/proc/<pid>/stat`).
fn started(name: &str) -> Option<u64> {
    let pid = fs_err::read_to_string(format!("{PID_DIR}/{name}.pid")).ok()?;
    let pid: u32 = pid.trim().parse().ok()?;
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program in brackets and may hold anything; the start is the 22nd.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Opens a pseudo-terminal as the bytes that it carries, without waiting for anything.
pub(super) fn open(pty: &Path) -> std::io::Result<SerialLine> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let read = rustix::fs::open(pty, flags, Mode::empty())?;
    let mut settings = tcgetattr(&read)?;
    settings.make_raw();
    tcsetattr(&read, OptionalActions::Now, &settings)?;
    let write = read.try_clone()?;
    Ok((
        Box::new(pipe::Receiver::from_owned_fd_unchecked(read)?),
        Box::new(pipe::Sender::from_owned_fd_unchecked(write)?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_pseudo_terminal_carries_bytes_as_they_are_and_its_end_is_seen() {
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let (mut read, mut write) = open(Path::new(name.to_str().unwrap())).unwrap();
        rustix::io::write(&master, b"login:\r\n\x03").unwrap();
        let mut heard = [0; 9];
        read.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"login:\r\n\x03");
        write.write_all(b"root\r\x04").await.unwrap();
        let mut typed = [0; 6];
        assert_eq!(rustix::io::read(&master, &mut typed).unwrap(), 6);
        assert_eq!(&typed, b"root\r\x04");
        drop(master);
        let end = read.read(&mut heard).await;
        assert!(end.is_err() || end.is_ok_and(|count| count == 0));
    }
}
