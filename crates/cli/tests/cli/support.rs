//! A server that answers what a test says, and the program itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// A guest of the tests.
pub(crate) const VM: &str = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";
/// An operation of the tests.
pub(crate) const OPERATION: &str = "0197a3c0-0000-7000-8000-000000000001";

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) last_event_id: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// `GET /v1/hosts`, without the query.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target.split('?').next().unwrap_or_default())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What the server says.
pub(crate) struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
    /// The connection ends before the announced end of the body.
    cut: bool,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status, kind: "application/json", body: body.to_string(), cut: false }
    }

    pub(crate) fn text(status: u16, kind: &'static str, body: &str) -> Self {
        Self { status, kind, body: body.to_owned(), cut: false }
    }

    /// Server-sent events: their names, and their data as JSON. The ids are `e-1`, `e-2` and so on.
    pub(crate) fn events(events: &[(&str, Value)]) -> Self {
        let frame = |(number, (name, data)): (usize, &(&str, Value))| {
            format!("event: {name}\nid: e-{}\ndata: {data}\n\n", number + 1)
        };
        let body = events.iter().enumerate().map(frame).collect();
        Self { status: 200, kind: "text/event-stream", body, cut: false }
    }

    pub(crate) fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    /// The failure body of the API.
    pub(crate) fn problem(status: u16, code: &str) -> Self {
        Self {
            status,
            kind: "application/problem+json",
            body: problem(status, code).to_string(),
            cut: false,
        }
    }
}

/// A failure body with everything in it.
pub(crate) fn problem(status: u16, code: &str) -> Value {
    json!({
        "type": format!("urn:vmmgr:error:{code}"), "title": "a title", "status": status, "code": code,
        "detail": "the reason in words", "hint": "what to do next", "request_id": "req-0815",
    })
}

/// An operation in a state.
pub(crate) fn operation(verb: &str, state: &str) -> Value {
    json!({
        "host": "host01", "user": "admin", "id": OPERATION, "verb": verb, "vm": VM, "state": state,
        "accepted_at": "2026-01-02T03:04:05Z", "outcome": {},
    })
}

/// The server; it ends with the value.
pub(crate) struct Fake {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, ended) = (asked.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                serve(connection.unwrap(), &answer, &log);
            }
        });
        Self { url, asked, over, thread: Some(thread) }
    }

    /// One answer for everything.
    pub(crate) fn always(status: u16, body: Value) -> Self {
        Self::new(move |_| Answer::json(status, &body))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes `incoming`, which has no other end.
        let woken = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take())
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server of this test failed");
        }
    }
}

fn serve(mut connection: TcpStream, answer: &impl Fn(&Asked) -> Answer, log: &Mutex<Vec<Asked>>) {
    let Some(asked) = read(&connection) else {
        return;
    };
    log.lock().unwrap().push(asked.clone());
    let Answer { status, kind, body, cut } = answer(&asked);
    let length = body.len() + if cut { 100 } else { 0 };
    write!(
        connection,
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
}

fn read(connection: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(connection);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        head.iter()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.to_owned()))
    };
    let mut first = head.first()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let (authorization, last_event_id) = (header("authorization"), header("last-event-id"));
    Some(Asked { method, target, authorization, last_event_id, body })
}

/// The program, with nothing of this environment's settings.
pub(crate) fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmmctl"));
    command
        .args(arguments)
        .env_remove("VMMGR_CA")
        .env_remove("VMMGR_TOKEN")
        .env("VMMGR_URL", url)
        .stdin(Stdio::null());
    command
}

/// How a run ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

pub(crate) fn vmmctl(url: &str, arguments: &[&str]) -> Run {
    command(url, arguments).output().unwrap().into()
}

/// Runs and expects success; gives standard output.
pub(crate) fn succeeds(url: &str, arguments: &[&str]) -> String {
    let run = vmmctl(url, arguments);
    assert_eq!(run.code, 0, "{arguments:?}: {}", run.err);
    run.out
}
