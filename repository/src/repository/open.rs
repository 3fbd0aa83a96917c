//! Makes a repository, and opens one with a password.

use std::sync::Arc;

use bytes::Bytes;
use proto::handles::Random;
use proto::id::Id;
use zeroize::Zeroizing;

use super::files::{get_checked, list_ids};
use super::{FileDamage, FileKind, Repository, RepositoryError, off_thread};
use crate::chunker::Polynomial;
use crate::crypto::MasterKey;
use crate::format::config::Config;
use crate::format::key::{KeyFile, KeyFileError, KeyOwner, ScryptParameters};
use crate::seal::Damage;
use crate::storage::{Storage, StorageErrorKind};

/// Keys that a password is tried on, as many as restic tries; each takes some tenths of a second.
pub const KEYS_TRIED_MAX: usize = 20;

/// The one file that is not named by its digest.
const CONFIG: &str = "config";

impl Repository {
    /// Makes a repository of version 2 with one key, and opens it.
    ///
    /// # Errors
    /// `Exists` if there is a configuration, a key or a snapshot; nothing is changed then.
    /// `Storage`; `NewKey` and `NewPolynomial` if `random` is broken.
    pub async fn init(
        storage: Arc<dyn Storage>,
        password: &[u8],
        owner: KeyOwner,
        random: Arc<dyn Random>,
    ) -> Result<Self, RepositoryError> {
        Self::init_with_cost(storage, password, owner, ScryptParameters::DEFAULT, random).await
    }

    /// [`Repository::init`] with a key that is dearer, or (for tests) cheaper, to try passwords on.
    ///
    /// # Errors
    /// Those of [`Repository::init`].
    pub async fn init_with_cost(
        storage: Arc<dyn Storage>,
        password: &[u8],
        owner: KeyOwner,
        cost: ScryptParameters,
        random: Arc<dyn Random>,
    ) -> Result<Self, RepositoryError> {
        refuse_if_there(&*storage).await?;
        let polynomial = Polynomial::random(&*random).map_err(RepositoryError::NewPolynomial)?;
        let key = MasterKey::generate(&*random).map_err(|error| RepositoryError::Seal(error.into()))?;
        let config = Config::new(polynomial, &*random);
        let sealed = key.seal(&config.encode(), &*random).map_err(|error| RepositoryError::Seal(error.into()))?;
        let key_id = put_key(&*storage, key.clone(), password, owner, cost, random.clone()).await?;
        match storage.put(CONFIG, sealed.into()).await {
            Ok(()) => Ok(Self::new(storage, random, key, key_id, config)),
            Err(error) if error.kind == StorageErrorKind::AlreadyThere => {
                // Somebody else was faster; ours is one key too many, which their password does not fit.
                storage.delete(&FileKind::Key.name(&key_id)).await?;
                Err(RepositoryError::Exists { location: storage.location(), name: CONFIG.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the repository in `storage`. Keys whose id begins with `key_hint` are tried first.
    ///
    /// # Errors
    /// `NoRepository`; `WrongPassword`; `Damaged` if a damaged key may be why no key was opened, or
    /// for a damaged configuration; `ForeignKey`, which ends the search; `Storage`.
    pub async fn open(
        storage: Arc<dyn Storage>,
        password: &[u8],
        key_hint: Option<&str>,
        random: Arc<dyn Random>,
    ) -> Result<Self, RepositoryError> {
        let sealed_config = get_config(&*storage).await?;
        let (key, key_id) = find_key(&*storage, password, key_hint).await?;
        let config = match open_config(&key, &sealed_config) {
            Ok(config) => config,
            // Once more, as for files that are named by their digest.
            Err(_) => {
                open_config(&key, &get_config(&*storage).await?).map_err(|source| damaged(&*storage, CONFIG, source))?
            }
        };
        Ok(Self::new(storage, random, key, key_id, config))
    }

    /// Adds a key for another password; gives its id.
    ///
    /// # Errors
    /// `NewKey` if randomness is broken; `Storage`.
    pub async fn add_key(&self, password: &[u8], owner: KeyOwner) -> Result<Id, RepositoryError> {
        let key = MasterKey::clone(self.master_key());
        put_key(&**self.storage(), key, password, owner, ScryptParameters::DEFAULT, self.random().clone()).await
    }
}

async fn refuse_if_there(storage: &dyn Storage) -> Result<(), RepositoryError> {
    let exists = |name: String| Err(RepositoryError::Exists { location: storage.location(), name });
    match storage.size(CONFIG).await {
        Ok(_) => return exists(CONFIG.to_owned()),
        Err(error) if error.kind == StorageErrorKind::NotFound => storage.create().await?,
        Err(error) => return Err(error.into()),
    }
    for kind in [FileKind::Key, FileKind::Snapshot] {
        if let Some((id, _)) = list_ids(storage, kind).await?.first() {
            return exists(kind.name(id));
        }
    }
    Ok(())
}

async fn put_key(
    storage: &dyn Storage,
    master: MasterKey,
    password: &[u8],
    owner: KeyOwner,
    cost: ScryptParameters,
    random: Arc<dyn Random>,
) -> Result<Id, RepositoryError> {
    let password = Zeroizing::new(password.to_vec());
    let create = move || KeyFile::create(&master, &password, cost, owner, &*random)?.encode();
    let json = off_thread(create).await?.map_err(RepositoryError::NewKey)?;
    let id = Id::of(&json);
    storage.put(&FileKind::Key.name(&id), json.into()).await?;
    Ok(id)
}

async fn get_config(storage: &dyn Storage) -> Result<Bytes, RepositoryError> {
    match storage.get(CONFIG, None).await {
        Ok(sealed) => Ok(sealed),
        Err(error) if error.kind == StorageErrorKind::NotFound => {
            Err(RepositoryError::NoRepository { location: storage.location() })
        }
        Err(error) => Err(error.into()),
    }
}

fn open_config(key: &MasterKey, sealed: &[u8]) -> Result<Config, FileDamage> {
    Ok(Config::decode(&key.open(sealed).map_err(Damage::Sealed)?)?)
}

fn damaged(storage: &dyn Storage, name: impl Into<String>, damage: FileDamage) -> RepositoryError {
    RepositoryError::Damaged { name: name.into(), location: storage.location(), source: Box::new(damage) }
}

/// Tries the password on one key after the other.
async fn find_key(
    storage: &dyn Storage,
    password: &[u8],
    key_hint: Option<&str>,
) -> Result<(MasterKey, Id), RepositoryError> {
    let mut ids: Vec<Id> = list_ids(storage, FileKind::Key).await?.into_iter().map(|(id, _)| id).collect();
    if let Some(hint) = key_hint {
        ids.sort_by_key(|id| !id.to_string().starts_with(hint));
    }
    let untried = ids.len().saturating_sub(KEYS_TRIED_MAX);
    ids.truncate(KEYS_TRIED_MAX);
    let password = Arc::new(Zeroizing::new(password.to_vec()));
    let mut first_damaged = None;
    for id in &ids {
        match try_key(storage, id, password.clone()).await {
            Ok(Some(key)) => return Ok((key, *id)),
            Ok(None) => {}
            Err(error @ RepositoryError::Damaged { .. }) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the other keys are tried");
                first_damaged.get_or_insert(error);
            }
            // Removed since the list was read.
            Err(RepositoryError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let wrong = RepositoryError::WrongPassword { location: storage.location(), tried: ids.len(), untried };
    Err(first_damaged.unwrap_or(wrong))
}

/// The master key, or `None` if the password is for another key.
async fn try_key(
    storage: &dyn Storage,
    id: &Id,
    password: Arc<Zeroizing<Vec<u8>>>,
) -> Result<Option<MasterKey>, RepositoryError> {
    let name = FileKind::Key.name(id);
    let json = get_checked(storage, FileKind::Key, id).await?;
    let open = move || KeyFile::decode(&json)?.open(&password);
    match off_thread(open).await? {
        Ok(key) => Ok(Some(key)),
        Err(KeyFileError::WrongPassword) => Ok(None),
        Err(
            source @ (KeyFileError::UnknownDerivation { .. }
            | KeyFileError::BadParameters { .. }
            | KeyFileError::Threads(_)),
        ) => Err(RepositoryError::ForeignKey { name, location: storage.location(), source }),
        Err(source) => Err(damaged(storage, name, source.into())),
    }
}
