//! Planted secrets: nothing that a process of a fleet says at its most talkative holds one, whatever goes wrong, and none
//! travels.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use data_encoding::BASE64;
use tests::azurite::{ACCOUNT, Azurite, key_text, longshore_at};
use tests::cli::Longshore;
use tests::processes::{AZURE_REPOSITORY, Process};
use tests::proxy::{Fault, Kind, Proxy};
use tests::restic::PASSWORD;
use tests::scratch::Scratch;
use tests::services::free_port;
use tests::services::rabbitmq::PrivateBroker;
use tests::services::redis::PrivateRedis;

const BROKER_WORD: &str = "planted/broker:word";
const STATE_WORD: &str = "planted/state@word";

fn in_url(word: &str) -> String {
    word.replace('/', "%2F").replace(':', "%3A").replace('@', "%40")
}

/// Every form in which a planted secret could be said.
fn planted() -> Vec<String> {
    let mut all = vec![key_text(), "the planted key".to_owned(), PASSWORD.to_owned()];
    for (user, word) in [("sailor", BROKER_WORD), ("", STATE_WORD)] {
        all.extend([word.to_owned(), in_url(word)]);
        all.extend(
            [format!("{user}:{word}"), format!("\0{user}\0{word}")].map(|login| BASE64.encode(login.as_bytes())),
        );
    }
    all
}

#[track_caller]
fn assert_holds_no_secret(what: &str, text: &str) {
    for secret in planted() {
        assert!(!text.contains(&secret), "{what} holds {secret}");
    }
}

struct Ground {
    scratch: Scratch,
    member: Longshore,
    client: Longshore,
    logs: Vec<PathBuf>,
}

impl Ground {
    fn start(&mut self, what: &str, arguments: &[&str]) -> Process {
        let log = self.scratch.join(format!("{what}-{}", self.logs.len()));
        let mut command = self.member.command();
        command.arg(what).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::from(File::create(&log).expect("a log")));
        self.logs.push(log);
        let process = Process::start(&mut command);
        // Arguments and what others may read of the process.
        let shown = std::fs::read(format!("/proc/{}/cmdline", process.id())).expect("a command line");
        assert_holds_no_secret("a command line", &String::from_utf8_lossy(&shown));
        process
    }

    /// Runs a command; returns what it said.
    #[track_caller]
    fn run(&self, longshore: &Longshore, code: i32, words: &[&str]) -> usize {
        let ended = longshore.run(words);
        let said = format!("{}{}", ended.text(), ended.stderr);
        assert_holds_no_secret(&format!("{words:?}"), &said);
        assert_eq!(ended.code, code, "{words:?}: {said}");
        said.len()
    }
}

#[test]
fn no_secret_is_said_or_sent_by_a_fleet() {
    let azurite = Azurite::start();
    let proxy = Proxy::before(azurite.port());
    let settings = format!("default_user = sailor\ndefault_pass = {BROKER_WORD}");
    let broker = PrivateBroker::start_with("fleet-secrets", None, &settings);
    let redis = PrivateRedis::start("fleet-secrets", &["--requirepass", STATE_WORD]);
    let scratch = Scratch::new("fleet-secrets");
    let password_file = scratch.file("password", PASSWORD);
    let (amqp, state) = (broker.url("sailor", &in_url(BROKER_WORD)), redis.url(&format!(":{}@", in_url(STATE_WORD))));
    let services = |longshore: Longshore| {
        let longshore = longshore.variable("LONGSHORE_AMQP_URL", &amqp).variable("LONGSHORE_REDIS_URL", &state);
        longshore.variable("LONGSHORE_LOG", "trace").limit_seconds(120)
    };
    let endpoint = format!("http://127.0.0.1:{}/{ACCOUNT}", proxy.port());
    let member = longshore_at(&endpoint, AZURE_REPOSITORY, &password_file).variable("AZURE_ACCOUNT_KEY", &key_text());
    let client = services(Longshore::new()).budget(5, 1 << 20, 1 << 30, 1 << 30);
    let mut ground = Ground { scratch, member: services(member), client, logs: Vec::new() };
    let tree = ground.scratch.folder("tree");
    for file in 0..20 {
        std::fs::write(tree.join(file.to_string()), format!("content of {file}")).expect("written");
    }
    let mut said = ground.run(&ground.member, 0, &["init"]);
    for (kind, fault) in
        [(Kind::PutBlob, Fault::LoseAnswer), (Kind::Get, Fault::LoseRequest), (Kind::List, Fault::Busy)]
    {
        proxy.plan(kind, "", fault, 2);
    }
    let folder = ground.scratch.path().to_str().expect("plain").to_owned();
    let coordinator = ground.start("coordinator", &[]);
    let worker = ground.start("worker", &["--root", &folder, "--restore-root", &folder]);
    let (place, target) = (format!("{folder}/tree"), format!("{folder}/restored"));
    said += ground.run(&ground.client, 0, &["backup", &place]);
    said += ground.run(&ground.client, 0, &["restore", "latest", "--target", &target]);
    said += ground.run(&ground.client, 0, &["check", "--read-data"]);
    said += ground.run(&ground.client, 0, &["job", "list"]);
    said += ground.run(&ground.client, 0, &["worker", "list"]);
    said += refused(&ground, &broker, &redis);
    assert_eq!((worker.leave(), coordinator.leave()), (0, 0));
    for log in &ground.logs {
        let text = std::fs::read(log).expect("a log");
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("TRACE"), "{} is not talkative", log.display());
        assert_holds_no_secret(&log.display().to_string(), &text);
        said += text.len();
    }
    assert_nothing_travels(&redis);
    eprintln!("{said} bytes were looked through");
    assert!(said > 100_000);
}

/// Services that are away, or let nobody in with these credentials.
fn refused(ground: &Ground, broker: &PrivateBroker, redis: &PrivateRedis) -> usize {
    let nobody = free_port();
    let words = ["job", "list", "--connect-timeout", "2s"];
    let away = |url: &str| {
        let (head, _) = url.rsplit_once(':').expect("a port");
        format!("{head}:{nobody}")
    };
    let wrong_broker = broker.url("sailor", "planted-wrong-word");
    let wrong_state = redis.url(":planted-wrong-word@");
    let amqp = broker.url("sailor", &in_url(BROKER_WORD));
    let state = redis.url(&format!(":{}@", in_url(STATE_WORD)));
    let mut said = 0;
    for (variable, url, code) in [
        ("LONGSHORE_AMQP_URL", away(&amqp), 7),
        ("LONGSHORE_REDIS_URL", away(&state), 7),
        ("LONGSHORE_AMQP_URL", wrong_broker, 6),
        ("LONGSHORE_REDIS_URL", wrong_state, 6),
    ] {
        let longshore = ground.client.clone_with(variable, &url);
        said += ground.run(&longshore, code, &words);
        let text = longshore.run(words).stderr;
        assert!(!text.contains("planted-wrong-word"), "{text}");
    }
    said
}

/// What stands in the job state holds none.
fn assert_nothing_travels(redis: &PrivateRedis) {
    let keys = redis.cli_with(&["--no-auth-warning", "-a", STATE_WORD], &["--raw", "KEYS", "*"]);
    let mut dumped = 0;
    for key in keys.lines() {
        let value = redis.cli_with(&["--no-auth-warning", "-a", STATE_WORD], &["--raw", "DUMP", key]);
        assert_holds_no_secret(key, &value);
        dumped += 1;
    }
    assert!(dumped > 3, "{keys}");
}
