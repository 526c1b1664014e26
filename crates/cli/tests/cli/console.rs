//! Consoles: a real websocket server that cuts the line, and one that ends it for good.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::support::{VM, command};

/// One request's head and body.
struct Asked {
    line: String,
    headers: HashMap<String, String>,
    body: Value,
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let first = lines.first()?.rsplit_once(' ')?.0.to_owned();
    let headers: HashMap<String, String> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Asked { line: first, headers, body })
}

fn answer(mut stream: TcpStream, extra: &str, body: &[u8]) {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{extra}connection: close\r\n\r\n"
    )
    .unwrap();
    stream.write_all(body).unwrap();
}

fn upgrade(asked: &Asked, mut stream: TcpStream) -> WebSocket<TcpStream> {
    let accept = derive_accept_key(asked.headers["sec-websocket-key"].as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: binary\r\n\r\n"
    )
    .unwrap();
    WebSocket::from_raw_socket(stream, Role::Server, None)
}

fn ticket(name: &str, kind: &str) -> Value {
    json!({"ticket": name, "websocket": "/console/ws", "kind": kind, "mode": "share",
        "page": format!("/console/{kind}.html#ticket={name}"), "expires_at": "2026-01-01T00:00:30Z"})
}

/// The API's side of consoles; what `socket` is given is told to it by number.
fn serve(
    kind: &'static str,
    socket: impl Fn(usize, &Asked, WebSocket<TcpStream>) + Send + 'static,
) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut sockets, mut exchanges) = (0, 0);
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let Some(asked) = read(&stream) else { continue };
            tell.send(asked.line.clone()).unwrap();
            let place = format!("/v1/hosts/host01/vms/{VM}");
            match asked.line.split('?').next().unwrap() {
                line if line == format!("POST {place}/console") => {
                    answer(stream, "", ticket("T0", kind).to_string().as_bytes());
                }
                "POST /v1/console/exchange" => {
                    let given = match exchanges {
                        0 => json!({"ticket": "T0"}),
                        last => json!({"resume": format!("R{last}")}),
                    };
                    assert_eq!(asked.body, given);
                    exchanges += 1;
                    let body = json!({"ticket": ticket(&format!("T{exchanges}"), kind), "host": "host01",
                        "resume": format!("R{exchanges}"), "vm": VM, "name": "web1"});
                    answer(stream, "", body.to_string().as_bytes());
                }
                line if line == format!("GET {place}/console/log") => {
                    let at = asked.line.rsplit_once("from=").map_or("0", |(_, from)| from);
                    let (at, text) = if at == "0" { (0, "history") } else { (10_000, "") };
                    answer(stream, &format!("x-vmmgr-offset: {at}\r\n"), text.as_bytes());
                }
                line if line == format!("GET {place}/screenshot") => answer(stream, "", b"\x89PNG"),
                "GET /console/ws" => {
                    let offer = &asked.headers["sec-websocket-protocol"];
                    assert!(offer.starts_with("binary, vmmgr.ticket.T"), "{offer}");
                    assert!(!asked.headers.contains_key("authorization"));
                    socket(sockets, &asked, upgrade(&asked, stream));
                    sockets += 1;
                }
                other => panic!("{other}"),
            }
        }
    });
    (url, told)
}

fn said(socket: &mut WebSocket<TcpStream>) -> Vec<u8> {
    loop {
        if let Message::Binary(bytes) = socket.read().unwrap() {
            return bytes.to_vec();
        }
    }
}

#[test]
fn a_serial_console_comes_back_where_it_was_and_says_so() {
    let (url, _told) = serve("serial", |number, asked, mut socket| match number {
        0 => {
            assert_eq!(asked.line, "GET /console/ws?from=5904");
            socket.send(Message::text(r#"{"offset":6000}"#)).unwrap();
            assert_eq!(said(&mut socket), b"uname\n");
            socket.send(Message::binary(b"Linux\n".as_slice())).unwrap();
            // Cut: no closing frame.
        }
        _ => {
            assert_eq!(asked.line, "GET /console/ws?from=6006");
            socket.send(Message::text(r#"{"offset":6006}"#)).unwrap();
            socket.send(Message::binary(b"meanwhile\n".as_slice())).unwrap();
            let frame = CloseFrame { code: 1008.into(), reason: "taken over".into() };
            socket.close(Some(frame)).unwrap();
            while socket.read().is_ok() {}
        }
    });
    let mut program = command(&url, &["console", "host01", VM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(b"uname\n").unwrap();
    let output = program.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{err}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Linux\nmeanwhile\n");
    for what in ["serial console of web1", "coming back", "[vmmctl: back]", "taken over"] {
        assert!(err.contains(what), "{what}: {err}");
    }
    assert!(!err.contains("T1") && !err.contains("R1"), "{err}");
}

#[test]
fn a_native_viewer_is_bridged_from_a_loopback_port() {
    let (url, _told) = serve("vnc", |_, asked, mut socket| {
        assert_eq!(asked.line, "GET /console/ws");
        socket.send(Message::binary(b"RFB 003.008\n".as_slice())).unwrap();
        let hello = said(&mut socket);
        socket.send(Message::binary(hello)).unwrap();
        while socket.read().is_ok() {}
    });
    let mut program = command(&url, &["vnc", "host01", VM, "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let mut viewer = TcpStream::connect(address.trim()).unwrap();
    viewer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut hello = [0; 12];
    viewer.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"RFB 003.008\n");
    viewer.write_all(b"RFB 003.007\n").unwrap();
    viewer.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"RFB 003.007\n");
    program.kill().unwrap();
    program.wait().unwrap();
}

#[test]
fn a_viewer_s_port_is_never_open_to_a_network() {
    let run = command("http://127.0.0.1:1", &["vnc", "host01", VM, "--listen", "0.0.0.0:0"]);
    let output = { run }.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback"));
}

#[test]
fn the_page_the_picture_and_the_history_are_printed() {
    let (url, _told) = serve("vnc", |_, _, _| ());
    let output = |arguments: &[&str]| {
        let output = command(&url, arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let page = String::from_utf8(output(&["vnc", "host01", VM])).unwrap();
    assert_eq!(page, format!("{url}/console/vnc.html#ticket=T0\n"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("screen.png");
    output(&["screenshot", "host01", VM, "--output", file.to_str().unwrap()]);
    assert_eq!(fs_err::read(file).unwrap(), b"\x89PNG");
    assert_eq!(output(&["screenshot", "host01", VM, "--output", "-"]), b"\x89PNG");
    assert_eq!(output(&["console-log", "host01", VM, "--from", "0"]), b"history");
}
