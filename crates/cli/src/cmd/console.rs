//! Consoles: the serial line in this terminal, the screen in a browser or a native viewer.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use vmmgr_common::api::console::{ConsoleOffset, ConsoleResumable, ConsoleTicket, close};

use super::vm::Place;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::{self, Raw};
use crate::websocket::Websocket;

/// Ctrl-], as telnet and `virsh console` have it.
const ESCAPE: u8 = 0x1d;
/// What is shown of the past when a console is opened, bytes.
const RECENT: u64 = 4096;
/// How long a lost connection is tried again, and how often.
const COME_BACK: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_secs(1);
/// An offset behind every line's end: its answer is the end itself.
const BEHIND: u64 = 1 << 53;

/// How to behave towards others on the same console.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// Beside the others
    Share,
    /// Look on; nothing that is typed arrives
    View,
    /// End the others first
    TakeOver,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::View => "view",
            Self::TakeOver => "take_over",
        }
    }
}

/// The serial console of a guest in this terminal; Ctrl-] leaves it.
#[derive(Args)]
pub(crate) struct Console {
    #[command(flatten)]
    place: Place,
    /// How to behave towards others on the same console
    #[arg(long, value_enum, default_value = "share")]
    mode: Mode,
}

/// The screen of a guest: prints the page, opens it, or serves a native viewer.
#[derive(Args)]
pub(crate) struct Vnc {
    #[command(flatten)]
    place: Place,
    /// How to behave towards others on the same console
    #[arg(long, value_enum, default_value = "share")]
    mode: Mode,
    /// Open the page in the browser
    #[arg(long, conflicts_with = "listen")]
    open: bool,
    /// Let native viewers connect here; loopback only, such as 127.0.0.1:5900
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// The screen of a guest as PNG.
#[derive(Args)]
pub(crate) struct Screenshot {
    #[command(flatten)]
    place: Place,
    /// File to write; `-` is standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// What the serial line of a guest said.
#[derive(Args)]
pub(crate) struct ConsoleLog {
    #[command(flatten)]
    place: Place,
    /// Offset of the first byte; the oldest that is kept without
    #[arg(long)]
    from: Option<u64>,
}

async fn ticket(
    client: &Client,
    place: &Place,
    kind: &str,
    mode: Mode,
) -> Result<ConsoleTicket, Failure> {
    let body = json!({"kind": kind, "mode": mode.name()});
    let path = format!("{}/console", place.path()?);
    let answer = client.call(Method::POST, &path, Some(&body)).await?;
    serde_json::from_value(answer).map_err(Failure::local)
}

async fn exchange(client: &Client, given: Value) -> Result<ConsoleResumable, Failure> {
    let answer = client.call(Method::POST, "/v1/console/exchange", Some(&given)).await?;
    serde_json::from_value(answer).map_err(Failure::local)
}

/// Why a console is no longer there.
enum End {
    /// Somebody wanted it.
    Left,
    /// For good; what is to be said.
    Over(String),
    /// By accident.
    Lost,
}

/// A serial line and how much of it was shown.
struct Line {
    socket: Websocket,
    at: u64,
}

impl Line {
    /// Shows the line and types into it, until one of the two ends.
    async fn run(&mut self, keys: &mut mpsc::Receiver<Vec<u8>>, terminal: bool) -> End {
        let mut typing = true;
        loop {
            tokio::select! {
                said = self.socket.next() => match said {
                    Some(Ok(message)) => if let Some(end) = self.show(message) {
                        return end;
                    },
                    Some(Err(_)) | None => return End::Lost,
                },
                typed = keys.recv(), if typing => match typed {
                    Some(mut bytes) => {
                        let escape = bytes.iter().position(|byte| terminal && *byte == ESCAPE);
                        bytes.truncate(escape.unwrap_or(bytes.len()));
                        if self.socket.send(Message::binary(bytes)).await.is_err() {
                            return End::Lost;
                        }
                        if escape.is_some() {
                            return End::Left;
                        }
                    }
                    None => typing = false,
                },
            }
        }
    }

    fn show(&mut self, message: Message) -> Option<End> {
        match message {
            Message::Binary(bytes) => {
                self.at += bytes.len() as u64;
                let mut out = std::io::stdout().lock();
                let shown = out.write_all(&bytes).and_then(|()| out.flush());
                shown.is_err().then_some(End::Left)
            }
            Message::Text(text) => {
                if let Ok(ConsoleOffset { offset }) = serde_json::from_str(&text) {
                    self.at = offset;
                }
                None
            }
            Message::Close(frame) => Some(match frame.map(|f| (u16::from(f.code), f.reason)) {
                Some((close::NORMAL, _)) => End::Over("the guest closed its console".to_owned()),
                Some((close::ENDED, reason)) => {
                    End::Over(format!("the console was ended: {reason}"))
                }
                _ => End::Lost,
            }),
            _ => None,
        }
    }
}

fn say(what: &str) {
    eprint!("\r\n[vmmctl: {what}]\r\n");
}

impl Console {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let log = format!("{}/console/log?limit=1&from={BEHIND}", self.place.path()?);
        let at = client.bytes_at(&log).await?.0.saturating_sub(RECENT);
        let first = ticket(client, &self.place, "serial", self.mode).await?;
        let mut given = exchange(client, json!({"ticket": first.ticket})).await?;
        let mut line = Line { socket: client.websocket(&given.ticket, Some(at)).await?, at };
        let raw = Raw::enter()?;
        let hint = if raw.is_terminal() { "; Ctrl-] leaves it" } else { "" };
        say(&format!("serial console of {}{hint}", given.name));
        let mut keys = terminal::input();
        loop {
            match line.run(&mut keys, raw.is_terminal()).await {
                End::Left => {
                    say("left");
                    return Ok(());
                }
                End::Over(why) => {
                    say(&why);
                    return Ok(());
                }
                End::Lost => {
                    say("the connection was lost; coming back");
                    (line.socket, given) = come_back(client, given, line.at).await?;
                    say("back");
                }
            }
        }
    }
}

/// Another websocket for a page that lost its own; what was said meanwhile comes first.
async fn come_back(
    client: &Client,
    given: ConsoleResumable,
    at: u64,
) -> Result<(Websocket, ConsoleResumable), Failure> {
    let (until, mut given) = (Instant::now() + COME_BACK, given);
    loop {
        let next = exchange(client, json!({"resume": given.resume})).await;
        let tried = match next {
            Ok(next) => {
                given = next;
                client.websocket(&given.ticket, Some(at)).await
            }
            Err(failure) => Err(failure),
        };
        match tried {
            Ok(socket) => return Ok((socket, given)),
            Err(failure @ Failure::Api(_)) if failure.is_final() => return Err(failure),
            Err(failure) if Instant::now() > until => return Err(failure),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

impl Vnc {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        if let Some(address) = self.listen {
            return self.serve(client, address).await;
        }
        let ticket = ticket(client, &self.place, "vnc", self.mode).await?;
        let url = client.url(ticket.page.expose());
        if !self.open {
            println!("{url}");
            eprintln!("hint: the page opens once, until {}", ticket.expires_at);
            return Ok(());
        }
        open(&url).await
    }

    /// A viewer that connects is one more session, with a ticket of its own.
    async fn serve(&self, client: &Client, address: SocketAddr) -> Result<(), Failure> {
        if !address.ip().is_loopback() {
            let why = "--listen takes only a loopback address: viewers are not asked who they are";
            return Err(Failure::Usage(why.to_owned()));
        }
        let listener = TcpListener::bind(address).await.map_err(Failure::local)?;
        let address = listener.local_addr().map_err(Failure::local)?;
        println!("{address}");
        eprintln!("hint: point a VNC viewer at {address}; Ctrl-C ends it");
        loop {
            let (viewer, from) = listener.accept().await.map_err(Failure::local)?;
            let ticket = ticket(client, &self.place, "vnc", self.mode).await?;
            let socket = client.websocket(&ticket, None).await?;
            eprintln!("  {from} looks");
            tokio::spawn(async move {
                match bridge(viewer, socket).await {
                    Ok(()) => eprintln!("  {from} left"),
                    Err(error) => eprintln!("  {from} was cut: {error}"),
                }
            });
        }
    }
}

type Cut = Box<dyn std::error::Error + Send + Sync>;

/// Both ways, until one side ends.
async fn bridge(viewer: TcpStream, socket: Websocket) -> Result<(), Cut> {
    viewer.set_nodelay(true)?;
    let (mut read, mut write) = viewer.into_split();
    let (mut sink, mut source) = socket.split();
    let inward = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match read.read(&mut buffer).await? {
                0 => return sink.close().await.map_err(Cut::from),
                count => sink.send(Message::binary(buffer[..count].to_vec())).await?,
            }
        }
    };
    let outward = async {
        while let Some(message) = source.next().await {
            match message? {
                Message::Binary(bytes) => write.write_all(&bytes).await?,
                Message::Close(Some(frame)) if u16::from(frame.code) != close::NORMAL => {
                    return Err(Cut::from(frame.reason.to_string()));
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = inward => ended,
        ended = outward => ended,
    }
}

/// Opens a page whose address is a secret: it goes through a file that only we can read, not
/// through the arguments of a program, which everybody can.
async fn open(url: &str) -> Result<(), Failure> {
    let path = std::env::temp_dir().join(format!("vmmctl-{}.html", uuid::Uuid::new_v4().simple()));
    let text = format!("<!doctype html><script>location.replace({})</script>", json!(url));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(Failure::local)?;
    let opened = tokio::process::Command::new("xdg-open").arg(&path).status().await;
    // The browser reads it after the opener has ended.
    tokio::time::sleep(Duration::from_secs(5)).await;
    fs_err::remove_file(&path).map_err(Failure::local)?;
    match opened {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Local(format!("xdg-open: {status}"))),
        Err(error) => Err(Failure::Local(format!("xdg-open: {error}"))),
    }
}

impl Screenshot {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let png = client.bytes(&format!("{}/screenshot", self.place.path()?)).await?;
        if self.output.as_os_str() == "-" {
            return std::io::stdout().write_all(&png).map_err(Failure::local);
        }
        fs_err::write(&self.output, &png).map_err(Failure::local)
    }
}

impl ConsoleLog {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = format!("{}/console/log?limit=0", self.place.path()?);
        let mut from = self.from;
        loop {
            let query = from.map(|from| format!("&from={from}")).unwrap_or_default();
            let (offset, data) = client.bytes_at(&format!("{path}{query}")).await?;
            if data.is_empty() {
                eprintln!("hint: `--from {offset}` goes on from here");
                return Ok(());
            }
            std::io::stdout().write_all(&data).map_err(Failure::local)?;
            from = Some(offset + data.len() as u64);
        }
    }
}
