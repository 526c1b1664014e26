use std::io;
use std::path::Path;

use http_body_util::BodyExt as _;
use vmmgr_common::api::seed::{SeedRecord, SeedSpec};
use vmmgr_common::ids::MacAddress;
use vmmgr_common::secret::Secret;

use super::*;
use crate::caller::Neighbour;
use crate::config::Defaults;

const MINE: &str = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";
const OTHERS: &str = "11111111-d580-4946-9541-13fa98b4acf4";
const NOBODYS: &str = "22222222-d580-4946-9541-13fa98b4acf4";
const ME: Ipv4Addr = Ipv4Addr::new(169, 254, 10, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(169, 254, 10, 9);

struct Fake;
impl NeighbourTable for Fake {
    fn behind(&self, address: Ipv4Addr) -> io::Result<Vec<Neighbour>> {
        let neighbour = |last: u8| Neighbour { mac: mac(last), device: "br-ext".into() };
        Ok(match address.octets()[3] {
            last @ 1..=2 => vec![neighbour(last)],
            _ => vec![],
        })
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
    }
}

fn get(path: &str) -> Request<()> {
    request("GET", path, &[("host", "169.254.169.254"), ("user-agent", "Cloud-Init/22.4.2")])
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn via(peer: Ipv4Addr) -> Via<'static> {
    Via { peer, listen: "169.254.169.254:80".parse().unwrap(), bridge: Some("br-ext") }
}

async fn whole(answer: Answer) -> (String, Bytes) {
    let (head, body) = answer.into_parts();
    (format!("{head:?}"), body.collect().await.unwrap().to_bytes())
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
            let answer = guests.answer(&get(&path), via(ME)).await;
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.headers()["cache-control"], "no-store");
        }
    }
    let (_, body) = whole(guests.answer(&get(&format!("/{MINE}/user-data")), via(ME)).await).await;
    assert_eq!(&body[..], b"#!/bin/sh\n");
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
        let answer = guests.answer(&get(&path), via(peer)).await;
        assert_eq!(answer.status(), 404, "{path}");
        answers.push(whole(answer).await);
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
        let answer = guests.answer(&request("GET", &path, headers), via(ME)).await;
        assert_eq!(answer.status(), 403, "{headers:?}");
    }
    let absolute =
        request("GET", &format!("http://169.254.169.254{path}"), &[("host", "169.254.169.254")]);
    assert_eq!(guests.answer(&absolute, via(ME)).await.status(), 403);
}

#[tokio::test]
async fn only_reading_is_offered() {
    let dir = tempfile::tempdir().unwrap();
    let guests = guests(dir.path(), true);
    let host = [("host", "169.254.169.254")];
    let path = format!("/{MINE}/meta-data");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        let answer = guests.answer(&request(method, &path, &host), via(ME)).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()),
            (405, "GET, HEAD")
        );
    }
    assert_eq!(guests.answer(&request("HEAD", &path, &host), via(ME)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_commit_releases_a_held_request() {
    let dir = tempfile::tempdir().unwrap();
    let guests = Arc::new(guests(dir.path(), false));
    let held = tokio::spawn({
        let guests = Arc::clone(&guests);
        async move { guests.answer(&get(&format!("/{MINE}/meta-data")), via(ME)).await }
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
        async move { guests.answer(&get(&format!("/{MINE}/meta-data")), via(ME)).await }
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
        let asked = request("GET", &path, &[("host", "169.254.169.254"), ("user-agent", agent)]);
        let answer = guests.answer(&asked, via(ME)).await;
        assert_eq!(answer.status(), 503, "{agent}");
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(started.elapsed().as_secs(), seconds, "{agent}");
    }
}

async fn vendor_data(guests: &Guests) -> String {
    let answer = guests.answer(&get(&format!("/{MINE}/vendor-data")), via(ME)).await;
    String::from_utf8(whole(answer).await.1.to_vec()).unwrap()
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
    let image = guests.answer(&get(&format!("/{MINE}/cidata.iso")), via(ME)).await;
    assert!(!String::from_utf8_lossy(&whole(image).await.1).contains("$6$"));
    guests.store.put(record).unwrap();
    assert!(vendor_data(&guests).await.contains("$6$"));
}
