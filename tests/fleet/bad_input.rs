//! What goes wrong in front of a fleet ends with its exit code and with words that name the thing; what only this fleet's
//! workers cannot do gives no snapshot. See commands.rs for the rest of the table.

use std::process::Stdio;

use tests::azurite::{ACCOUNT, Azurite, key_text, longshore_at};
use tests::cli::Longshore;
use tests::process::{self, Outcome};
use tests::processes::{AZURE_REPOSITORY, Fleet, Process};
use tests::services::redis::PrivateRedis;
use tests::services::{free_port, wait_until};

const WRONG_KEY: &str = "cGxhbnRlZCB3cm9uZyBrZXk=";

/// A process of the fleet and the words that start it.
const PROCESSES: [(&str, &[&str]); 2] = [("coordinator", &[]), ("worker", &["--root", "/srv"])];

/// Runs each process with `longshore`'s environment to its end, which must have this code and these words.
#[track_caller]
fn assert_refuses(longshore: &Longshore, code: i32, words: &[&str]) {
    for (what, more) in PROCESSES {
        let arguments = [&[what], more].concat();
        let ended = longshore.run(&arguments).expect_code(code);
        for word in words {
            assert!(ended.stderr.contains(word), "{what}: no {word} in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
    }
}

#[test]
fn processes_that_are_not_let_in_say_by_whom() {
    let azurite = Azurite::start();
    let fleet = Fleet::in_azure("fleet-doors", &azurite, &azurite.endpoint());
    let locked = PrivateRedis::start("fleet-locked", &["--requirepass", "planted redis word"]);
    let password_file = fleet.scratch.join("password");
    let at = |repository: &str, key: &str| {
        longshore_at(&azurite.endpoint(), repository, &password_file)
            .variable("AZURE_ACCOUNT_KEY", key)
            .variable("LONGSHORE_AMQP_URL", &fleet.amqp)
            .variable("LONGSHORE_REDIS_URL", &fleet.redis.url(""))
            .limit_seconds(60)
    };
    let good = || at(AZURE_REPOSITORY, &key_text());
    assert_refuses(&at("azure:nobodys-box:/", &key_text()), 10, &["azure:nobodys-box"]);
    assert_refuses(&at(AZURE_REPOSITORY, WRONG_KEY), 6, &["403", "credentials"]);
    let wrong = fleet.amqp.replace("guest:guest@", "guest:wrong@");
    assert_refuses(&good().variable("LONGSHORE_AMQP_URL", &wrong), 6, &["amqp://127.0.0.1:5672"]);
    for url in [locked.url(""), locked.url(":wrong@")] {
        let longshore = good().variable("LONGSHORE_REDIS_URL", &url);
        assert_refuses(&longshore, 6, &["redis://127.0.0.1"]);
        let client = longshore.run(["backup", "/srv"]).expect_code(6);
        assert!(client.stderr.contains("redis://127.0.0.1") && !client.stderr.contains("wrong@"), "{}", client.stderr);
    }
    fleet.restic.assert_clean();
}

/// Commands that are there for a moment give up, processes that stay wait and say so.
#[test]
fn services_that_are_away_are_waited_for_and_named() {
    let fleet = Fleet::new("fleet-away");
    let nobody = free_port();
    let endpoint = format!("http://127.0.0.1:{nobody}/{ACCOUNT}");
    let no_storage = longshore_at(&endpoint, AZURE_REPOSITORY, fleet.restic.password_file())
        .variable("AZURE_ACCOUNT_KEY", &key_text())
        .variable("LONGSHORE_AMQP_URL", &fleet.amqp)
        .variable("LONGSHORE_REDIS_URL", &fleet.redis.url(""));
    let no_broker = fleet.member.clone_with("LONGSHORE_AMQP_URL", &format!("amqp://127.0.0.1:{nobody}"));
    let no_state = fleet.member.clone_with("LONGSHORE_REDIS_URL", &format!("redis://127.0.0.1:{nobody}"));
    let place = format!("127.0.0.1:{nobody}");
    let waiting: Vec<_> = [("storage", &no_storage), ("broker", &no_broker), ("state", &no_state)]
        .into_iter()
        .flat_map(|(service, longshore)| PROCESSES.map(|(what, more)| (service, longshore, what, more)))
        .map(|(service, longshore, what, more)| {
            let said = fleet.scratch.join(format!("{service}-{what}"));
            let mut command = longshore.command();
            command.arg(what).args(more).stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::from(std::fs::File::create(&said).expect("a log")));
            (Process::start(&mut command), said)
        })
        .collect();
    for client in [&no_broker, &no_state] {
        for words in [&["backup", "/srv"][..], &["check", "--read-data"], &["job", "list"]] {
            let ended = client.run([words, &["--connect-timeout", "2s"]].concat()).expect_code(7);
            assert!(ended.stderr.contains(&place), "{words:?}: {}", ended.stderr);
        }
    }
    no_storage.run(["backup", "--embedded", "/srv"]).expect_code(7);
    for (process, said) in waiting {
        let says = || std::fs::read_to_string(&said).unwrap_or_default();
        let waits = || says().contains("waits for") && says().contains(&place);
        wait_until(&format!("{} says nothing", said.display()), waits);
        assert_eq!(process.leave(), 0, "{}", says());
    }
}

/// Runs commands side by side: each is refused after the time in which other workers could have come.
fn side_by_side(fleet: &Fleet, commands: &[Vec<&str>]) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let running: Vec<_> = commands.iter().map(|words| scope.spawn(move || fleet.run(words))).collect();
        running.into_iter().map(|command| command.join().expect("it ran")).collect()
    })
}

#[test]
fn what_no_worker_may_touch_gives_no_snapshot() {
    let fleet = Fleet::new("fleet-outside");
    fleet.scratch.file("tree", "content");
    let outside = tests::scratch::Scratch::new("outside");
    outside.file("secret", "nobody's business");
    // Not by a way round either.
    std::os::unix::fs::symlink(outside.path(), fleet.scratch.join("link")).expect("linked");
    let (_coordinator, _worker) = (fleet.coordinator(&["--jobs", "8"]), fleet.worker(&[]));
    fleet.run(&["backup", &fleet.path("tree")]).expect_code(0);
    let place = outside.path().to_str().expect("plain");
    let name = outside.path().file_name().and_then(|name| name.to_str()).expect("plain");
    let (linked, dotted) = (fleet.path("link/secret"), format!("{}/../{name}", fleet.path("")));
    let below_link = fleet.path("link/below");
    let mut refused = side_by_side(
        &fleet,
        &[
            vec!["backup", place],
            vec!["backup", &linked],
            vec!["backup", &dotted],
            vec!["restore", "latest", "--target", place],
            vec!["restore", "latest", "--target", &below_link],
        ],
    );
    for refused in &refused {
        eprintln!("{}: {}, {}", refused.command, refused.code, refused.stderr);
    }
    assert_ne!(refused.remove(2).code, 0);
    refused.iter().for_each(|refused| assert_eq!(refused.code, 1, "{}: {}", refused.command, refused.stderr));
    assert!(refused[0].stderr.contains("outside the roots"), "{}", refused[0].stderr);
    assert_eq!(fleet.restic.snapshots().len(), 1);
    assert_eq!(std::fs::read_dir(outside.path()).expect("listed").count(), 1, "something was written outside");
    fleet.restic.assert_clean();
}

#[test]
fn a_root_that_two_workers_mount_differently_gives_no_snapshot() {
    let fleet = Fleet::new("fleet-views");
    for side in ["left", "right"] {
        fleet.scratch.folder(side);
        fleet.scratch.file(format!("{side}/file"), side);
    }
    let _coordinator = fleet.coordinator(&[]);
    let workers = ["left", "right"].map(|side| {
        let root = format!("/srv/data={}", fleet.path(side));
        Process::start(&mut fleet.command("worker", &["--slots", "2", "--root", &root]))
    });
    let two =
        || fleet.run(&["worker", "list", "--json"]).json_lines().first().and_then(|list| list.as_array().map(Vec::len));
    wait_until("there are no two workers", || two() == Some(2));
    let refused = fleet.run(&["backup", "/srv/data"]).expect_code(1);
    assert!(refused.stderr.contains("the workers see different data"), "{}", refused.stderr);
    assert_eq!(fleet.restic.snapshots().len(), 0);
    // One of them alone is believed.
    let [left, right] = workers;
    assert_eq!(right.leave(), 0);
    fleet.run(&["backup", "/srv/data"]).expect_code(0);
    assert_eq!(fleet.restic.run(["dump", "latest", "/srv/data/file"]).expect_code(0).stdout, b"left");
    assert_eq!(left.leave(), 0);
    fleet.restic.assert_clean();
}

#[test]
fn a_wrong_password_keeps_processes_out() {
    let fleet = Fleet::new("fleet-password");
    let wrong = fleet.scratch.file("wrong", "planted wrong password");
    for (what, more) in PROCESSES {
        let mut command = fleet.command(what, more);
        let ended = process::run(command.env("LONGSHORE_PASSWORD_FILE", &wrong).stderr(Stdio::piped())).expect_code(12);
        assert!(!ended.stderr.contains("planted"), "{}", ended.stderr);
    }
}
