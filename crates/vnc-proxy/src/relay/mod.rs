//! Between a browser and a guest: one task, no buffers of its own, nothing read that cannot be
//! passed on.
//!
//! ```text
//!                 +--------------- Open ----------------+
//!   end ordered,  |                 |                   | browser's Close, its frames
//!   guest is gone v                 | socket is gone    v or messages break the rules
//!              Awaiting --Close--> (over) <--eof--- Leaving: Close sent, then FIN, then wait
//!                 +--------- after LINGER ---------+
//! ```
//!
//! A side that does not take what it is sent stops the reading of the other one, so a session
//! holds at most one read of tail each way, and answers to pings up to [`MOST_ANSWERS`].

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};
use vmmgr_common::api::console::{ConsoleKind, ConsoleMode, close};

use crate::frame::{Control, LONGEST_HEADER, Opcode, Unframer, closing, header, pong};
use crate::rfb;
use crate::wire::{Scratch, Wire};

/// How long a browser may take to answer our Close, and to close its socket.
const LINGER: Duration = Duration::from_secs(3);
/// Beats without a sign of life before a browser is taken for dead.
const MOST_SILENT_BEATS: u8 = 3;
/// Tail above which a browser's pings are not read any more, bytes.
const MOST_ANSWERS: usize = 128 << 10;

/// How a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Code of our Close; none when there is nobody to send one to, or the browser gave none.
    pub code: Option<u16>,
    /// Beside the code, for people.
    pub reason: Cow<'static, str>,
    /// For metrics and logs: one of few words.
    pub cause: &'static str,
}

impl Ending {
    /// An ending that the browser is told.
    #[must_use]
    pub fn new(cause: &'static str, code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Some(code), reason: reason.into(), cause }
    }

    fn lost(cause: &'static str) -> Self {
        Self { code: None, reason: Cow::Borrowed(""), cause }
    }
}

/// What becomes of a browser's bytes.
#[derive(Debug)]
enum Input {
    Pass,
    Drop,
    Vnc(rfb::Filter),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Our Close is on its way; the browser's is awaited.
    Awaiting,
    /// Both are said, or the browser's will not come; the socket is closed in order.
    Leaving,
}

/// What a session has done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Payload bytes from the browser, before any are dropped.
    pub from_browser: u64,
    /// Bytes of the guest.
    pub from_guest: u64,
}

/// A live session.
#[derive(Debug)]
pub struct Relay {
    browser: Wire,
    guest: Option<Wire>,
    unframer: Unframer,
    input: Input,
    phase: Phase,
    ending: Option<Ending>,
    timer: Pin<Box<Sleep>>,
    beat: Duration,
    ends_at: Option<Instant>,
    heard: bool,
    silent: u8,
    tally: Tally,
}

/// How a session behaves.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Decides what is followed.
    pub kind: ConsoleKind,
    /// `View` drops input.
    pub mode: ConsoleMode,
    /// Time between two pings.
    pub beat: Duration,
    /// When it must end.
    pub ends_at: Option<Instant>,
}

impl Relay {
    /// A session between two peers that have both been greeted.
    #[must_use]
    pub fn new(browser: Wire, guest: Wire, rules: Rules) -> Self {
        let view = rules.mode == ConsoleMode::View;
        let input = match (rules.kind, view) {
            (ConsoleKind::Vnc, view) => Input::Vnc(rfb::Filter::new(view)),
            (ConsoleKind::Spice | ConsoleKind::Serial, true) => Input::Drop,
            (ConsoleKind::Spice | ConsoleKind::Serial, false) => Input::Pass,
        };
        let first = next_wake(rules.beat, rules.ends_at);
        Self {
            browser,
            guest: Some(guest),
            unframer: Unframer::default(),
            input,
            phase: Phase::Open,
            ending: None,
            timer: Box::pin(sleep_until(first)),
            beat: rules.beat,
            ends_at: rules.ends_at,
            heard: true,
            silent: 0,
            tally: Tally::default(),
        }
    }

    /// Relays until the session is over; `order` ends it.
    pub async fn run(mut self, mut order: oneshot::Receiver<Ending>) -> (Ending, Tally) {
        let ending = std::future::poll_fn(|cx| self.poll(cx, &mut order)).await;
        (ending, self.tally)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        order: &mut oneshot::Receiver<Ending>,
    ) -> Poll<Ending> {
        if self.phase == Phase::Open
            && let Poll::Ready(Ok(ending)) = Pin::new(order).poll(cx)
        {
            self.end(cx, ending);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.phase != Phase::Open {
                return Poll::Ready(self.over("browser"));
            }
            self.tick(cx);
        }
        Scratch::with(|scratch| self.pump(cx, scratch))
    }

    /// Moves what can be moved.
    fn pump(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<Ending> {
        loop {
            let step = match self.phase {
                Phase::Open => self.relay(cx, scratch),
                Phase::Awaiting => self.pump_browser(cx, scratch),
                Phase::Leaving => self.leave(cx, scratch),
            };
            match step {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(_) => return Poll::Ready(self.over("browser")),
            }
        }
    }

    fn over(&mut self, cause: &'static str) -> Ending {
        self.ending.take().unwrap_or_else(|| Ending::lost(cause))
    }

    /// Both ways once; whether anything moved. An error is the browser's.
    fn relay(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<bool> {
        let down = self.pump_guest(cx, scratch)?;
        let up = self.phase == Phase::Open && self.pump_browser(cx, scratch)?;
        Ok(down || up)
    }

    /// One read of the guest becomes one frame.
    fn pump_guest(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<bool> {
        if self.browser.poll_flush(cx)?.is_pending() {
            return Ok(false);
        }
        let Some(guest) = &mut self.guest else { return Ok(false) };
        scratch.plain.clear();
        // Room for the header, so that the payload is not moved for it.
        scratch.plain.resize(LONGEST_HEADER, 0);
        match guest.poll_receive(cx, &mut scratch.cipher, &mut scratch.plain) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                self.end(cx, Ending::new("guest", close::NORMAL, "the guest closed the console"));
                Ok(true)
            }
            Poll::Ready(Ok(length)) => {
                self.tally.from_guest += length as u64;
                let (bytes, used) = header(Opcode::Binary, length);
                let start = LONGEST_HEADER - used;
                scratch.plain[start..LONGEST_HEADER].copy_from_slice(&bytes[..used]);
                self.browser.send(cx, &scratch.plain[start..], &mut scratch.out)?;
                Ok(true)
            }
            Poll::Ready(Err(error)) => {
                self.lose(cx, &error);
                Ok(true)
            }
        }
    }

    fn lose(&mut self, cx: &mut Context<'_>, error: &io::Error) {
        tracing::info!(%error, "a guest's stream broke");
        self.end(cx, Ending::new("host", close::LOST, "the host was lost"));
    }

    /// One read of the browser becomes one write to the guest.
    fn pump_browser(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<bool> {
        if let Some(guest) = &mut self.guest {
            match guest.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => {
                    self.lose(cx, &error);
                    return Ok(true);
                }
            }
        }
        if self.browser.poll_flush(cx)?.is_pending() && self.browser.tail() > MOST_ANSWERS {
            return Ok(false);
        }
        scratch.plain.clear();
        let length = match self.browser.poll_receive(cx, &mut scratch.cipher, &mut scratch.plain) {
            Poll::Pending => return Ok(false),
            Poll::Ready(length) => length?,
        };
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.heard = true;
        self.frames(cx, scratch)?;
        Ok(true)
    }

    /// Acts on the frames in `scratch.plain`.
    fn frames(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<()> {
        let (mut answers, mut last) = (Vec::new(), None);
        let told = |control| match control {
            Control::Ping(payload) => answers.append(&mut pong(&payload)),
            Control::Pong => {}
            Control::Close(close) => last = Some(close),
        };
        let (length, result) = self.unframer.unframe(&mut scratch.plain, told);
        if self.phase == Phase::Open {
            self.pass_on(cx, length, scratch)?;
        }
        if self.phase == Phase::Open && !answers.is_empty() {
            self.browser.send(cx, &answers, &mut scratch.out)?;
        }
        match (self.phase, result, last) {
            (_, Err(violation), _) => {
                let reason = violation.to_string();
                self.part(cx, Ending::new("protocol", violation.code(), reason))
            }
            (_, Ok(()), Some(close)) => {
                let reason = Cow::Borrowed("");
                self.part(cx, Ending { code: close.code, reason, cause: "browser" })
            }
            (_, Ok(()), None) => Ok(()),
        }
    }

    fn pass_on(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        scratch: &mut Scratch,
    ) -> io::Result<()> {
        self.tally.from_browser += length as u64;
        let Scratch { plain, passed, out, .. } = scratch;
        passed.clear();
        let (bytes, refusal) = match &mut self.input {
            Input::Pass => (&plain[..length], None),
            Input::Drop => (&[][..], None),
            Input::Vnc(filter) => {
                let refusal = filter.pass(&plain[..length], passed).err();
                (passed.as_slice(), refusal)
            }
        };
        if let (Some(guest), false) = (&mut self.guest, bytes.is_empty())
            && let Err(error) = guest.send(cx, bytes, out)
        {
            self.lose(cx, &error);
            return Ok(());
        }
        match refusal {
            None => Ok(()),
            Some(refusal) => {
                self.part(cx, Ending::new("refused", close::ENDED, refusal.to_string()))
            }
        }
    }

    /// Ends from our side: nothing flows any more, the browser is told and may answer.
    fn end(&mut self, cx: &mut Context<'_>, ending: Ending) {
        let frame = closing(ending.code, &ending.reason);
        self.guest = None;
        self.phase = Phase::Awaiting;
        self.timer.as_mut().reset(Instant::now() + LINGER);
        // A browser that is gone is noticed by the next look at it.
        let sent = self.browser.send(cx, &frame, &mut Vec::new());
        if let Err(error) = sent {
            tracing::debug!(%error, "a browser went before its Close");
        }
        self.ending = Some(ending);
    }

    /// Ends for good: the browser said its last word or has broken the rules.
    fn part(&mut self, cx: &mut Context<'_>, ending: Ending) -> io::Result<()> {
        if self.phase == Phase::Open {
            let frame = closing(ending.code, &ending.reason);
            self.timer.as_mut().reset(Instant::now() + LINGER);
            self.ending = Some(ending);
            self.phase = Phase::Leaving;
            return self.browser.send(cx, &frame, &mut Vec::new());
        }
        self.phase = Phase::Leaving;
        Ok(())
    }

    /// FIN, and reading to the end: a socket closed with bytes unread is reset, and the reset
    /// overtakes the Close. The guest still gets what the browser sent before.
    fn leave(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<bool> {
        if let Some(guest) = &mut self.guest
            && guest.poll_shutdown(cx).is_ready()
        {
            self.guest = None;
        }
        if self.browser.poll_shutdown(cx)?.is_pending() {
            return Ok(false);
        }
        scratch.plain.clear();
        match self.browser.poll_receive(cx, &mut scratch.cipher, &mut scratch.plain) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(1..)) => Ok(true),
            Poll::Ready(_) if self.guest.is_some() => Ok(false),
            Poll::Ready(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }

    /// The time is over, or a ping is due.
    fn tick(&mut self, cx: &mut Context<'_>) {
        if self.ends_at.is_some_and(|end| end <= Instant::now()) {
            self.end(cx, Ending::new("expired", close::ENDED, "the link has expired"));
            return;
        }
        // While the guest takes nothing we do not listen either.
        let deaf = self.guest.as_ref().is_some_and(|guest| !guest.flushed());
        self.silent = if self.heard || deaf { 0 } else { self.silent + 1 };
        self.heard = false;
        self.timer.as_mut().reset(next_wake(self.beat, self.ends_at));
        if self.silent >= MOST_SILENT_BEATS {
            self.end(cx, Ending::new("silent", close::LOST, "no sign of life"));
            return;
        }
        if self.browser.flushed() {
            let (ping, length) = header(Opcode::Ping, 0);
            let sent = self.browser.send(cx, &ping[..length], &mut Vec::new());
            if let Err(error) = sent {
                tracing::debug!(%error, "a browser cannot be pinged");
            }
        }
    }
}

fn next_wake(beat: Duration, ends_at: Option<Instant>) -> Instant {
    let beat = Instant::now() + beat;
    ends_at.map_or(beat, |end| end.min(beat))
}
