//! One guest's connection: request, answer, and again while the guest asks on.

use std::io;
use std::time::Duration;

use rustix::net::SendFlags;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::serve::{Guests, Via};
use crate::wire::{self, Answer, LARGEST_HEAD};

/// Requests of one connection: enough for any boot, and a guest cannot keep one for ever.
const MOST_REQUESTS: u32 = 1000;
/// How long a connection may lie idle between two requests; cloud-init asks on at once.
const IDLE: Duration = Duration::from_secs(1);
/// Room for a usual request.
const USUAL_HEAD: usize = 512;
/// What is still taken of a body that nobody wanted; a guest that sends more is cut.
const LARGEST_REST: usize = 256 << 10;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As it should.
    Done,
    /// The guest went away, or did not speak HTTP.
    Broken,
    /// The guest took longer than it may.
    Late,
}

/// Serves a connection to its end. Each request, from its first byte to the last of its answer, may
/// take `budget`; `roomy` tells whether the connection may stay open for another.
pub(crate) async fn converse(
    stream: &mut TcpStream,
    guests: &Guests,
    via: Via<'_>,
    budget: Duration,
    roomy: impl Fn() -> bool,
) -> Ended {
    let mut talk = Talk { stream, input: Vec::with_capacity(USUAL_HEAD), output: Vec::new() };
    for number in 1..=MOST_REQUESTS {
        if number > 1 && talk.input.is_empty() {
            match timeout(IDLE.min(budget), talk.more()).await {
                Ok(Ok(true)) => {}
                Ok(Err(_)) => return Ended::Broken,
                Ok(Ok(false)) | Err(_) => break,
            }
        }
        let last = || number == MOST_REQUESTS || !roomy();
        match timeout(budget, talk.exchange(guests, via, last)).await {
            Ok(Ok(Next::Again)) => {}
            Ok(Ok(Next::End(end))) => return end,
            Ok(Err(_)) => return Ended::Broken,
            Err(_) => return Ended::Late,
        }
    }
    Ended::Done
}

struct Talk<'a> {
    stream: &'a mut TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// What follows an answer.
enum Next {
    Again,
    End(Ended),
}

impl Talk<'_> {
    /// Reads more; false at the end.
    async fn more(&mut self) -> io::Result<bool> {
        let room = LARGEST_HEAD.saturating_sub(self.input.len()).max(1);
        self.input.reserve(room.min(USUAL_HEAD));
        Ok(self.stream.read_buf(&mut self.input).await? > 0)
    }

    async fn exchange(
        &mut self,
        guests: &Guests,
        via: Via<'_>,
        last: impl Fn() -> bool,
    ) -> io::Result<Next> {
        let (asked, keeps, bodiless, body) = loop {
            let mut taken = 0;
            let found = wire::head(&self.input, |head, keeps, length| {
                taken = length;
                (guests.admit(head, via), keeps, head.method == "HEAD", head.has_body())
            });
            self.input.drain(..taken);
            match found {
                Ok(Some(found)) => break found,
                Ok(None) if self.more().await? => {}
                Ok(None) if self.input.is_empty() => return Ok(Next::End(Ended::Done)),
                Ok(None) => return Ok(Next::End(Ended::Broken)),
                Err(refusal) => {
                    self.send(&refusal, false, false).await?;
                    self.end().await?;
                    return Ok(Next::End(Ended::Broken));
                }
            }
        };
        let answer = match asked {
            Ok(asked) => guests.answer(asked).await,
            Err(refusal) => refusal,
        };
        let keep = keeps && !last();
        self.send(&answer, keep, bodiless).await?;
        if keep {
            return Ok(Next::Again);
        }
        if body || !self.input.is_empty() {
            self.end().await?;
        }
        Ok(Next::End(Ended::Done))
    }

    /// Sends an answer; the last one of a connection leaves in the same packet as its end, which is
    /// a packet less for the bridge and the guest.
    async fn send(&mut self, answer: &Answer, keep: bool, bodiless: bool) -> io::Result<()> {
        self.output.clear();
        let rest = answer.write(&mut self.output, keep, bodiless);
        all(self.stream, &self.output, !keep || !rest.is_empty()).await?;
        all(self.stream, &rest, !keep).await
    }

    /// Ends our side, then takes what still comes: a close over bytes that were not read is a reset,
    /// and takes the answer away from a guest that still sends.
    async fn end(&mut self) -> io::Result<()> {
        rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Write)?;
        let mut taken = 0;
        while taken < LARGEST_REST {
            self.input.clear();
            if !self.more().await? {
                break;
            }
            taken += self.input.len();
        }
        Ok(())
    }
}

/// Sends all; with `more` a last packet that is not full waits for what follows, or for the end.
async fn all(stream: &TcpStream, mut bytes: &[u8], more: bool) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | if more { SendFlags::MORE } else { SendFlags::empty() };
    while !bytes.is_empty() {
        let send = || Ok(rustix::net::send(stream, bytes, flags)?);
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}
