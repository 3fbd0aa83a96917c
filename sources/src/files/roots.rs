//! Which paths of the snapshot's namespace a worker serves, and where it has them.

use crate::paths;

/// One root: what is called `path` in snapshots is found at `mount` on this host.
///
/// A root is a place fixed by configuration: symbolic links on the way to `mount`, and `mount` itself,
/// are followed. Below it none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Absolute, cleaned, in the namespace of the snapshot.
    pub path: Vec<u8>,
    /// Absolute, cleaned, on this host.
    pub mount: Vec<u8>,
}

impl Root {
    /// Reads `PATH[=MOUNT]`; both must be absolute.
    pub fn parse(argument: &[u8]) -> Result<Self, RootError> {
        let (path, mount) = match argument.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&argument[..equals], &argument[equals + 1..]),
            None => (argument, argument),
        };
        if !paths::is_absolute(path) || !paths::is_absolute(mount) {
            return Err(RootError { argument: String::from_utf8_lossy(argument).into_owned() });
        }
        Ok(Self { path: paths::clean(path), mount: paths::clean(mount) })
    }

    /// Where the parents of `path` are found. If `mount` ends with `path`, a whole host is mounted
    /// under a prefix, and so are they; else they have their own names.
    fn prefix(&self) -> &[u8] {
        let prefix = self.mount.strip_suffix(&self.path[..]).unwrap_or(b"");
        if prefix.is_empty() { b"/" } else { prefix }
    }
}

/// A root that cannot be understood: a usage error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("root {argument} is not PATH or PATH=MOUNT with absolute paths")]
pub struct RootError {
    /// The argument as given.
    pub argument: String,
}

/// Where a path of the snapshot's namespace stands.
pub(crate) enum Place<'a> {
    /// At (`relative` empty) or below a root.
    Below { root: &'a Root, relative: &'a [u8] },
    /// Above a root: below `base` on this host, links to be followed.
    Ancestor { base: Vec<u8>, relative: &'a [u8] },
    /// Not to be touched.
    Outside,
}

/// All roots of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    /// The longest paths first: the nearest root serves a path.
    roots: Vec<Root>,
}

impl Roots {
    pub(crate) fn new(mut roots: Vec<Root>) -> Self {
        roots.sort_by(|left, right| right.path.len().cmp(&left.path.len()).then_with(|| left.path.cmp(&right.path)));
        Self { roots }
    }

    pub(crate) fn place<'a>(&'a self, path: &'a [u8]) -> Place<'a> {
        if !is_plain(path) {
            return Place::Outside;
        }
        for root in &self.roots {
            if let Some(relative) = paths::below(&root.path, path) {
                return Place::Below { root, relative };
            }
        }
        match self.roots.iter().find(|root| paths::below(path, &root.path).is_some()) {
            Some(root) => Place::Ancestor { base: root.prefix().to_vec(), relative: &path[1..] },
            None => Place::Outside,
        }
    }

    /// Whether `path` is itself a root.
    pub(crate) fn is_root(&self, path: &[u8]) -> bool {
        self.roots.iter().any(|root| root.path == path)
    }

    /// Roots at or below `path`.
    pub(crate) fn at_or_below<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a Root> {
        self.roots.iter().filter(move |root| paths::below(path, &root.path).is_some())
    }
}

/// Whether `path` is absolute and cleaned, so that comparing its beginning with a root's is safe.
fn is_plain(path: &[u8]) -> bool {
    path == b"/" || (paths::is_absolute(path) && path[1..].split(|byte| *byte == b'/').all(paths::is_entry_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(roots: &Roots, path: &str) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match roots.place(path.as_bytes()) {
            Place::Below { root, relative } => format!("{}+{}", text(&root.mount), text(relative)),
            Place::Ancestor { base, relative } => format!("above {}+{}", text(&base), text(relative)),
            Place::Outside => "outside".to_owned(),
        }
    }

    #[test]
    fn the_nearest_root_serves_a_path() {
        let roots = ["/srv/data", "/srv/data/big=/mnt/big", "/etc=/host/etc", "/home/=/mnt/h//"]
            .map(|argument| Root::parse(argument.as_bytes()).unwrap());
        let roots = Roots::new(roots.to_vec());
        for (path, expected) in [
            ("/srv/data", "/srv/data+"),
            ("/srv/data/a/b", "/srv/data+a/b"),
            ("/srv/data/big", "/mnt/big+"),
            ("/srv/data/big/a", "/mnt/big+a"),
            ("/srv/data/bigger", "/srv/data+bigger"),
            ("/srv/database", "outside"),
            ("/srv", "above /+srv"),
            ("/etc/passwd", "/host/etc+passwd"),
            ("/home", "/mnt/h+"),
            ("/srv/data/../../etc/shadow", "outside"),
            ("/srv/data/./a", "outside"),
            ("/srv/data//a", "outside"),
            ("/srv/data/", "outside"),
            ("srv/data", "outside"),
            ("", "outside"),
            ("/srv/data/a\0b", "outside"),
        ] {
            assert_eq!(describe(&roots, path), expected, "{path}");
        }
    }

    #[test]
    fn ancestors_of_a_host_under_a_prefix_have_the_prefix() {
        let roots = Roots::new(vec![Root::parse(b"/srv/data=/host/srv/data").unwrap()]);
        assert_eq!(describe(&roots, "/srv"), "above /host+srv");
        assert_eq!(describe(&roots, "/"), "above /host+");
    }

    #[test]
    fn a_root_must_be_absolute() {
        for argument in ["", "data", "/data=mnt", "=/mnt", "/data="] {
            assert!(Root::parse(argument.as_bytes()).is_err(), "{argument}");
        }
    }
}
