//! Everything that is printed: data on stdout, the rest on stderr; text for people or JSON lines for programs.
//!
//! JSON lines have a `message_type`; a command ends with one `summary`, or with one `exit_error` on stderr.

use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::environment::Environment;
use crate::exit::Failure;

/// How things are printed.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputFlags {
    /// Print JSON for programs, one document or one a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print only what was asked for, and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// Where a command prints. Clones share the two streams.
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// The progress line is redrawn in place on stderr.
    live: bool,
    /// Error words are coloured.
    color: bool,
    /// Names are shown to a person, whose terminal must not be commanded by them.
    guarded: bool,
    streams: Arc<Mutex<Streams>>,
}

struct Streams {
    data: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
    /// The progress line stands on the last line of the terminal.
    has_live_line: bool,
}

/// Erases the line on which the cursor stands.
const ERASE_LINE: &[u8] = b"\r\x1b[K";

impl Output {
    /// The streams of this process.
    pub(crate) fn of_this_process(flags: OutputFlags, environment: &Environment) -> Self {
        let is_dumb = environment.get("TERM").is_some_and(|terminal| terminal == "dumb");
        let is_terminal = io::stderr().is_terminal() && !is_dumb;
        let streams = Streams {
            data: Box::new(BufWriter::new(io::stdout())),
            notes: Box::new(io::stderr()),
            has_live_line: false,
        };
        Self {
            json: flags.json,
            quiet: flags.quiet,
            live: is_terminal && !flags.json && !flags.quiet,
            color: is_terminal && environment.get("NO_COLOR").is_none(),
            guarded: io::stdout().is_terminal(),
            streams: Arc::new(Mutex::new(streams)),
        }
    }

    /// Whether programs read what is printed.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether only what was asked for is printed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a line of data.
    pub(crate) fn line(&self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.lock().data, "{line}")
    }

    /// Prints a line of data that holds a name of a file system, byte for byte; a terminal is spared control characters.
    pub(crate) fn raw_line(&self, line: &[u8]) -> io::Result<()> {
        if self.guarded {
            return self.line(printable(line));
        }
        let data = &mut self.lock().data;
        data.write_all(line)?;
        data.write_all(b"\n")
    }

    /// Prints a value as one line of JSON and hands it on at once.
    pub(crate) fn message(&self, message: &impl Serialize) -> io::Result<()> {
        let mut streams = self.lock();
        serde_json::to_writer(&mut streams.data, message)?;
        streams.data.write_all(b"\n")?;
        streams.data.flush()
    }

    /// Prints finished JSON as a line of data.
    pub(crate) fn json_line(&self, json: &[u8]) -> io::Result<()> {
        let data = &mut self.lock().data;
        data.write_all(json)?;
        data.write_all(b"\n")
    }

    /// Tells a person something that is not data.
    pub(crate) fn note(&self, note: impl fmt::Display) {
        if !self.quiet && !self.json {
            self.print_note(&note);
        }
    }

    /// Tells of trouble that does not end the command.
    pub(crate) fn warn(&self, warning: impl fmt::Display) {
        if self.json {
            self.print_note(&json!({"message_type": "warning", "message": warning.to_string()}));
        } else {
            self.print_note(&format_args!("{} {warning}", self.emphasized("warning:", "33")));
        }
    }

    /// Tells of an error that the command goes on from.
    pub(crate) fn complain(&self, error: impl fmt::Display) {
        self.print_note(&format_args!("{} {error}", self.emphasized("error:", "31")));
    }

    /// Tells why the command failed.
    pub(crate) fn fatal(&self, failure: &Failure) {
        let Failure { status, message, hint } = failure;
        if self.json {
            let code = status.code();
            self.print_note(&json!({"message_type": "exit_error", "code": code, "message": message, "hint": hint}));
            return;
        }
        self.print_note(&format_args!("{} {message}", self.emphasized("error:", "31")));
        if let Some(hint) = hint {
            self.hint(hint);
        }
    }

    /// Tells a person what to do next.
    pub(crate) fn hint(&self, hint: impl fmt::Display) {
        if !self.json {
            self.print_note(&format_args!("{} {hint}", self.emphasized("hint:", "36")));
        }
    }

    /// How often progress is wanted: four times a second in place, every second as JSON, every 30 seconds as a line.
    pub(crate) fn progress_interval(&self) -> Option<Duration> {
        match self {
            Self { live: true, .. } => Some(Duration::from_millis(250)),
            Self { json: true, quiet: false, .. } => Some(Duration::from_secs(1)),
            Self { quiet: false, .. } => Some(Duration::from_secs(30)),
            _ => None,
        }
    }

    /// Whether progress is one line that is redrawn.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Shows how far a command is.
    pub(crate) fn progress(&self, line: &str) {
        if !self.live {
            return self.print_note(&line);
        }
        let mut streams = self.lock();
        // A progress line that cannot be shown is no reason to stop.
        let _ = streams.notes.write_all(ERASE_LINE).and_then(|()| streams.notes.write_all(line.as_bytes()));
        let _ = streams.notes.flush();
        streams.has_live_line = true;
    }

    /// Takes the progress line away.
    pub(crate) fn end_progress(&self) {
        self.lock().clear_live_line();
    }

    /// Hands on what is buffered.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut streams = self.lock();
        streams.clear_live_line();
        streams.data.flush()
    }

    fn emphasized(&self, word: &str, color: &str) -> String {
        if self.color { format!("\x1b[1;{color}m{word}\x1b[0m") } else { word.to_owned() }
    }

    fn print_note(&self, note: &dyn fmt::Display) {
        let mut streams = self.lock();
        streams.clear_live_line();
        // Nobody reads stderr: there is no other place to say so.
        let _ = writeln!(streams.notes, "{note}");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Streams> {
        // Writers do not panic in a way that matters: a half-written line stays one.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn clear_live_line(&mut self) {
        if std::mem::take(&mut self.has_live_line) {
            let _ = self.notes.write_all(ERASE_LINE);
        }
    }
}

/// Log lines take the way of notes, so that they do not run into the progress line.
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut streams = self.lock();
        streams.clear_live_line();
        streams.notes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().notes.flush()
    }
}

/// Text without control characters; bytes that are not UTF-8 as `\xNN`.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() { text.extend(character.escape_default()) } else { text.push(character) }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A number of bytes for people: `3 B`, `1.308 KiB`, `12.250 MiB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog2() / 10).min(6);
    let value = bytes as f64 / 2f64.powi(10 * exponent as i32);
    format!("{value:.3} {}", UNITS[exponent as usize - 1])
}

/// A duration for people: `0:07`, `1:02:03`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A number with its noun in the right form: `1 file`, `2 files`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::exit::ExitStatus;

    /// What a test's command printed.
    #[derive(Clone, Default)]
    pub(crate) struct Printed(Arc<Mutex<Vec<u8>>>);

    impl Printed {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }

    impl Write for Printed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output with what it printed to stdout and stderr.
    pub(crate) fn captured(json: bool, live: bool) -> (Output, Printed, Printed) {
        let (data, notes) = (Printed::default(), Printed::default());
        let streams = Streams { data: Box::new(data.clone()), notes: Box::new(notes.clone()), has_live_line: false };
        let streams = Arc::new(Mutex::new(streams));
        (Output { json, quiet: false, live, color: false, guarded: true, streams }, data, notes)
    }

    #[test]
    fn errors_are_one_object_for_programs() {
        let failure = Failure { status: ExitStatus::Locked, message: "locked".into(), hint: Some("unlock".into()) };
        let (output, data, notes) = captured(true, false);
        output.fatal(&failure);
        let object: serde_json::Value = serde_json::from_str(&notes.text()).unwrap();
        assert_eq!((&object["message_type"], &object["code"]), (&json!("exit_error"), &json!(11)));
        assert_eq!(data.text(), "");
        let (output, _, notes) = captured(false, false);
        output.fatal(&failure);
        assert_eq!(notes.text(), "error: locked\nhint: unlock\n");
    }

    #[test]
    fn notes_do_not_run_into_the_progress_line() {
        let (output, _, notes) = captured(false, true);
        output.progress("half");
        output.warn("odd");
        output.progress("done");
        output.finish().unwrap();
        assert_eq!(notes.text(), "\r\x1b[Khalf\r\x1b[Kwarning: odd\n\r\x1b[Kdone\r\x1b[K");
    }

    #[test]
    fn terminals_are_not_commanded_by_names() {
        let (output, data, _) = captured(false, false);
        output.raw_line(b"a\x1b[2Jb\n\xff\xc3\xa4").unwrap();
        assert_eq!(data.text(), "a\\u{1b}[2Jb\\n\\xff\u{e4}\n");
    }

    #[test]
    fn numbers_are_for_people() {
        for (bytes, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1339, "1.308 KiB"), (1 << 20, "1.000 MiB"), (u64::MAX, "16.000 EiB")]
        {
            assert_eq!(bytes_text(bytes), expected);
        }
        assert_eq!(duration_text(Duration::from_millis(7_900)), "0:07");
        assert_eq!(duration_text(Duration::from_secs(3_723)), "1:02:03");
        assert_eq!((counted(1, "file"), counted(0, "file")), ("1 file".into(), "0 files".into()));
    }
}
