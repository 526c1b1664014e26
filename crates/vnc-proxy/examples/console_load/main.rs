//! Load for measuring consoles: plays guest, agent, gateway and browser, and tells what the
//! server in between needed, as one line of JSON.
//!
//!     console_load plain|mtls PKI SERVER_PID SERVER_ADDRESS WHAT...
//!
//! The guest does what the browser's first nine bytes say: `F` and a length, send so much; `S` and
//! a length, take so much and answer `D`; `E`, echo. Agent and guest listen on 7450 (mutual TLS)
//! and 7451 (plain), the gateway on 7441.

mod browser;
mod guest;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use browser::{Browser, Way};
use server::Server;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const EVENT: &[u8] = &[5, 1, 0, 9, 0, 9];

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the figures are the output")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, pki, pid, address, what @ ..] = arguments.as_slice() else {
        return Err("usage: console_load plain|mtls PKI SERVER_PID SERVER_ADDRESS WHAT...".into());
    };
    let pki = PathBuf::from(pki);
    let address: SocketAddr = address.parse()?;
    let way = if kind == "mtls" { Way::mtls(&pki, address)? } else { Way::Plain(address) };
    guest::start(&pki, kind == "mtls").await?;
    let server = Server(pid.parse()?);
    way.wait().await;
    for what in what {
        let (name, size) = what.split_once('=').unwrap_or((what, "0"));
        let size: usize = size.parse()?;
        let value = measure(&way, &server, name, size).await?;
        println!("{{\"what\":\"{name}\",\"size\":{size},{value}}}");
    }
    Ok(())
}

async fn measure(way: &Way, server: &Server, name: &str, size: usize) -> Result<String, Failure> {
    match name {
        "s2c" => bulk(way, server, size, true).await,
        "c2s" => bulk(way, server, size, false).await,
        "burst" => burst(way, size).await,
        "flood" => flood(way, server, size).await,
        "round" => round(way, server, size).await,
        "memory" => memory(way, server, size).await,
        "open" => open(way, size).await,
        _ => Err(format!("cannot measure {name}").into()),
    }
}

/// `size` MiB one way.
async fn bulk(way: &Way, server: &Server, size: usize, down: bool) -> Result<String, Failure> {
    let mut browser = Browser::open(way).await?;
    let bytes = size << 20;
    let (before, start) = (server.cpu(), Instant::now());
    if down {
        browser.command(b'F', bytes).await?;
        browser.take(bytes).await?;
    } else {
        browser.command(b'S', bytes).await?;
        browser.flood(&vec![7; 16 << 10], bytes / (16 << 10)).await?;
        browser.take(1).await?;
    }
    let (took, cpu) = (start.elapsed().as_secs_f64(), server.cpu() - before);
    let megabytes = bytes as f64 / 1e6;
    Ok(format!(
        "\"mb_per_cpu_second\":{:.0},\"mb_per_second\":{:.0}",
        megabytes / cpu,
        megabytes / took
    ))
}

/// `size` pointer events in one write, until the guest has them all; median of 20.
async fn burst(way: &Way, size: usize) -> Result<String, Failure> {
    let mut browser = Browser::open(way).await?;
    let mut times = Vec::new();
    for _ in 0..20 {
        browser.command(b'S', size * EVENT.len()).await?;
        let start = Instant::now();
        browser.burst(EVENT, size).await?;
        browser.take(1).await?;
        times.push(start.elapsed());
    }
    Ok(format!("\"ms\":{:.3}", median(times).as_secs_f64() * 1e3))
}

/// `size` pointer events as fast as they go.
async fn flood(way: &Way, server: &Server, size: usize) -> Result<String, Failure> {
    let mut browser = Browser::open(way).await?;
    browser.command(b'S', size * EVENT.len()).await?;
    let (before, start) = (server.cpu(), Instant::now());
    browser.flood(EVENT, size).await?;
    browser.take(1).await?;
    let (took, cpu) = (start.elapsed().as_secs_f64(), server.cpu() - before);
    Ok(format!(
        "\"events_per_second\":{:.0},\"events_per_cpu_second\":{:.0}",
        size as f64 / took,
        size as f64 / cpu
    ))
}

/// `size` times one byte there and back.
async fn round(way: &Way, server: &Server, size: usize) -> Result<String, Failure> {
    let mut browser = Browser::open(way).await?;
    browser.command(b'E', 0).await?;
    let (before, mut times) = (server.cpu(), Vec::new());
    for _ in 0..size {
        let start = Instant::now();
        browser.burst(b"x", 1).await?;
        browser.take(1).await?;
        times.push(start.elapsed());
    }
    let cpu = (server.cpu() - before) / size as f64 * 1e6;
    Ok(format!("\"p50_us\":{:.1},\"cpu_us\":{cpu:.1}", median(times).as_secs_f64() * 1e6))
}

/// `size` idle sessions.
async fn memory(way: &Way, server: &Server, size: usize) -> Result<String, Failure> {
    let before = server.memory_kib()?;
    let mut all = Vec::with_capacity(size);
    for _ in 0..size {
        all.push(Browser::open(way).await?);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let total = server.memory_kib()?;
    let each = (total - before) / size as f64;
    drop(all);
    Ok(format!("\"kib_each\":{each:.1},\"mib_total\":{:.1}", total / 1024.0))
}

/// `size` times from nothing to the first byte.
async fn open(way: &Way, size: usize) -> Result<String, Failure> {
    let mut times = Vec::new();
    for _ in 0..size {
        let start = Instant::now();
        let mut browser = Browser::open(way).await?;
        browser.command(b'F', 1).await?;
        browser.take(1).await?;
        times.push(start.elapsed());
    }
    let slowest = times.iter().max().copied().unwrap_or_default();
    let (median, slowest) = (median(times).as_secs_f64() * 1e3, slowest.as_secs_f64() * 1e3);
    Ok(format!("\"p50_ms\":{median:.2},\"max_ms\":{slowest:.2}"))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
