//! The repository's password: from a file, a command, a variable, a terminal, or made for the default repository.
//!
//! Files and the output of commands are read as restic reads them: text with or without a byte order mark, white space
//! at both ends dropped.

use std::fmt;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use proto::handles::{Random, RandomExt};
use zeroize::Zeroizing;

use crate::config::PasswordSource;

/// Random bytes in a password of our own making.
const MADE_PASSWORD_BYTES: usize = 24;

/// A password. Never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes the bytes as they are.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the contents of a password file.
    fn from_text(contents: &[u8]) -> Option<Self> {
        let text = Zeroizing::new(decode(contents));
        let trimmed = trim(&text);
        (!trimmed.is_empty()).then(|| Self::new(trimmed))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(..)")
    }
}

/// There is no password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// Nobody said what it is, and there is no terminal to ask at.
    #[error("no password is given")]
    NotGiven,
    /// The default repository is there, and the file that was made with it is not.
    #[error("the password file {} of the default repository is missing", .path.display())]
    DefaultGone {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("read the password file {} ({origin})", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The flag or variable that named it.
        origin: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file of the default repository cannot be made.
    #[error("make the password file {}", .path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The command line cannot be taken apart.
    #[error("the command of {origin} is empty or has a quote without its partner")]
    CommandLine {
        /// The flag or variable that gave it.
        origin: &'static str,
    },
    /// The command cannot be started.
    #[error("run the command of {origin}")]
    CommandStart {
        /// The flag or variable that gave it.
        origin: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The command failed.
    #[error("the command of {origin} failed with {status}")]
    CommandFailed {
        /// The flag or variable that gave it.
        origin: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// What was read has nothing in it.
    #[error("the password from {origin} is empty")]
    Empty {
        /// Where it was read.
        origin: String,
    },
    /// The two entries at the terminal differ.
    #[error("the passwords do not match")]
    Mismatch,
    /// The terminal cannot be used.
    #[error("read the password from the terminal")]
    Terminal(#[source] io::Error),
}

/// Gets the password of a repository that is there.
pub(crate) fn read(source: &PasswordSource) -> Result<Password, PasswordError> {
    match source {
        PasswordSource::Given(password) => Ok(password.clone()),
        PasswordSource::File { path, origin } => read_file(path, origin),
        PasswordSource::Command { line, origin } => run_command(line, origin),
        PasswordSource::Nowhere => ask("password of the repository: "),
        PasswordSource::DefaultFile(path) => match read_file(path, "default") {
            Err(PasswordError::File { source, path, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(PasswordError::DefaultGone { path })
            }
            password => password,
        },
    }
}

/// Gets the password of a repository that is about to be made: the default one's is drawn, a terminal is asked twice.
pub(crate) fn choose(source: &PasswordSource, random: &dyn Random) -> Result<Password, PasswordError> {
    match source {
        PasswordSource::Nowhere => {
            let password = ask("password of the new repository: ")?;
            let again = ask("the same once more: ")?;
            if password == again { Ok(password) } else { Err(PasswordError::Mismatch) }
        }
        PasswordSource::DefaultFile(path) => match read(source) {
            Err(PasswordError::DefaultGone { .. }) => {
                make(path, random).map_err(|source| PasswordError::Make { path: path.clone(), source })
            }
            password => password,
        },
        _ => read(source),
    }
}

fn read_file(path: &Path, origin: &'static str) -> Result<Password, PasswordError> {
    let contents =
        std::fs::read(path).map_err(|source| PasswordError::File { path: path.to_path_buf(), origin, source })?;
    let contents = Zeroizing::new(contents);
    Password::from_text(&contents).ok_or_else(|| PasswordError::Empty { origin: path.display().to_string() })
}

/// Writes a new password, readable for its owner only, durable before a repository depends on it.
fn make(path: &Path, random: &dyn Random) -> io::Result<Password> {
    let drawn = Zeroizing::new(random.bytes::<MADE_PASSWORD_BYTES>());
    let text = Zeroizing::new(data_encoding::BASE64URL_NOPAD.encode(&*drawn));
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n"))?;
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(Password::new(text.as_bytes()))
}

fn run_command(line: &str, origin: &'static str) -> Result<Password, PasswordError> {
    let words = split_words(line).filter(|words| !words.is_empty());
    let words = words.ok_or(PasswordError::CommandLine { origin })?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stderr(Stdio::inherit());
    let output = command.output().map_err(|source| PasswordError::CommandStart { origin, source })?;
    let printed = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(PasswordError::CommandFailed { origin, status: output.status });
    }
    Password::from_text(&printed).ok_or_else(|| PasswordError::Empty { origin: origin.to_owned() })
}

/// Words between white space; quotes keep white space, a backslash the character behind it. `None`: a quote is open.
fn split_words(line: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let (mut is_in_word, mut quote) = (false, None);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let starts = !is_in_word && (quote.is_some() || !character.is_whitespace());
        if starts {
            words.push(String::new());
            is_in_word = true;
        }
        let keep = match (quote, character) {
            (Some(open), _) if character == open => {
                quote = None;
                None
            }
            (Some('\''), _) => Some(character),
            (_, '\\') => Some(characters.next()?),
            (Some(_), _) => Some(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                None
            }
            (None, _) if character.is_whitespace() => {
                is_in_word = false;
                None
            }
            (None, _) => Some(character),
        };
        if let (Some(word), Some(keep)) = (words.last_mut(), keep) {
            word.push(keep);
        }
    }
    quote.is_none().then_some(words)
}

/// Asks at the terminal, without showing what is typed.
fn ask(question: &str) -> Result<Password, PasswordError> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let input = io::stdin();
    if !input.is_terminal() || !io::stderr().is_terminal() {
        return Err(PasswordError::NotGiven);
    }
    let terminal = |error: rustix::io::Errno| PasswordError::Terminal(error.into());
    let before = tcgetattr(&input).map_err(terminal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let mut screen = io::stderr();
    screen.write_all(question.as_bytes()).map_err(PasswordError::Terminal)?;
    tcsetattr(&input, OptionalActions::Flush, &silent).map_err(terminal)?;
    let mut line = Zeroizing::new(Vec::new());
    let typed = input.lock().read_until(b'\n', &mut line);
    tcsetattr(&input, OptionalActions::Flush, &before).map_err(terminal)?;
    let shown = screen.write_all(b"\n");
    typed.and(shown).map_err(PasswordError::Terminal)?;
    let end = line.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    if end == 0 {
        return Err(PasswordError::Empty { origin: "the terminal".to_owned() });
    }
    Ok(Password::new(&line[..end]))
}

/// Takes a byte order mark off; UTF-16 becomes UTF-8.
fn decode(contents: &[u8]) -> Vec<u8> {
    let utf16 = |units: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Zeroizing<Vec<u16>> =
            Zeroizing::new(units.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect());
        String::from_utf16_lossy(&units).into_bytes()
    };
    match contents {
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.to_vec(),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        _ => contents.to_vec(),
    }
}

/// White space off both ends; bytes that are not UTF-8 are kept.
fn trim(contents: &[u8]) -> &[u8] {
    match std::str::from_utf8(contents) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => contents.trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up.
    struct Counting;

    impl Random for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.iter_mut().zip(1..).for_each(|(byte, number)| *byte = number);
        }
    }

    #[test]
    fn command_lines_are_taken_apart() {
        let words = |line| split_words(line).map(|words| words.join("|"));
        for (line, expected) in [
            ("pass show  backup\t", "pass|show|backup"),
            ("'a b'c \"d 'e\" f\\ g", "a bc|d 'e|f g"),
            ("'' x", "|x"),
            ("a\"\"b '\\'", "ab|\\"),
            ("", ""),
        ] {
            assert_eq!(words(line).as_deref(), Some(expected), "{line}");
        }
        assert_eq!(words("a 'b"), None);
        assert_eq!(words("a\\"), None);
    }

    #[test]
    fn files_are_trimmed_and_decoded() {
        for (contents, expected) in [
            (&b" secret words \r\n"[..], &b"secret words"[..]),
            (b"\xef\xbb\xbfx\n", b"x"),
            (b"\xff\xfex\0\n\0", b"x"),
            (b"\xfe\xff\0x", b"x"),
            (b"\xc2\xa0x\xc2\xa0", b"x"),
            (b"\x80x \n", b"\x80x"),
        ] {
            assert_eq!(Password::from_text(contents).unwrap().as_bytes(), expected);
        }
        assert_eq!(Password::from_text(b" \n"), None);
    }

    #[test]
    fn the_made_password_is_kept_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/longshore/password");
        let source = PasswordSource::DefaultFile(path.clone());
        assert!(matches!(read(&source), Err(PasswordError::DefaultGone { .. })));
        let made = choose(&source, &Counting).unwrap();
        assert_eq!(read(&source).unwrap(), made);
        assert_eq!(choose(&source, &Counting).unwrap(), made, "a second one would lose the first repository");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn commands_give_what_they_print() {
        let source = |line: &str| PasswordSource::Command { line: line.to_owned(), origin: "--password-command" };
        assert_eq!(read(&source("printf ' %s\\n' words")).unwrap().as_bytes(), b"words");
        assert!(matches!(read(&source("false")), Err(PasswordError::CommandFailed { .. })));
        assert!(matches!(read(&source("true")), Err(PasswordError::Empty { .. })));
        assert!(matches!(read(&source(" ")), Err(PasswordError::CommandLine { .. })));
        assert!(matches!(read(&source("/nowhere/x")), Err(PasswordError::CommandStart { .. })));
    }

    #[test]
    fn a_missing_file_is_named_with_its_origin() {
        let source = PasswordSource::File { path: "/nowhere/x".into(), origin: "--password-file" };
        assert_eq!(read(&source).unwrap_err().to_string(), "read the password file /nowhere/x (--password-file)");
    }
}
