//! What every command works with: configuration, output, time, randomness, and the repository once it is open.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleet::clock::SystemClock;
use fleet::rand::SystemRandom;
use proto::handles::{Clock, Random};
use proto::id::Id;
use repository::blob_index::BlobIndex;
use repository::format::key::KeyOwner;
use repository::format::node_time::NodeTime;
use repository::repository::{FileKind, Repository, RepositoryError};
use repository::storage::meter::Counters;
use repository::storage::{Location, Options, Storage};

use crate::azure;
use crate::config::{Configuration, PasswordSource, RepositoryFlags, RepositoryPlace};
use crate::environment::Environment;
use crate::exit::CommandError;
use crate::fleet_places::FleetPlaces;
use crate::identity::Identity;
use crate::output::Output;
use crate::password;

/// Marks the cache folder for programs that leave caches out of backups (https://bford.info/cachedir/).
const CACHE_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n";

/// How long a process that waits for its storage waits before it tries again.
const OPENED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A storage that does not answer at all is given up after this time: it is rather misnamed than away.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// One run of the program.
pub(crate) struct Session {
    /// What flags and variables say.
    pub(crate) configuration: Configuration,
    /// The variables themselves.
    pub(crate) environment: Environment,
    /// Where it prints.
    pub(crate) output: Output,
    /// Who runs it.
    pub(crate) identity: Identity,
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Randomness.
    pub(crate) random: Arc<dyn Random>,
    /// Requests to the storage.
    pub(crate) storage_counters: Arc<Counters>,
}

impl Session {
    /// Begins.
    pub(crate) fn new(
        flags: &RepositoryFlags,
        environment: &Environment,
        output: &Output,
    ) -> Result<Self, CommandError> {
        Ok(Self {
            configuration: Configuration::resolve(flags, environment)?,
            environment: environment.clone(),
            output: output.clone(),
            identity: Identity::of_this_process(environment),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            storage_counters: Arc::default(),
        })
    }

    /// Whether the fleet does the work, and not this process.
    pub(crate) fn has_fleet(&self, embedded: bool) -> bool {
        self.configuration.fleet.is_some() && !embedded
    }

    /// Where the fleet is.
    pub(crate) fn fleet(&self) -> Result<&FleetPlaces, CommandError> {
        self.configuration.fleet.as_ref().ok_or(CommandError::NoFleet)
    }

    /// The storage of the repository; nothing is read yet.
    pub(crate) fn storage(&self) -> Result<Arc<dyn Storage>, CommandError> {
        let location = match &self.configuration.repository {
            RepositoryPlace::Default(path) => Location::Local(path.clone()),
            RepositoryPlace::Named(text) => text.parse()?,
            RepositoryPlace::InFile(path) => {
                let contents = std::fs::read_to_string(path).map_err(|source| CommandError::File {
                    action: "read the repository's location from",
                    path: path.display().to_string(),
                    source,
                })?;
                contents.trim().parse()?
            }
        };
        let mut options = Options::new(self.clock.clone(), self.random.clone());
        options.counters = self.storage_counters.clone();
        options.settings.backoff.first_answer_within = FIRST_ANSWER_WITHIN;
        if let Location::Azure { .. } = location {
            options.azure = Some(azure::settings(&self.environment)?);
        }
        Ok(repository::storage::open(&location, options)?)
    }

    /// Opens the repository.
    pub(crate) async fn open(&self) -> Result<Repository, CommandError> {
        let storage = self.storage()?;
        // A missing repository is told before a missing password: that one could not be right anyway.
        if !is_there(&*storage).await? {
            return Err(RepositoryError::NoRepository { location: storage.location() }.into());
        }
        let password = password::read(&self.configuration.password)?;
        let hint = self.configuration.key_hint.as_deref();
        Ok(Repository::open(storage, password.as_bytes(), hint, self.random.clone()).await?)
    }

    /// The same for a process that waits for its storage as long as it takes, and says so.
    pub(crate) async fn open_for_good(&self) -> Result<Repository, CommandError> {
        loop {
            match self.open().await {
                Err(CommandError::Repository(error)) if error.is_transient() => {
                    self.output.warn(format_args!("waits for the repository: {}", crate::exit::chain(&error)));
                    self.clock.sleep(OPENED_AGAIN_AFTER).await;
                }
                opened => return opened,
            }
        }
    }

    /// Opens the repository; the default one is made if it is missing. Says whether it was.
    pub(crate) async fn open_or_make_default(&self) -> Result<(Repository, bool), CommandError> {
        if self.configuration.is_default_repository() && !is_there(&*self.storage()?).await? {
            return Ok((self.make().await?, true));
        }
        Ok((self.open().await?, false))
    }

    /// Makes the repository.
    pub(crate) async fn make(&self) -> Result<Repository, CommandError> {
        let storage = self.storage()?;
        if is_there(&*storage).await? {
            return Err(RepositoryError::Exists { location: storage.location(), name: "config".to_owned() }.into());
        }
        let password = password::choose(&self.configuration.password, &*self.random)?;
        let owner = KeyOwner {
            created: NodeTime::from_unix(self.clock.now(), &self.configuration.zone).to_string(),
            username: self.identity.username.clone(),
            hostname: self.identity.hostname.clone(),
        };
        Ok(Repository::init(storage, password.as_bytes(), owner, self.random.clone()).await?)
    }

    /// Where the cache of `repository` is. It is made, with a tag for programs that leave caches out of backups.
    pub(crate) fn cache(&self, repository: &Id) -> Option<PathBuf> {
        let caches = self.configuration.cache.as_ref()?;
        let folder = caches.join(repository.to_string());
        let make = || {
            std::fs::create_dir_all(&folder)?;
            let tag = caches.join("CACHEDIR.TAG");
            if tag.exists() { Ok(()) } else { std::fs::write(tag, CACHE_TAG) }
        };
        match make() {
            Ok(()) => Some(folder),
            Err(error) => {
                tracing::info!(%error, folder = %folder.display(), "there is no cache");
                None
            }
        }
    }

    /// Every index file of `repository`, loaded.
    pub(crate) async fn index(&self, repository: &Repository) -> Result<BlobIndex, CommandError> {
        let files: Vec<Id> = repository.list(FileKind::Index).await?.into_iter().map(|(id, _)| id).collect();
        Ok(BlobIndex::load(repository, &files, self.cache(&repository.id()).as_deref()).await?)
    }

    /// The current directory, as Go's `os.Getwd` has it: what `PWD` says if that is here, for its spelling shows in the snapshot's paths.
    pub(crate) fn current_directory(&self) -> Result<Vec<u8>, CommandError> {
        use std::os::unix::fs::MetadataExt;
        let identity = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let named = self.environment.get("PWD").map(Path::new).filter(|path| path.is_absolute());
        if let Some(path) = named.filter(|path| identity(path).is_some() && identity(path) == identity(Path::new(".")))
        {
            return Ok(path.as_os_str().as_bytes().to_vec());
        }
        let current = std::env::current_dir().map_err(|source| CommandError::File {
            action: "find out the current directory:",
            path: ".".to_owned(),
            source,
        })?;
        Ok(current.into_os_string().into_encoded_bytes())
    }

    /// The password file, where it is one of our own making.
    pub(crate) fn made_password_file(&self) -> Option<&PathBuf> {
        match &self.configuration.password {
            PasswordSource::DefaultFile(path) => Some(path),
            _ => None,
        }
    }
}

/// Whether somebody made a repository there.
async fn is_there(storage: &dyn Storage) -> Result<bool, RepositoryError> {
    match storage.size("config").await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == repository::storage::StorageErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
