//! What a program prints, as lines for people: bounded, without what a terminal would obey.

use vmmgr_common::text;

/// Bytes of a line that are kept.
const LONGEST: usize = 1000;

/// Bytes that come in pieces of any size.
#[derive(Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Takes a piece; `each` gets every line that it ends. A carriage return ends one too: tools
    /// that count on one line print many.
    pub(super) fn push(&mut self, piece: &[u8], each: &mut dyn FnMut(String)) {
        for byte in piece {
            match byte {
                b'\n' | b'\r' => self.end(each),
                _ if self.line.len() < LONGEST => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// Nothing comes any more.
    pub(super) fn end(&mut self, each: &mut dyn FnMut(String)) {
        let line = std::mem::take(&mut self.line);
        let plain = text::plain(&String::from_utf8_lossy(&line));
        if !plain.trim().is_empty() {
            each(plain.trim_end().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, &mut |line| said.push(line));
        }
        lines.end(&mut |line| said.push(line));
        said
    }

    #[test]
    fn pieces_become_plain_lines() {
        assert_eq!(all(&[b"one\ntw", b"o\r\n", b"\n  \n3"]), ["one", "two", "3"]);
        assert_eq!(all(&[b"10%\r20%\r"]), ["10%", "20%"]);
        assert_eq!(all(&["\u{1b}[2Ja\tb\0\u{202e}c\u{7}".as_bytes()]), ["[2Ja bc"]);
        assert_eq!(all(&[b"\xff\xfe", "测试".as_bytes()]), ["\u{fffd}\u{fffd}测试"]);
        let long = vec![b'x'; 100_000];
        assert_eq!(all(&[&long, &long, b"\nnext"]), ["x".repeat(LONGEST).as_str(), "next"]);
    }
}
