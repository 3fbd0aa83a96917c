//! Everything that goes wrong in front of a user ends in time, with its exit code, and with words that name the thing
//! and the next step.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal};
use tests::cli::Longshore;
use tests::mounts::MountPlan;
use tests::process::{self, Outcome};
use tests::restic::Restic;
use tests::scratch::Scratch;

/// No fault may take longer than this.
const LIMIT_SECONDS: u32 = 60;

/// A repository with one snapshot of a small tree; every case gets its own.
struct Ground {
    scratch: Scratch,
    restic: Restic,
    snapshot: String,
}

impl Ground {
    fn new() -> Self {
        let scratch = Scratch::new("bad-input");
        let mut bytes = tests::bytes::Bytes::new(9);
        let tree = scratch.folder("tree/below");
        for number in 0..20 {
            std::fs::write(tree.join(format!("{number}")), bytes.vec(200_000)).expect("written");
        }
        let restic = Restic::quick(scratch.path());
        let snapshot = restic.backup(scratch.path(), &[], ["tree"]).snapshot;
        Self { scratch, restic, snapshot }
    }

    fn longshore(&self) -> Longshore {
        Longshore::with_repository(self.restic.repository(), self.restic.password_file()).limit_seconds(LIMIT_SECONDS)
    }

    fn run(&self, words: &[&str]) -> Outcome {
        self.longshore().run_in(self.scratch.path(), words)
    }

    fn restore(&self, target: &str) -> Outcome {
        self.run(&["restore", &self.snapshot, "--target", target])
    }

    /// The only, or the largest, file of a folder of the repository.
    fn file_of(&self, folder: &str) -> PathBuf {
        let mut files = Vec::new();
        collect(&self.restic.repository().join(folder), &mut files);
        files.into_iter().max_by_key(|path| path.metadata().map_or(0, |data| data.len())).expect("a file")
    }

    /// The pack that holds trees: the smallest one of a repository with two packs.
    fn tree_pack(&self) -> PathBuf {
        let tree = self.restic.tree_of(&self.snapshot);
        let found = self.restic.run(["find", "--tree", "--show-pack-id", &tree]).expect_code(0).text();
        let id = found.split_whitespace().find(|word| word.len() == 64 && *word != tree && *word != self.snapshot);
        let id = id.unwrap_or_else(|| panic!("no pack in {found}"));
        self.restic.repository().join("data").join(&id[..2]).join(id)
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        files.push(path.to_path_buf());
        return;
    }
    for entry in std::fs::read_dir(path).expect("listed") {
        collect(&entry.expect("an entry").path(), files);
    }
}

/// What is done to a stored file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    FlippedByte,
    HalfGone,
    Emptied,
    Removed,
}

impl Damage {
    fn apply(self, path: &Path) {
        let mut bytes = std::fs::read(path).expect("read");
        let middle = bytes.len() / 2;
        std::fs::remove_file(path).expect("removed");
        match self {
            Self::FlippedByte => bytes[middle] ^= 0x20,
            Self::HalfGone => bytes.truncate(middle),
            Self::Emptied => bytes.clear(),
            Self::Removed => return,
        }
        std::fs::write(path, bytes).expect("written");
    }
}

/// One fault: makes it, runs a command, and tells what has to be said besides.
struct Case {
    fault: &'static str,
    code: i32,
    /// What it is about: each must be in the error output.
    names: &'static [&'static str],
    /// What to do: each must be in the error output too, in a hint or in the usage.
    next: &'static [&'static str],
    run: fn(&Ground) -> Outcome,
}

const CASES: &[Case] = &[
    Case {
        fault: "no repository",
        code: 10,
        names: &["/nowhere"],
        next: &["longshore init", "--repo"],
        run: |ground| ground.run(&["--repo", "/nowhere", "backup", "tree"]),
    },
    Case {
        fault: "wrong password",
        code: 12,
        names: &["password", "repo"],
        next: &["--password-file"],
        run: |ground| {
            let wrong = ground.scratch.file("wrong", "not this one");
            ground.run(&["--password-file", wrong.to_str().expect("plain"), "snapshots"])
        },
    },
    Case {
        fault: "no password",
        code: 2,
        names: &["password"],
        next: &["--password-file", "LONGSHORE_PASSWORD"],
        run: |ground| {
            Longshore::new().limit_seconds(LIMIT_SECONDS).run([
                "--repo",
                ground.restic.repository().to_str().expect("plain"),
                "snapshots",
            ])
        },
    },
    Case { fault: "exclusively locked", code: 11, names: &["locked"], next: &["longshore unlock"], run: locked },
    Case {
        fault: "all sources missing",
        code: 1,
        names: &["gone-1", "gone-2"],
        next: &["name files or directories that are there"],
        run: |ground| ground.run(&["backup", "gone-1", "gone-2"]),
    },
    Case {
        fault: "one source missing",
        code: 3,
        names: &["gone-1"],
        next: &["run the same command again"],
        run: |ground| ground.run(&["backup", "tree", "gone-1"]),
    },
    Case {
        fault: "unknown flag",
        code: 2,
        names: &["--no-such-flag"],
        next: &["Usage"],
        run: |ground| ground.run(&["backup", "--no-such-flag"]),
    },
    Case { fault: "no source", code: 2, names: &["PATH"], next: &["Usage"], run: |ground| ground.run(&["backup"]) },
    Case {
        fault: "no target",
        code: 2,
        names: &["--target"],
        next: &["Usage"],
        run: |ground| ground.run(&["restore", &ground.snapshot]),
    },
    Case {
        fault: "unknown snapshot",
        code: 1,
        names: &["0123abcd"],
        next: &["longshore snapshots"],
        run: |ground| ground.run(&["restore", "0123abcd", "--target", "out"]),
    },
    Case {
        fault: "target below a file",
        code: 1,
        names: &["tree/below/1"],
        next: &["--target"],
        run: |ground| ground.restore("tree/below/1/out"),
    },
    Case {
        fault: "target not writable",
        code: 1,
        names: &["/proc/out"],
        next: &["--target"],
        run: |ground| ground.restore("/proc/out"),
    },
    Case {
        fault: "disk full at restore",
        code: 1,
        names: &["space", "out"],
        next: &["make space", "run again"],
        run: |ground| {
            let target = ground.scratch.folder("out");
            behind(ground, &MountPlan::new().tmpfs(&target, 1_024), &["restore", &ground.snapshot, "--target", "out"])
        },
    },
    Case {
        fault: "disk full at backup",
        code: 1,
        names: &["space", "small/repository"],
        next: &["make space"],
        run: disk_full_at_backup,
    },
];

/// A command of longshore behind mounts.
fn behind(ground: &Ground, plan: &MountPlan, words: &[&str]) -> Outcome {
    let longshore = ground.longshore();
    let mut command = plan.command("timeout");
    command.arg(LIMIT_SECONDS.to_string()).arg(longshore.binary()).args(words);
    longshore.dress(&mut command);
    process::run(command.current_dir(ground.scratch.path()))
}

/// The repository lies on a file system that cannot take the tree.
fn disk_full_at_backup(ground: &Ground) -> Outcome {
    let small = ground.scratch.folder("small");
    let repository = small.join("repository");
    let longshore = ground.longshore().variable("LONGSHORE_REPOSITORY", repository.to_str().expect("plain"));
    let mut command = MountPlan::new().tmpfs(&small, 2_048).command("sh");
    let script = format!("\"$1\" init >/dev/null && exec timeout {LIMIT_SECONDS} \"$1\" backup tree");
    command.args(["-ec", &script, "sh"]).arg(longshore.binary());
    longshore.dress(&mut command);
    process::run(command.current_dir(ground.scratch.path()))
}

/// restic's own exclusive lock, held by a check that is stopped.
fn locked(ground: &Ground) -> Outcome {
    let mut holder = stopped_holder(&ground.restic);
    let outcome = ground.run(&["backup", "tree"]);
    holder.kill().expect("killed");
    holder.wait().expect("ended");
    outcome
}

fn stopped_holder(restic: &Restic) -> Child {
    let mut command = restic.command();
    command.args(["check", "--read-data"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut holder = command.spawn().expect("restic starts");
    let locks = restic.repository().join("locks");
    // restic takes 200 ms between putting its lock and going on, so it is still there when it is seen.
    while std::fs::read_dir(&locks).expect("listed").flatten().all(|entry| entry.file_name().len() != 64) {
        assert!(holder.try_wait().expect("asked").is_none(), "restic ended before its lock was seen");
        std::thread::yield_now();
    }
    process::send(Pid::from_child(&holder), Signal::STOP);
    holder
}

#[test]
fn every_fault_has_its_code_and_its_words() {
    let mut broken = Vec::new();
    for case in CASES {
        let outcome = (case.run)(&Ground::new());
        broken.extend(judge(case.fault, case.code, case.names, &outcome));
        broken.extend(next_step(case.fault, case.next, &outcome));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

/// What has to be said of damage: how to mend it, or how to learn of the rest.
fn next_after_damage(what: &str, command: &str) -> &'static [&'static str] {
    match (what, command) {
        ("keys" | "config", _) => &["bring the file back"],
        (_, "check") => &["restic repair", "longshore backup --force"],
        (..) => &["longshore check --read-data"],
    }
}

/// File of the repository, damage, and the command that must meet it.
type DamageCase = (&'static str, Damage, &'static [&'static str]);

const DAMAGES: &[DamageCase] = &[
    ("data", Damage::FlippedByte, &["check", "--read-data"]),
    ("data", Damage::HalfGone, &["check", "--read-data"]),
    ("data", Damage::HalfGone, &["check"]),
    ("data", Damage::Removed, &["check"]),
    ("data", Damage::Emptied, &["restore", "SNAPSHOT", "--target", "out"]),
    ("data", Damage::HalfGone, &["restore", "SNAPSHOT", "--target", "out"]),
    ("tree pack", Damage::FlippedByte, &["check"]),
    ("tree pack", Damage::HalfGone, &["check"]),
    ("tree pack", Damage::Emptied, &["ls", "SNAPSHOT"]),
    ("tree pack", Damage::Emptied, &["restore", "SNAPSHOT", "--target", "out"]),
    ("index", Damage::FlippedByte, &["check"]),
    ("index", Damage::HalfGone, &["restore", "SNAPSHOT", "--target", "out"]),
    ("index", Damage::Emptied, &["backup", "tree"]),
    ("snapshots", Damage::FlippedByte, &["check"]),
    ("snapshots", Damage::HalfGone, &["restore", "SNAPSHOT", "--target", "out"]),
    ("snapshots", Damage::Emptied, &["ls", "SNAPSHOT"]),
    ("keys", Damage::FlippedByte, &["snapshots"]),
    ("keys", Damage::HalfGone, &["snapshots"]),
    ("keys", Damage::Emptied, &["snapshots"]),
    ("config", Damage::FlippedByte, &["snapshots"]),
    ("config", Damage::HalfGone, &["backup", "tree"]),
    ("config", Damage::Emptied, &["check"]),
];

#[test]
fn damaged_files_are_named() {
    let mut broken = Vec::new();
    for (what, damage, words) in DAMAGES {
        let ground = Ground::new();
        let path = if *what == "tree pack" { ground.tree_pack() } else { ground.file_of(what) };
        damage.apply(&path);
        let words: Vec<&str> =
            words.iter().map(|word| if *word == "SNAPSHOT" { &ground.snapshot } else { *word }).collect();
        let outcome = ground.run(&words);
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        // Ids may be shortened to eight digits, as restic does.
        let short = &name[..name.len().min(8)];
        let fault = format!("{what} {damage:?}: {}", words.join(" "));
        broken.extend(judge(&fault, 8, &[short], &outcome));
        broken.extend(next_step(&fault, next_after_damage(what, words[0]), &outcome));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

/// What is not said of what to do next, behind `hint:` or by the usage.
fn next_step(fault: &str, words: &[&str], outcome: &Outcome) -> Option<String> {
    let said = ["hint:", "Usage:"].iter().filter_map(|mark| outcome.stderr.find(mark)).min();
    let said = said.map_or("", |at| &outcome.stderr[at..]);
    let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
    (!missing.is_empty()).then(|| format!("{fault}: the next step lacks {missing:?}\n{}", outcome.stderr))
}

/// What is wrong with an outcome: code, missing words, or a crash report in place of words.
fn judge(fault: &str, code: i32, words: &[&str], outcome: &Outcome) -> Option<String> {
    let mut reasons = Vec::new();
    if outcome.code != code {
        reasons.push(format!("exit code {}, not {code}", outcome.code));
    }
    reasons.extend(words.iter().filter(|word| !outcome.stderr.contains(**word)).map(|word| format!("no `{word}`")));
    if outcome.stderr.contains("panicked at") {
        reasons.push("it panicked".to_owned());
    }
    (!reasons.is_empty()).then(|| format!("{fault}: {}\n{}\n{}", reasons.join(", "), outcome.command, outcome.stderr))
}
