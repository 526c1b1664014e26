//! Guest, agent and gateway.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use vmmgr_common::ids::{ConsoleSessionId, VmId};
use vmmgr_common::mtls::{TlsFiles, server_config};

use crate::Failure;

/// Certificate of a role in a folder that `vmmctl pki init` made.
pub(crate) fn files(pki: &Path, role: &str) -> TlsFiles {
    TlsFiles {
        ca: pki.join("ca.pem"),
        cert: pki.join(format!("{role}.pem")),
        key: pki.join(format!("{role}.key")),
    }
}

/// Any stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) async fn start(pki: &Path, mtls: bool) -> Result<(), Failure> {
    let plain = TcpListener::bind("127.0.0.1:7451").await?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = plain.accept().await {
            if socket.set_nodelay(true).is_ok() {
                tokio::spawn(async move { drop(guest(Box::new(socket)).await) });
            }
        }
    });
    if !mtls {
        return Ok(());
    }
    for (port, role) in [(7450, "host-agent"), (7441, "gateway")] {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&files(pki, role))?));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    socket.set_nodelay(true)?;
                    let stream: Box<dyn Stream> = Box::new(acceptor.accept(socket).await?);
                    if port == 7441 { gateway(stream).await } else { agent(stream).await }
                });
            }
        });
    }
    Ok(())
}

async fn head(stream: &mut Box<dyn Stream>) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn agent(mut stream: Box<dyn Stream>) -> std::io::Result<()> {
    head(&mut stream).await?;
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: vmmgr-console\r\n\r\n";
    stream.write_all(answer.as_bytes()).await?;
    guest(stream).await
}

async fn guest(mut stream: Box<dyn Stream>) -> std::io::Result<()> {
    let mut room = vec![0; 256 << 10];
    loop {
        let command = stream.read_u8().await?;
        let mut left = stream.read_u64().await? as usize;
        match command {
            b'F' => {
                while left > 0 {
                    let length = left.min(room.len());
                    stream.write_all(&room[..length]).await?;
                    left -= length;
                }
            }
            b'S' => {
                while left > 0 {
                    let length = left.min(room.len());
                    left -= stream.read(&mut room[..length]).await?.max(1);
                }
                stream.write_all(b"D").await?;
            }
            _ => loop {
                let length = stream.read(&mut room).await?;
                if length == 0 {
                    return Ok(());
                }
                stream.write_all(&room[..length]).await?;
                stream.flush().await?;
            },
        }
        stream.flush().await?;
    }
}

/// Every ticket is good.
async fn gateway(mut stream: Box<dyn Stream>) -> std::io::Result<()> {
    loop {
        let head = head(&mut stream).await?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if head.contains("/events") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(b"{\"event\":\"heartbeat\"}\n").await?;
                stream.flush().await?;
                tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            }
        }
        let answer = if head.contains("/redeem") {
            json!({"session": ConsoleSessionId::new(), "host": "host01", "vm": VmId::new(),
                "agent_url": "https://127.0.0.1:7450", "run": "r", "kind": "serial",
                "mode": "share", "user": "ada"})
        } else {
            json!({"end": []})
        };
        let answer = answer.to_string();
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
    }
}
