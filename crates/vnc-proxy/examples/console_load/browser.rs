//! The browser's end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use vmmgr_common::mtls::{Identity, Role, client_config};

use crate::Failure;
use crate::guest::{Stream, files};

const MASK: [u8; 4] = [0x12, 0xe4, 0x56, 0x9a];
/// Written at a time in a flood.
const PIECE: usize = 256 << 10;

/// How the server is reached.
pub(crate) enum Way {
    Plain(SocketAddr),
    Mtls(TlsConnector, SocketAddr),
}

impl Way {
    pub(crate) fn mtls(pki: &Path, address: SocketAddr) -> Result<Self, Failure> {
        let proxy = Identity { role: Role::VncProxy, instance: "main".to_owned() };
        let config = client_config(&files(pki, "nginx"), proxy)?;
        Ok(Self::Mtls(TlsConnector::from(Arc::new(config)), address))
    }

    const fn address(&self) -> SocketAddr {
        match self {
            Self::Plain(address) | Self::Mtls(_, address) => *address,
        }
    }

    /// Until the server listens, a minute at most.
    pub(crate) async fn wait(&self) {
        for _ in 0..600 {
            if TcpStream::connect(self.address()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        let socket = TcpStream::connect(self.address()).await?;
        socket.set_nodelay(true)?;
        Ok(match self {
            Self::Plain(_) => Box::new(socket),
            Self::Mtls(connector, _) => {
                Box::new(connector.connect(ServerName::try_from("proxy")?, socket).await?)
            }
        })
    }
}

pub(crate) struct Browser {
    stream: Box<dyn Stream>,
    room: Vec<u8>,
    /// Payload of the present frame that has not been read.
    frame: usize,
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x82];
    if payload.len() < 126 {
        bytes.push(0x80 | payload.len() as u8);
    } else {
        bytes.push(0x80 | 126);
        bytes.extend((payload.len() as u16).to_be_bytes());
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

impl Browser {
    pub(crate) async fn open(way: &Way) -> Result<Self, Failure> {
        let mut stream = way.connect().await?;
        let request = "GET /console/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Protocol: binary, vmmgr.ticket.abcdefghijklmnopqrstuvwxyz\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&head).into_owned().into());
        }
        Ok(Self { stream, room: Vec::new(), frame: 0 })
    }

    pub(crate) async fn command(&mut self, what: u8, length: usize) -> Result<(), Failure> {
        let bytes = [&[what], (length as u64).to_be_bytes().as_slice()].concat();
        self.burst(&bytes, 1).await
    }

    /// So many frames of this payload in one write.
    pub(crate) async fn burst(&mut self, payload: &[u8], count: usize) -> Result<(), Failure> {
        self.stream.write_all(&frame(payload).repeat(count)).await?;
        Ok(self.stream.flush().await?)
    }

    /// So many frames of this payload, as fast as they go.
    pub(crate) async fn flood(&mut self, payload: &[u8], mut count: usize) -> Result<(), Failure> {
        let one = frame(payload);
        let at_once = (PIECE / one.len()).max(1);
        let piece = one.repeat(at_once);
        while count > 0 {
            let now = count.min(at_once);
            self.stream.write_all(&piece[..now * one.len()]).await?;
            count -= now;
        }
        Ok(self.stream.flush().await?)
    }

    /// Reads so many bytes of payload.
    pub(crate) async fn take(&mut self, mut left: usize) -> Result<(), Failure> {
        loop {
            let mut at = 0;
            while at < self.room.len() {
                if self.frame == 0 {
                    let Some((length, header)) = header(&self.room[at..]) else { break };
                    (self.frame, at) = (length, at + header);
                }
                let here = self.frame.min(self.room.len() - at);
                (self.frame, at, left) = (self.frame - here, at + here, left.saturating_sub(here));
            }
            self.room.drain(..at);
            if left == 0 {
                return Ok(());
            }
            self.room.reserve(PIECE);
            if self.stream.read_buf(&mut self.room).await? == 0 {
                return Err("the session ended".into());
            }
        }
    }
}

/// Length of a frame's payload and of its header.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    Some(match bytes.get(1)? {
        126 => (usize::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?) as usize, 10),
        short => (usize::from(*short), 2),
    })
}
