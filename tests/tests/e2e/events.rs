//! `vmmctl events` through nginx: what is done by hand on the host is seen, and a gateway that
//! restarts ends the stream and does not end the following.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::URL;
use crate::guest::Guest;
use crate::lab::{HOST, Lab, lab, program, run, tool, tool_ok};

/// From a change on the host to its event.
const SEEN: Duration = Duration::from_secs(5);

/// A `vmmctl events` that runs.
struct Following {
    child: Child,
    events: Receiver<Value>,
}

impl Following {
    fn begin(lab: &Lab, arguments: &[&str]) -> Self {
        let mut child = Command::new(program("vmmctl"))
            .args(["--server", URL, "-o", "json", "events"])
            .args(arguments)
            .env("VMMGR_CA", lab.state.join("pki/ca.pem"))
            .env("VMMGR_TOKEN", &lab.api.token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, events) = channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let event = serde_json::from_str(&line.unwrap()).unwrap();
                if tell.send(event).is_err() {
                    return;
                }
            }
        });
        let following = Self { child, events };
        following.until("the start", Duration::from_secs(20), |event| event["event"] == "resync");
        following
    }

    fn until(&self, what: &str, within: Duration, fits: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let left = within.saturating_sub(begun.elapsed());
            match self.events.recv_timeout(left) {
                Ok(event) if fits(&event) => {
                    eprintln!("{what} was seen after {:?}", begun.elapsed());
                    return event;
                }
                Ok(_) => {}
                Err(error) => panic!("{what}: {error} after {:?}", begun.elapsed()),
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("vmmctl events: {error}");
        }
    }
}

#[test]
fn what_is_done_by_hand_on_the_host_is_seen_at_once() {
    let Some(lab) = lab("events") else { return };
    let _peace = lab.peace();
    let following = Following::begin(lab, &["--host", HOST]);
    let guest = Guest::define(lab, "watched", &json!({"memory_mib": 64}));
    let of = |event: &Value, name: &str| {
        event["event"] == name && event["data"]["id"] == guest.id.as_str()
    };
    let vm_is = |state: &str| {
        following.until(&format!("the guest {state}"), SEEN, |event| {
            of(event, "vm") && event["data"]["state"] == state
        })
    };
    vm_is("shut_off");
    guest.start();
    following.until("the end of `start`", SEEN, |event| {
        let data = &event["data"];
        event["event"] == "operation"
            && (&data["verb"], &data["vm"], &data["state"])
                == (&json!("start"), &json!(guest.id), &json!("succeeded"))
    });
    let virsh = |verb: &str| run("virsh", &["-c", "qemu:///system", verb, &guest.id]);
    virsh("suspend");
    let told = vm_is("paused")["data"].clone();
    let (_, list) = lab.api.get(&format!("/v1/hosts/{HOST}/vms"));
    let listed = list.as_array().unwrap().iter().find(|vm| vm["id"] == guest.id.as_str());
    let fields = |vm: &Value| vm.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&told), fields(listed.unwrap()), "a guest is told as lists show it");
    virsh("resume");
    vm_is("running");
    virsh("destroy");
    vm_is("shut_off");
    let id = guest.id.clone();
    guest.delete();
    following.until("the guest's end", SEEN, |event| {
        event["event"] == "vm_removed" && event["data"]["id"] == id.as_str()
    });
}

#[test]
fn a_gateway_that_restarts_ends_the_stream_and_the_client_comes_back() {
    let Some(lab) = lab("events of a gateway that restarts") else { return };
    let _alone = lab.alone_but_demo();
    let following = Following::begin(lab, &["--topics", "vm"]);
    let begun = Instant::now();
    assert!(tool("stack", &["stop", "api-gateway"]).status.success());
    let took = begun.elapsed();
    // The script kills after 15 s; an open stream holds nothing up.
    assert!(took < Duration::from_secs(8), "the gateway took {took:?}");
    tool_ok("stack", &["start", "api-gateway"]);
    following.until("that the gateway is another", Duration::from_secs(30), |event| {
        (&event["event"], &event["data"]["reason"]) == (&json!("resync"), &json!("restarted"))
    });
    let guest = Guest::define(lab, "watched-again", &json!({"memory_mib": 64}));
    following.until("a guest of the other gateway", SEEN, |event| {
        event["data"]["id"] == guest.id.as_str()
    });
    guest.delete();
}
