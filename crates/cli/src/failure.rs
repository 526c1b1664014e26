//! How a command fails.

use std::fmt;

use vmmgr_common::error::{ErrorCode, Problem};

/// A failure and its exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The API said why.
    Api(Box<Problem>),
    /// The API cannot be reached.
    Unreachable(String),
    /// It took too long.
    Timeout(String),
    /// Wrong use.
    Usage(String),
    /// Something on this machine.
    Local(String),
}

impl Failure {
    /// An error of this machine.
    pub(crate) fn local(error: impl fmt::Display) -> Self {
        Self::Local(error.to_string())
    }

    /// True where trying again cannot help.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Api(problem) if problem.status < 500 && problem.status != 409)
    }

    /// See the crate's documentation.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Api(problem) => match problem.status {
                404 => 3,
                401 | 403 => 4,
                409 | 412 => 5,
                503 => 7,
                504 => 6,
                _ => 1,
            },
            Self::Unreachable(_) => 7,
            Self::Timeout(_) => 6,
            Self::Usage(_) => 2,
            Self::Local(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(problem) => {
                writeln!(f, "error: {} ({})", problem.detail, problem.code.as_str())?;
                if let Some(hint) = &problem.hint {
                    writeln!(f, "hint: {hint}")?;
                }
                match &problem.request_id {
                    Some(id) => writeln!(f, "request: {id}"),
                    None => Ok(()),
                }
            }
            Self::Unreachable(why) => writeln!(
                f,
                "error: the API cannot be reached: {why}\nhint: look at VMMGR_URL and VMMGR_CA, and whether nginx and api-gateway run"
            ),
            Self::Timeout(what) | Self::Usage(what) | Self::Local(what) => {
                writeln!(f, "error: {what}")
            }
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Api(Box::new(problem))
    }
}

/// A problem made here, for an answer that is none of the API's.
pub(crate) fn odd_answer(status: u16, text: &str) -> Failure {
    let cut: String = text.chars().take(200).collect();
    let mut problem =
        Problem::new(ErrorCode::Internal, format!("the server answered {status}: {cut}"));
    problem.status = status;
    problem.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_exit_code() {
        let api = |code| Failure::from(Problem::new(code, "x")).exit_code();
        assert_eq!(api(ErrorCode::NoSuchVm), 3);
        assert_eq!(api(ErrorCode::Unauthenticated), 4);
        assert_eq!(api(ErrorCode::WrongState), 5);
        assert_eq!(api(ErrorCode::Deadline), 6);
        assert_eq!(api(ErrorCode::HostUnreachable), 7);
        assert_eq!(api(ErrorCode::InvalidValue), 1);
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
    }
}
