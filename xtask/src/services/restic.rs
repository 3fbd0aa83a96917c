//! Stock restic, at least 0.18. Debian 12 has 0.14, so the binary of a newer suite is unpacked beside the system,
//! through a private apt state: the machine's own package lists and packages stay as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{capture, run};
use crate::failure::Failure;

/// Since 0.18 restic mixes blobs over two packs; 0.18 and 0.19 write the same trees.
const OLDEST: (u32, u32) = (0, 18);
/// Where a machine's image may have put one.
const MACHINE_WIDE: &str = "/usr/local/lib/longshore";
/// Debian suites with a newer restic, the newest first.
const SUITES: &[&str] = &["sid", "forky", "trixie"];
/// The archive if the machine's own sources name none.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// A restic that will do.
pub(crate) struct Restic {
    pub(crate) path: PathBuf,
    /// As it names itself, such as `restic 0.19.1 compiled with go1.26.4 on linux/amd64`.
    pub(crate) version: String,
}

/// Finds or unpacks one.
pub(super) fn provide() -> Result<String, Failure> {
    let restic = match find() {
        Some(restic) => restic,
        None => install()?,
    };
    Ok(format!("{}, {}", restic.version, restic.path.display()))
}

/// The error for none found after installing.
pub(super) fn missing() -> Failure {
    Failure::Missing {
        what: format!("restic {}.{} or newer", OLDEST.0, OLDEST.1),
        remedy: "name one with LONGSHORE_RESTIC=/path/to/restic, or give this machine a Debian mirror".to_owned(),
    }
}

/// The first of: `LONGSHORE_RESTIC`, the machine-wide folder, the user's cache, PATH.
pub(crate) fn find() -> Option<Restic> {
    if let Some(named) = std::env::var_os("LONGSHORE_RESTIC") {
        return accept(Path::new(&named));
    }
    let folders = [PathBuf::from(MACHINE_WIDE), cache_folder()];
    let unpacked = folders.iter().flat_map(|folder| versions_in(folder));
    let on_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).map(|folder| folder.join("restic")).collect::<Vec<_>>())
        .unwrap_or_default();
    unpacked.chain(on_path).find_map(|path| accept(&path))
}

/// `restic-<version>/restic` in a folder, the newest first.
fn versions_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<((u32, u32), PathBuf)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((numbers(name.strip_prefix("restic-")?)?, entry.path().join("restic")))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn accept(path: &Path) -> Option<Restic> {
    if !path.is_file() {
        return None;
    }
    let output = Command::new(path).arg("version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned();
    let found = numbers(version.strip_prefix("restic ")?)?;
    (found >= OLDEST).then(|| Restic { path: path.to_path_buf(), version })
}

/// Major and minor of `0.19.1...`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The user's cache for tools.
pub(super) fn cache_folder() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/var")).join(".cache")
    });
    base.join("longshore").join("tools")
}

fn install() -> Result<Restic, Failure> {
    let mirror = own_mirror();
    for suite in SUITES {
        match install_from(&mirror, suite) {
            Ok(Some(restic)) => return Ok(restic),
            Ok(None) => eprintln!("xtask: {mirror} {suite}: no restic that is new enough"),
            Err(failure) => eprintln!("xtask: {mirror} {suite}: {failure}"),
        }
    }
    Err(missing())
}

/// Downloads from one suite and unpacks into the cache; `None` when that suite's is too old.
fn install_from(mirror: &str, suite: &str) -> Result<Option<Restic>, Failure> {
    let tools = cache_folder();
    std::fs::create_dir_all(&tools).map_err(Failure::file("create", &tools))?;
    let work = tempfile::tempdir_in(&tools).map_err(Failure::file("create a folder in", &tools))?;
    let apt = private_apt(work.path(), mirror, suite)?;
    run(Command::new("apt-get").args(&apt).args(["-qq", "update"]))?;
    run(Command::new("apt-get").args(&apt).args(["-qq", "download", "restic"]).current_dir(work.path()))?;
    let package = downloaded(work.path())?;
    let unpacked = work.path().join("unpacked");
    run(Command::new("dpkg-deb").arg("-x").args([&package, &unpacked]))?;
    let Some(fresh) = accept(&unpacked.join("usr/bin/restic")) else { return Ok(None) };
    let word = fresh.version.split_whitespace().nth(1).unwrap_or("unknown");
    let place = tools.join(format!("restic-{word}"));
    let moved = place.join("restic");
    std::fs::create_dir_all(&place).map_err(Failure::file("create", &place))?;
    std::fs::rename(&fresh.path, &moved).map_err(Failure::file("move restic to", &moved))?;
    Ok(accept(&moved))
}

/// Options that keep lists, caches and sources of one suite under `work`.
fn private_apt(work: &Path, mirror: &str, suite: &str) -> Result<Vec<String>, Failure> {
    let sources = work.join("sources.list");
    let keyring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
    let signed = if keyring.is_file() { format!("[signed-by={}] ", keyring.display()) } else { String::new() };
    std::fs::write(&sources, format!("deb {signed}{mirror} {suite} main\n"))
        .map_err(Failure::file("write", &sources))?;
    for folder in ["lists/partial", "cache/archives/partial"] {
        let folder = work.join(folder);
        std::fs::create_dir_all(&folder).map_err(Failure::file("create", &folder))?;
    }
    let shown = work.display();
    let options = [
        format!("Dir::Etc::SourceList={shown}/sources.list"),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::State::Lists={shown}/lists"),
        format!("Dir::Cache={shown}/cache"),
        "APT::Sandbox::User=root".to_owned(),
        // Only what is downloaded counts, not translations or file lists.
        "Acquire::Languages=none".to_owned(),
        "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".to_owned(),
    ];
    Ok(options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect())
}

fn downloaded(folder: &Path) -> Result<PathBuf, Failure> {
    let listing = capture(Command::new("ls").arg(folder))?;
    let names = String::from_utf8_lossy(&listing.stdout).into_owned();
    let name = names.lines().find(|name| name.starts_with("restic_") && name.ends_with(".deb"));
    name.map(|name| folder.join(name))
        .ok_or_else(|| Failure::Answer { program: "apt-get download restic".to_owned(), answer: names.clone() })
}

/// The archive that the machine itself uses.
fn own_mirror() -> String {
    let mut texts = Vec::new();
    for place in ["/etc/apt/sources.list", "/etc/apt/sources.list.d"] {
        let files = std::fs::read_dir(place)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_else(|_| vec![PathBuf::from(place)]);
        texts.extend(files.iter().filter_map(|file| std::fs::read_to_string(file).ok()));
    }
    texts.iter().find_map(|text| mirror_in(text)).unwrap_or_else(|| DEFAULT_MIRROR.to_owned())
}

/// The first archive URI of a sources file, one-line or deb822, whose path ends in `/debian`.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{mirror_in, numbers};

    #[test]
    fn the_mirror_is_the_archive_and_not_security() {
        let deb822 = "Types: deb\nURIs: http://mirror.example/debian-security\n\nTypes: deb\nURIs: http://mirror.example/debian\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian"));
        let lines =
            "# deb http://old.example/debian x main\ndeb [arch=amd64] https://m.example/debian/ bookworm main\n";
        assert_eq!(mirror_in(lines).as_deref(), Some("https://m.example/debian/"));
        assert_eq!(mirror_in("deb https://packages.example/apt sdk main\n"), None);
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(numbers("0.19.1 compiled with go1.26.4"), Some((0, 19)));
        assert!(numbers("0.9.6") < numbers("0.18.0"));
        assert_eq!(numbers("dev"), None);
    }
}
