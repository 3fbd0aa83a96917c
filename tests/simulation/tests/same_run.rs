//! A seed decides everything: what it found can be repeated.
//!
//! Each run is a process of its own, as it is for whoever repeats a seed.

use std::process::Command;

/// What a run of a seed says of itself: how it ended, and a hash over everything that happened.
fn run(seed: u64, more: &[&str]) -> String {
    let mut simulation = Command::new(env!("CARGO_BIN_EXE_simulation"));
    let output = simulation.args(["--seed", &seed.to_string()]).args(more).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut said: Vec<String> = [1, 2, 3, 4].into_iter().map(|seed| run(seed, &[])).collect();
    for (seed, first) in (1..).zip(&said) {
        assert!(first.contains(" events") && first.contains("trace "), "{first}");
        assert_eq!(run(seed, &[]), *first, "the same again");
    }
    assert_eq!(run(1, &["--trace"]), said[0], "the same where somebody looks on");
    let hash = |said: &String| said.rsplit("trace ").next().map(str::to_owned);
    said.dedup_by_key(|said| hash(said));
    assert_eq!(said.len(), 4, "other seeds are other runs");
}
