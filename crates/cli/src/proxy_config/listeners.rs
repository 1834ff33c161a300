//! The listeners of a dump: where they listen, and which connections go where. Pure.

use serde_json::Value;

use super::dump::{Entry, address, list, text};

/// Which listeners are wanted.
#[derive(clap::Args, Clone, Default)]
#[group(skip)]
pub(crate) struct Filter {
    /// Only listeners at this address
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    /// Only listeners at this port
    #[arg(long)]
    port: Option<u64>,
    /// Only listeners with a chain of this type: HTTP, TCP
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

pub(crate) const HEAD: [&str; 5] = ["ADDRESSES", "PORT", "MATCH", "DESTINATION", "STATE"];

impl Filter {
    /// Whether a listener is wanted.
    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        let kind = |chain: &Value| list(chain, "/filters").any(|filter| self.is_kind(filter));
        self.address
            .as_ref()
            .is_none_or(|ip| addresses(listener(entry)).contains(ip))
            && self
                .port
                .is_none_or(|port| self::port(listener(entry)) == Some(port))
            && (self.kind.is_none() || chains(listener(entry)).any(kind))
    }

    fn is_kind(&self, filter: &Value) -> bool {
        let name = match protocol(filter) {
            "http_connection_manager" => "HTTP",
            "tcp_proxy" => "TCP",
            _ => return false,
        };
        self.kind
            .as_ref()
            .is_none_or(|kind| kind.eq_ignore_ascii_case(name))
    }
}

/// A row for each filter chain.
pub(crate) fn rows(entry: &Entry) -> Vec<Vec<String>> {
    let config = listener(entry);
    let port = port(config).map(|port| port.to_string()).unwrap_or_default();
    let addresses = addresses(config).join(",");
    let row = |on: String, to: String| {
        vec![
            addresses.clone(),
            port.clone(),
            on,
            to,
            entry.state.word().to_owned(),
        ]
    };
    let failure = text(&entry.config, "/details");
    if !failure.is_empty() {
        return vec![row(String::new(), failure.to_owned())];
    }
    let mut rows: Vec<Vec<String>> = list(config, "/filter_chains")
        .map(|chain| row(condition(config, chain), destination(chain)))
        .collect();
    if let Some(chain) = config.get("default_filter_chain") {
        rows.push(row("ALL others".to_owned(), destination(chain)));
    }
    if rows.is_empty() {
        rows.push(row(String::new(), String::new()));
    }
    rows
}

/// The listener itself; of one that Envoy has rejected, what it rejected.
fn listener(entry: &Entry) -> &Value {
    entry.config.get("failed_configuration").unwrap_or(&entry.config)
}

fn chains(config: &Value) -> impl Iterator<Item = &Value> {
    list(config, "/filter_chains").chain(config.get("default_filter_chain"))
}

fn addresses(config: &Value) -> Vec<String> {
    let main = config.get("address").map(address);
    let more = list(config, "/additional_addresses").filter_map(|one| one.get("address").map(address));
    main.into_iter().chain(more).map(|(host, _)| host).collect()
}

fn port(config: &Value) -> Option<u64> {
    config.get("address").and_then(|one| address(one).1)
}

/// Which connections a chain takes, as istioctl writes it.
fn condition(config: &Value, chain: &Value) -> String {
    let on = chain.get("filter_chain_match");
    let joined = |pointer: &str| -> String {
        let texts: Vec<&str> = on
            .into_iter()
            .flat_map(|on| list(on, pointer))
            .filter_map(Value::as_str)
            .collect();
        texts.join(",")
    };
    let ranges: Vec<String> = on
        .into_iter()
        .flat_map(|on| list(on, "/prefix_ranges"))
        .map(range)
        .collect();
    let port = on
        .and_then(|on| on.get("destination_port"))
        .and_then(Value::as_u64);
    let parts = [
        ("Port", port.map(|port| port.to_string()).unwrap_or_default()),
        (
            "Trans",
            on.map(|on| text(on, "/transport_protocol").to_owned())
                .unwrap_or_default(),
        ),
        ("App", joined("/application_protocols")),
        ("SNI", joined("/server_names")),
        ("Addr", ranges.join(",")),
    ];
    let shown: Vec<String> = parts
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| format!("{name}: {text}"))
        .collect();
    match (shown.as_slice(), text(chain, "/name")) {
        ([], name) if config.get("filter_chain_matcher").is_some() => format!("by matcher: {name}"),
        ([], _) => "ALL".to_owned(),
        (shown, _) => shown.join("; "),
    }
}

fn range(range: &Value) -> String {
    let ip = text(range, "/address_prefix");
    match range.get("prefix_len").and_then(Value::as_u64) {
        Some(32 | 128) | None => ip.to_owned(),
        Some(length) => format!("{ip}/{length}"),
    }
}

/// The short name of a network filter's type: `http_connection_manager`, `tcp_proxy`, …
fn protocol(filter: &Value) -> &'static str {
    let kind = text(filter, "/typed_config/@type");
    match kind.rsplit('.').next().unwrap_or_default() {
        "HttpConnectionManager" => "http_connection_manager",
        "TcpProxy" => "tcp_proxy",
        _ => "",
    }
}

fn destination(chain: &Value) -> String {
    let mut names: Vec<&str> = Vec::new();
    for filter in list(chain, "/filters") {
        let config = filter.get("typed_config").unwrap_or(&Value::Null);
        match protocol(filter) {
            "http_connection_manager" => return http(config),
            "tcp_proxy" => return tcp(config),
            _ => names.push(text(filter, "/name")),
        }
    }
    names.join(", ")
}

fn http(config: &Value) -> String {
    match (
        text(config, "/rds/route_config_name"),
        text(config, "/route_config/name"),
    ) {
        ("", "") if config.get("scoped_routes").is_some() => "Scoped routes".to_owned(),
        ("", name) => format!("Inline Route: {name}"),
        (name, _) => format!("Route: {name}"),
    }
}

fn tcp(config: &Value) -> String {
    let weighted: Vec<String> = list(config, "/weighted_clusters/clusters")
        .map(|one| {
            let weight = one.get("weight").and_then(Value::as_u64).unwrap_or(0);
            format!("{} {weight}", text(one, "/name"))
        })
        .collect();
    match text(config, "/cluster") {
        "" => format!("Clusters: {}", weighted.join(", ")),
        name => format!("Cluster: {name}"),
    }
}
