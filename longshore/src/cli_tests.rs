//! The help of every command is docs/cli.md: `LONGSHORE_UPDATE_EXPECTED=1 cargo test -p longshore` writes it anew.

use std::fmt::Write;
use std::path::Path;

use super::*;

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");

const PREAMBLE: &str = "# Command line\n\n\
    The help of every command, written by a test of `longshore/src/cli.rs`.\n";

/// Help of `command` and all below.
fn render(command: &mut clap::Command, path: &str, text: &mut String) {
    let help = command.clone().term_width(100).render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(text, "\n## {path}\n```\n{}\n```\n", help.join("\n").trim()).unwrap();
    for below in command.get_subcommands_mut() {
        let path = format!("{path} {}", below.get_name());
        render(below, &path, text);
    }
}

#[test]
fn the_reference_is_true() {
    let mut command = Cli::command();
    command.build();
    let mut text = PREAMBLE.to_owned();
    render(&mut command, "longshore", &mut text);
    if std::env::var_os("LONGSHORE_UPDATE_EXPECTED").is_some() {
        std::fs::create_dir_all(Path::new(REFERENCE).parent().unwrap()).unwrap();
        std::fs::write(REFERENCE, &text).unwrap();
    }
    let expected = std::fs::read_to_string(REFERENCE).unwrap_or_default();
    assert!(expected == text, "docs/cli.md is not what --help says: run this test with LONGSHORE_UPDATE_EXPECTED=1");
}

#[test]
fn the_command_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_shows_an_example() {
    for command in Cli::command().get_subcommands() {
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("Examples:"), "{}", command.get_name());
    }
}
