//! How the connections to the broker stand.

use super::table::{AMQP_CONNECTION_BLOCKED, AMQP_CONNECTION_UP, AMQP_RECONNECTS, AMQP_RETURNED, AMQP_UNCONFIRMED};
use crate::queue::{LinkStatus, RabbitStatus};

/// Shows how the queue stands.
pub fn show_queue(status: &RabbitStatus) {
    show_link("publishing", &status.publishing);
    show_link("consuming", &status.consuming);
    AMQP_UNCONFIRMED.set(&["publishing"], status.unconfirmed as f64);
    AMQP_RETURNED.set_total(&["publishing"], status.returned);
}

fn show_link(role: &str, link: &LinkStatus) {
    let flag = |is: bool| f64::from(u8::from(is));
    AMQP_CONNECTION_UP.set(&[role], flag(link.connected));
    AMQP_CONNECTION_BLOCKED.set(&[role], flag(link.blocked.is_some()));
    AMQP_RECONNECTS.set_total(&[role], link.reconnects);
}
