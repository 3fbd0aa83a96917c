//! Both doors through TLS with an authority that nobody knows.

use bytes::Bytes;
use fleet::queue::{QueueError, RabbitQueue, TaskQueue};
use fleet::service::Service;
use fleet::state::{JobState, RedisState, StateError};
use proto::id::JobId;
use proto::names::state::Keys;
use tests::services::certificates::Certificates;
use tests::services::rabbitmq::PrivateBroker;
use tests::services::redis::PrivateRedis;

use crate::{declared, message, next};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_the_queue_trusts_the_authority_that_it_is_told_of() {
    let certificates = Certificates::new();
    let broker = PrivateBroker::start_with("secure", Some(&certificates), "");
    let error = RabbitQueue::connect(&Service::new(broker.tls_url())).await.err().expect("nobody knows it");
    assert!(matches!(error, QueueError::Unavailable { .. }), "{error}");
    let service = Service::new(broker.tls_url()).trusting(certificates.authority_pem());
    let queue = RabbitQueue::connect(&service).await.unwrap_or_else(|error| panic!("{error}"));
    let (address, inbox) = declared(&queue).await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    assert_eq!(next(&mut *consumer).await.message, message("one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_the_state_trusts_the_authority_that_it_is_told_of() {
    let certificates = Certificates::new();
    let server = PrivateRedis::start_with("secure", Some(&certificates), &[]);
    let error = RedisState::connect(&Service::new(server.tls_url()), Keys::default()).await.err().expect("unknown");
    assert!(matches!(error, StateError::Unavailable { .. }), "{error}");
    let service = Service::new(server.tls_url()).trusting(certificates.authority_pem());
    let state = RedisState::connect(&service, Keys::default()).await.unwrap_or_else(|error| panic!("{error}"));
    let job = JobId::new("j").expect("a job id");
    state.append_report(&job, Bytes::from_static(b"x")).await.expect("append");
    let error = RedisState::connect(&Service::new(server.tls_url()).trusting("no pem"), Keys::default()).await;
    assert!(matches!(error.err(), Some(StateError::Unavailable { .. })));
}
