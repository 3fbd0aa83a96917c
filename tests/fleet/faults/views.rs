//! The root of a worker is unmounted while it works.

use std::process::Command;

use tests::mounts::MountPlan;
use tests::process::run;
use tests::processes::Fleet;

use crate::mid_job::{Ground, Member, build, go_on};

/// A fleet whose workers have the data set mounted, each for itself alone.
struct Mounted {
    ground: Ground,
    plan: MountPlan,
}

impl Mounted {
    fn new() -> Self {
        let fleet = Fleet::new("faults-unmounted");
        build(&fleet.scratch.folder("lower/tree"), 1);
        build(&fleet.scratch.folder("lower/other"), 2);
        let plan = MountPlan::new().bind(&fleet.scratch.join("lower"), &fleet.scratch.folder("data"));
        Self { ground: Ground::over(fleet, "data/tree"), plan }
    }

    fn worker(&self, name: &str) -> Member {
        let member = &self.ground.fleet.member;
        let mut command = self.plan.command(member.binary());
        member.dress(&mut command);
        self.ground.start_command(name, &["worker", "--slots", "2", "--root", &self.ground.fleet.path("data")], command)
    }

    /// Takes the data set away from a worker.
    fn unmount(&self, worker: &Member) {
        let mut unmount = Command::new("nsenter");
        unmount.args(["--mount", "--target", &worker.process.id().to_string(), "--", "umount", "--lazy"]);
        run(unmount.arg(self.ground.fleet.scratch.join("data"))).expect_code(0);
    }

    /// Stock restic, which has the data set mounted, too.
    fn restic_backup(&self) -> tests::restic::Backup {
        let restic = &self.ground.fleet.restic;
        let mut command = self.plan.command(restic.binary());
        restic.dress(&mut command);
        command.current_dir(self.ground.fleet.scratch.path());
        restic.backed_up(&run(command.args(["backup", "--json", "--force", &self.ground.place])).expect_code(0))
    }
}

#[test]
fn a_worker_whose_root_is_unmounted_leaves_the_job_to_others() {
    let mut mounted = Mounted::new();
    let ground = &mounted.ground;
    let _coordinator = ground.coordinator("coordinator");
    let (first, second) = (mounted.worker("first"), mounted.worker("second"));
    let (job, held) = ground.submit_and_hold(&[&first, &second]);
    mounted.unmount(&first);
    go_on(&[&first, &second]);
    let done = job.end(&held);
    assert!(first.figure("longshore_not_my_view_total", "") > 0.0);
    ground.assert_right_by(&done, |_| mounted.restic_backup());

    // Where no worker is left that has it, the job fails and says why. Another data set, of which nothing is stored yet;
    // and without the first worker, as two that see different things keep a first backup from beginning.
    assert_eq!(first.process.leave(), 0);
    mounted.ground.place = mounted.ground.fleet.path("data/other");
    let ground = &mounted.ground;
    let restic = &ground.fleet.restic;
    let before = restic.snapshots().len();
    let (job, _) = ground.submit_and_hold(&[&second]);
    mounted.unmount(&second);
    go_on(&[&second]);
    let failed = job.follow().expect_code(1);
    println!("{}", failed.stderr);
    assert!(failed.stderr.contains(&ground.place), "{}", failed.stderr);
    assert_eq!(restic.snapshots().len(), before);
    assert_eq!(restic.ids("locks"), Vec::<String>::new(), "nothing is left locked");
    restic.assert_clean();
}
