//! Structured logs: one subscriber for the process, its level changeable while it runs.
//!
//! This is the only global thing in the crate.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Longest level text that is accepted, in bytes.
const MAX_LEVEL: usize = 1024;

/// What is added unless a list names the target: kube's watcher warns at each list and watch that is forbidden, which the
/// services tell of themselves, once.
const KUBE: (&str, &str) = ("kube_runtime", "kube_runtime=error");

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// One line of text for an event.
    #[default]
    Text,
    /// One JSON object for an event.
    Json,
}

/// Flags for logs.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Level (error, warn, info, debug, trace), or a list such as "info,xds=debug"
    #[arg(long, env = "ARGOSY_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Format of log lines on standard error
    #[arg(long, env = "ARGOSY_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

impl Default for LogArgs {
    fn default() -> Self {
        Self {
            log_level: "info".into(),
            log_format: LogFormat::Text,
        }
    }
}

/// A log level could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is not a level or a list of `target=level`.
    #[error(
        "log level {level:?}: {reason}; use error, warn, info, debug, trace or a list such as info,xds=debug"
    )]
    Level {
        /// What was given.
        level: String,
        /// Why it was refused.
        reason: String,
    },
    /// Logs were set up twice, or the subscriber is gone.
    #[error("logs are set up already in this process")]
    AlreadySet,
}

/// Changes the level while the process runs. Clones are the same handle.
#[derive(Clone)]
pub struct LogHandle {
    filter: Option<Arc<reload::Handle<EnvFilter, Registry>>>,
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle").field("level", &self.level()).finish()
    }
}

/// Sets up the process's logs on standard error.
///
/// # Errors
/// When the level cannot be parsed, or logs are set up already.
pub fn init(args: &LogArgs) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(&args.log_level)?);
    let base = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let done = match args.log_format {
        LogFormat::Text => base
            .with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())))
            .try_init(),
        LogFormat::Json => base.with(lines.json().flatten_event(true)).try_init(),
    };
    done.map_err(|_| LogError::AlreadySet)?;
    Ok(LogHandle {
        filter: Some(Arc::new(handle)),
    })
}

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    let refuse = |reason: String| LogError::Level {
        level: level.chars().take(64).collect(),
        reason,
    };
    if level.trim().is_empty() || level.len() > MAX_LEVEL {
        return Err(refuse(format!("empty or longer than {MAX_LEVEL} bytes")));
    }
    // A bare word that is not a level would be taken for a target and switch everything on for it.
    let mut everywhere = LevelFilter::OFF;
    for part in level
        .split(',')
        .map(str::trim)
        .filter(|p| !p.contains(['=', '[']))
    {
        everywhere = part.parse::<LevelFilter>().map_err(|e| refuse(e.to_string()))?;
    }
    let level = match everywhere == LevelFilter::OFF || level.contains(KUBE.0) {
        true => level.to_owned(),
        false => format!("{level},{}", KUBE.1),
    };
    EnvFilter::builder()
        .parse(level)
        .map_err(|e| refuse(e.to_string()))
}

impl LogHandle {
    /// A handle that changes nothing, for tests and for processes that set up logs themselves.
    #[must_use]
    pub fn detached() -> Self {
        Self { filter: None }
    }

    /// The level in force.
    #[must_use]
    pub fn level(&self) -> String {
        let current = self
            .filter
            .as_ref()
            .and_then(|f| f.with_current(EnvFilter::to_string).ok());
        current.unwrap_or_else(|| "unknown".into())
    }

    /// Changes the level.
    ///
    /// # Errors
    /// When the text cannot be parsed (the old level stays).
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = parse(level)?;
        match &self.filter {
            Some(handle) => handle.reload(filter).map_err(|_| LogError::AlreadySet),
            None => Ok(()),
        }
    }
}

/// A time as log lines show it: seconds since 1970 as RFC 3339 in UTC.
#[must_use]
pub fn utc(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_for_people() {
        assert_eq!(utc(1_795_448_549), "2026-11-23T15:42:29Z");
        assert_eq!(utc(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn the_kubernetes_watcher_says_errors_alone_unless_it_is_named() {
        for (level, expected) in [
            ("info", "kube_runtime=error,info"),
            ("info,kube_runtime=debug", "kube_runtime=debug,info"),
            ("off", "off"),
            ("citadel=debug", "citadel=debug"),
        ] {
            assert_eq!(parse(level).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn levels_and_lists_are_accepted_and_the_rest_is_named() {
        for good in [
            "info",
            "DEBUG",
            "off",
            "info,xds=debug",
            "warn,h2=error,pilot=trace",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", "loud", "info,chatty", "xds=loud", &"a".repeat(2000)] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains("use error, warn"), "{error}");
        }
    }
}
