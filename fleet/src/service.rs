//! Where a service of the fleet is: its address with a password in it, which no error text, log or `Debug` shows.

use std::fmt;

/// Whether what a module says may be logged, whatever a log's user asks for: the client of RabbitMQ traces its address and
/// its login with the password, and warns of each returned message with the whole of it.
pub fn may_be_logged(target: &str, is_error: bool) -> bool {
    is_error || !["lapin", "amq_protocol"].into_iter().any(|module| target.starts_with(module))
}

/// Address and trust of a service.
#[derive(Clone)]
pub struct Service {
    url: String,
    ca_pem: Option<String>,
}

impl Service {
    /// The service at `url`, which may hold user and password.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ca_pem: None }
    }

    /// Trusts the certificate authorities of this PEM text.
    pub fn trusting(self, ca_pem: impl Into<String>) -> Self {
        Self { ca_pem: Some(ca_pem.into()), ..self }
    }

    /// The address with everything that is in it. Never to be shown.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The address for people: without user, password and options. Of a socket the scheme alone: behind it stand paths
    /// and options of any form.
    pub fn place(&self) -> String {
        let scheme = self.url.split_once(':').map_or("", |(scheme, _)| scheme);
        if scheme.split('+').any(|part| part.eq_ignore_ascii_case("unix")) {
            return format!("{scheme}:");
        }
        let Some((scheme, rest)) = self.url.split_once("://") else { return "an address without a scheme".to_owned() };
        // A password may hold any character, even those that end it elsewhere: cut at the last `@`.
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        format!("{scheme}://{}", &rest[..end])
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.place())
    }
}

/// Makes ring the provider of TLS in this process; the first call counts.
pub(crate) fn use_ring() {
    // The error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for (url, place) in [
            ("amqp://user:secret@host:5672/vhost?heartbeat=5", "amqp://host:5672/vhost"),
            ("redis://:se/cr?et@p@host/2", "redis://host/2"),
            ("rediss://host:6379", "rediss://host:6379"),
            ("unix:///run/redis.sock?db=1&pass=secret", "unix:"),
            ("unix:/run/secret/redis.sock", "unix:"),
            ("redis+unix:///run/secret?pass=p@ss", "redis+unix:"),
            ("user:secret@host", "an address without a scheme"),
        ] {
            let service = Service::new(url).trusting("pem");
            assert_eq!(service.place(), place);
            assert_eq!(format!("{service:?}"), format!("Service({place})"));
        }
    }
}
