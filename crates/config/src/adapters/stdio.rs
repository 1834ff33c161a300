//! `stdio`: log entries and metrics on a standard stream or in a file.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::bounded;
use super::named::named;
use super::params::Problem;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The process's standard output.
    Stdout,
    /// The process's standard error.
    Stderr,
    /// A file, in Mixer's folder for such files.
    File(String),
    /// A file that makes room for a new one.
    RotatedFile(String, Rotation),
}

/// When a file makes room, and how long what was in it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which a new file begins.
    pub bytes: u64,
    /// Seconds for which old files stay; `None` for ever.
    pub age: Option<u64>,
    /// Most old files; `None` for no limit.
    pub files: Option<usize>,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Ordinary.
    #[default]
    Info,
    /// Worth a look.
    Warning,
    /// Wrong.
    Error,
}

named!(Level { "INFO" = 0 => Info, "WARNING" = 1 => Warning, "ERROR" = 2 => Error });

impl Level {
    /// As it is written in a line: `info`, `warn`, `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warn",
            Self::Error => "error",
        }
    }
}

/// Parameters (adapter.stdio.config).
#[derive(Clone, Debug, PartialEq)]
pub struct Stdio {
    /// Where lines go.
    pub stream: Stream,
    /// Levels of the severities that log entries name.
    pub severities: BTreeMap<String, Level>,
    /// Level of metrics.
    pub metrics: Level,
    /// Lines below are left out.
    pub least: Level,
    /// JSON, or text for people.
    pub json: bool,
}

impl Stdio {
    /// The level of a severity; INFO for one that has none.
    pub fn level(&self, severity: &str) -> Level {
        self.severities.get(severity).copied().unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    log_stream: StreamName,
    severity_levels: BTreeMap<String, Level>,
    metric_level: Level,
    output_as_json: bool,
    output_level: Level,
    output_path: String,
    max_megabytes_before_rotation: u32,
    max_days_before_rotation: u32,
    max_rotated_files: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum StreamName {
    Stdout,
    Stderr,
    File,
    RotatedFile,
}

named!(StreamName {
    "STDOUT" = 0 => Stdout,
    "STDERR" = 1 => Stderr,
    "FILE" = 2 => File,
    "ROTATED_FILE" = 3 => RotatedFile,
});

impl Default for Params {
    fn default() -> Self {
        Self {
            log_stream: StreamName::Stdout,
            severity_levels: BTreeMap::new(),
            metric_level: Level::Info,
            output_as_json: true,
            output_level: Level::Info,
            output_path: String::new(),
            max_megabytes_before_rotation: 100,
            max_days_before_rotation: 30,
            max_rotated_files: 1000,
        }
    }
}

/// The severities that have a level unless told.
const SEVERITIES: [(&str, Level); 14] = [
    ("INFORMATIONAL", Level::Info),
    ("informational", Level::Info),
    ("INFO", Level::Info),
    ("info", Level::Info),
    ("WARNING", Level::Warning),
    ("warning", Level::Warning),
    ("WARN", Level::Warning),
    ("warn", Level::Warning),
    ("ERROR", Level::Error),
    ("error", Level::Error),
    ("ERR", Level::Error),
    ("err", Level::Error),
    ("FATAL", Level::Error),
    ("fatal", Level::Error),
];

pub(super) fn read(params: &Params) -> Result<Stdio, Problem> {
    bounded(
        &params.severity_levels.keys().collect::<Vec<_>>(),
        "severityLevels",
    )?;
    let severities = match params.severity_levels.is_empty() {
        true => SEVERITIES.map(|(name, level)| (name.to_owned(), level)).into(),
        false => params.severity_levels.clone(),
    };
    Ok(Stdio {
        stream: stream(params)?,
        severities,
        metrics: params.metric_level,
        least: params.output_level,
        json: params.output_as_json,
    })
}

fn stream(params: &Params) -> Result<Stream, Problem> {
    let path = || {
        let path = &params.output_path;
        let inside = !path.is_empty()
            && path.len() <= 1024
            && !path.contains('\0')
            && !path.split('/').any(|part| part == "..");
        match inside {
            true => Ok(path.clone()),
            false => Err(Problem::new(
                "outputPath",
                "must name a file, without \"..\" and in at most 1024 bytes",
            )),
        }
    };
    match params.log_stream {
        StreamName::Stdout | StreamName::Stderr if !params.output_path.is_empty() => Err(Problem::new(
            "outputPath",
            "is for logStream FILE or ROTATED_FILE",
        )),
        StreamName::Stdout => Ok(Stream::Stdout),
        StreamName::Stderr => Ok(Stream::Stderr),
        StreamName::File => Ok(Stream::File(path()?)),
        StreamName::RotatedFile => Ok(Stream::RotatedFile(path()?, rotation(params)?)),
    }
}

fn rotation(params: &Params) -> Result<Rotation, Problem> {
    const DAY: u64 = 24 * 60 * 60;
    if params.max_megabytes_before_rotation == 0 {
        return Err(Problem::new("maxMegabytesBeforeRotation", "must be 1 or more"));
    }
    let some = |number: u32| (number > 0).then_some(number);
    Ok(Rotation {
        bytes: u64::from(params.max_megabytes_before_rotation) << 20,
        age: some(params.max_days_before_rotation).map(|days| u64::from(days) * DAY),
        files: some(params.max_rotated_files).and_then(|files| usize::try_from(files).ok()),
    })
}
