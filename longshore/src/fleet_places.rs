//! Where the services of a fleet are: flag over environment, decided without touching anything. No address is shown that
//! may hold a password.

use std::path::{Path, PathBuf};

use clap::Args;
use fleet::service::Service;

use crate::config::ConfigError;
use crate::environment::Environment;
use crate::exit::CommandError;

/// The services of a fleet.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Fleet")]
pub(crate) struct FleetFlags {
    /// The message broker: amqp://HOST or amqps://HOST, without a password.
    ///
    /// One with a password belongs into LONGSHORE_AMQP_URL, or into a file that LONGSHORE_AMQP_URL_FILE names. Where both
    /// services are known, `backup`, `restore` and `check --read-data` are done by the fleet.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) amqp: Option<String>,

    /// The job state: redis://HOST or rediss://HOST, without a password.
    ///
    /// One with a password belongs into LONGSHORE_REDIS_URL, or into a file that LONGSHORE_REDIS_URL_FILE names.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) redis: Option<String>,
}

/// Where the address of a service is.
#[derive(Clone, PartialEq, Eq)]
enum Address {
    Given(String),
    InFile { path: PathBuf, origin: &'static str },
}

/// A service, and who vouches for it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Place {
    address: Address,
    /// Certificate authorities in PEM, beside those of the system.
    authorities: Option<PathBuf>,
}

/// Both services of a fleet.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FleetPlaces {
    /// The message broker.
    pub(crate) amqp: Place,
    /// The job state.
    pub(crate) redis: Place,
}

impl std::fmt::Debug for FleetPlaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FleetPlaces(..)") // addresses hold passwords
    }
}

/// Names of one service.
struct Names {
    flag: &'static str,
    url: &'static str,
    file: &'static str,
    authorities: &'static str,
}

const AMQP: Names = Names {
    flag: "--amqp",
    url: "LONGSHORE_AMQP_URL",
    file: "LONGSHORE_AMQP_URL_FILE",
    authorities: "LONGSHORE_AMQP_CA_FILE",
};

const REDIS: Names = Names {
    flag: "--redis",
    url: "LONGSHORE_REDIS_URL",
    file: "LONGSHORE_REDIS_URL_FILE",
    authorities: "LONGSHORE_REDIS_CA_FILE",
};

/// Decides from flags and variables; none if there is no fleet.
pub(crate) fn resolve(flags: &FleetFlags, environment: &Environment) -> Result<Option<FleetPlaces>, ConfigError> {
    let amqp = place(&AMQP, flags.amqp.as_deref(), environment)?;
    let redis = place(&REDIS, flags.redis.as_deref(), environment)?;
    match (amqp, redis) {
        (None, None) => Ok(None),
        (Some((amqp, _)), Some((redis, _))) => Ok(Some(FleetPlaces { amqp, redis })),
        (Some((_, present)), None) => Err(ConfigError::HalfAFleet { present, missing: REDIS.url }),
        (None, Some((_, present))) => Err(ConfigError::HalfAFleet { present, missing: AMQP.url }),
    }
}

/// A service, and what named it.
fn place(
    names: &Names,
    flag: Option<&str>,
    environment: &Environment,
) -> Result<Option<(Place, &'static str)>, ConfigError> {
    let authorities = environment.get(names.authorities).map(PathBuf::from);
    let (address, origin) = match (flag, environment.text(names.url)?, environment.get(names.file)) {
        (Some(url), ..) if holds_password(url) => {
            return Err(ConfigError::PasswordInFlag { flag: names.flag, variable: names.url });
        }
        (Some(url), ..) => (Address::Given(url.to_owned()), names.flag),
        (None, Some(_), Some(_)) => return Err(ConfigError::TwoUrls { url: names.url, file: names.file }),
        (None, Some(url), None) => (Address::Given(url.to_owned()), names.url),
        (None, None, Some(path)) => (Address::InFile { path: path.into(), origin: names.file }, names.file),
        (None, None, None) => return Ok(None),
    };
    Ok(Some((Place { address, authorities }, origin)))
}

/// Whether a URL has a password, in front of the host or among its options.
fn holds_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    // A password may hold any character, even those that end it elsewhere: up to the last `@`.
    let user = rest.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.split_once(':').is_some_and(|(_, password)| !password.is_empty()))
        || rest.to_ascii_lowercase().contains("password=")
}

impl Place {
    /// Reads what stands in files.
    pub(crate) fn service(&self) -> Result<Service, CommandError> {
        let url = match &self.address {
            Address::Given(url) => url.clone(),
            Address::InFile { path, origin } => read(path, origin)?.trim().to_owned(),
        };
        let service = Service::new(url);
        match &self.authorities {
            Some(path) => Ok(service.trusting(read(path, "certificate authorities")?)),
            None => Ok(service),
        }
    }
}

fn read(path: &Path, what: &str) -> Result<String, CommandError> {
    let path_text = format!("{} ({what})", path.display());
    std::fs::read_to_string(path).map_err(|source| CommandError::File { action: "read", path: path_text, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(amqp: Option<&str>, redis: Option<&str>) -> FleetFlags {
        FleetFlags { amqp: amqp.map(str::to_owned), redis: redis.map(str::to_owned) }
    }

    fn resolved<const N: usize>(
        flags: &FleetFlags,
        variables: [(&str, &str); N],
    ) -> Result<Option<FleetPlaces>, ConfigError> {
        resolve(flags, &variables.into())
    }

    #[test]
    fn a_fleet_has_two_halves() {
        let none = FleetFlags::default();
        let (broker, state) = (("LONGSHORE_AMQP_URL", "amqp://u:s3cret@h"), ("LONGSHORE_REDIS_URL_FILE", "/f"));
        assert_eq!(resolved(&none, []), Ok(None));
        let places = resolved(&none, [broker, state]).unwrap().unwrap();
        assert!(!format!("{places:?}").contains("s3cret"));
        let half = resolved(&none, [broker]).unwrap_err().to_string();
        assert_eq!(half, "LONGSHORE_AMQP_URL is set and LONGSHORE_REDIS_URL is not: a fleet needs both");
        assert!(resolved(&none, [state]).unwrap_err().to_string().contains("LONGSHORE_AMQP_URL is not"));
        let half = resolved(&flags(Some("amqp://h"), None), []).unwrap_err().to_string();
        assert!(half.starts_with("--amqp is set"), "{half}");
    }

    #[test]
    fn flags_count_before_variables_and_hold_no_password() {
        let variables = [("LONGSHORE_AMQP_URL", "amqp://env"), ("LONGSHORE_REDIS_URL", "redis://env")];
        let places = resolved(&flags(Some("amqp://user@flag"), None), variables).unwrap().unwrap();
        assert!(places.amqp.address == Address::Given("amqp://user@flag".to_owned()));
        assert!(places.redis.address == Address::Given("redis://env".to_owned()));
        for url in ["amqp://u:s3cret@h", "redis://:s3cret@h/1", "u:s3@cret@h", "amqp://h?password=s3cret"] {
            let error = resolved(&flags(Some(url), None), variables).unwrap_err().to_string();
            assert!(error.contains("--amqp") && !error.contains("s3"), "{error}");
        }
    }

    #[test]
    fn a_url_is_given_once() {
        let twice = [("LONGSHORE_AMQP_URL", "amqp://h"), ("LONGSHORE_AMQP_URL_FILE", "/f")];
        let error = resolved(&FleetFlags::default(), twice).unwrap_err().to_string();
        assert_eq!(error, "LONGSHORE_AMQP_URL and LONGSHORE_AMQP_URL_FILE are both set");
    }

    #[test]
    fn a_file_holds_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "amqp://u:s3cret@host:1/v\n").unwrap();
        let address = Address::InFile { path: path.clone(), origin: "X" };
        let place = Place { address, authorities: None };
        assert_eq!(place.service().unwrap().place(), "amqp://host:1/v");
        std::fs::remove_file(path).unwrap();
        assert!(place.service().is_err());
    }
}
