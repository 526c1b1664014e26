//! One guest's connection: request, answer, and again while the guest asks on.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
        let (asked, keeps, bodiless, length) = loop {
            let found = wire::head(&self.input, |head, keeps, length| {
                (guests.admit(head, via), keeps, head.method == "HEAD", length)
            });
            match found {
                Ok(Some(found)) => break found,
                Ok(None) if self.more().await? => {}
                Ok(None) if self.input.is_empty() => return Ok(Next::End(Ended::Done)),
                Ok(None) => return Ok(Next::End(Ended::Broken)),
                Err(refusal) => {
                    self.send(&refusal, false, false).await?;
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
        self.input.drain(..length);
        Ok(if keep { Next::Again } else { Next::End(Ended::Done) })
    }

    async fn send(&mut self, answer: &Answer, keep: bool, bodiless: bool) -> io::Result<()> {
        self.output.clear();
        let rest = answer.write(&mut self.output, keep, bodiless);
        self.stream.write_all(&self.output).await?;
        self.stream.write_all(&rest).await
    }
}
