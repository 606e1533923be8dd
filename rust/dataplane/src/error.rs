//! The errors of the data plane's control side. Packets never make errors: they are counted.

use std::fmt;
use std::io;

/// What went wrong, named for whose fault it is.
#[derive(Debug)]
pub enum Error {
    /// An argument of the wrong size or range.
    Argument(String),
    /// The system refused a call.
    System(io::Error),
    /// The engine has been stopped.
    Stopped,
}

impl Error {
    /// An argument error: what, where, value.
    pub fn argument(text: impl Into<String>) -> Self {
        Self::Argument(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(text) => f.write_str(text),
            Self::System(error) => error.fmt(f),
            Self::Stopped => f.write_str("the engine is stopped"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// The result of a control-side call.
pub type Result<T> = std::result::Result<T, Error>;

/// A slice as an array of exactly N bytes, or an error that names the argument.
pub fn exactly<const N: usize>(name: &str, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| Error::argument(format!("{name} must be {N} bytes, not {}", bytes.len())))
}
