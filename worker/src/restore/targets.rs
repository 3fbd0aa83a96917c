//! Where a worker may restore to.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use sources::files::FileSource;
use sources::files::restore::FileTarget;
use sources::files::roots::Root;
use sources::restore_target::{RestoreError, RestoreErrorKind, RestoreTarget};
use sources::source::Source;

/// Opens the target directories of restores.
pub trait Targets: Send + Sync {
    /// The directory at `path` (absolute); made if it is not there, unless only looking is allowed: then none.
    ///
    /// # Errors
    /// `NotAllowed` if this worker may not restore there.
    fn open(&self, path: &[u8], may_create: bool) -> Result<Option<Arc<dyn RestoreTarget>>, RestoreError>;
}

/// Every directory of this host, as the user who runs the command sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostTargets;

impl Targets for HostTargets {
    fn open(&self, path: &[u8], may_create: bool) -> Result<Option<Arc<dyn RestoreTarget>>, RestoreError> {
        let directory = Path::new(std::ffi::OsStr::from_bytes(path));
        if !may_create && !directory.exists() {
            return Ok(None);
        }
        Ok(Some(Arc::new(FileTarget::at(directory)?)))
    }
}

/// Directories at or below the restore roots of a worker.
#[derive(Clone, Debug)]
pub struct RootTargets {
    roots: Vec<Root>,
}

impl RootTargets {
    /// Allows restores to `roots`, and nowhere else.
    pub fn new(roots: Vec<Root>) -> Self {
        Self { roots }
    }
}

impl Targets for RootTargets {
    fn open(&self, path: &[u8], may_create: bool) -> Result<Option<Arc<dyn RestoreTarget>>, RestoreError> {
        if !may_create {
            match FileSource::new(self.roots.clone()).metadata(path) {
                Err(error) if error.is_vanished() => return Ok(None),
                Err(error) if error.kind == sources::source::SourceErrorKind::NotAllowed => {
                    let explanation = "it is outside the restore roots of this worker";
                    return Err(RestoreError::new(RestoreErrorKind::NotAllowed, "open", path, explanation));
                }
                _ => {}
            }
        }
        Ok(Some(Arc::new(FileTarget::below(self.roots.clone(), path)?)))
    }
}
