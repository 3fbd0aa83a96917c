//! What the program logs: for people, or one JSON object a line for programs that collect it.
//!
//! Every line of a job or a task names it, whatever the level: the spans that hold their ids are never filtered out with
//! a filter that lets errors pass.

use std::io;

use clap::{Args, ValueEnum};
use fleet::service::may_be_logged;
use tracing::{Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::environment::Environment;
use crate::exit::CommandError;
use crate::output::Output;

/// The variable that says what is logged.
const FILTER: &str = "LONGSHORE_LOG";
/// The variable that says how.
const FORMAT: &str = "LONGSHORE_LOG_FORMAT";

/// How things are logged.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct LogFlags {
    /// Log for people, or as JSON lines for programs.
    ///
    /// Without it LONGSHORE_LOG_FORMAT counts, then `human`. LONGSHORE_LOG says what is logged: a level (error, warn,
    /// info, debug, trace, off), or levels by module such as `info,worker=debug`.
    #[arg(long, value_name = "FORMAT", global = true)]
    pub(crate) log_format: Option<LogFormat>,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Sends what the program logs the way of notes; what is at least of `level`, if no variable says otherwise.
///
/// # Errors
/// A variable that makes no sense.
pub(crate) fn begin(
    flags: LogFlags,
    level: &str,
    environment: &Environment,
    output: &Output,
) -> Result<(), CommandError> {
    // A second one is refused: then somebody else listens already.
    let _ = subscriber(flags, level, environment, output)?.try_init();
    Ok(())
}

fn subscriber(
    flags: LogFlags,
    level: &str,
    environment: &Environment,
    output: &Output,
) -> Result<Box<dyn Subscriber + Send + Sync>, CommandError> {
    let output = output.clone();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level, environment)?)
        .with_ansi(false)
        .with_writer(move || -> Box<dyn io::Write> { Box::new(output.clone()) });
    let no_secrets = filter_fn(|metadata| may_be_logged(metadata.target(), *metadata.level() == Level::ERROR));
    Ok(match format(flags, environment)? {
        LogFormat::Human => Box::new(builder.finish().with(no_secrets)),
        LogFormat::Json => {
            Box::new(builder.json().flatten_event(true).with_current_span(false).finish().with(no_secrets))
        }
    })
}

fn filter(level: &str, environment: &Environment) -> Result<EnvFilter, CommandError> {
    let Some(directives) = text(environment, FILTER)? else { return Ok(EnvFilter::new(level)) };
    EnvFilter::builder().parse(directives).map_err(|error| {
        CommandError::Usage(format!("{FILTER} is {directives:?}, which is not a level or a list of levels: {error}"))
    })
}

fn format(flags: LogFlags, environment: &Environment) -> Result<LogFormat, CommandError> {
    if let Some(format) = flags.log_format {
        return Ok(format);
    }
    let Some(word) = text(environment, FORMAT)? else { return Ok(LogFormat::default()) };
    LogFormat::from_str(word, false)
        .map_err(|_| CommandError::Usage(format!("{FORMAT} is {word:?}, which is neither human nor json")))
}

fn text<'a>(environment: &'a Environment, name: &str) -> Result<Option<&'a str>, CommandError> {
    environment.text(name).map_err(|error| CommandError::Config(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::captured;

    /// What is logged of one task of one job, at every level.
    fn logged<const N: usize>(flags: LogFlags, variables: [(&str, &str); N]) -> Result<String, CommandError> {
        let (output, _, notes) = captured(false, false);
        let subscriber = subscriber(flags, "warn", &Environment::from(variables), &output)?;
        tracing::subscriber::with_default(subscriber, || {
            let _job = tracing::error_span!("job", job = "j1").entered();
            let _task = tracing::error_span!("task", task = "t2").entered();
            tracing::error!(code = 7, "broken");
            tracing::warn!("odd");
            tracing::info!("known");
            tracing::debug!("looked at");
        });
        Ok(notes.text())
    }

    #[test]
    fn a_client_that_traces_its_login_is_not_listened_to() {
        for filter in ["trace", "trace,lapin=trace", "lapin::io_loop=trace,amq_protocol_tcp=trace,error"] {
            let (output, _, notes) = captured(false, false);
            let environment = Environment::from([(FILTER, filter)]);
            let subscriber = subscriber(LogFlags::default(), "warn", &environment, &output).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                tracing::trace!(target: "lapin::io_loop", "a password");
                tracing::trace!(target: "amq_protocol_tcp", "another password");
                tracing::error!(target: "lapin::connection", "no connection");
            });
            let text = notes.text();
            assert!(!text.contains("password") && text.contains("no connection"), "{text}");
        }
    }

    const JSON: LogFlags = LogFlags { log_format: Some(LogFormat::Json) };

    #[test]
    fn people_see_job_and_task() {
        let text = logged(LogFlags::default(), []).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        for line in text.lines() {
            assert!(line.contains("job{job=\"j1\"}:task{task=\"t2\"}:"), "{line}");
        }
        assert!(text.contains("broken code=7"), "{text}");
    }

    #[test]
    fn programs_read_one_object_a_line() {
        for text in [logged(JSON, []), logged(LogFlags::default(), [("LONGSHORE_LOG_FORMAT", "json")])] {
            let text = text.unwrap();
            let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines.len(), 2, "{text}");
            assert_eq!(
                (&lines[0]["level"], &lines[0]["message"], &lines[0]["code"]),
                (&"ERROR".into(), &"broken".into(), &7.into())
            );
            assert_eq!((&lines[1]["spans"][0]["job"], &lines[1]["spans"][1]["task"]), (&"j1".into(), &"t2".into()));
            assert!(lines[1]["timestamp"].is_string(), "{text}");
        }
        let flag_wins = LogFlags { log_format: Some(LogFormat::Human) };
        assert!(!logged(flag_wins, [("LONGSHORE_LOG_FORMAT", "json")]).unwrap().starts_with('{'));
    }

    #[test]
    fn levels_are_those_that_were_asked_for() {
        let lines = |filter: &str| logged(JSON, [("LONGSHORE_LOG", filter)]).unwrap().lines().count();
        assert_eq!(["off", "error", "info", "trace"].map(lines), [0, 1, 3, 4]);
        assert_eq!(lines("error,longshore::logs=debug"), 4);
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for (variable, value, words) in [
            ("LONGSHORE_LOG_FORMAT", "xml", "LONGSHORE_LOG_FORMAT is \"xml\", which is neither human nor json"),
            ("LONGSHORE_LOG", "a=b=c", "LONGSHORE_LOG is \"a=b=c\", which is not a level"),
        ] {
            let error = logged(LogFlags::default(), [(variable, value)]).unwrap_err();
            assert!(matches!(error, CommandError::Usage(_)) && error.to_string().starts_with(words), "{error}");
        }
    }
}
