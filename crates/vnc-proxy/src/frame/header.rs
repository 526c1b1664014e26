//! What goes to the browser: never masked, never fragmented.

use super::{LARGEST_CONTROL, Opcode};

/// Longest header of a frame to a browser.
pub const LONGEST_HEADER: usize = 10;

/// The header of a whole message of `length` bytes, and how many of its bytes count.
#[must_use]
pub fn header(opcode: Opcode, length: usize) -> ([u8; LONGEST_HEADER], usize) {
    let mut bytes = [0; LONGEST_HEADER];
    bytes[0] = 0x80 | opcode.bits();
    let used = match length {
        0..=125 => {
            bytes[1] = length as u8;
            2
        }
        126..=0xffff => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(length as u64).to_be_bytes());
            LONGEST_HEADER
        }
    };
    (bytes, used)
}

fn control(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let (head, used) = header(opcode, payload.len());
    [&head[..used], payload].concat()
}

/// The answer to a ping.
#[must_use]
pub fn pong(payload: &[u8]) -> Vec<u8> {
    control(Opcode::Pong, &payload[..payload.len().min(LARGEST_CONTROL)])
}

/// A closing frame; the reason is cut at the RFC's limit. Without a code it is empty.
#[must_use]
pub fn closing(code: Option<u16>, reason: &str) -> Vec<u8> {
    let Some(code) = code else { return control(Opcode::Close, &[]) };
    let mut end = reason.len().min(LARGEST_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    control(Opcode::Close, &[&code.to_be_bytes(), &reason.as_bytes()[..end]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_their_shortest_spelling() {
        let shown = |length| {
            let (bytes, used) = header(Opcode::Binary, length);
            bytes[..used].to_vec()
        };
        assert_eq!(shown(0), [0x82, 0]);
        assert_eq!(shown(125), [0x82, 125]);
        assert_eq!(shown(126), [0x82, 126, 0, 126]);
        assert_eq!(shown(65535), [0x82, 126, 255, 255]);
        assert_eq!(shown(65536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = closing(Some(1000), &"ö".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
        assert_eq!(closing(None, "x"), [0x88, 0]);
    }
}
