use std::io;
use std::path::Path;

use vmmgr_common::api::seed::{SeedRecord, SeedSpec};
use vmmgr_common::ids::MacAddress;
use vmmgr_common::secret::Secret;

use super::*;
use crate::config::Defaults;
use crate::wire::with_head;

const MINE: &str = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";
const OTHERS: &str = "11111111-d580-4946-9541-13fa98b4acf4";
const NOBODYS: &str = "22222222-d580-4946-9541-13fa98b4acf4";
const BRIDGE: u32 = 7;
const ME: Ipv4Addr = Ipv4Addr::new(169, 254, 10, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(169, 254, 10, 9);

struct Fake;
impl NeighbourTable for Fake {
    fn behind(&self, address: Ipv4Addr, device: Option<u32>) -> io::Result<Option<MacAddress>> {
        assert_eq!(device, Some(BRIDGE));
        let last = address.octets()[3];
        Ok((1..=2).contains(&last).then(|| mac(last)))
    }
}

fn mac(last: u8) -> MacAddress {
    MacAddress::parse(&format!("52:54:00:00:00:0{last}")).unwrap()
}

fn guests(folder: &Path, committed: bool) -> Guests {
    let store = Store::open(folder, Defaults::default()).unwrap();
    for (id, last) in [(MINE, 1), (OTHERS, 2)] {
        let spec = SeedSpec { user_data: Some("#!/bin/sh\n".into()), ..SeedSpec::default() };
        let vm = VmId::parse(id).unwrap();
        store.put(SeedRecord { vm, spec, macs: vec![mac(last)], committed }).unwrap();
    }
    Guests {
        store: Arc::new(store),
        neighbours: Box::new(Fake),
        hold: Duration::from_secs(4),
        secret: None,
        served: Served::default(),
    }
}

/// Method, target and headers.
type Request<'a> = (&'a str, String, &'a [(&'a str, &'a str)]);

fn get(path: &str) -> Request<'static> {
    let headers = &[("host", "169.254.169.254"), ("User-Agent", "Cloud-Init/22.4.2")];
    ("GET", path.to_owned(), headers)
}

fn request<'a>(method: &'a str, path: &str, headers: &'a [(&'a str, &'a str)]) -> Request<'a> {
    (method, path.to_owned(), headers)
}

fn via(peer: Ipv4Addr) -> Via<'static> {
    Via { peer, listen: "169.254.169.254:80", bridge: Some(BRIDGE) }
}

async fn ask(guests: &Guests, request: &Request<'_>, via: Via<'_>) -> Answer {
    let (method, target, headers) = request;
    match with_head(method, target, headers, |head| guests.admit(head, via)) {
        Ok(asked) => guests.answer(asked).await,
        Err(refusal) => refusal,
    }
}

/// Whether the answer has this header line.
fn has(answer: &Answer, line: &str) -> bool {
    let mut out = Vec::new();
    answer.write(&mut out, true, true);
    String::from_utf8(out).unwrap().lines().any(|found| found == line)
}

#[tokio::test]
async fn a_guest_gets_its_own_files() {
    let dir = tempfile::tempdir().unwrap();
    let guests = guests(dir.path(), true);
    for file in SeedFile::ALL {
        for path in [
            format!("/{MINE}/{}", file.name()),
            format!("//{MINE}//{}", file.name()),
            format!("/{}/{}", MINE.to_uppercase(), file.name()),
        ] {
            let answer = ask(&guests, &get(&path), via(ME)).await;
            assert_eq!(answer.status(), 200, "{path}");
            assert!(has(&answer, "cache-control: no-store"));
        }
    }
    let answer = ask(&guests, &get(&format!("/{MINE}/user-data")), via(ME)).await;
    assert_eq!(&answer.body()[..], b"#!/bin/sh\n");
    let boot = guests.store.require(VmId::parse(MINE).unwrap()).unwrap().trace.boot();
    assert_eq!(boot.total, 16);
    assert_eq!(boot.fetches[0].file, "meta-data");
    assert_eq!(boot.fetches[0].user_agent, "Cloud-Init/22.4.2");
}

#[tokio::test]
async fn foreign_missing_and_unknown_are_the_same_404() {
    let dir = tempfile::tempdir().unwrap();
    let guests = guests(dir.path(), true);
    let mut answers = Vec::new();
    for (path, peer) in [
        (format!("/{OTHERS}/meta-data"), ME),
        (format!("/{NOBODYS}/meta-data"), ME),
        (format!("/{MINE}/meta-data"), STRANGER),
        (format!("/{MINE}/meta-data?x=1"), ME),
        (format!("/{MINE}/meta-data/x"), ME),
        (format!("/{MINE}/%6deta-data"), ME),
        (format!("/{MINE}/../{OTHERS}/meta-data"), ME),
        (format!("/{MINE}/"), ME),
        ("/latest/meta-data/".into(), ME),
        ("/".into(), ME),
        ("/".into(), STRANGER),
    ] {
        let answer = ask(&guests, &get(&path), via(peer)).await;
        assert_eq!(answer.status(), 404, "{path}");
        answers.push(answer);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let other = guests.store.require(VmId::parse(OTHERS).unwrap()).unwrap();
    assert_eq!(other.trace.boot().total, 0);
}

/// CVE-2013-6419, CVE-2014-3517: a proxy's word about who asks was believed.
#[tokio::test]
async fn forwarded_requests_and_other_hosts_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let guests = guests(dir.path(), true);
    let path = format!("/{MINE}/user-data");
    for headers in [
        &[("host", "169.254.169.254"), ("X-FORWARDED-FOR", "169.254.10.2")][..],
        &[("host", "169.254.169.254"), ("Forwarded", "for=169.254.10.2")],
        &[("host", "169.254.169.254"), ("x-real-ip", "169.254.10.2")],
        &[("host", "rebound.test")],
        &[("host", "169.254.169.254"), ("host", "rebound.test")],
        &[],
    ] {
        let answer = ask(&guests, &request("GET", &path, headers), via(ME)).await;
        assert_eq!(answer.status(), 403, "{headers:?}");
    }
    let absolute =
        request("GET", &format!("http://169.254.169.254{path}"), &[("host", "169.254.169.254")]);
    assert_eq!(ask(&guests, &absolute, via(ME)).await.status(), 403);
}

#[tokio::test]
async fn only_reading_is_offered() {
    let dir = tempfile::tempdir().unwrap();
    let guests = guests(dir.path(), true);
    let host = [("host", "169.254.169.254")];
    let path = format!("/{MINE}/meta-data");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        let answer = ask(&guests, &request(method, &path, &host), via(ME)).await;
        assert_eq!(answer.status(), 405);
        assert!(has(&answer, "allow: GET, HEAD"));
    }
    assert_eq!(ask(&guests, &request("HEAD", &path, &host), via(ME)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_commit_releases_a_held_request() {
    let dir = tempfile::tempdir().unwrap();
    let guests = Arc::new(guests(dir.path(), false));
    let held = tokio::spawn({
        let guests = Arc::clone(&guests);
        async move { ask(&guests, &get(&format!("/{MINE}/meta-data")), via(ME)).await }
    });
    tokio::task::yield_now().await;
    assert!(!held.is_finished());
    // Another guest's commit wakes it and changes nothing for it.
    guests.store.commit(VmId::parse(OTHERS).unwrap()).unwrap();
    tokio::task::yield_now().await;
    assert!(!held.is_finished());
    guests.store.commit(VmId::parse(MINE).unwrap()).unwrap();
    assert_eq!(held.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_removal_releases_a_held_request() {
    let dir = tempfile::tempdir().unwrap();
    let guests = Arc::new(guests(dir.path(), false));
    let held = tokio::spawn({
        let guests = Arc::clone(&guests);
        async move { ask(&guests, &get(&format!("/{MINE}/meta-data")), via(ME)).await }
    });
    tokio::task::yield_now().await;
    guests.store.delete(VmId::parse(MINE).unwrap()).unwrap();
    assert_eq!(held.await.unwrap().status(), 404);
}

#[tokio::test(start_paused = true)]
async fn a_closed_seed_is_503_at_once_for_the_patient_and_after_4_s_for_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let guests = guests(dir.path(), false);
    for (agent, seconds) in [
        ("Cloud-Init/22.4.2", 4),
        ("Cloud-Init/24.3.1-0ubuntu0", 4),
        ("Cloud-Init/25.1", 0),
        ("Cloud-Init/26.2.1", 0),
        ("curl/7.88.1", 0),
        ("", 0),
    ] {
        let started = Instant::now();
        let path = format!("/{MINE}/meta-data");
        let headers = [("host", "169.254.169.254"), ("user-agent", agent)];
        let asked = request("GET", &path, &headers);
        let answer = ask(&guests, &asked, via(ME)).await;
        assert_eq!(answer.status(), 503, "{agent}");
        assert!(has(&answer, "retry-after: 1"));
        assert_eq!(started.elapsed().as_secs(), seconds, "{agent}");
    }
}

async fn vendor_data(guests: &Guests) -> String {
    let answer = ask(guests, &get(&format!("/{MINE}/vendor-data")), via(ME)).await;
    String::from_utf8(answer.body().to_vec()).unwrap()
}

#[tokio::test]
async fn secrets_are_locked_after_their_window_across_restarts_until_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut guests = guests(dir.path(), true);
    let vm = VmId::parse(MINE).unwrap();
    let hash = "$6$salt$0123456789012345678901234567890123456789".to_owned();
    let spec = SeedSpec { password_hash: Some(Secret::new(hash)), ..SeedSpec::default() };
    let record = SeedRecord { vm, spec, macs: vec![mac(1)], committed: true };
    guests.store.put(record.clone()).unwrap();
    guests.secret = Some(TimeDelta::hours(1));
    assert!(vendor_data(&guests).await.contains("$6$"));
    assert!(vendor_data(&guests).await.contains("$6$"));
    guests.secret = Some(TimeDelta::zero());
    assert!(!vendor_data(&guests).await.contains("$6$"));
    guests.store = Arc::new(Store::open(dir.path(), Defaults::default()).unwrap());
    assert!(!vendor_data(&guests).await.contains("$6$"));
    let image = ask(&guests, &get(&format!("/{MINE}/cidata.iso")), via(ME)).await;
    assert!(!String::from_utf8_lossy(image.body()).contains("$6$"));
    guests.store.put(record).unwrap();
    assert!(vendor_data(&guests).await.contains("$6$"));
}

/// A 404 of either is asked for ten times, a second apart, at every boot.
#[tokio::test]
async fn vendor_data_and_network_config_are_there_even_when_nothing_is_to_say() {
    let dir = tempfile::tempdir().unwrap();
    let guests = guests(dir.path(), true);
    let vm = VmId::parse(MINE).unwrap();
    let record = SeedRecord { vm, spec: SeedSpec::default(), macs: vec![mac(1)], committed: true };
    guests.store.put(record).unwrap();
    for file in ["user-data", "vendor-data", "network-config"] {
        let answer = ask(&guests, &get(&format!("/{MINE}/{file}")), via(ME)).await;
        assert_eq!(answer.status(), 200, "{file}");
    }
}
