//! One connection to Redis that every call shares, made anew when it breaks.
//!
//! # Retries
//! A call whose connection turns out to be gone is sent once more, on a new one, within the same time limit: a server
//! closes idle connections. So a command may have its effect twice.
//!
//! # Cancellation
//! Safe at any point; the command may still have its effect.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation,
    TlsCertificates,
};

use crate::limit::within;
use crate::service::{Service, use_ring};
use crate::state::StateError;

/// A call takes no longer, whatever happens to the server or the network.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(2);

/// What is asked.
pub(super) enum Request<'a> {
    One(Cmd),
    /// Several commands in one go; not a transaction unless it is made one.
    Several(Pipeline),
    Script(ScriptInvocation<'a>),
}

impl From<Cmd> for Request<'_> {
    fn from(command: Cmd) -> Self {
        Self::One(command)
    }
}

impl From<Pipeline> for Request<'_> {
    fn from(commands: Pipeline) -> Self {
        Self::Several(commands)
    }
}

impl<'a> From<ScriptInvocation<'a>> for Request<'a> {
    fn from(script: ScriptInvocation<'a>) -> Self {
        Self::Script(script)
    }
}

impl Request<'_> {
    async fn ask<T: FromRedisValue>(&self, connection: &mut MultiplexedConnection) -> RedisResult<T> {
        match self {
            Self::One(command) => command.query_async(connection).await,
            Self::Several(commands) => commands.query_async(connection).await,
            Self::Script(script) => script.invoke_async(connection).await,
        }
    }
}

/// The way to the server.
pub(super) struct Link {
    client: Client,
    /// For people: no password in it.
    place: String,
    current: Mutex<Current>,
    /// Held by who connects.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    /// Counts connections: only the one that broke is forgotten.
    number: u64,
}

impl Link {
    /// The way to `service`. Connects with the first call.
    ///
    /// # Errors
    /// The address or the certificate cannot be used.
    pub(super) fn new(service: &Service) -> Result<Self, StateError> {
        use_ring();
        let place = service.place();
        let client = match service.ca_pem() {
            Some(pem) => Client::build_with_tls(
                service.url(),
                TlsCertificates { client_tls: None, root_cert: Some(pem.as_bytes().to_vec()) },
            ),
            None => Client::open(service.url()),
        };
        // The crate's own words may quote the address.
        let client = client.map_err(|error| StateError::Unavailable {
            message: format!("{place}: the address or the certificate cannot be used ({})", error.category()),
        })?;
        Ok(Self { client, place, current: Mutex::default(), connecting: tokio::sync::Mutex::default() })
    }

    /// Asks, and returns the answer within [`CALL_LIMIT`].
    pub(super) async fn ask<T: FromRedisValue>(&self, request: impl Into<Request<'_>>) -> Result<T, StateError> {
        let request = request.into();
        match within(CALL_LIMIT, self.ask_twice(&request)).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(self.error(&error)),
            None => {
                // Nobody knows whether the server still is behind this connection.
                self.forget(None);
                Err(self.no_answer(CALL_LIMIT))
            }
        }
    }

    async fn ask_twice<T: FromRedisValue>(&self, request: &Request<'_>) -> RedisResult<T> {
        let mut asked_before = false;
        loop {
            let (number, mut connection) = self.connection().await?;
            match request.ask(&mut connection).await {
                Err(error) if is_gone(&error) => {
                    self.forget(Some(number));
                    if std::mem::replace(&mut asked_before, true) {
                        return Err(error);
                    }
                }
                answer => return answer,
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing panics while it is held.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Option<(u64, MultiplexedConnection)> {
        let current = self.current();
        current.connection.clone().map(|connection| (current.number, connection))
    }

    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(known) = self.known() {
            return Ok(known); // somebody else was faster
        }
        let connection = self.connect().await?;
        let mut current = self.current();
        current.number += 1;
        current.connection = Some(connection.clone());
        Ok((current.number, connection))
    }

    /// A connection of one's own, for calls that block. It has no time limit.
    pub(super) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// The next call connects anew, if the connection is still that of `number`.
    fn forget(&self, number: Option<u64>) {
        let mut current = self.current();
        if number.is_none_or(|number| number == current.number) {
            current.connection = None;
        }
    }

    pub(super) fn no_answer(&self, limit: Duration) -> StateError {
        StateError::Unavailable { message: format!("{}: no answer within {limit:?}", self.place) }
    }

    /// What a caller would do about it.
    pub(super) fn error(&self, error: &RedisError) -> StateError {
        let message = format!("{}: {error}", self.place);
        let is_refusal = error.kind() == ErrorKind::AuthenticationFailed
            || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"));
        if is_refusal { StateError::Denied { message } } else { StateError::Unavailable { message } }
    }
}

/// Whether the connection is of no use any more.
fn is_gone(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}
