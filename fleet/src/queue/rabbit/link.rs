//! A connection to the broker that is made again when it breaks.
//!
//! The client's own recovery is off: it would give deliveries and confirms of the old connection a second life. Here a
//! connection has a number, and whatever belongs to one ends with it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::tcp::OwnedTLSConfig;
use lapin::types::ShortString;
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionBuilder, ConnectionProperties, Event};
use proto::handles::{Clock, RandomExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::topology::Topology;
use super::trouble::Trouble;
use crate::clock::SystemClock;
use crate::limit::within;
use crate::rand::SystemRandom;
use crate::service::{Service, use_ring};

/// A broker that is not there any more is noticed after twice this, unless the address says otherwise.
const HEARTBEAT_SECONDS: u16 = 15;
/// A broker that accepts a connection and says nothing is left alone after this.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);
/// Full jitter: the n-th pause is anything below twice the one before, and below the longest.
const FIRST_PAUSE_MAX: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Events of a connection are looked for, and its state is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a connection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// It is there.
    pub connected: bool,
    /// The broker takes no publications, and why: memory or disk run short.
    pub blocked: Option<String>,
    /// How often it was made again.
    pub reconnects: u64,
}

/// A connection, and its number.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: Arc<Connection>,
    pub(super) number: u64,
}

/// What is known of the connection.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) live: Option<Live>,
    pub(super) blocked: Option<String>,
    /// Why there is none.
    pub(super) trouble: Option<Trouble>,
    reconnects: u64,
}

/// A connection that is kept.
pub(super) struct Link {
    known: watch::Receiver<Known>,
    keeper: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// What is needed to connect.
#[derive(Clone)]
pub(super) struct Dial {
    uri: AMQPUri,
    ca_pem: Option<String>,
    role: &'static str,
    /// What is declared on each new connection.
    topology: Option<Arc<Topology>>,
}

impl Dial {
    /// How to reach `service`.
    ///
    /// # Errors
    /// The address cannot be read. The parser's own words may quote it.
    pub(super) fn new(service: &Service) -> Result<Self, Trouble> {
        let bad = |_| Trouble::Unavailable("the address is not of the form amqp[s]://host:port/vhost".to_owned());
        let mut uri: AMQPUri = service.url().parse().map_err(bad)?;
        if uri.vhost.is_empty() {
            // `amqp://host/` names the virtual host with the empty name, which nobody has.
            uri.vhost = "/".to_owned();
        }
        if let Some(host) = address_in_brackets(&service.place()) {
            uri.authority.host = host; // the parser takes these for localhost
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self { uri, ca_pem: service.ca_pem().map(str::to_owned), role: "", topology: None })
    }

    pub(super) fn for_role(&self, role: &'static str, topology: Option<Arc<Topology>>) -> Self {
        Self { role, topology, ..self.clone() }
    }

    /// Who the broker takes us for, if we log in by name.
    pub(super) fn user(&self) -> Option<ShortString> {
        let by_name = matches!(self.uri.query.auth_mechanism, None | Some(SASLMechanism::Plain));
        ShortString::try_new(self.uri.authority.userinfo.username.clone()).ok().filter(|_| by_name)
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        use_ring();
        let silent = Trouble::Unavailable(format!("no answer within {HANDSHAKE_LIMIT:?}"));
        within(HANDSHAKE_LIMIT, self.connect_unlimited()).await.unwrap_or(Err(silent))
    }

    async fn connect_unlimited(&self) -> Result<Connection, Trouble> {
        let name = format!("longshore {}", self.role);
        let connection = ConnectionBuilder::new()?
            .with_uri(self.uri.clone())
            .with_properties(ConnectionProperties::default().with_connection_name(name.as_str().into()))
            .with_tls_config(OwnedTLSConfig { identity: None, cert_chain: self.ca_pem.clone() })
            .connect()
            .await?;
        if let Some(topology) = &self.topology {
            topology.declare_all(&connection).await?;
        }
        Ok(connection)
    }
}

/// The host of `scheme://[host]...`.
fn address_in_brackets(place: &str) -> Option<String> {
    let (_, rest) = place.split_once("://[")?;
    rest.split_once(']').map(|(host, _)| host.to_owned())
}

impl Link {
    /// Connects once, and keeps the connection from then on.
    ///
    /// # Errors
    /// Why the first connection failed.
    pub(super) async fn open(dial: Dial) -> Result<Self, Trouble> {
        let first = dial.connect().await?;
        let (tell, known) = watch::channel(Known::default());
        let keeper = tokio::spawn(keep(dial, first, tell)).abort_handle();
        let mut told = known.clone();
        // It is told at once.
        let _ = told.wait_for(|known| known.live.is_some()).await;
        Ok(Self { known, keeper })
    }

    pub(super) fn status(&self) -> LinkStatus {
        let known = self.known.borrow();
        let (connected, reconnects) = (known.live.is_some(), known.reconnects);
        LinkStatus { connected, blocked: known.blocked.clone(), reconnects }
    }

    pub(super) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Follows what is known of the connection.
    pub(super) fn watch(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }

    /// The connection of now.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn live(&self) -> Result<Live, Trouble> {
        let Known { live, trouble, .. } = self.known();
        live.ok_or_else(|| trouble.unwrap_or_else(not_connected))
    }

    /// Waits for a connection that takes publications, or for a refusal.
    pub(super) async fn ready(&self) -> Result<Live, Trouble> {
        let mut known = self.known.clone();
        let is_settled = |known: &Known| {
            (known.live.is_some() && known.blocked.is_none()) || matches!(known.trouble, Some(Trouble::Denied(_)))
        };
        let settled = known.wait_for(is_settled).await.map_err(|_| not_connected())?.clone();
        settled.live.ok_or_else(|| settled.trouble.unwrap_or_else(not_connected))
    }
}

fn not_connected() -> Trouble {
    Trouble::Unavailable("not connected".to_owned())
}

/// Watches one connection after the other.
async fn keep(dial: Dial, first: Connection, tell: watch::Sender<Known>) {
    let mut connection = Arc::new(first);
    for number in 1.. {
        let live = Live { connection: connection.clone(), number };
        tell.send_modify(|known| {
            *known = Known { live: Some(live), reconnects: number - 1, ..Known::default() };
        });
        let trouble = until_lost(&connection, &tell).await;
        tracing::warn!(role = dial.role, ?trouble, "the connection to the task queue is lost");
        tell.send_modify(|known| *known = Known { trouble: Some(trouble), reconnects: number - 1, ..Known::default() });
        connection = Arc::new(again(&dial, &tell).await);
        tracing::info!(role = dial.role, "the connection to the task queue is there again");
    }
}

/// Notes what the broker says of the connection, until it breaks; returns why.
async fn until_lost(connection: &Connection, tell: &watch::Sender<Known>) -> Trouble {
    let clock = SystemClock::new();
    // The only listener: two would take each other's events.
    let mut events = connection.events_listener();
    let mut look = clock.sleep(LOOK_EVERY);
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => tell.send_modify(|known| known.blocked = Some(reason)),
                Some(Event::ConnectionUnblocked) => tell.send_modify(|known| known.blocked = None),
                Some(Event::Error(error)) if !connection.status().connected() => return error.into(),
                Some(_) => {}
                None => return not_connected(),
            },
            () = &mut look => {
                if !connection.status().connected() {
                    return not_connected();
                }
                look = clock.sleep(LOOK_EVERY);
            }
        }
    }
}

/// Tries until there is a connection.
async fn again(dial: &Dial, tell: &watch::Sender<Known>) -> Connection {
    let mut longest = FIRST_PAUSE_MAX;
    loop {
        let pause = SystemRandom.below(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).max(1));
        SystemClock::new().sleep(Duration::from_millis(pause)).await;
        match dial.connect().await {
            Ok(connection) => return connection,
            Err(trouble) => {
                tracing::warn!(role = dial.role, ?trouble, "the task queue cannot be reached");
                tell.send_modify(|known| known.trouble = Some(trouble));
            }
        }
        longest = (longest * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_without_showing_a_password() {
        let uri = |url: &str| Dial::new(&Service::new(url)).map(|dial| dial.uri);
        assert_eq!(uri("amqp://u:p@host/").unwrap().vhost, "/");
        assert_eq!(uri("amqp://host/%2fa").unwrap().vhost, "/a");
        assert_eq!(uri("amqp://u:p@[::1]:5673/v").unwrap().authority.host, "::1");
        assert_eq!(uri("amqp://host?heartbeat=5").unwrap().query.heartbeat, Some(5));
        assert_eq!(uri("amqp://host").unwrap().query.heartbeat, Some(HEARTBEAT_SECONDS));
        for bad in ["http://u:secret@host", "amqp:u:secret", "secret"] {
            let trouble = format!("{:?}", uri(bad).unwrap_err());
            assert!(!trouble.contains("secret"), "{trouble}");
        }
    }
}
