use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use vmmgr_common::api::seed::{SeedRecord, SeedSpec};
use vmmgr_common::ids::{MacAddress, VmId};

use super::*;
use crate::caller::NeighbourTable;
use crate::config::Defaults;
use crate::serve::Served;
use crate::store::Store;
use crate::wire::LARGEST_HEAD;

const VM: &str = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";
const MAC: &str = "52:54:00:00:00:01";

/// 127.0.0.1 is the guest.
struct Loopback;
impl NeighbourTable for Loopback {
    fn behind(&self, address: Ipv4Addr, _: Option<u32>) -> io::Result<Option<MacAddress>> {
        Ok(address.is_loopback().then(|| MacAddress::parse(MAC).unwrap()))
    }
}

/// The service on a loopback port, with 127.0.0.1 as the guest.
async fn serving(folder: &Path, limits: Limits) -> SocketAddr {
    let store = Store::open(&folder.join("seeds"), Defaults::default()).unwrap();
    let (vm, mac) = (VmId::parse(VM).unwrap(), MacAddress::parse(MAC).unwrap());
    let spec = SeedSpec::default();
    store.put(SeedRecord { vm, spec, macs: vec![mac], committed: true }).unwrap();
    let guests = Arc::new(Guests {
        store: Arc::new(store),
        neighbours: Box::new(Loopback),
        hold: Duration::ZERO,
        secret: None,
        served: Served::default(),
    });
    let any = GuestListen { address: "127.0.0.1:0".parse().unwrap(), bridge: None };
    let listener = open(&any, limits.ttl).unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("not IPv4") };
    let place = Arc::new(Place::new(GuestListen { address, bridge: None }));
    let bounds = Bounds::new(limits, Readiness::default());
    tokio::spawn(async move { serve(&listener, &guests, &bounds, &place, None).await });
    address.into()
}

async fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A refused connection may end in a reset; what came before counts.
    let _end = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_guest_is_served_over_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let address = serving(dir.path(), Limits::default()).await;
    let close = "Connection: close\r\n\r\n";
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{close}");
    let answer = talk(address, &get(&format!("/{VM}/meta-data"))).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("connection: close") && answer.ends_with("}\n"), "{answer}");
    let missing = talk(address, &get("/latest/meta-data")).await;
    let foreign = talk(address, &get("/11111111-d580-4946-9541-13fa98b4acf4/meta-data")).await;
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    assert_eq!(missing, foreign);
}

#[tokio::test]
async fn a_guest_that_sends_what_nobody_wants_reads_its_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let address = serving(dir.path(), Limits::default()).await;
    let body = "x".repeat(100 << 10);
    let post = format!(
        "POST /{VM}/user-data HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let long =
        format!("GET /{} HTTP/1.1\r\nHost: {address}\r\n\r\n{body}", "x".repeat(LARGEST_HEAD));
    for (request, status) in [(post + &body, "HTTP/1.1 405"), (long, "HTTP/1.1 431")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(status), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another_however_they_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let address = serving(dir.path(), Limits::default()).await;
    let get = |file: &str| format!("GET /{VM}/{file} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let last = get("vendor-data").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let all = get("meta-data") + &get("user-data") + &get("absent") + &last;
    let together = talk(address, &all).await;
    let heads = together.matches("HTTP/1.1 ").count();
    assert_eq!((heads, together.matches("HTTP/1.1 200").count()), (4, 3), "{together}");
    assert_eq!(together.matches("connection: close").count(), 1);
    let mut stream = TcpStream::connect(address).await.unwrap();
    for part in all.as_bytes().chunks(37) {
        stream.write_all(part).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut apart = String::new();
    stream.read_to_string(&mut apart).await.unwrap();
    assert_eq!(apart, together);
}

#[tokio::test]
async fn a_connection_is_not_kept_when_half_of_all_are_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { connections: 2, ..Limits::default() };
    let address = serving(dir.path(), limits).await;
    let get = format!("GET /{VM}/user-data HTTP/1.1\r\nHost: {address}\r\n\r\n");
    assert!(talk(address, &get).await.contains("connection: close"));
}

#[tokio::test]
async fn hostile_bytes_are_refused_and_the_next_guest_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { request_ms: 1000, hold_ms: 0, ..Limits::default() };
    let address = serving(dir.path(), limits).await;
    let host = format!("Host: {address}\r\n");
    let long = "a".repeat(100_000);
    let many = "x: y\r\n".repeat(100);
    for (request, status) in [
        ("\0\0\0\r\n\r\n".to_owned(), "400"),
        ("GET\r\n\r\n".to_owned(), "400"),
        (format!("GET /{long} HTTP/1.1\r\n{host}\r\n"), "4"),
        (format!("GET / HTTP/1.1\r\n{host}{many}\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\n{host}x: {long}\r\n\r\n"), "431"),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 999999999\r\n\r\n"), "405"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "403"),
    ] {
        let answer = talk(address, &request).await;
        let start: String = request.chars().take(20).collect();
        // A head over the bound may be cut before the answer is read.
        let cut = answer.is_empty() && request.len() > LARGEST_HEAD;
        let told = answer.split(' ').nth(1).is_some_and(|code| code.starts_with(status));
        assert!(cut || told, "{start:?}: {answer:?}");
    }
    let answer = talk(address, &format!("GET /{VM}/user-data HTTP/1.0\r\n{host}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn an_idle_connection_ends_with_its_budget_and_one_too_many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let limits =
        Limits { request_ms: 300, hold_ms: 0, connections_per_guest: 2, ..Limits::default() };
    let address = serving(dir.path(), limits).await;
    // Nobody hears of a connection that says nothing, until the kernel hands it over all the same.
    let mut silent = TcpStream::connect(address).await.unwrap();
    let half = b"GET / HTTP/1.1\r\n";
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(half).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(half).await.unwrap();
    let started = std::time::Instant::now();
    let mut third = TcpStream::connect(address).await.unwrap();
    third.write_all(half).await.unwrap();
    assert_eq!(third.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(started.elapsed() < Duration::from_millis(250), "{:?}", started.elapsed());
    for stream in [&mut idle, &mut slow, &mut silent] {
        let mut rest = Vec::new();
        let _end = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP/1.1 2"));
    }
    let path = format!("GET /{VM}/network-config HTTP/1.0\r\nHost: {address}\r\n\r\n");
    assert!(talk(address, &path).await.ends_with("{}\n"));
}

#[tokio::test]
async fn guests_over_the_bound_of_all_wait_and_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { request_ms: 300, hold_ms: 0, connections: 1, ..Limits::default() };
    let address = serving(dir.path(), limits).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let ask = format!("GET /{VM}/network-config HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let together = futures_util::future::join_all((0..8).map(|_| talk(address, &ask))).await;
    assert!(together.iter().all(|answer| answer.ends_with("{}\n")), "{together:?}");
}

#[tokio::test]
async fn a_missing_bridge_is_told_and_an_address_may_come_later() {
    let absent = GuestListen {
        address: "169.254.169.254:0".parse().unwrap(),
        bridge: Some("br-absent0".into()),
    };
    assert!(open(&absent, 1).is_err());
    let early = GuestListen { address: "192.0.2.77:0".parse().unwrap(), bridge: None };
    assert_eq!(open(&early, 1).unwrap().ttl().unwrap(), 1);
}

#[test]
fn one_failing_listener_is_enough_not_to_be_ready() {
    let ready = Readiness::default();
    let bounds = Bounds::new(Limits::default(), ready.clone());
    let (one, two) = ("192.0.2.1:80".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
    bounds.tell(one, Err("no bridge".into()));
    bounds.tell(two, Ok(()));
    assert_eq!(ready.all()[CONDITION], Err("192.0.2.1:80: no bridge".into()));
    bounds.tell(one, Ok(()));
    assert_eq!(ready.all()[CONDITION], Ok(()));
}
