//! What is to be used: flag over environment over default, decided without touching anything.
//!
//! Files are read and commands run by [`crate::password`] and [`crate::open`], for commands that need them.

use std::path::PathBuf;

use clap::Args;
use proto::job::Budget;
use repository::format::node_time::Zone;
use sources::files::exclude::parse_size;

use crate::environment::{Environment, NotText};
use crate::fleet_places::{self, FleetFlags, FleetPlaces};
use crate::password::Password;

/// Where the repository is and how to open it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Repository")]
pub(crate) struct RepositoryFlags {
    /// The repository: a folder, or azure:CONTAINER:/PREFIX.
    ///
    /// Without it LONGSHORE_REPOSITORY counts, then RESTIC_REPOSITORY and RESTIC_REPOSITORY_FILE, then a repository in
    /// the user's data folder, which `backup` and `init` make when it is missing. docs/azure.md has the variables of
    /// storage accounts: AZURE_ACCOUNT_NAME with AZURE_ACCOUNT_KEY, AZURE_ACCOUNT_SAS or Entra ID, and others.
    #[arg(long, short, global = true, value_name = "REPOSITORY")]
    pub(crate) repo: Option<String>,

    /// A file that holds the password.
    ///
    /// Without it and --password-command: LONGSHORE_PASSWORD_FILE, LONGSHORE_PASSWORD_COMMAND, LONGSHORE_PASSWORD, then
    /// the same three of restic. White space at both ends is dropped.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "password_command")]
    pub(crate) password_file: Option<PathBuf>,

    /// A command that prints the password; it is not run through a shell.
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) password_command: Option<String>,

    /// The id of the key to try first; saves time where a repository has many.
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) key_hint: Option<String>,

    #[command(flatten)]
    pub(crate) fleet: FleetFlags,
}

/// Where the location of the repository stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RepositoryPlace {
    /// In restic's notation.
    Named(String),
    /// The first line of a file is the location.
    InFile(PathBuf),
    /// In the user's data folder; made when it is missing.
    Default(PathBuf),
}

/// Where the password comes from.
#[derive(Clone, Debug)]
pub(crate) enum PasswordSource {
    /// From a file.
    File {
        /// The file.
        path: PathBuf,
        /// The flag or variable that named it.
        origin: &'static str,
    },
    /// From the output of a command.
    Command {
        /// Program and arguments in one text.
        line: String,
        /// The flag or variable that gave it.
        origin: &'static str,
    },
    /// Given in a variable.
    Given(Password),
    /// From the file that belongs to the default repository; made when it is missing.
    DefaultFile(PathBuf),
    /// Nobody said; a terminal is asked.
    Nowhere,
}

/// Everything that flags and variables say.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    /// Where the repository is.
    pub(crate) repository: RepositoryPlace,
    /// Where its password comes from.
    pub(crate) password: PasswordSource,
    /// The key to try first.
    pub(crate) key_hint: Option<String>,
    /// Where caches of all repositories are; nowhere if the user has no home.
    pub(crate) cache: Option<PathBuf>,
    /// The fleet that does the work unless a flag says otherwise; none: this process.
    pub(crate) fleet: Option<FleetPlaces>,
    /// The zone in which times are written and shown.
    pub(crate) zone: Zone,
    /// The host to name in snapshots, where it is not this one.
    pub(crate) host: Option<String>,
    /// The size of partitions.
    pub(crate) budget: Budget,
}

/// Flags and variables that cannot be used: usage errors. No value of a secret is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A variable must be text.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// No repository was named, and there is no place for the default one.
    #[error("no repository is named, and there is no home folder for a default one")]
    NoHome,
    /// Two sources of the password that exclude each other.
    #[error("{file} and {command} are both set")]
    TwoPasswords {
        /// The variable of the file.
        file: &'static str,
        /// The variable of the command.
        command: &'static str,
    },
    /// One half of a fleet.
    #[error("{present} is set and {missing} is not: a fleet needs both")]
    HalfAFleet {
        /// What is there.
        present: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A password where everybody sees it.
    #[error("the URL of {flag} holds a password, and arguments are seen by others")]
    PasswordInFlag {
        /// The flag.
        flag: &'static str,
        /// Where it belongs.
        variable: &'static str,
    },
    /// An address that stands in two places.
    #[error("{url} and {file} are both set")]
    TwoUrls {
        /// The variable of the address.
        url: &'static str,
        /// The variable of the file.
        file: &'static str,
    },
    /// A number is none, or not a possible one.
    #[error("{name} is {value:?}, which is not a positive number (k, m, g or t may stand behind it)")]
    BadNumber {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl Configuration {
    /// Decides from the flags and variables of one command.
    pub(crate) fn resolve(flags: &RepositoryFlags, environment: &Environment) -> Result<Self, ConfigError> {
        let repository = repository_place(flags, environment)?;
        let is_default = matches!(repository, RepositoryPlace::Default(_));
        let hint = first_text(environment, &["LONGSHORE_KEY_HINT", "RESTIC_KEY_HINT"])?;
        Ok(Self {
            repository,
            password: password_source(flags, environment, is_default)?,
            key_hint: flags.key_hint.clone().or(hint),
            cache: environment.base_folder("XDG_CACHE_HOME", ".cache").map(|folder| folder.join("longshore")),
            fleet: fleet_places::resolve(&flags.fleet, environment)?,
            zone: Zone::local_for(environment.raw("TZ")),
            host: first_text(environment, &["LONGSHORE_HOST", "RESTIC_HOST"])?,
            budget: budget(environment)?,
        })
    }

    /// Whether the repository is the one that longshore makes by itself.
    pub(crate) fn is_default_repository(&self) -> bool {
        matches!(self.repository, RepositoryPlace::Default(_))
    }
}

fn first_text(environment: &Environment, names: &[&str]) -> Result<Option<String>, NotText> {
    for name in names {
        if let Some(text) = environment.text(name)? {
            return Ok(Some(text.to_owned()));
        }
    }
    Ok(None)
}

fn repository_place(flags: &RepositoryFlags, environment: &Environment) -> Result<RepositoryPlace, ConfigError> {
    let named = match &flags.repo {
        Some(repo) => Some(repo.clone()),
        None => first_text(environment, &["LONGSHORE_REPOSITORY", "RESTIC_REPOSITORY"])?,
    };
    if let Some(named) = named {
        return Ok(RepositoryPlace::Named(named));
    }
    if let Some(file) = environment.get("RESTIC_REPOSITORY_FILE") {
        return Ok(RepositoryPlace::InFile(file.into()));
    }
    let data = environment.base_folder("XDG_DATA_HOME", ".local/share").ok_or(ConfigError::NoHome)?;
    Ok(RepositoryPlace::Default(data.join("longshore").join("repository")))
}

/// The variables of one program, in the order in which they count.
struct PasswordVariables {
    file: &'static str,
    command: &'static str,
    text: &'static str,
}

const PASSWORD_VARIABLES: [PasswordVariables; 2] = [
    PasswordVariables {
        file: "LONGSHORE_PASSWORD_FILE",
        command: "LONGSHORE_PASSWORD_COMMAND",
        text: "LONGSHORE_PASSWORD",
    },
    PasswordVariables { file: "RESTIC_PASSWORD_FILE", command: "RESTIC_PASSWORD_COMMAND", text: "RESTIC_PASSWORD" },
];

fn password_source(
    flags: &RepositoryFlags,
    environment: &Environment,
    is_default: bool,
) -> Result<PasswordSource, ConfigError> {
    if let Some(path) = &flags.password_file {
        return Ok(PasswordSource::File { path: path.clone(), origin: "--password-file" });
    }
    if let Some(line) = &flags.password_command {
        return Ok(PasswordSource::Command { line: line.clone(), origin: "--password-command" });
    }
    for PasswordVariables { file, command, text } in PASSWORD_VARIABLES {
        let line = environment.text(command)?;
        match (environment.get(file), line) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoPasswords { file, command }),
            (Some(path), None) => return Ok(PasswordSource::File { path: path.into(), origin: file }),
            (None, Some(line)) => return Ok(PasswordSource::Command { line: line.to_owned(), origin: command }),
            (None, None) => {}
        }
        if let Some(text) = environment.get(text) {
            return Ok(PasswordSource::Given(Password::new(text.as_encoded_bytes())));
        }
    }
    if !is_default {
        return Ok(PasswordSource::Nowhere);
    }
    let folder = environment.base_folder("XDG_CONFIG_HOME", ".config").ok_or(ConfigError::NoHome)?;
    Ok(PasswordSource::DefaultFile(folder.join("longshore").join("password")))
}

fn budget(environment: &Environment) -> Result<Budget, ConfigError> {
    let number = |name: &'static str| -> Result<Option<u64>, ConfigError> {
        let Some(value) = environment.text(name)? else { return Ok(None) };
        let parsed = parse_size(value).ok().filter(|number| *number > 0);
        parsed.map(Some).ok_or_else(|| ConfigError::BadNumber { name, value: value.to_owned() })
    };
    let mut budget = Budget::default();
    if let Some(entries) = number("LONGSHORE_BUDGET_ENTRIES")? {
        (budget.entries, budget.changed_entries) = (entries, entries);
    }
    if let Some(bytes) = number("LONGSHORE_BUDGET_BYTES")? {
        budget.bytes = bytes;
    }
    if let Some(bytes) = number("LONGSHORE_RANGE_SIZE")? {
        budget.range_bytes = bytes;
    }
    if let Some(bytes) = number("LONGSHORE_RANGE_THRESHOLD")? {
        budget.range_threshold_bytes = bytes;
    }
    Ok(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve<const N: usize>(variables: [(&str, &str); N]) -> Result<Configuration, ConfigError> {
        Configuration::resolve(&RepositoryFlags::default(), &Environment::from(variables))
    }

    fn describe(source: &PasswordSource) -> String {
        match source {
            PasswordSource::File { path, origin } => format!("file {} {origin}", path.display()),
            PasswordSource::Command { line, origin } => format!("command {line} {origin}"),
            PasswordSource::Given(password) => format!("given {}", String::from_utf8_lossy(password.as_bytes())),
            PasswordSource::DefaultFile(path) => format!("default {}", path.display()),
            PasswordSource::Nowhere => "nowhere".to_owned(),
        }
    }

    #[test]
    fn the_repository_is_the_nearest_one_named() {
        let named = |text: &str| RepositoryPlace::Named(text.to_owned());
        let both = [("HOME", "/h"), ("LONGSHORE_REPOSITORY", "/ours"), ("RESTIC_REPOSITORY", "/theirs")];
        let flags = RepositoryFlags { repo: Some("/flag".into()), ..RepositoryFlags::default() };
        let place = |configuration: Configuration| configuration.repository;
        assert_eq!(Configuration::resolve(&flags, &both.into()).map(place).unwrap(), named("/flag"));
        assert_eq!(resolve(both).map(place).unwrap(), named("/ours"));
        assert_eq!(resolve([both[2]]).map(place).unwrap(), named("/theirs"));
        let file = resolve([("HOME", "/h"), ("RESTIC_REPOSITORY_FILE", "/f")]).map(place);
        assert_eq!(file.unwrap(), RepositoryPlace::InFile("/f".into()));
        let empty = resolve([("HOME", "/h"), ("LONGSHORE_REPOSITORY", "")]).map(place);
        assert_eq!(empty.unwrap(), RepositoryPlace::Default("/h/.local/share/longshore/repository".into()));
        let xdg = resolve([("HOME", "/h"), ("XDG_DATA_HOME", "/data")]).map(place);
        assert_eq!(xdg.unwrap(), RepositoryPlace::Default("/data/longshore/repository".into()));
        assert_eq!(resolve([]).map(place).unwrap_err(), ConfigError::NoHome);
        assert_eq!(resolve([("XDG_DATA_HOME", "relative")]).map(place).unwrap_err(), ConfigError::NoHome);
    }

    #[test]
    fn the_password_is_the_nearest_one_named() {
        let all = [
            ("LONGSHORE_REPOSITORY", "/r"),
            ("LONGSHORE_PASSWORD_FILE", "/ours"),
            ("LONGSHORE_PASSWORD", "our words"),
            ("RESTIC_PASSWORD_COMMAND", "theirs"),
            ("RESTIC_PASSWORD", "their words"),
        ];
        let source = |configuration: Configuration| describe(&configuration.password);
        let by_file = RepositoryFlags { password_file: Some("/flag".into()), ..RepositoryFlags::default() };
        let by_command = RepositoryFlags { password_command: Some("pass x".into()), ..RepositoryFlags::default() };
        let with = |flags| Configuration::resolve(flags, &all.into()).map(source).unwrap();
        assert_eq!(with(&by_file), "file /flag --password-file");
        assert_eq!(with(&by_command), "command pass x --password-command");
        assert_eq!(resolve(all).map(source).unwrap(), "file /ours LONGSHORE_PASSWORD_FILE");
        assert_eq!(resolve([all[0], all[2], all[3]]).map(source).unwrap(), "given our words");
        assert_eq!(resolve([all[0], all[3], all[4]]).map(source).unwrap(), "command theirs RESTIC_PASSWORD_COMMAND");
        assert_eq!(resolve([all[0], all[4]]).map(source).unwrap(), "given their words");
        assert_eq!(resolve([all[0], ("HOME", "/h")]).map(source).unwrap(), "nowhere");
        assert_eq!(resolve([("HOME", "/h")]).map(source).unwrap(), "default /h/.config/longshore/password");
        let two = resolve([all[0], all[1], ("LONGSHORE_PASSWORD_COMMAND", "x")]).map(source).unwrap_err();
        assert_eq!(two.to_string(), "LONGSHORE_PASSWORD_FILE and LONGSHORE_PASSWORD_COMMAND are both set");
    }

    #[test]
    fn the_budget_is_read_with_its_units() {
        let budget = resolve([
            ("HOME", "/h"),
            ("LONGSHORE_BUDGET_ENTRIES", "7"),
            ("LONGSHORE_BUDGET_BYTES", "64k"),
            ("LONGSHORE_RANGE_SIZE", "1M"),
            ("LONGSHORE_RANGE_THRESHOLD", "1099511627776"),
        ]);
        let expected = Budget {
            entries: 7,
            changed_entries: 7,
            bytes: 65_536,
            range_bytes: 1 << 20,
            range_threshold_bytes: 1 << 40,
            ..Budget::default()
        };
        assert_eq!(budget.unwrap().budget, expected);
        for value in ["0", "-1", "many", "1x"] {
            let error = resolve([("HOME", "/h"), ("LONGSHORE_RANGE_SIZE", value)]).unwrap_err();
            assert_eq!(error, ConfigError::BadNumber { name: "LONGSHORE_RANGE_SIZE", value: value.into() });
        }
    }

    #[test]
    fn caches_lie_in_the_cache_folder() {
        let cache = |configuration: Configuration| configuration.cache;
        assert_eq!(resolve([("HOME", "/h")]).map(cache).unwrap(), Some("/h/.cache/longshore".into()));
        let named = [("LONGSHORE_REPOSITORY", "/r"), ("XDG_CACHE_HOME", "/c")];
        assert_eq!(resolve(named).map(cache).unwrap(), Some("/c/longshore".into()));
        assert_eq!(resolve([named[0]]).map(cache).unwrap(), None);
    }

    #[test]
    fn a_password_is_never_shown() {
        let configuration = resolve([("LONGSHORE_REPOSITORY", "/r"), ("LONGSHORE_PASSWORD", "s3cret")]).unwrap();
        assert!(!format!("{configuration:?}").contains("s3cret"));
    }
}
