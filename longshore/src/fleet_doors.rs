//! The doors of a fleet: RabbitMQ and Redis. The one place that knows which services they are.

use std::sync::Arc;
use std::time::Duration;

use fleet::queue::{QueueError, RabbitQueue, TaskQueue};
use fleet::state::{JobState, RedisState, StateError};
use proto::names::state::Keys;

use crate::exit::CommandError;
use crate::fleet_places::FleetPlaces;
use crate::session::Session;

/// How long to wait before a service that does not answer is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often a daemon says that it waits for a service.
const SAID_EVERY: Duration = Duration::from_secs(30);

/// How a process of the fleet reaches the others.
#[derive(Clone)]
pub(crate) struct FleetDoors {
    /// Tasks and submissions.
    pub(crate) queue: Arc<dyn TaskQueue>,
    /// The same, for those who watch over its connections.
    pub(crate) rabbit: RabbitQueue,
    /// Reports, documents, who lives.
    pub(crate) state: Arc<dyn JobState>,
}

impl Session {
    /// Connects to the fleet; tries again for a while where a service does not answer.
    ///
    /// # Errors
    /// No fleet is configured; a service refuses access, or does not answer in time.
    pub(crate) async fn connect(&self, within: Duration) -> Result<FleetDoors, CommandError> {
        let give_up_at = self.clock.monotonic() + within;
        let places = self.fleet()?;
        let services = [places.amqp.service()?.place(), places.redis.service()?.place()].join(" or ");
        loop {
            let trying = self.connect_once(places);
            let connected = tokio::select! {
                biased;
                connected = trying => connected,
                () = self.clock.sleep(give_up_at.saturating_sub(self.clock.monotonic())) => {
                    let message = format!("no answer of {services} within --connect-timeout");
                    return Err(StateError::Unavailable { message }.into());
                }
            };
            match connected {
                Err(error) if is_away(&error) && self.clock.monotonic() + ASK_AGAIN_AFTER < give_up_at => {
                    tracing::info!(%error, "a service does not answer; it is asked again");
                    self.clock.sleep(ASK_AGAIN_AFTER).await;
                }
                connected => return connected,
            }
        }
    }

    /// The same for a process that waits for its services as long as it takes, and says so.
    ///
    /// # Errors
    /// No fleet is configured; a service refuses access.
    pub(crate) async fn connect_for_good(&self) -> Result<FleetDoors, CommandError> {
        let places = self.fleet()?;
        let mut said_at = None;
        loop {
            match self.connect_once(places).await {
                Err(error) if is_away(&error) => {
                    let now = self.clock.monotonic();
                    if said_at.is_none_or(|at| now >= at + SAID_EVERY) {
                        said_at = Some(now);
                        self.output.warn(format_args!("waits for a service: {}", crate::exit::chain(&error)));
                    }
                    self.clock.sleep(ASK_AGAIN_AFTER).await;
                }
                connected => return connected,
            }
        }
    }

    async fn connect_once(&self, places: &FleetPlaces) -> Result<FleetDoors, CommandError> {
        let (amqp, redis) = (places.amqp.service()?, places.redis.service()?);
        let state = RedisState::connect(&redis, Keys::default()).await?;
        let queue = RabbitQueue::connect(&amqp).await?;
        Ok(FleetDoors { queue: Arc::new(queue.clone()), rabbit: queue, state: Arc::new(state) })
    }
}

fn is_away(error: &CommandError) -> bool {
    matches!(
        error,
        CommandError::Queue(QueueError::Unavailable { .. }) | CommandError::State(StateError::Unavailable { .. })
    )
}
