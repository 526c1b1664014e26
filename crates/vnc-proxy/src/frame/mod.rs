//! Websocket frames (RFC 6455), without a library and without buffers.
//!
//! ```text
//!  browser --> [header|mask|payload]... --Unframer--> payload bytes, in place, one after the other
//!                     |                                    (message boundaries mean nothing to RFB,
//!                     +-- ping, pong, close -> Control      SPICE or a serial line)
//!  guest's bytes --> header() --> browser
//! ```
//!
//! Nothing is held for a frame: its payload is passed on as it comes, whatever size its header
//! tells. So a large paste costs no memory, and the limits below are about sense, not about room.

mod header;
mod unframe;
mod utf8;

pub use header::{LONGEST_HEADER, closing, header, pong};
pub use unframe::{Close, Control, Unframer};

/// Largest frame taken from a browser, bytes.
pub const LARGEST_FRAME: u64 = 16 << 20;
/// Largest payload of a ping, pong or close, by the RFC.
pub const LARGEST_CONTROL: usize = 125;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with a fragmented message.
    Continuation,
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// The end.
    Close,
    /// Wants a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    const fn parse(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    const fn is_control(self) -> bool {
        self.bits() >= 8
    }
}

/// How a browser broke the protocol. The text goes into the closing frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RSV1 to RSV3 are for extensions, and none was agreed upon.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// 3 to 7 and 11 to 15.
    #[error("the opcode is reserved")]
    Opcode,
    /// Browsers must mask.
    #[error("a frame is not masked")]
    Unmasked,
    /// Lengths have one spelling, and 63 bits.
    #[error("a frame's length is malformed")]
    Length,
    /// Over 125 bytes, or in fragments.
    #[error("a control frame is too long or fragmented")]
    Control,
    /// A continuation of nothing, or a new message inside another.
    #[error("fragments are out of order")]
    Fragments,
    /// A code that must not be sent, or half of one.
    #[error("a closing frame is malformed")]
    Close,
    /// Text that is none.
    #[error("text is not UTF-8")]
    Utf8,
    /// Over [`LARGEST_FRAME`].
    #[error("a frame is too large")]
    TooLarge,
}

impl Violation {
    /// Code of the closing frame that answers it.
    #[must_use]
    pub const fn code(self) -> u16 {
        use vmmgr_common::api::console::close;
        match self {
            Self::Utf8 => close::NOT_TEXT,
            Self::TooLarge => close::TOO_LARGE,
            Self::ReservedBit
            | Self::Opcode
            | Self::Unmasked
            | Self::Length
            | Self::Control
            | Self::Fragments
            | Self::Close => close::PROTOCOL,
        }
    }
}
