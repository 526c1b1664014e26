//! Buffers of a thread, which all its sessions use in turn.

use std::cell::RefCell;

/// Most bytes that are read at a time. What comes of one read is one frame to the browser, so
/// this is its longest as well, and one write's tail is the most that a session holds.
pub const READ: usize = 64 << 10;

/// Room for one read and what becomes of it.
#[derive(Debug)]
pub struct Scratch {
    /// As it came from the socket.
    pub cipher: Box<[u8]>,
    /// Decrypted.
    pub plain: Vec<u8>,
    /// Filtered.
    pub passed: Vec<u8>,
    /// Encrypted for the other side; always as long as it ever had to be.
    pub out: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        cipher: vec![0; READ].into_boxed_slice(),
        plain: Vec::new(),
        passed: Vec::new(),
        out: Vec::new(),
    });
}

impl Scratch {
    /// Lends this thread's buffers, the growing ones empty.
    pub fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.plain.clear();
            scratch.passed.clear();
            work(scratch)
        })
    }
}
