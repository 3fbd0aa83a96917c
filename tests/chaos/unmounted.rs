//! The only view of a data set goes away while `longshore backup` reads it.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::cli::Longshore;
use tests::frozen::Frozen;
use tests::mounts::MountPlan;
use tests::process::{Outcome, run};
use tests::restic::Restic;
use tests::scratch::Scratch;

/// Files of a MiB each.
const FILES: usize = 150;

/// A data set that is mounted for the backup alone.
struct Ground {
    scratch: Scratch,
    restic: Restic,
    longshore: Longshore,
    plan: MountPlan,
}

impl Ground {
    fn new(entries: u64) -> Self {
        let scratch = Scratch::new("unmounted");
        let tree = scratch.folder("lower/tree");
        let mut bytes = tests::bytes::Bytes::new(4);
        for number in 0..FILES {
            let folder = tree.join(format!("{:02}", number / 10));
            std::fs::create_dir_all(&folder).expect("created");
            std::fs::write(folder.join(number.to_string()), bytes.vec(1 << 20)).expect("written");
        }
        let plan = MountPlan::new().bind(&scratch.join("lower"), &scratch.folder("data"));
        let restic = Restic::quick(scratch.path());
        let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
        Self { restic, longshore: longshore.budget(entries, 1 << 40, 1 << 40, 1 << 40), plan, scratch }
    }

    /// Backs `target` up, and unmounts the data set once some packs are stored.
    fn back_up(&self, target: &Path) -> Outcome {
        let mut command = self.plan.command(self.longshore.binary());
        self.longshore.dress(&mut command);
        command.args(["backup", "--json"]).arg(target);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("unshare runs");
        let frozen = Frozen::in_the_middle(child, self.restic.repository(), 2);
        let mut unmount = Command::new("nsenter");
        unmount.args(["--mount", "--target", &frozen.id().to_string(), "--", "umount", "--lazy"]);
        run(unmount.arg(self.scratch.join("data"))).expect_code(0);
        frozen.finish()
    }
}

#[test]
fn an_unmounted_data_set_gives_no_snapshot() {
    // In tasks of their own, and all in the root task; below the mount point, and at it.
    for entries in [10, 1 << 40] {
        for target in ["data/tree", "data"] {
            let ground = Ground::new(entries);
            let target = ground.scratch.join(target);
            let outcome = ground.back_up(&target).expect_code(1);
            println!("{entries} entries a task: {}", outcome.stderr);
            assert!(outcome.stderr.contains(target.to_str().expect("plain")), "{}", outcome.stderr);
            assert!(ground.restic.snapshots().is_empty(), "no snapshot with missing files");
            assert!(ground.restic.ids("locks").is_empty(), "nothing is left locked");
            ground.restic.assert_clean();
        }
    }
}
