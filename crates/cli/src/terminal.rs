//! The terminal of whoever runs the program.

use std::io::Read as _;
use std::path::Path;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Standard input without line editing, echo and signals, until this is dropped.
pub(crate) struct Raw(Option<Termios>);

impl Raw {
    /// Where standard input is no terminal nothing changes.
    pub(crate) fn enter() -> Result<Self, Failure> {
        let input = std::io::stdin();
        if !isatty(&input) {
            return Ok(Self(None));
        }
        let before = tcgetattr(&input).map_err(Failure::local)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw).map_err(Failure::local)?;
        Ok(Self(Some(before)))
    }

    /// True where somebody types.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0
            && let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Now, before)
        {
            eprintln!("warning: the terminal stays raw (`reset` mends it): {error}");
        }
    }
}

/// True where somebody types.
pub(crate) fn is_interactive() -> bool {
    isatty(std::io::stdin())
}

/// A secret: asked for without echo where somebody types, all of standard input otherwise.
pub(crate) fn secret(prompt: &str) -> Result<String, Failure> {
    if is_interactive() {
        return rpassword::prompt_password(prompt).map_err(Failure::local);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(Failure::local)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A secret from a file, without its line's end.
pub(crate) fn secret_file(path: &Path) -> Result<String, Failure> {
    let text = fs_err::read_to_string(path).map_err(Failure::local)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Standard input in pieces, as it comes. It is read by a thread of its own: a read of a terminal
/// cannot be called off, and must not keep the program from ending.
pub(crate) fn input() -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut buffer) {
            if tell.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    told
}
