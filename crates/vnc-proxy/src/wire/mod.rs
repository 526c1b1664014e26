//! One end of a session: a socket and the TLS upon it, which hold nothing while nothing moves.
//!
//! ```text
//!  socket --> scratch.cipher --rustls--> scratch.plain        (buffers of the thread)
//!  bytes --rustls--> scratch.out --> socket
//!                        |
//!                        +-- what the socket does not take: `pending`, the session's own tail
//! ```
//!
//! rustls' usual interface keeps 4 KiB a connection and reads as little at a time; its unbuffered
//! one leaves the buffers to us, so an idle connection has none and a busy one reads 64 KiB.

mod scratch;
mod tls;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

pub use scratch::{READ, Scratch};
use tls::{Step, Tls};

/// Room for what comes during a TLS handshake, bytes: a flight with a certificate.
const HANDSHAKE_READ: usize = 4 << 10;
/// A handshake's flight of a well-meant peer is far below.
const LARGEST_FLIGHT: usize = 64 << 10;

/// A connected peer.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    tls: Option<Tls>,
    /// A TLS record that has not come whole.
    partial: Vec<u8>,
    /// Plain bytes that came while nobody read.
    early: Vec<u8>,
    /// Bytes for the socket that it did not take yet, and how many of them it did since.
    pending: Vec<u8>,
    sent: usize,
    /// Our last word is said.
    left: bool,
    /// The peer's last word is said; it may have come together with bytes before it.
    peer_left: bool,
}

impl Wire {
    fn new(socket: TcpStream, tls: Option<Tls>) -> Self {
        let (partial, early, pending) = (Vec::new(), Vec::new(), Vec::new());
        Self { socket, tls, partial, early, pending, sent: 0, left: false, peer_left: false }
    }

    /// Without TLS: for measuring on loopback, and tests.
    #[must_use]
    pub fn plain(socket: TcpStream) -> Self {
        Self::new(socket, None)
    }

    /// A caller of ours, after its handshake.
    pub async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        Self::new(socket, Some(Tls::server(config)?)).handshake().await
    }

    /// A peer that we call, after its handshake. The configuration knows who it must be.
    pub async fn connect(socket: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        // Peers are told apart by their role and instance and not by names.
        let name = ServerName::try_from("vmmgr.internal").map_err(io::Error::other)?;
        Self::new(socket, Some(Tls::client(config, name)?)).handshake().await
    }

    /// The peer's certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.as_ref()?.certificate()
    }

    async fn handshake(mut self) -> io::Result<Self> {
        std::future::poll_fn(|cx| self.poll_handshake(cx)).await?;
        Ok(self)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(cx))?;
            let Some(tls) = &mut self.tls else { return Poll::Ready(Ok(())) };
            let (used, step) = tls.process(&mut self.partial, &mut self.early, &mut self.pending);
            self.partial.drain(..used);
            let Ok(step) = step else {
                // One step more gives the alert, which the peer gets if its window is open.
                let (_, alert) = tls.process(&mut self.partial, &mut self.early, &mut self.pending);
                tracing::trace!(?alert, "a handshake failed");
                return self.poll_flush(cx).map(|_| step.map(drop));
            };
            match step {
                Step::Again => {}
                Step::Open => {
                    if self.partial.is_empty() {
                        self.partial = Vec::new();
                    }
                    return self.poll_flush(cx);
                }
                Step::PeerClosed | Step::Closed => return Poll::Ready(Err(cut())),
                Step::Handshake => {
                    let mut room = [0; HANDSHAKE_READ];
                    let mut buffer = ReadBuf::new(&mut room);
                    ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
                    if buffer.filled().is_empty() || self.partial.len() > LARGEST_FLIGHT {
                        return Poll::Ready(Err(cut()));
                    }
                    self.partial.extend_from_slice(buffer.filled());
                }
            }
        }
    }

    /// Appends what has come to `plain`; its number of bytes, 0 at the end. A connection that ends
    /// without TLS's own goodbye was cut, which is an error.
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        cipher: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let before = plain.len();
        if !self.early.is_empty() {
            plain.append(&mut self.early);
            self.early = Vec::new();
            return Poll::Ready(Ok(plain.len() - before));
        }
        while !self.peer_left {
            let held = self.partial.len();
            cipher[..held].copy_from_slice(&self.partial);
            let mut buffer = ReadBuf::new(&mut cipher[held..]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            let fresh = buffer.filled().len();
            if fresh == 0 {
                // TLS says its last itself; a peer that was killed says nothing.
                let end = if self.tls.is_some() { Err(cut()) } else { Ok(0) };
                return Poll::Ready(end);
            }
            self.decrypt(&mut cipher[..held + fresh], plain)?;
            if plain.len() > before {
                break;
            }
        }
        Poll::Ready(Ok(plain.len() - before))
    }

    fn decrypt(&mut self, cipher: &mut [u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(cipher);
            return Ok(());
        };
        let mut at = 0;
        loop {
            let (used, step) = tls.process(&mut cipher[at..], plain, &mut self.pending);
            at += used;
            match step? {
                Step::Again => {}
                Step::PeerClosed => self.peer_left = true,
                Step::Open | Step::Handshake | Step::Closed => break,
            }
        }
        self.partial.clear();
        self.partial.extend_from_slice(&cipher[at..]);
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        Ok(())
    }

    /// Sends; what the socket does not take now stays with us until [`Self::poll_flush`].
    pub fn send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.push(cx, bytes);
        };
        let used = tls.encrypt(&mut self.partial, bytes, out)?;
        self.push(cx, &out[..used])
    }

    fn push(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> io::Result<()> {
        if self.poll_flush(cx)?.is_ready() {
            while !bytes.is_empty() {
                match Pin::new(&mut self.socket).poll_write(cx, bytes)? {
                    Poll::Ready(0) => return Err(cut()),
                    Poll::Ready(taken) => bytes = &bytes[taken..],
                    Poll::Pending => break,
                }
            }
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Puts back what was read too much.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.early.extend_from_slice(bytes);
    }

    /// How much the socket has not taken.
    #[must_use]
    pub const fn tail(&self) -> usize {
        self.pending.len() - self.sent
    }

    /// Whether everything that was sent is out of our hands.
    #[must_use]
    pub const fn flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// Hands the tail to the socket; the task is woken when there is room.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.pending.len() {
            let rest = &self.pending[self.sent..];
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(cut())),
                taken => self.sent += taken,
            }
        }
        self.sent = 0;
        if !self.pending.is_empty() {
            self.pending = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, for what comes before the relay.
    pub async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            Scratch::with(|scratch| self.poll_receive(cx, &mut scratch.cipher, into))
        })
        .await
    }

    /// Writes all, for what comes before the relay.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = Some(bytes);
        std::future::poll_fn(|cx| {
            if let Some(bytes) = bytes.take() {
                Scratch::with(|scratch| self.send(cx, bytes, &mut scratch.out))?;
            }
            self.poll_flush(cx)
        })
        .await
    }

    /// Says goodbye in TLS and to the socket; what is pending goes first.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let (Some(tls), false) = (&mut self.tls, self.left) {
            self.left = true;
            tls.close(&mut self.partial, &mut self.pending)?;
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

fn cut() -> io::Error {
    io::Error::from(io::ErrorKind::UnexpectedEof)
}
