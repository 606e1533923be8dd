//! One error for all that can go wrong with a group.

use std::fmt;

use mls_rs::error::MlsError;

/// What went wrong, named for whose fault it is.
#[derive(Debug)]
pub enum Error {
    /// Our own caller's: an argument of the wrong size, or a call at the wrong time.
    Argument(String),
    /// A message, state or credential that is not what it should be.
    Refused(String),
}

impl Error {
    /// An argument error: what, where, value.
    pub fn argument(text: impl Into<String>) -> Self {
        Self::Argument(text.into())
    }

    /// A refusal with its reason.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(text) | Self::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<MlsError> for Error {
    fn from(error: MlsError) -> Self {
        Self::Refused(format!("MLS: {error}"))
    }
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;
