//! The clusters of a dump, by what their names say: `DIRECTION|PORT|SUBSET|HOST`. Pure.

use super::dump::{Entry, text};

/// Which clusters are wanted.
#[derive(clap::Args, Clone, Default)]
#[group(skip)]
pub(crate) struct Filter {
    /// Only clusters of services whose host has this in it
    #[arg(long, value_name = "TEXT")]
    fqdn: Option<String>,
    /// Only clusters of this port
    #[arg(long)]
    port: Option<u16>,
    /// Only clusters of this subset
    #[arg(long)]
    subset: Option<String>,
    /// Only clusters of this direction: inbound, outbound
    #[arg(long)]
    direction: Option<String>,
}

pub(crate) const HEAD: [&str; 6] = ["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "STATE"];

/// The parts of a cluster's name.
pub(crate) struct Parts<'a> {
    pub(crate) direction: &'a str,
    pub(crate) port: &'a str,
    pub(crate) subset: &'a str,
    pub(crate) host: &'a str,
}

/// Names that Pilot did not make are hosts as a whole.
pub(crate) fn parts(name: &str) -> Parts<'_> {
    let fields: Vec<&str> = name.split('|').collect();
    match fields.as_slice() {
        [direction, port, subset, host] => Parts {
            direction,
            port,
            subset,
            host,
        },
        _ => Parts {
            direction: "",
            port: "",
            subset: "",
            host: name,
        },
    }
}

impl Filter {
    /// Whether a cluster is wanted.
    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        let is = parts(&entry.name);
        self.fqdn
            .as_ref()
            .is_none_or(|text| is.host.contains(text.as_str()))
            && self.port.is_none_or(|port| is.port == port.to_string())
            && self.subset.as_ref().is_none_or(|subset| is.subset == subset)
            && self.direction.as_ref().is_none_or(|way| is.direction == way)
    }
}

/// One row.
pub(crate) fn row(entry: &Entry) -> Vec<String> {
    let is = parts(&entry.name);
    let custom = text(&entry.config, "/cluster_type/name");
    let kind = match (custom, text(&entry.config, "/type")) {
        ("", "") => "STATIC",
        ("", kind) => kind,
        (custom, _) => custom.rsplit('.').next().unwrap_or(custom),
    };
    [
        is.host,
        is.port,
        is.subset,
        is.direction,
        kind,
        entry.state.word(),
    ]
    .map(str::to_owned)
    .to_vec()
}
