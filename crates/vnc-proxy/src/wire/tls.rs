//! rustls without its buffers.

use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{ClientConfig, ServerConfig};

/// An alert and what TLS puts around it, bytes.
const LONGEST_ALERT: usize = 64;

/// Either side of a connection.
pub(super) enum Tls {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Tls::Server",
            Self::Client(_) => "Tls::Client",
        })
    }
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more in the same input.
    Again,
    /// The handshake needs more input.
    Handshake,
    /// All input is used; both sides may speak.
    Open,
    /// The peer said its last, in order. Told once.
    PeerClosed,
    /// Both did.
    Closed,
}

impl Tls {
    pub(super) fn server(config: Arc<ServerConfig>) -> io::Result<Self> {
        let side = UnbufferedServerConnection::new(config).map_err(failed)?;
        Ok(Self::Server(Box::new(side)))
    }

    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let side = UnbufferedClientConnection::new(config, name).map_err(failed)?;
        Ok(Self::Client(Box::new(side)))
    }

    pub(super) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        let chain = match self {
            Self::Server(side) => side.peer_certificates(),
            Self::Client(side) => side.peer_certificates(),
        };
        chain?.first()
    }

    /// One step over the records in `incoming`, of which so many bytes are used up: application
    /// data goes to `plain`, what TLS itself has to say to `out`.
    pub(super) fn process(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> (usize, io::Result<Step>) {
        match self {
            Self::Server(side) => take(side.process_tls_records(incoming), plain, out),
            Self::Client(side) => take(side.process_tls_records(incoming), plain, out),
        }
    }

    /// Encrypts all of `bytes` to the front of `out`, which grows as needed; the length there.
    pub(super) fn encrypt(
        &mut self,
        partial: &mut [u8],
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> io::Result<usize> {
        match self {
            Self::Server(side) => seal(side.process_tls_records(partial), bytes, out),
            Self::Client(side) => seal(side.process_tls_records(partial), bytes, out),
        }
    }

    /// The last word, to be said once.
    pub(super) fn close(&mut self, partial: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Server(side) => leave(side.process_tls_records(partial), out),
            Self::Client(side) => leave(side.process_tls_records(partial), out),
        }
    }
}

fn writable<'c, Data>(
    status: UnbufferedStatus<'c, '_, Data>,
) -> io::Result<WriteTraffic<'c, Data>> {
    match status.state.map_err(failed)? {
        ConnectionState::WriteTraffic(traffic) => Ok(traffic),
        _ => Err(closed()),
    }
}

fn seal<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<usize> {
    let mut traffic = writable(status)?;
    loop {
        match traffic.encrypt(bytes, out) {
            Ok(used) => return Ok(used),
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                out.resize(required_size, 0);
            }
            Err(error @ EncryptError::EncryptExhausted) => return Err(io::Error::other(error)),
        }
    }
}

fn leave<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Vec<u8>) -> io::Result<()> {
    let mut traffic = writable(status)?;
    let start = out.len();
    out.resize(start + LONGEST_ALERT, 0);
    let used = traffic.queue_close_notify(&mut out[start..]).map_err(io::Error::other)?;
    out.truncate(start + used);
    Ok(())
}

fn take<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> (usize, io::Result<Step>) {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let step = state.map_err(failed).and_then(|state| act(state, &mut discard, plain, out));
    (discard, step)
}

fn act<Data>(
    state: ConnectionState<'_, '_, Data>,
    discard: &mut usize,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> io::Result<Step> {
    Ok(match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record.map_err(failed)?;
                *discard += record.discard;
                plain.extend_from_slice(record.payload);
            }
            Step::Again
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let start = out.len();
            let mut used = data.encode(&mut []);
            if let Err(EncodeError::InsufficientSize(size)) = used {
                out.resize(start + size.required_size, 0);
                used = data.encode(&mut out[start..]);
            }
            out.truncate(start + used.map_err(io::Error::other)?);
            Step::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            // It stands in `out`, and goes out before anything that comes later.
            data.done();
            Step::Again
        }
        ConnectionState::BlockedHandshake => Step::Handshake,
        ConnectionState::WriteTraffic(_) => Step::Open,
        ConnectionState::PeerClosed => Step::PeerClosed,
        ConnectionState::Closed => Step::Closed,
        _ => return Err(closed()),
    })
}

fn failed(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::BrokenPipe)
}
