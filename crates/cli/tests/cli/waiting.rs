//! `vm wait`: from the boot trace to an address.

use serde_json::{Value, json};

use crate::support::{Answer, Asked, Fake, VM, vmmctl};

fn fetch(file: &str, status: u16) -> Value {
    json!({"at": "2026-01-02T03:04:05.678Z", "file": file, "status": status, "user_agent": "Cloud-Init/22.4", "micros": 80})
}

fn guest(fetches: Vec<Value>, addresses: Value) -> Fake {
    Fake::new(move |asked: &Asked| {
        Answer::json(
            200,
            &match asked.target.rsplit('/').next() {
                Some("boot") => json!({"fetches": fetches, "total": fetches.len()}),
                Some("addresses") => addresses.clone(),
                other => panic!("{other:?}"),
            },
        )
    })
}

fn addressed() -> Value {
    json!([{"mac": "52:54:00:aa:bb:cc", "name": "vnet0", "addresses": [{"address": "169.254.3.4/16", "family": "ipv4"}]}])
}

#[test]
fn a_guest_with_its_seed_and_an_address_is_up() {
    let fetches = ["meta-data", "user-data", "vendor-data"].map(|file| fetch(file, 200)).to_vec();
    let server = guest(fetches, addressed());
    let run = vmmctl(&server.url, &["vm", "wait", "host01", VM, "--timeout", "5"]);
    assert_eq!((run.code, run.out.as_str()), (0, "169.254.3.4\n"), "{}", run.err);
    assert!(run.err.contains("user-data: 200"), "{}", run.err);
}

#[test]
fn half_a_seed_or_no_address_is_a_timeout() {
    let all = ["meta-data", "user-data", "vendor-data"].map(|file| fetch(file, 200)).to_vec();
    let refused = ["meta-data", "user-data", "vendor-data"].map(|file| fetch(file, 503)).to_vec();
    for (fetches, addresses) in [
        (all.clone(), json!([])),
        (vec![fetch("meta-data", 200)], addressed()),
        (refused, addressed()),
        (Vec::new(), addressed()),
    ] {
        let server = guest(fetches, addresses);
        let run = vmmctl(&server.url, &["vm", "wait", "host01", VM, "--timeout", "0"]);
        assert_eq!((run.code, run.out.as_str()), (6, ""), "{}", run.err);
    }
}

#[test]
fn a_guest_that_is_not_there_ends_the_wait_at_once() {
    let server = Fake::new(|_| Answer::problem(404, "no_such_vm"));
    assert_eq!(vmmctl(&server.url, &["vm", "wait", "host01", VM]).code, 3);
}
