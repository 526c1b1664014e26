//! What comes from the browser.

use super::utf8::Utf8;
use super::{LARGEST_CONTROL, LARGEST_FRAME, Opcode, Violation};

/// Two bytes, eight of length, four of mask.
const LONGEST_CLIENT_HEADER: usize = 14;

/// Frames to bytes. What it knows between two reads fits into a few cache lines.
#[derive(Debug, Default)]
pub struct Unframer {
    /// A header that has not come whole yet.
    head: [u8; LONGEST_CLIENT_HEADER],
    head_length: u8,
    frame: Option<Frame>,
    /// The message that fragments go on with.
    message: Option<Message>,
    /// Payload of the control frame that is coming in.
    control: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    last: bool,
    left: u64,
    mask: [u8; 4],
}

#[derive(Debug)]
enum Message {
    Binary,
    Text(Utf8),
}

/// What is not for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// To be answered with a pong of this payload.
    Ping(Vec<u8>),
    /// The browser is there.
    Pong,
    /// The browser ends; nothing after it counts.
    Close(Close),
}

/// A browser's last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// To be sent back; none if it gave none.
    pub code: Option<u16>,
}

/// What one step over the input did.
enum Step {
    /// The input is used up.
    Starved,
    /// A frame goes on or is over.
    On,
    Control(Control),
}

impl Unframer {
    /// Takes `bytes` as they came and leaves the payload for the guest at their front: its length
    /// is returned beside the first violation, before which everything counts. `control` is told
    /// the rest in order.
    pub fn unframe(
        &mut self,
        bytes: &mut [u8],
        mut control: impl FnMut(Control),
    ) -> (usize, Result<(), Violation>) {
        let (mut read, mut written) = (0, 0);
        loop {
            match self.step(bytes, &mut read, &mut written) {
                Ok(Step::Starved) => return (written, Ok(())),
                Ok(Step::On) => {}
                Ok(Step::Control(told)) => {
                    let over = matches!(told, Control::Close(_));
                    control(told);
                    if over {
                        return (written, Ok(()));
                    }
                }
                Err(violation) => return (written, Err(violation)),
            }
        }
    }

    fn step(
        &mut self,
        bytes: &mut [u8],
        read: &mut usize,
        written: &mut usize,
    ) -> Result<Step, Violation> {
        let Some(mut frame) = self.frame else {
            return self.begin(&bytes[*read..], read);
        };
        let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let here = left.min(bytes.len() - *read);
        if here == 0 && left > 0 {
            return Ok(Step::Starved);
        }
        let payload = &mut bytes[*read..*read + here];
        unmask(payload, frame.mask);
        frame.mask.rotate_left(here % 4);
        frame.left -= here as u64;
        if frame.opcode.is_control() {
            self.control.extend_from_slice(payload);
        } else {
            if let Some(Message::Text(text)) = &mut self.message
                && !text.accept(payload)
            {
                return Err(Violation::Utf8);
            }
            bytes.copy_within(*read..*read + here, *written);
            *written += here;
        }
        *read += here;
        self.frame = (frame.left > 0).then_some(frame);
        if frame.left == 0 { self.finish(frame) } else { Ok(Step::Starved) }
    }

    /// Collects a header.
    fn begin(&mut self, bytes: &[u8], read: &mut usize) -> Result<Step, Violation> {
        let held = usize::from(self.head_length);
        let fresh = bytes.len().min(LONGEST_CLIENT_HEADER - held);
        let mut head = self.head;
        head[held..held + fresh].copy_from_slice(&bytes[..fresh]);
        let known = held + fresh;
        let Some((frame, length)) = parse(&head[..known], self.message.is_some())? else {
            (self.head, self.head_length) = (head, known as u8);
            *read += fresh;
            return Ok(Step::Starved);
        };
        // `parse` refuses as early as it can, so what was held is part of this header.
        *read += length - held;
        self.head_length = 0;
        match frame.opcode {
            Opcode::Text => self.message = Some(Message::Text(Utf8::default())),
            Opcode::Binary => self.message = Some(Message::Binary),
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        self.frame = Some(frame);
        Ok(Step::On)
    }

    fn finish(&mut self, frame: Frame) -> Result<Step, Violation> {
        if !frame.opcode.is_control() {
            if frame.last {
                let message = self.message.take();
                if matches!(message, Some(Message::Text(text)) if !text.whole()) {
                    return Err(Violation::Utf8);
                }
            }
            return Ok(Step::On);
        }
        let payload = std::mem::take(&mut self.control);
        Ok(Step::Control(match frame.opcode {
            Opcode::Ping => Control::Ping(payload),
            Opcode::Close => Control::Close(parse_close(&payload)?),
            _ => Control::Pong,
        }))
    }
}

/// A frame and its header's length; none while bytes are missing.
fn parse(head: &[u8], in_message: bool) -> Result<Option<(Frame, usize)>, Violation> {
    let Some(&first) = head.first() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBit);
    }
    let opcode = Opcode::parse(first & 0x0f).ok_or(Violation::Opcode)?;
    let last = first & 0x80 != 0;
    if !opcode.is_control() && (opcode == Opcode::Continuation) != in_message {
        return Err(Violation::Fragments);
    }
    let Some(&second) = head.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(Violation::Unmasked);
    }
    let short = second & 0x7f;
    if opcode.is_control() && (usize::from(short) > LARGEST_CONTROL || !last) {
        return Err(Violation::Control);
    }
    let Some((left, at)) = parse_length(head, short)? else { return Ok(None) };
    let Some(mask) = head.get(at..at + 4) else { return Ok(None) };
    let mask = [mask[0], mask[1], mask[2], mask[3]];
    Ok(Some((Frame { opcode, last, left, mask }, at + 4)))
}

/// Length of the payload, and where the mask begins.
fn parse_length(head: &[u8], short: u8) -> Result<Option<(u64, usize)>, Violation> {
    let (at, smallest) = match short {
        126 => (4, 126),
        127 => (10, 0x1_0000),
        _ => return Ok(Some((u64::from(short), 2))),
    };
    let Some(bytes) = head.get(2..at) else { return Ok(None) };
    let length = bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    if length < smallest || length >> 63 != 0 {
        return Err(Violation::Length);
    }
    if length > LARGEST_FRAME {
        return Err(Violation::TooLarge);
    }
    Ok(Some((length, at)))
}

fn parse_close(payload: &[u8]) -> Result<Close, Violation> {
    match payload {
        [] => Ok(Close { code: None }),
        [_] => Err(Violation::Close),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            // 1004 to 1006 and 1015 are never sent; up to 2999 the rest is not given out yet.
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::Close);
            }
            match std::str::from_utf8(reason) {
                Ok(_) => Ok(Close { code: Some(code) }),
                Err(_) => Err(Violation::Utf8),
            }
        }
    }
}

/// The mask is its own inverse. Sixteen bytes at a time, which the compiler makes one instruction.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u128::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3], mask[0], mask[1],
        mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (chunks, rest) = bytes.as_chunks_mut::<16>();
    for chunk in chunks {
        *chunk = (u128::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
