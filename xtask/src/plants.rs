//! `plants`: bugs that lose data are planted one by one, and the simulation has to find each.
//!
//! Every patch of `tests/simulation/plants/` is applied to a temporary copy of the checkout, whose build is used again
//! from patch to patch. A simulation that does not find a planted bug would not find a real one either.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::command::{capture, cargo};
use crate::failure::Failure;
use crate::workspace;

const FOLDER: &str = "tests/simulation/plants";
/// A plant that so many seeds do not find is not found.
const SEEDS_MAX: u64 = 500;
/// Seeds that are run before somebody looks whether one of them failed.
const BATCH: u64 = 20;

/// A bug as a patch.
struct Plant {
    name: String,
    patch: PathBuf,
}

/// The first seed that fails, and what it says.
struct Found {
    seed: u64,
    said: String,
}

/// Plants every bug, or the one that is named, and prints which seed finds it.
pub(crate) fn run(only: Option<&str>) -> Result<(), Failure> {
    let root = workspace::metadata()?.workspace_root.into_std_path_buf();
    let mut plants = list(&root.join(FOLDER))?;
    plants.retain(|plant| only.is_none_or(|name| plant.name == name));
    if plants.is_empty() {
        let what = format!("the plant {}", only.unwrap_or("of any name"));
        return Err(Failure::Missing { what, remedy: format!("{FOLDER} holds NAME.patch for each") });
    }
    let field = Field::fence_off(&root)?;
    check(&root)?;
    let mut missed = 0;
    for plant in &plants {
        eprintln!("== {}", plant.name);
        let found = field.find(plant)?;
        missed += usize::from(found.is_none());
        match found {
            Some(Found { seed, said }) => println!("{}: seed {seed}: {said}", plant.name),
            None => println!("{}: NOT found by {SEEDS_MAX} seeds", plant.name),
        }
    }
    if missed == 0 { Ok(()) } else { Err(Failure::Findings { check: "plants", count: missed }) }
}

/// Checks that every patch applies to the checkout as it stands: the code under a plant moves on.
pub(crate) fn check(root: &Path) -> Result<(), Failure> {
    list(&root.join(FOLDER))?.iter().try_for_each(|plant| apply(root, plant, &["--check"]))
}

fn apply(checkout: &Path, plant: &Plant, manner: &[&str]) -> Result<(), Failure> {
    let mut git = Command::new("git");
    git.current_dir(checkout).arg("apply").args(manner).arg(&plant.patch);
    // Outside of any repository, as in a copy, it takes the paths of a patch as they are.
    git.env("GIT_CEILING_DIRECTORIES", checkout.parent().unwrap_or(checkout));
    capture(&mut git).map(|_| ()).map_err(|error| Failure::Plant { name: plant.name.clone(), source: error.into() })
}

fn list(folder: &Path) -> Result<Vec<Plant>, Failure> {
    let mut plants = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Failure::file("list", folder))? {
        let patch = entry.map_err(Failure::file("list", folder))?.path();
        if patch.extension().is_some_and(|extension| extension == "patch") {
            let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            plants.push(Plant { name, patch });
        }
    }
    plants.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(plants)
}

/// A copy of the checkout where bugs may grow. It goes away when it is dropped.
struct Field {
    folder: TempDir,
}

impl Field {
    /// Copies everything that git knows or would add, as it stands.
    fn fence_off(root: &Path) -> Result<Self, Failure> {
        let folder = tempfile::tempdir().map_err(Failure::file("make a folder in", &std::env::temp_dir()))?;
        let field = Self { folder };
        let mut git = Command::new("git");
        git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = capture(&mut git)?.stdout;
        for name in String::from_utf8_lossy(&listed).split_terminator('\0') {
            copy(&root.join(name), &field.checkout().join(name))?;
        }
        Ok(field)
    }

    fn checkout(&self) -> PathBuf {
        self.folder.path().join("checkout")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    /// The first seed that finds the plant.
    fn find(&self, plant: &Plant) -> Result<Option<Found>, Failure> {
        apply(&self.checkout(), plant, &[])?;
        let found = self.build().and_then(|()| self.first_failure());
        apply(&self.checkout(), plant, &["--reverse"])?;
        found
    }

    fn build(&self) -> Result<(), Failure> {
        let words = ["build", "--profile", "sim", "--quiet", "--package", "simulation"];
        let mut build = cargo(&self.checkout(), &words);
        build.env("CARGO_TARGET_DIR", self.target());
        capture(&mut build).map(|_| ())
    }

    fn first_failure(&self) -> Result<Option<Found>, Failure> {
        for from in (1..=SEEDS_MAX).step_by(BATCH as usize) {
            let program = self.target().join("sim/simulation");
            let mut simulation = Command::new(&program);
            simulation.args(["--seeds", &BATCH.to_string(), "--from", &from.to_string()]);
            let started = simulation.output();
            let output = started.map_err(|source| Failure::Start { program: program.display().to_string(), source })?;
            if output.status.success() {
                continue;
            }
            let said = String::from_utf8_lossy(&output.stdout);
            let unexpected = || Failure::Answer { program: "simulation".to_owned(), answer: said.to_string() };
            return read_failure(&said).map(Some).ok_or_else(unexpected);
        }
        Ok(None)
    }
}

/// The first failure that the simulation printed: `seed N: STATUS`, and then what the seed itself said.
fn read_failure(printed: &str) -> Option<Found> {
    let mut lines = printed.lines().skip_while(|line| !line.starts_with("seed "));
    let seed = lines.next()?.strip_prefix("seed ")?.split(':').next()?.parse().ok()?;
    let own: Vec<&str> = lines.take_while(|line| !line.starts_with("repeat it: ")).collect();
    let said = own.join(" ");
    let said = said.split_once("FAILED: ").map_or(said.as_str(), |(_, said)| said);
    Some(Found { seed, said: said.split_whitespace().collect::<Vec<_>>().join(" ") })
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    if !from.is_file() {
        return Ok(()); // deleted, and not committed yet
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(Failure::file("make", folder))?;
    }
    std::fs::copy(from, to).map(|_| ()).map_err(Failure::file("copy", from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_read() {
        let printed = "seed 8: exit status: 1\nseed 8 FAILED: x differs:\n  found 1\nrepeat it: cargo\n\n\
                       seed 9: exit status: 1\nseed 9 FAILED: y\nrepeat it: cargo\n\n20 seeds from 1: 2 failed\n";
        let Some(Found { seed, said }) = read_failure(printed) else { panic!("there is one") };
        assert_eq!((seed, said.as_str()), (8, "x differs: found 1"));
        assert!(read_failure("20 seeds from 1: 0 failed\n").is_none());
    }
}
