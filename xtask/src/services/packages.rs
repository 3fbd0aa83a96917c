//! Programs of the distribution, installed with apt where they are missing.

use std::process::Command;

use crate::command::{on_path, run};
use crate::failure::Failure;

/// Program that must be on PATH, and the Debian package that brings it.
const PROGRAMS: &[(&str, &str)] = &[
    ("rsync", "rsync"),
    ("setfacl", "acl"),
    ("setfattr", "attr"),
    ("setcap", "libcap2-bin"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("openssl", "openssl"),
    ("prometheus", "prometheus"),
    // Stock restic reaches Azure through it: the restic of Debian is built without.
    ("rclone", "rclone"),
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// Installs what is missing.
pub(super) fn provide() -> Result<String, Failure> {
    if !is_root() {
        return Err(Failure::Missing {
            what: "root".to_owned(),
            remedy: "the black box tests make devices, owners and mounts; run them as root (a container will do)"
                .to_owned(),
        });
    }
    let missing = missing();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let names: Vec<&str> = PROGRAMS.iter().map(|(program, _)| *program).collect();
    Ok(names.join(", "))
}

/// Packages of the programs that are not there.
fn missing() -> Vec<&'static str> {
    PROGRAMS.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect()
}

/// Installs Debian packages, with fresh package lists, and looks again.
pub(super) fn install(packages: &[&str]) -> Result<(), Failure> {
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
    let installed = apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat());
    match installed {
        Ok(()) if missing().is_empty() => Ok(()),
        Ok(()) => Err(Failure::Missing {
            what: missing().join(", "),
            remedy: "apt-get installed the package but the program is not on PATH".to_owned(),
        }),
        Err(failure) => {
            eprintln!("xtask: install by hand: apt-get install {}", packages.join(" "));
            Err(failure)
        }
    }
}

/// Whether we run as root: owner of our own entry in /proc.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
