//! A browser behind nginx: frames by hand, so that they can be wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vmmgr_common::mtls::{Identity, Role, TlsFiles, client_config};

use crate::stack::PATIENCE;

const MASK: [u8; 4] = [0x12, 0xe4, 0x56, 0x9a];

pub(crate) type Stream = TlsStream<TcpStream>;

pub(crate) struct Browser {
    pub(crate) stream: Stream,
    /// Head of the answer.
    pub(crate) head: String,
}

/// A frame of a browser: first byte, then length, mask and payload.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        0..=125 => bytes.push(0x80 | payload.len() as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

impl Browser {
    /// A websocket of somebody with this certificate, or status and body of the refusal.
    pub(crate) async fn open(
        files: &TlsFiles,
        address: SocketAddr,
        path: &str,
        headers: &str,
    ) -> Result<Self, (u16, String)> {
        let proxy = Identity { role: Role::VncProxy, instance: "main".to_owned() };
        let connector = TlsConnector::from(Arc::new(client_config(files, proxy).unwrap()));
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("proxy").unwrap();
        Self::over(connector.connect(name, socket).await.unwrap(), path, headers).await
    }

    /// The same over a stream that is there.
    pub(crate) async fn over(
        mut stream: Stream,
        path: &str,
        headers: &str,
    ) -> Result<Self, (u16, String)> {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: vmm.registry.local\r\nUpgrade: websocket\r\n\
             Connection: upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\nX-Forwarded-For: 192.0.2.7\r\n{headers}\r\n"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status == 101 {
            return Ok(Self { stream, head });
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        timeout(PATIENCE, stream.read_exact(&mut body)).await.unwrap().unwrap();
        Err((status, String::from_utf8(body).unwrap()))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn binary(&mut self, payload: &[u8]) {
        self.send(&frame(0x82, payload)).await;
    }

    /// Next frame: first byte and payload; none at the end.
    pub(crate) async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read()).await.expect("no frame came")
    }

    /// A frame within `time`.
    pub(crate) async fn next_within(&mut self, time: Duration) -> Option<(u8, Vec<u8>)> {
        timeout(time, self.read()).await.ok().flatten()
    }

    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let length = match self.stream.read_u8().await.ok()? {
            126 => u64::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()?,
            short => {
                assert!(short < 126, "frames to a browser are not masked");
                u64::from(short)
            }
        };
        assert!(length <= 64 << 10, "frames to a browser are at most 64 KiB");
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((first, payload))
    }

    /// So many payload bytes; frames that are not binary are an error.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let (first, payload) = self.next().await.expect("the session ended");
            assert_eq!(first, 0x82, "{payload:x?}");
            bytes.extend(payload);
        }
        bytes
    }

    /// Everything up to the closing frame, and its code, if it has one.
    pub(crate) async fn end(&mut self) -> (Vec<u8>, Option<u16>) {
        let mut bytes = Vec::new();
        loop {
            match self.next().await.expect("the connection ended without a closing frame") {
                (0x88, payload) => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return (bytes, code);
                }
                (0x82, payload) => bytes.extend(payload),
                (0x89 | 0x8a, _) => {}
                (first, _) => panic!("frame {first:x}"),
            }
        }
    }

    /// The connection is closed by the other side, in order.
    pub(crate) async fn closed(&mut self) {
        let rest = timeout(PATIENCE, self.stream.read_u8()).await.expect("it stays open");
        assert!(rest.is_err());
    }
}
