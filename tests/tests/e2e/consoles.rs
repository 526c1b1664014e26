//! Consoles of real guests, as programs use them: a websocket through nginx, and `vmmctl`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::header;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::api::{Api, URL};
use crate::guest::Guest;
use crate::lab::{HOST, Lab, lab, program, run, tool_ok, until};
use crate::websocket::{Websocket, ticket};

/// The promise is one second; the rest is for a machine without KVM that does other things too.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Logged in on the serial line.
fn shell<'a>(lab: &'static Lab, guest: &Guest) -> Websocket<'a> {
    let opened = ticket(&lab.api, &guest.path(""), "serial", "share");
    let mut line = Websocket::with(&lab.api, &opened, "?from=0").unwrap();
    line.says("login: ");
    line.send(b"root\n");
    line.says("# ");
    line
}

/// A shell's output on the line, without what was typed: the guest echoes it.
fn answer(line: &mut Websocket<'_>, number: u32) {
    line.send(format!("echo answer-$(({number}+0))\n").as_bytes());
    line.says(&format!("answer-{number}\r\n"));
}

/// The serial history from an offset on, and where it really begins.
fn log(lab: &Lab, guest: &Guest, from: u64) -> (u64, Vec<u8>) {
    let path = guest.path(&format!("/console/log?from={from}&limit=0"));
    let (offset, bytes) = lab.api.bytes(&path, "x-vmmgr-offset");
    (offset.parse().unwrap(), bytes)
}

fn ended(what: &str, console: &mut Websocket<'_>) {
    let (code, reason, took) = console.ends();
    eprintln!("measured: {what} ends a console after {} ms ({reason})", took.as_millis());
    assert_eq!(code, 1008, "{what}: {reason}");
    assert!(took < ENDS_WITHIN, "{what}: {took:?}");
}

#[test]
fn a_screen_opens_once_with_a_ticket_and_nobody_listens_on_a_port() {
    let Some(lab) = lab("the screen's console") else { return };
    let _peace = lab.peace();
    let mut guest = Guest::boot(lab, "screened");
    let opened = ticket(&lab.api, &guest.path(""), "vnc", "share");
    let mut screen = Websocket::with(&lab.api, &opened, "").unwrap();
    assert_eq!(screen.take(12), b"RFB 003.008\n");
    assert_eq!(Websocket::with(&lab.api, &opened, "").err(), Some(401), "a ticket opens once");
    let ports = run("ss", &["-ltnp"]);
    assert!(!ports.contains("qemu"), "{ports}");

    let (kind, png) = lab.api.bytes(&guest.path("/screenshot"), "content-type");
    assert_eq!((kind.as_str(), &png[..8]), ("image/png", b"\x89PNG\r\n\x1a\n".as_slice()));
    // RFB 7.3: version, no security, its result, shared; then ServerInit begins with the size.
    screen.send(b"RFB 003.008\n");
    assert_eq!(screen.take(2), [1, 1], "one way to log in: none");
    screen.send(&[1]);
    assert_eq!(screen.take(4), [0; 4]);
    screen.send(&[1]);
    let size = screen.take(4);
    assert_eq!([&png[18..20], &png[22..24]].concat(), size, "PNG and screen have one size");

    compat(lab, &guest);
    let asked = json!({"kind": "spice", "mode": "share"});
    let (status, none) = lab.api.post(&guest.path("/console"), &asked);
    assert_eq!((status, none["code"].as_str()), (404, Some("no_such_console")), "{none}");
    // A ticket is for this run of the guest only.
    let before = ticket(&lab.api, &guest.path(""), "vnc", "share");
    guest.act("POST", "/poweroff", &Value::Null);
    guest.start();
    guest.says("vmmgr-busybox ready screened");
    let refused = Websocket::with(&lab.api, &before, "").err();
    assert!(matches!(refused, Some(401 | 409)), "{refused:?}");
    guest.delete();
}

/// The described system's addresses and shapes, with a websocket as its pages open it.
fn compat(lab: &Lab, guest: &Guest) {
    for (verb, kind, page) in
        [("display", "vnc", "/novnc/vnc_lite.html"), ("console", "serial", "/term/xterm.html")]
    {
        let (status, said) = lab.api.get(&format!("/vm/{verb}/{HOST}/{}", guest.id));
        assert_eq!(status, 200, "{said}");
        assert_eq!((said["result"].as_str(), said["desc"].as_str()), (Some("OK"), Some(kind)));
        assert!(said["expire"].is_string(), "{said}");
        let display = said["display"].as_str().unwrap();
        let before = format!("{page}?password=&path=websockify/%3Ftoken=");
        let token = display.strip_prefix(&before).unwrap_or_else(|| panic!("{display}"));
        let path = format!("/websockify/?token={token}");
        // A page of another site is refused and uses nothing up.
        let foreign = Websocket::open(&lab.api, &path, &[(header::ORIGIN, "https://evil.example")]);
        assert_eq!(foreign.err(), Some(403));
        let mut socket = Websocket::open(&lab.api, &path, &[(header::ORIGIN, URL)]).unwrap();
        if kind == "vnc" {
            assert_eq!(socket.take(12), b"RFB 003.008\n");
        } else {
            socket.says("login: ");
        }
    }
}

#[test]
fn a_serial_line_is_typed_on_and_loses_and_doubles_nothing() {
    let Some(lab) = lab("the serial console") else { return };
    let _alone = lab.alone_but_demo();
    let guest = Guest::boot(lab, "lined");
    let mut line = shell(lab, &guest);
    answer(&mut line, 41);
    // What comes while nobody looks is told to who comes back, once.
    line.send(b"sleep 2; for i in 1 2 3 4 5 6 7 8 9; do echo counted-$i; done\n");
    line.says("\n");
    let at = line.at - line.unread.len() as u64;
    line.cut();
    let opened = ticket(&lab.api, &guest.path(""), "serial", "share");
    let mut line = Websocket::with(&lab.api, &opened, &format!("?from={at}")).unwrap();
    let told = line.says("counted-9\r\n");
    for number in 1..=9 {
        assert_eq!(told.matches(&format!("counted-{number}")).count(), 1, "{told:?}");
    }
    assert_eq!(log(lab, &guest, at).1[..told.len()], *told.as_bytes());

    watched(lab, &guest, &mut line);
    let before = log(lab, &guest, 0);
    tool_ok("stack", &["kill", "host-agent"]);
    tool_ok("stack", &["start", "host-agent"]);
    until("the host is reachable", Duration::from_secs(60), || {
        let (_, shown) = lab.api.get(&format!("/v1/hosts/{HOST}"));
        if shown["state"] == "reachable" { Ok(()) } else { Err(shown.to_string()) }
    });
    let after = log(lab, &guest, 0);
    assert_eq!((after.0, &after.1[..before.1.len()]), (before.0, &before.1[..]));
    let middle = before.0 + 100;
    assert_eq!(log(lab, &guest, middle), (middle, after.1[100..].to_vec()));
    let (code, reason, _) = line.ends();
    assert_eq!(code, 1011, "a lost host is no end for good: {reason}");
    guest.delete();
}

/// Who only looks sees everything and changes nothing.
fn watched(lab: &Lab, guest: &Guest, line: &mut Websocket<'_>) {
    let mut watcher = Websocket::of(&lab.api, guest, "serial", "view");
    watcher.send(b"echo intru$((0))der\n");
    answer(line, 43);
    let seen = watcher.says("answer-43\r\n");
    assert!(!seen.contains("intru"), "{seen:?}");
    // Through the whole way once more: had the input only been late, it would be there by now.
    answer(line, 44);
    let all = log(lab, guest, 0).1;
    assert!(!String::from_utf8_lossy(&all).contains("intru"));
}

#[test]
fn a_console_ends_with_its_session_its_login_and_its_guest() {
    let Some(lab) = lab("the end of consoles") else { return };
    let _peace = lab.peace();
    let guest = Guest::boot(lab, "ending");
    let mut screen = Websocket::of(&lab.api, &guest, "vnc", "share");
    screen.take(12);
    let (_, sessions) = lab.api.get(&guest.path("/console/sessions"));
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
    let id = sessions[0]["id"].as_str().unwrap();
    assert_eq!(sessions[0]["user"], "admin", "{sessions}");
    let gone = lab.api.call(&lab.api.token, "DELETE", &format!("/v1/console/sessions/{id}"), None);
    assert_eq!(gone.0, 204, "{}", gone.1);
    ended("DELETE of the session", &mut screen);

    let mut first = Websocket::of(&lab.api, &guest, "serial", "share");
    let mut second = Websocket::of(&lab.api, &guest, "serial", "take_over");
    ended("a take-over", &mut first);
    second.send(b"\n");

    let ca = fs_err::read(lab.state.join("pki/ca.pem")).unwrap();
    let password = fs_err::read_to_string(lab.state.join("admin.password")).unwrap();
    let other = Api::login(&ca, password.trim());
    let mut screen = Websocket::of(&other, &guest, "vnc", "share");
    screen.take(12);
    assert_eq!(other.call(&other.token, "DELETE", "/v1/session", None).0, 204);
    ended("a logout", &mut screen);

    let mut screen = Websocket::of(&lab.api, &guest, "vnc", "share");
    screen.take(12);
    let start = Instant::now();
    guest.delete();
    eprintln!("measured: the delete itself took {} ms", start.elapsed().as_millis());
    for console in [&mut screen, &mut second] {
        let (code, reason, took) = console.ends();
        eprintln!("measured: {} ms after a delete: {code} {reason}", took.as_millis());
        assert!(matches!(code, 1000 | 1008), "{code} {reason}");
        assert!(took < ENDS_WITHIN, "{took:?}");
    }
}

#[test]
fn spice_guests_answer_a_link_message() {
    let Some(lab) = lab("a SPICE console") else { return };
    let _peace = lab.peace();
    let guest = Guest::define(lab, "spicy", &json!({"graphics": "spice"}));
    guest.start();
    let mut screen = Websocket::of(&lab.api, &guest, "spice", "share");
    // SpiceLinkHeader (REDQ, version 2.2, size) and SpiceLinkMess: connection 0, main channel, no
    // capabilities.
    let mut hello = b"REDQ".to_vec();
    for word in [2_u32, 2, 18, 0] {
        hello.extend(word.to_le_bytes());
    }
    hello.extend([1, 0]);
    for word in [0_u32, 0, 18] {
        hello.extend(word.to_le_bytes());
    }
    screen.send(&hello);
    assert_eq!(screen.take(4), b"REDQ");
    guest.delete();
}

#[test]
fn a_guest_of_others_with_a_port_has_a_console() {
    let Some(lab) = lab("a foreign guest's console") else { return };
    let _peace = lab.peace();
    let id = "6f1d5a0e-8c2b-4f0e-9a39-0d3b7f5f2c11";
    let xml = format!(
        "<domain type='qemu'><name>foreign</name><uuid>{id}</uuid><memory unit='MiB'>64</memory>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>\
         <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>\
         <video><model type='vga'/></video></devices></domain>"
    );
    let file = lab.run.join("foreign.xml");
    fs_err::write(&file, xml).unwrap();
    let virsh = |arguments: &[&str]| run("virsh", &[&["-c", "qemu:///system"], arguments].concat());
    virsh(&["define", file.to_str().unwrap()]);
    virsh(&["start", "foreign"]);
    let path = format!("/v1/hosts/{HOST}/vms/{id}");
    until("the agent knows it", Duration::from_secs(60), || match lab.api.get(&path) {
        (200, shown) if shown["state"] == "running" => Ok(()),
        (_, other) => Err(other.to_string()),
    });
    let opened = ticket(&lab.api, &path, "vnc", "share");
    let mut screen = Websocket::with(&lab.api, &opened, "").unwrap();
    assert_eq!(screen.take(12), b"RFB 003.008\n");
    virsh(&["destroy", "foreign"]);
    virsh(&["undefine", "foreign"]);
    let (code, reason, took) = screen.ends();
    assert!(took < ENDS_WITHIN, "{code} {reason} {took:?}");
}

#[test]
fn vmmctl_console_is_a_terminal_that_ctrl_bracket_leaves() {
    let Some(lab) = lab("vmmctl console") else { return };
    let _peace = lab.peace();
    let guest = Guest::boot(lab, "typed");
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(name).unwrap();
    let end = || Stdio::from(theirs.try_clone().unwrap());
    let mut child = Command::new(program("vmmctl"))
        .args(["--server", URL, "console", HOST, &guest.id])
        .env("VMMGR_CA", lab.state.join("pki/ca.pem"))
        .env("VMMGR_TOKEN", &lab.api.token)
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    drop(theirs);
    let (tell, told) = std::sync::mpsc::channel();
    let mut terminal = File::from(ours);
    let mut screen = terminal.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut buffer) {
            if tell.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut seen = String::new();
    let mut shows = |what: &str| {
        let before = seen.len();
        until(&format!("the terminal shows {what:?}"), Duration::from_secs(300), || {
            while let Ok(bytes) = told.try_recv() {
                seen.push_str(&String::from_utf8_lossy(&bytes));
            }
            let new = seen[..].split_at(before).1;
            if new.contains(what) { Ok(()) } else { Err(seen.clone()) }
        });
    };
    shows("Ctrl-] leaves it");
    terminal.write_all(b"\n").unwrap();
    shows("login: ");
    terminal.write_all(b"root\n").unwrap();
    shows("# ");
    terminal.write_all(b"echo typed-$((40+2))\n").unwrap();
    shows("typed-42");
    terminal.write_all(b"\x1d").unwrap();
    until("vmmctl ends", Duration::from_secs(60), || match child.try_wait().unwrap() {
        Some(status) if status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    guest.delete();
}
