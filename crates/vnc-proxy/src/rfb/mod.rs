//! What a VNC client may say to a guest (RFC 6143 and the extensions of QEMU that noVNC speaks).
//!
//! ```text
//!  Version -> Security -> [Password] -> Init -> Message* : whole headers only, allow-listed
//!                                                   |
//!                                                   +-- view: key, pointer, clipboard, size: dropped
//! ```
//!
//! QEMU parses what arrives in the process that runs the guest. Nothing gets there that is not on
//! the lists here, so a flaw in a rarely used message of its parser is out of reach.

mod encoding;

use encoding::allowed;

/// Longest text that a client may put into the guest's clipboard, bytes.
pub const LONGEST_CLIPBOARD: u32 = 1 << 20;
/// Encodings of one `SetEncodings`; noVNC sends about twenty.
const MOST_ENCODINGS: usize = 128;
/// Screens of one `SetDesktopSize`.
const MOST_SCREENS: usize = 16;

/// Why a client's bytes do not get through. The text goes into the closing frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only 3.7 and 3.8: before, the server alone decides and says nothing that could be followed.
    #[error("the client speaks another version of RFB than 3.7 and 3.8")]
    Version,
    /// Only none and VNC password.
    #[error("the client chose a security type that is not let through")]
    Security,
    /// Not on the list.
    #[error("the client sent a message that is not let through: type {0}")]
    Message(u8),
    /// Over [`LONGEST_CLIPBOARD`].
    #[error("the clipboard's text is too long")]
    Clipboard,
    /// Its length is negative.
    #[error("the extended clipboard is not let through")]
    ExtendedClipboard,
    /// Over the number of encodings or screens.
    #[error("a list of the client is too long")]
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Version,
    Security,
    Password,
    Init,
    Message,
    /// Text of the clipboard: so many bytes pass, or are dropped.
    Text {
        left: u32,
        pass: bool,
    },
}

/// Follows one client.
#[derive(Debug)]
pub struct Filter {
    view: bool,
    phase: Phase,
    /// The beginning of something that has not come whole.
    held: Vec<u8>,
}

/// What to do with the beginning of the input.
enum Verdict {
    /// It may be more than this; so many bytes are needed to tell.
    Need(usize),
    /// So many bytes go on as they are.
    Pass(usize),
    /// So many bytes go nowhere.
    Drop(usize),
    /// So many bytes are replaced.
    Replace(usize, Vec<u8>),
}

impl Filter {
    /// A client that has just connected; `view` drops its input.
    #[must_use]
    pub const fn new(view: bool) -> Self {
        Self { view, phase: Phase::Version, held: Vec::new() }
    }

    /// Appends to `out` what of `input` may go on. After a refusal nothing more may.
    pub fn pass(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.held.is_empty() {
            let used = self.run(input, out)?;
            self.held.extend_from_slice(&input[used..]);
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(input);
        let used = self.run(&held, out)?;
        held.drain(..used);
        if !held.is_empty() {
            self.held = held;
        }
        Ok(())
    }

    /// How much of `input` could be decided.
    fn run(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Refusal> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            match self.judge(rest)? {
                Verdict::Need(more) => {
                    debug_assert!(more > rest.len());
                    break;
                }
                Verdict::Pass(length) => {
                    out.extend_from_slice(&rest[..length]);
                    used += length;
                }
                Verdict::Drop(length) => used += length,
                Verdict::Replace(length, bytes) => {
                    out.extend_from_slice(&bytes);
                    used += length;
                }
            }
        }
        Ok(used)
    }

    /// Looks at what stands at the front; whatever it does not need whole is at most 525 bytes.
    fn judge(&mut self, input: &[u8]) -> Result<Verdict, Refusal> {
        match self.phase {
            Phase::Version => self.version(input),
            Phase::Security => self.security(input[0]),
            Phase::Password => Ok(self.fixed(input, 16, Phase::Init)),
            Phase::Init => {
                self.phase = Phase::Message;
                // "Leave the others": who takes over was decided before this session began.
                Ok(Verdict::Replace(1, vec![1]))
            }
            Phase::Message => self.message(input),
            Phase::Text { left, pass } => {
                let here = input.len().min(left as usize);
                let left = left - here as u32;
                self.phase = if left == 0 { Phase::Message } else { Phase::Text { left, pass } };
                Ok(if pass { Verdict::Pass(here) } else { Verdict::Drop(here) })
            }
        }
    }

    fn fixed(&mut self, input: &[u8], length: usize, next: Phase) -> Verdict {
        if input.len() < length {
            return Verdict::Need(length);
        }
        self.phase = next;
        Verdict::Pass(length)
    }

    fn version(&mut self, input: &[u8]) -> Result<Verdict, Refusal> {
        let known: [&[u8; 12]; 2] = [b"RFB 003.008\n", b"RFB 003.007\n"];
        let here = input.len().min(12);
        if !known.iter().any(|version| version[..here] == input[..here]) {
            return Err(Refusal::Version);
        }
        Ok(self.fixed(input, 12, Phase::Security))
    }

    fn security(&mut self, kind: u8) -> Result<Verdict, Refusal> {
        self.phase = match kind {
            1 => Phase::Init,
            2 => Phase::Password,
            _ => return Err(Refusal::Security),
        };
        Ok(Verdict::Pass(1))
    }

    fn message(&mut self, input: &[u8]) -> Result<Verdict, Refusal> {
        match input[0] {
            0 => Ok(whole(input, 20, true)),
            2 => set_encodings(input),
            3 => Ok(whole(input, 10, true)),
            4 => Ok(whole(input, 8, !self.view)),
            5 => Ok(whole(input, 6, !self.view)),
            6 => self.cut_text(input),
            251 => set_desktop_size(input, !self.view),
            255 => qemu(input, !self.view),
            other => Err(Refusal::Message(other)),
        }
    }

    fn cut_text(&mut self, input: &[u8]) -> Result<Verdict, Refusal> {
        let Some(length) = input.get(4..8) else { return Ok(Verdict::Need(8)) };
        let left = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        if left >> 31 != 0 {
            return Err(Refusal::ExtendedClipboard);
        }
        if left > LONGEST_CLIPBOARD {
            return Err(Refusal::Clipboard);
        }
        let pass = !self.view;
        if left > 0 {
            self.phase = Phase::Text { left, pass };
        }
        Ok(if pass { Verdict::Pass(8) } else { Verdict::Drop(8) })
    }
}

/// A message of fixed length.
fn whole(input: &[u8], length: usize, pass: bool) -> Verdict {
    match (input.len() < length, pass) {
        (true, _) => Verdict::Need(length),
        (false, true) => Verdict::Pass(length),
        (false, false) => Verdict::Drop(length),
    }
}

/// Passes the encodings that are on the list, in the client's order of preference.
fn set_encodings(input: &[u8]) -> Result<Verdict, Refusal> {
    let Some(count) = input.get(2..4) else { return Ok(Verdict::Need(4)) };
    let count = usize::from(u16::from_be_bytes([count[0], count[1]]));
    if count > MOST_ENCODINGS {
        return Err(Refusal::List);
    }
    let length = 4 + 4 * count;
    let Some(list) = input.get(4..length) else { return Ok(Verdict::Need(length)) };
    let (numbers, _) = list.as_chunks::<4>();
    let kept: Vec<[u8; 4]> =
        numbers.iter().copied().filter(|number| allowed(i32::from_be_bytes(*number))).collect();
    let mut message = vec![2, 0];
    message.extend((kept.len() as u16).to_be_bytes());
    message.extend(kept.concat());
    Ok(Verdict::Replace(length, message))
}

fn set_desktop_size(input: &[u8], pass: bool) -> Result<Verdict, Refusal> {
    let Some(screens) = input.get(6) else { return Ok(Verdict::Need(7)) };
    let screens = usize::from(*screens);
    if screens > MOST_SCREENS {
        return Err(Refusal::List);
    }
    Ok(whole(input, 8 + 16 * screens, pass))
}

/// QEMU's own: only the key event with a scan code.
fn qemu(input: &[u8], pass: bool) -> Result<Verdict, Refusal> {
    match input.get(1) {
        None => Ok(Verdict::Need(2)),
        Some(0) => Ok(whole(input, 12, pass)),
        Some(_) => Err(Refusal::Message(255)),
    }
}

#[cfg(test)]
mod tests;
