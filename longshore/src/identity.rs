//! Who and where this process is, as restic writes it into keys, locks and snapshots.

use sources::files::users::UserTable;

use crate::environment::Environment;

/// The user, host and process of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Name of this host.
    pub(crate) hostname: String,
    /// Login name; empty if nobody knows it.
    pub(crate) username: String,
    /// Real user id.
    pub(crate) uid: u32,
    /// Real group id.
    pub(crate) gid: u32,
    /// This process.
    pub(crate) pid: u32,
}

impl Identity {
    /// Asks the system. The user database counts first, then `USER`.
    pub(crate) fn of_this_process(environment: &Environment) -> Self {
        let uid = rustix::process::getuid().as_raw();
        let listed = UserTable::of_this_host().ok().and_then(|mut table| table.users.remove(&uid));
        let variable = || environment.get("USER").map(|user| user.to_string_lossy().into_owned());
        Self {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            username: listed.or_else(variable).unwrap_or_default(),
            uid,
            gid: rustix::process::getgid().as_raw(),
            pid: std::process::id(),
        }
    }
}
