//! Messages as AMQP has them. The truth is in the body; properties and headers are copies for people and for brokers.
//!
//! No header begins with `x-`: these are the broker's.

use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use proto::envelope::{Outline, SCHEMA_MAJOR, SCHEMA_MINOR};
use proto::handles::{RandomExt, UnixTime};
use proto::names::queue::{
    ATTEMPT_HEADER, DELAY_HEADER, ERROR_HEADER, FIRST_SEEN_HEADER, ROUND_HEADER, SCHEMA_HEADER, SUBJECT_HEADER,
};

use super::topology::tier;
use crate::queue::{Address, Message};
use crate::rand::SystemRandom;

/// What the broker writes when a message had all its deliveries.
const DELIVERY_LIMIT: &str = "delivery_limit";
/// What it writes when a message's time in a queue was over.
const EXPIRED: &str = "expired";
/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Properties and headers of `message` on its way to `address`; `user` is who the broker takes us for.
pub(super) fn properties(
    address: &Address,
    message: &Message,
    now: UnixTime,
    user: Option<&ShortString>,
) -> BasicProperties {
    let is_job = matches!(address, Address::Jobs | Address::DeadJobs);
    let (content_type, kind) =
        if is_job { ("application/json", "job.submit") } else { ("application/msgpack", "task") };
    let outline = if is_job { None } else { Outline::read(&message.body) };
    let job = outline.as_ref().map(|outline| outline.job.as_str()).or(is_job.then_some(message.subject.as_str()));
    let round = outline.as_ref().and_then(|outline| outline.body.round);
    let mut properties = BasicProperties::default()
        .with_content_type(content_type.into())
        .with_type(kind.into())
        .with_message_id(message_id(now).into())
        .with_timestamp(u64::try_from(now.seconds).unwrap_or(0))
        .with_delivery_mode(PERSISTENT)
        .with_app_id("longshore".into())
        .with_headers(headers(address, message, round, now));
    if let Some(job) = job.and_then(|job| ShortString::try_new(job).ok()) {
        properties = properties.with_correlation_id(job);
    }
    match user {
        Some(user) => properties.with_user_id(user.clone()),
        None => properties,
    }
}

fn headers(address: &Address, message: &Message, round: Option<u32>, now: UnixTime) -> FieldTable {
    let text = |value: &str| AMQPValue::LongString(LongString::from(value));
    let number = |value: u32| AMQPValue::LongLongInt(i64::from(value));
    let mut headers = FieldTable::default();
    headers.insert(SCHEMA_HEADER.into(), text(&format!("{SCHEMA_MAJOR}.{SCHEMA_MINOR}")));
    headers.insert(SUBJECT_HEADER.into(), text(&message.subject));
    headers.insert(ATTEMPT_HEADER.into(), number(message.attempt));
    if message.attempt <= 1 {
        headers.insert(FIRST_SEEN_HEADER.into(), AMQPValue::LongLongInt(i64::try_from(millis_of(now)).unwrap_or(0)));
    }
    if let Some(round) = round {
        headers.insert(ROUND_HEADER.into(), number(round));
    }
    if let Some(error) = &message.last_error {
        headers.insert(ERROR_HEADER.into(), text(error));
    }
    if let Address::Later(_, delay) = address {
        headers.insert(DELAY_HEADER.into(), text(tier(*delay)));
    }
    headers
}

/// UUIDv7: message ids sort by time.
fn message_id(now: UnixTime) -> String {
    let random: [u8; 10] = SystemRandom.bytes();
    uuid::Builder::from_unix_timestamp_millis(millis_of(now), &random).into_uuid().to_string()
}

fn millis_of(time: UnixTime) -> u64 {
    u64::try_from(time.seconds).unwrap_or(0) * 1000 + u64::from(time.nanos / 1_000_000)
}

/// When a first attempt was published, if it says so.
pub(super) fn published_at(properties: &BasicProperties) -> Option<UnixTime> {
    let headers = properties.headers().as_ref()?;
    match headers.inner().get(FIRST_SEEN_HEADER)? {
        AMQPValue::LongLongInt(millis) => {
            Some(UnixTime::default().plus(Duration::from_millis(u64::try_from(*millis).ok()?)))
        }
        _ => None,
    }
}

/// The message of a delivery, and how often it was delivered before. What a foreign client left out is made up.
pub(super) fn message(properties: &BasicProperties, body: Vec<u8>, redelivered: bool) -> (Message, u32) {
    let nothing = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&nothing);
    let id = properties.correlation_id().as_ref().or(properties.message_id().as_ref());
    let subject = text_in(headers, SUBJECT_HEADER).or_else(|| id.map(ToString::to_string)).unwrap_or_default();
    let attempt = number_in(headers, ATTEMPT_HEADER).filter(|attempt| *attempt > 0).unwrap_or(1);
    let last_error = death_in(headers).or_else(|| text_in(headers, ERROR_HEADER));
    let delivered_before = number_in(headers, "x-delivery-count").unwrap_or(u32::from(redelivered));
    (Message { body: Bytes::from(body), attempt, last_error, subject }, delivered_before)
}

/// Whether the broker gave it up, whatever went wrong before.
fn death_in(headers: &FieldTable) -> Option<String> {
    deaths_in(headers).into_iter().find(|reason| reason == DELIVERY_LIMIT)
}

/// Whether a message among the notices waited for its delay and found no queue behind it: what a worker or the broker
/// gave up is there for another reason.
pub(super) fn has_lost_its_queue(properties: &BasicProperties) -> bool {
    let Some(headers) = properties.headers().as_ref() else { return false };
    deaths_in(headers).first().is_some_and(|reason| reason == EXPIRED)
}

/// Why it left the queues that it was in, the last one first.
fn deaths_in(headers: &FieldTable) -> Vec<String> {
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { return Vec::new() };
    let reasons = deaths.as_slice().iter().filter_map(|death| match death {
        AMQPValue::FieldTable(death) => text_in(death, "reason"),
        _ => None,
    });
    reasons.collect()
}

fn text_in(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// A number of any width: clients differ.
fn number_in(headers: &FieldTable, name: &str) -> Option<u32> {
    let number = match headers.inner().get(name)? {
        AMQPValue::ShortShortInt(number) => i64::from(*number),
        AMQPValue::ShortShortUInt(number) => i64::from(*number),
        AMQPValue::ShortInt(number) => i64::from(*number),
        AMQPValue::ShortUInt(number) => i64::from(*number),
        AMQPValue::LongInt(number) => i64::from(*number),
        AMQPValue::LongUInt(number) => i64::from(*number),
        AMQPValue::LongLongInt(number) => *number,
        _ => return None,
    };
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Delay, Route};

    fn sent() -> Message {
        Message {
            body: Bytes::from_static(b"body"),
            attempt: 3,
            last_error: Some("e".to_owned()),
            subject: "t".to_owned(),
        }
    }

    #[test]
    fn what_is_sent_is_received() {
        let later = Address::Later(Route::normal("p"), Delay::M5);
        let properties = properties(&later, &sent(), UnixTime::from_seconds(7), None);
        assert_eq!(message(&properties, b"body".to_vec(), false), (sent(), 0));
        let headers = properties.headers().clone().unwrap();
        assert_eq!(text_in(&headers, DELAY_HEADER).as_deref(), Some("5m"));
        assert!(headers.inner().keys().all(|name| !name.as_str().starts_with("x-")));
        assert_eq!(properties.timestamp(), &Some(7));
        assert_eq!(published_at(&properties), None, "it is a copy");
    }

    #[test]
    fn a_first_attempt_says_when_it_was_published() {
        let (first, now) = (Message { attempt: 1, ..sent() }, UnixTime { seconds: 7, nanos: 250_000_000 });
        let sent = properties(&Address::Tasks(Route::normal("p")), &first, now, None);
        assert_eq!(published_at(&sent), Some(now));
        assert_eq!(published_at(&BasicProperties::default()), None);
    }

    #[test]
    fn messages_of_foreign_clients_are_first_attempts() {
        let (foreign, before) = message(&BasicProperties::default(), b"x".to_vec(), true);
        assert_eq!((foreign.attempt, foreign.subject.as_str(), before), (1, "", 1));
        let mut headers = FieldTable::default();
        headers.insert(ATTEMPT_HEADER.into(), AMQPValue::LongInt(-1));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(4));
        let properties = BasicProperties::default().with_headers(headers).with_message_id("m".into());
        let (foreign, before) = message(&properties, Vec::new(), true);
        assert_eq!((foreign.attempt, foreign.subject.as_str(), before), (1, "m", 4));
    }

    #[test]
    fn the_broker_has_the_last_word_on_why_a_message_died() {
        let mut death = FieldTable::default();
        death.insert("reason".into(), AMQPValue::LongString("delivery_limit".into()));
        let deaths = AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into());
        let mut headers = FieldTable::default();
        headers.insert(ERROR_HEADER.into(), AMQPValue::LongString("transient".into()));
        headers.insert("x-death".into(), deaths);
        let properties = BasicProperties::default().with_headers(headers);
        assert_eq!(message(&properties, Vec::new(), false).0.last_error.as_deref(), Some("delivery_limit"));
    }
}
