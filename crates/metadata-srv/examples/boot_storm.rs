//! Guests that boot at the same moment: each has a network device of its own, and reads its seed from
//! it as cloud-init does, a connection a file. For `make bench`.
//!
//! ```text
//! boot_storm ADDRESS:PORT < seeds      a line a guest: what stands before the names of its files
//! ```
//!
//! Every five guests share a network namespace, `n0` and on; each speaks from a device of its own in
//! there, `g0` to `g4`, which are there before the storm. Prints a JSON object: `seconds` from the first packet to the last,
//! `p50_ms` and `p99_ms` of a request, `errors` of requests that were not answered with 200.

use std::error::Error;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

const FILES: [&str; 3] = ["meta-data", "user-data", "vendor-data"];
const GUESTS_TOGETHER: usize = 5;
/// A guest that waits longer has not been served.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sockets of guest `number`, in its network.
fn sockets(number: usize) -> std::io::Result<Vec<TcpSocket>> {
    let (namespace, device) = (number / GUESTS_TOGETHER, number % GUESTS_TOGETHER);
    let namespace = std::fs::File::open(format!("/run/netns/n{namespace}"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let open = |_| {
        let socket = TcpSocket::new_v4()?;
        socket.bind_device(Some(format!("g{device}").as_bytes()))?;
        Ok(socket)
    };
    FILES.into_iter().map(open).collect()
}

/// One file, from one connection of its own.
async fn fetch(address: SocketAddr, socket: TcpSocket, path: &str) -> std::io::Result<bool> {
    let mut stream = socket.connect(address).await?;
    let ask = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: Cloud-Init/22.4.2\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1024);
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// All files of a guest: how long each took, and how many failed.
async fn boot(
    address: SocketAddr,
    sockets: Vec<TcpSocket>,
    seed: String,
) -> (Vec<Duration>, usize) {
    let (mut took, mut errors) = (Vec::new(), 0);
    for (file, socket) in FILES.into_iter().zip(sockets) {
        let started = Instant::now();
        match timeout(PATIENCE, fetch(address, socket, &format!("{seed}{file}"))).await {
            Ok(Ok(true)) => took.push(started.elapsed()),
            Ok(Ok(false) | Err(_)) | Err(_) => errors += 1,
        }
    }
    (took, errors)
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the figures are its product")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).ok_or("ADDRESS:PORT is missing")?.parse()?;
    let seeds: Vec<String> = std::io::stdin().lock().lines().collect::<Result<_, _>>()?;
    let ready = (0..seeds.len()).map(sockets).collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    let guests: Vec<_> = std::iter::zip(ready, seeds)
        .map(|(sockets, seed)| tokio::spawn(boot(address, sockets, seed)))
        .collect();
    let (mut took, mut errors) = (Vec::new(), 0);
    for guest in guests {
        let (times, failed) = guest.await?;
        took.extend(times);
        errors += failed;
    }
    let seconds = started.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |hundredths: usize| {
        let place = (took.len() * hundredths / 100).min(took.len().saturating_sub(1));
        took.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    };
    let (p50, p99) = (at(50), at(99));
    println!(
        "{{\"seconds\": {seconds:.3}, \"p50_ms\": {p50:.2}, \"p99_ms\": {p99:.2}, \"errors\": {errors}}}"
    );
    Ok(())
}
