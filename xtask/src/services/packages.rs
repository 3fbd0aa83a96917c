//! Programs of the distribution, installed with apt where they are missing.

use std::process::Command;

use crate::command::{on_path, run};
use crate::failure::Failure;

/// Program that must be on PATH, and the Debian package that brings it.
type Program = (&'static str, &'static str);

/// What unit tests change files and mounts with.
const OF_FILE_SYSTEMS: &[Program] = &[
    ("setfacl", "acl"),
    ("setfattr", "attr"),
    ("setcap", "libcap2-bin"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
];

/// What the black box tests take besides.
const OF_BLACK_BOX_TESTS: &[Program] = &[
    ("rsync", "rsync"),
    ("openssl", "openssl"),
    ("time", "time"),
    ("prometheus", "prometheus"),
    // Stock restic reaches Azure through it: the restic of Debian is built without.
    ("rclone", "rclone"),
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// Installs what unit tests lack.
pub(super) fn provide_for_unit_tests() -> Result<String, Failure> {
    provide_some(OF_FILE_SYSTEMS)
}

/// Installs what any test lacks.
pub(super) fn provide() -> Result<String, Failure> {
    if !is_root() {
        return Err(Failure::Missing {
            what: "root".to_owned(),
            remedy: "the black box tests make devices, owners and mounts; run them as root (a container will do)"
                .to_owned(),
        });
    }
    provide_some(&[OF_FILE_SYSTEMS, OF_BLACK_BOX_TESTS].concat())
}

fn provide_some(programs: &[Program]) -> Result<String, Failure> {
    let packages = missing(programs);
    if !packages.is_empty() {
        install(&packages)?;
    }
    let still = missing(programs);
    if !still.is_empty() {
        return Err(Failure::Missing {
            what: still.join(", "),
            remedy: "apt-get installed the package but the program is not on PATH".to_owned(),
        });
    }
    let names: Vec<&str> = programs.iter().map(|(program, _)| *program).collect();
    Ok(names.join(", "))
}

/// Packages of the programs that are not there.
fn missing(programs: &[Program]) -> Vec<&'static str> {
    programs.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect()
}

/// Installs Debian packages, with fresh package lists.
pub(super) fn install(packages: &[&str]) -> Result<(), Failure> {
    if !is_root() {
        let remedy = format!("as root: apt-get install {}", packages.join(" "));
        return Err(Failure::Missing { what: packages.join(", "), remedy });
    }
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get")
            .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    if let Err(failure) = apt(&["update"]) {
        // A foreign source that is down must not stop us; the installation tells.
        eprintln!("xtask: {failure}");
    }
    apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat()).inspect_err(|_| {
        eprintln!("xtask: install by hand: apt-get install {}", packages.join(" "));
    })
}

/// Whether we run as root: owner of our own entry in /proc.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
