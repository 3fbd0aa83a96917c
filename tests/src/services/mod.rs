//! The services of a fleet: those that run on this machine, of which a test has a part of its own, and private ones for
//! tests that break them.

pub mod certificates;
pub mod prometheus;
pub mod rabbitmq;
pub mod redis;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long a private service may take to start.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A port of this machine that nobody listens on; it stays free unless somebody is quick.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap_or_else(|error| panic!("no free port: {error}"));
    listener.local_addr().unwrap_or_else(|error| panic!("no free port: {error}")).port()
}

/// A name that no other test has.
fn unique(purpose: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("longshore-{purpose}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Waits until `is_there`, and panics with `what` if that takes too long.
pub fn wait_until(what: &str, mut is_there: impl FnMut() -> bool) {
    let step = Duration::from_millis(50);
    for _ in 0..START_LIMIT.as_millis() / step.as_millis() {
        if is_there() {
            return;
        }
        pause(step);
    }
    panic!("{what} within {START_LIMIT:?}");
}

/// Gives another process time: to come up, or to do without a service for so long.
#[allow(clippy::disallowed_methods, reason = "nobody says when another process has noticed")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

fn listens(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
