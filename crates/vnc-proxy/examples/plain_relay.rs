//! What websockify does and no more: any websocket, one target, no TLS. For measuring the relay
//! beside it; the service itself has no such mode.
//!
//!     plain_relay LISTEN TARGET

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use vmmgr_common::api::console::{ConsoleKind, ConsoleMode};
use vnc_proxy::relay::{Relay, Rules};
use vnc_proxy::request::{self, Origins};
use vnc_proxy::wire::Wire;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err(std::io::Error::other("usage: plain_relay LISTEN TARGET"));
    };
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        let target = target.clone();
        tokio::spawn(async move {
            let ended = relay(socket, target).await;
            drop(ended);
        });
    }
}

async fn relay(socket: TcpStream, target: String) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut browser = Wire::plain(socket);
    let origins = Origins::parse(&[]).map_err(std::io::Error::other)?;
    let mut bytes = Vec::new();
    let opening = loop {
        if browser.read(&mut bytes).await? == 0 {
            return Ok(());
        }
        if let Some(head) = request::read(&bytes, &origins) {
            browser.unread(&bytes[head.length..]);
            break head.opening.map_err(std::io::Error::other)?;
        }
    };
    let guest = TcpStream::connect(target).await?;
    guest.set_nodelay(true)?;
    browser.write(opening.accepted("measured").as_bytes()).await?;
    let beat = Duration::from_secs(20);
    let (kind, mode) = (ConsoleKind::Serial, ConsoleMode::Share);
    let rules = Rules { kind, mode, beat, ends_at: None };
    let (_order, obey) = oneshot::channel();
    Relay::new(browser, Wire::plain(guest), rules).run(obey).await;
    Ok(())
}
