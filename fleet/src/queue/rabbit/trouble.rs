//! What the client says, by what a caller would do about it.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::queue::{Address, QueueError};

/// Why a call failed.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// There is no such queue or exchange.
    Missing,
    /// It is there with other properties.
    Mismatch(String),
    Denied(String),
    /// Everything else: nobody knows whether it happened.
    Unavailable(String),
}

impl From<lapin::Error> for Trouble {
    fn from(error: lapin::Error) -> Self {
        let message = error.to_string();
        let ErrorKind::ProtocolError(protocol) = error.kind() else { return Self::Unavailable(message) };
        match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Self::Missing,
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Self::Mismatch(message),
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Self::Denied(message),
            // No such virtual host, or none of ours.
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Self::Denied(message),
            _ => Self::Unavailable(message),
        }
    }
}

impl Trouble {
    /// The error of a door whose broker is at `place`, about `address`.
    pub(super) fn at(self, place: &str, address: &Address) -> QueueError {
        match self {
            Self::Missing => QueueError::Unroutable { address: address.clone() },
            Self::Mismatch(message) => QueueError::Mismatch { message: format!("{place}: {message}") },
            Self::Denied(message) => QueueError::Denied { message: format!("{place}: {message}") },
            Self::Unavailable(message) => QueueError::Unavailable { message: format!("{place}: {message}") },
        }
    }
}
