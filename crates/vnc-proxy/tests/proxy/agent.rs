//! An agent whose guests behave as the name of their run says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use vmmgr_common::mtls::{TlsFiles, server_config};

type Stream = TlsStream<tokio::net::TcpStream>;

/// What the guests saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Request lines.
    pub(crate) requests: Mutex<Vec<String>>,
    /// All bytes of guests that keep them.
    pub(crate) input: Mutex<Vec<u8>>,
    /// Hashes of the streams that ended.
    pub(crate) hashes: Mutex<Vec<[u8; 32]>>,
    /// Streams that are open.
    pub(crate) open: AtomicUsize,
}

pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    /// What guests of the run `told` send next.
    pub(crate) tell: watch::Sender<Vec<u8>>,
}

impl Agent {
    pub(crate) async fn start(tls: &TlsFiles) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(tls).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, tell) = (Arc::new(Seen::default()), watch::Sender::new(Vec::new()));
        let agent = Self { address, seen: seen.clone(), tell: tell.clone() };
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, seen, told) = (acceptor.clone(), seen.clone(), tell.subscribe());
                tokio::spawn(async move {
                    socket.set_nodelay(true).unwrap();
                    if let Ok(stream) = acceptor.accept(socket).await {
                        seen.open.fetch_add(1, Ordering::SeqCst);
                        // Streams break in tests about breaking.
                        if let Err(error) = serve(stream, &seen, told).await {
                            eprintln!("agent: {error}");
                        }
                        seen.open.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        agent
    }

    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    pub(crate) fn input(&self) -> Vec<u8> {
        self.seen.input.lock().unwrap().clone()
    }
}

async fn head(stream: &mut Stream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

async fn serve(
    mut stream: Stream,
    seen: &Seen,
    told: watch::Receiver<Vec<u8>>,
) -> std::io::Result<()> {
    let head = head(&mut stream).await?;
    let line = head.lines().next().unwrap().to_owned();
    let run = line.split("run=").nth(1).unwrap().split(['&', ' ']).next().unwrap().to_owned();
    seen.requests.lock().unwrap().push(line);
    if run == "gone" {
        let body = r#"{"status":409,"code":"wrong_state","detail":"another run of the guest"}"#;
        let text = format!("HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        return stream.write_all(text.as_bytes()).await;
    }
    // Head and first bytes in one piece: nothing may be lost between the two.
    let mut first = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
        upgrade: vmmgr-console\r\nx-vmmgr-offset: 4711\r\n\r\n"
        .to_vec();
    if run == "banner" {
        first.extend_from_slice(b"RFB 003.008\n");
    }
    stream.write_all(&first).await?;
    match run.as_str() {
        "echo" => echo(stream).await,
        "bye" => stream.shutdown().await,
        // As a killed agent: the connection ends and TLS does not say so.
        "killed" => Ok(()),
        "sink" | "banner" => keep(stream, seen).await,
        "hash" => hash(stream, seen).await,
        "told" => tell(stream, told).await,
        "flood" => flood(stream).await,
        "deaf" => std::future::pending().await,
        other => panic!("no guest of the run {other}"),
    }
}

async fn echo(mut stream: Stream) -> std::io::Result<()> {
    let mut room = vec![0; 64 << 10];
    loop {
        match stream.read(&mut room).await? {
            0 => return stream.shutdown().await,
            length => stream.write_all(&room[..length]).await?,
        }
        stream.flush().await?;
    }
}

async fn keep(mut stream: Stream, seen: &Seen) -> std::io::Result<()> {
    let mut room = vec![0; 64 << 10];
    loop {
        match stream.read(&mut room).await? {
            0 => return Ok(()),
            length => seen.input.lock().unwrap().extend_from_slice(&room[..length]),
        }
    }
}

async fn hash(mut stream: Stream, seen: &Seen) -> std::io::Result<()> {
    let (mut room, mut hash) = (vec![0; 64 << 10], Sha256::new());
    loop {
        match stream.read(&mut room).await? {
            0 => break,
            length => hash.update(&room[..length]),
        }
    }
    seen.hashes.lock().unwrap().push(hash.finalize().into());
    Ok(())
}

async fn tell(mut stream: Stream, mut told: watch::Receiver<Vec<u8>>) -> std::io::Result<()> {
    let mut room = vec![0; 1024];
    loop {
        tokio::select! {
            length = stream.read(&mut room) => if length? == 0 { return Ok(()) },
            changed = told.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let bytes = told.borrow_and_update().clone();
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
        }
    }
}

async fn flood(mut stream: Stream) -> std::io::Result<()> {
    let bytes = vec![b'x'; 64 << 10];
    loop {
        stream.write_all(&bytes).await?;
    }
}
