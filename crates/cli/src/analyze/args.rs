//! The flags of `argosy analyze`: those of `istioctl analyze`, as far as they make sense here.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use config::Severity;

use super::cluster;
use super::output::Output;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files or folders; `-` reads standard input. With none, the cluster is analysed
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// The same, as kubectl names them
    #[arg(long = "filename", short = 'f', value_name = "PATH")]
    pub(super) filenames: Vec<PathBuf>,
    /// Analyse the cluster; files are taken as if they were applied to it
    #[arg(long, short = 'k', visible_alias = "use-kube", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) cluster: Option<bool>,
    #[command(flatten)]
    pub(super) access: cluster::Access,
    /// Namespace whose objects are told of, and that objects of files belong to that name none. Of a cluster that of the
    /// context unless given; of files alone all are told of
    #[arg(long, short)]
    pub(super) namespace: Option<String>,
    /// Tell of the objects of all namespaces
    #[arg(long, short = 'A')]
    pub(super) all_namespaces: bool,
    /// Namespace of the control plane
    #[arg(
        long,
        short,
        alias = "istioNamespace",
        default_value = "istio-system",
        value_name = "NAMESPACE"
    )]
    pub(super) istio_namespace: String,
    /// Form of the output
    #[arg(long, short, value_enum, ignore_case = true, default_value_t = Output::Text)]
    pub(super) output: Output,
    /// Severity from which on the exit status is 79
    #[arg(long, value_enum, ignore_case = true, default_value_t = Level::Error)]
    pub(super) failure_threshold: Level,
    /// Severity from which on messages are shown
    #[arg(long, value_enum, ignore_case = true, default_value_t = Level::Info)]
    pub(super) output_threshold: Level,
    /// Leave out a message for some objects, as in `IST0103=Pod *.shop`; may be repeated
    #[arg(long, short = 'S', value_name = "CODE=KIND NAME.NAMESPACE")]
    pub(super) suppress: Vec<String>,
    /// Run this analyzer only; may be repeated
    #[arg(long = "analyzer", value_name = "NAME")]
    pub(super) analyzers: Vec<String>,
    /// List the analyzers and do nothing else
    #[arg(long, short = 'L')]
    pub(super) list_analyzers: bool,
    /// Tell what a message means, with an example and the way out, and do nothing else
    #[arg(long, value_name = "CODE")]
    pub(super) explain: Option<String>,
    /// The mesh's settings, instead of those that the cluster or the files have
    #[arg(long, alias = "meshConfigFile", value_name = "FILE")]
    pub(super) mesh_config: Option<PathBuf>,
    /// Revision of the control plane, whose settings are read
    #[arg(long, short, default_value = "default")]
    pub(super) revision: String,
    /// Also ask whether the cluster is fit for an installation or an update, as `istioctl x precheck` does
    #[arg(long)]
    pub(super) precheck: bool,
    /// With --precheck: tell what has changed since this release of Istio, such as 1.20
    #[arg(long, value_name = "RELEASE", value_parser = release, requires = "precheck")]
    pub(super) from_version: Option<(u32, u32)>,
    /// Documents that are no objects are no reason to fail
    #[arg(long)]
    pub(super) ignore_unknown: bool,
    /// Folders are always read with the folders below them; this is here for old habits
    #[arg(long, short = 'R', hide = true)]
    pub(super) recursive: bool,
    /// How long the cluster may take to answer, in seconds
    #[arg(long, default_value = "30s", value_parser = seconds)]
    pub(super) timeout: Duration,
    /// Colour the output; unless given, when it goes to a terminal
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) color: Option<bool>,
    /// Tell which analyzers ran and which did not
    #[arg(long, short)]
    pub(super) verbose: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Level {
    Info,
    Warning,
    Error,
}

impl From<Level> for Severity {
    fn from(level: Level) -> Self {
        match level {
            Level::Info => Self::Info,
            Level::Warning => Self::Warning,
            Level::Error => Self::Error,
        }
    }
}

fn release(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('.').and_then(|(major, minor)| {
        let minor = minor.split('.').next().unwrap_or_default();
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    parts.ok_or_else(|| "a release is written MAJOR.MINOR, such as 1.20".to_owned())
}

/// `30s`, `2m` or a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match number.parse::<u32>() {
        Ok(number) if number > 0 => Ok(Duration::from_secs(u64::from(number) * unit)),
        _ => Err("a time is written in seconds or minutes, such as 30s or 2m".to_owned()),
    }
}
