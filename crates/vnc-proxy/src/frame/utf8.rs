//! UTF-8 in pieces.

/// What a text message has so far: at most the first three bytes of one character.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    begun: [u8; 4],
    length: u8,
}

impl Utf8 {
    /// Whether the text can still become UTF-8 after these bytes; false as soon as it cannot.
    pub(super) fn accept(&mut self, mut bytes: &[u8]) -> bool {
        while self.length > 0 {
            let Some((first, rest)) = bytes.split_first() else { return true };
            bytes = rest;
            self.begun[usize::from(self.length)] = *first;
            self.length += 1;
            match std::str::from_utf8(&self.begun[..usize::from(self.length)]) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                let begun = &bytes[error.valid_up_to()..];
                self.begun[..begun.len()].copy_from_slice(begun);
                self.length = begun.len() as u8;
                true
            }
        }
    }

    /// Whether it may end here.
    pub(super) const fn whole(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8], size: usize) -> bool {
        let mut text = Utf8::default();
        bytes.chunks(size).all(|piece| text.accept(piece)) && text.whole()
    }

    #[test]
    fn text_is_the_same_however_it_is_cut() {
        let texts: [&[u8]; 6] = [
            "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
            "κόσμε".as_bytes(),
            "\u{10ffff}\u{0}\u{7ff}\u{800}".as_bytes(),
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
            b"\xf4\x90\x80\x80",
            b"\xe1\xbd",
        ];
        for bytes in texts {
            for size in 1..8 {
                assert_eq!(pieces(bytes, size), std::str::from_utf8(bytes).is_ok(), "{bytes:x?}");
            }
        }
    }

    #[test]
    fn what_cannot_become_text_is_known_at_once() {
        let mut text = Utf8::default();
        assert!(text.accept(b"ab\xf4"));
        assert!(!text.accept(b"\x90"));
    }
}
