//! What an Envoy says it has: its page `/config_dump` (Envoy's `envoy.admin.v3.ConfigDump`), taken apart into entries by type.
//!
//! Pure. Fields that are missing are empty: dumps are of any version of Envoy.

use serde_json::Value;

/// The text is not a dump.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum DumpError {
    /// It has no list of configurations.
    #[error("it has no list `configs`; it must be what Envoy's page /config_dump?include_eds shows")]
    NoConfigs,
}

/// How far an entry has come at the Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// From the bootstrap, or inlined in another resource.
    Static,
    /// In use.
    Active,
    /// Not in use yet: something that it needs is missing.
    Warming,
    /// Replaced; open connections still use it.
    Draining,
    /// Rejected.
    Failed,
}

impl State {
    /// As Envoy's and Istio's tools call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::Active => "ACTIVE",
            Self::Warming => "WARMING",
            Self::Draining => "DRAINING",
            Self::Failed => "ERROR",
        }
    }
}

/// One resource of a dump.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) state: State,
    /// The version that Pilot gave it; empty where Envoy keeps none.
    pub(crate) version: String,
    pub(crate) config: Value,
}

/// The entries of a dump.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Dump {
    pub(crate) bootstrap: Value,
    pub(crate) clusters: Vec<Entry>,
    pub(crate) endpoints: Vec<Entry>,
    pub(crate) listeners: Vec<Entry>,
    pub(crate) routes: Vec<Entry>,
    pub(crate) secrets: Vec<Entry>,
}

impl Dump {
    /// Takes a dump apart. Sections that no command shows are left out.
    pub(crate) fn read(page: &Value) -> Result<Self, DumpError> {
        let sections = page.get("configs").and_then(Value::as_array);
        let mut dump = Self::default();
        for section in sections.ok_or(DumpError::NoConfigs)? {
            let kind = text(section, "/@type");
            match kind.rsplit('.').next().unwrap_or_default() {
                "BootstrapConfigDump" => {
                    dump.bootstrap = section.get("bootstrap").cloned().unwrap_or_default()
                }
                "ClustersConfigDump" => dump.clusters = clusters(section),
                "EndpointsConfigDump" => dump.endpoints = endpoints(section),
                "ListenersConfigDump" => dump.listeners = listeners(section),
                "RoutesConfigDump" => dump.routes = routes(section),
                "SecretsConfigDump" => dump.secrets = secrets(section),
                _ => {}
            }
        }
        Ok(dump)
    }
}

/// A text by its JSON pointer; empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of a list by its JSON pointer.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

/// `HOST:PORT`, or the path of a Unix socket, of an `Address`.
pub(crate) fn address(value: &Value) -> (String, Option<u64>) {
    let port = value
        .pointer("/socket_address/port_value")
        .and_then(Value::as_u64);
    let host = text(value, "/socket_address/address");
    match (host, text(value, "/pipe/path")) {
        ("", path) if !path.is_empty() => (format!("unix://{path}"), None),
        ("", _) => match text(value, "/envoy_internal_address/server_listener_name") {
            "" => (String::new(), port),
            name => (format!("envoy://{name}"), None),
        },
        (host, _) => (host.to_owned(), port),
    }
}

fn entries(section: &Value, field: &str, state: State, body: &str, name: &str) -> Vec<Entry> {
    list(section, &format!("/{field}"))
        .map(|one| {
            let config = one.get(body).cloned().unwrap_or_default();
            Entry {
                name: text(&config, name).to_owned(),
                state,
                version: text(one, "/version_info").to_owned(),
                config,
            }
        })
        .collect()
}

fn clusters(section: &Value) -> Vec<Entry> {
    let of = |field, state| entries(section, field, state, "cluster", "/name");
    [
        of("static_clusters", State::Static),
        of("dynamic_active_clusters", State::Active),
        of("dynamic_warming_clusters", State::Warming),
    ]
    .concat()
}

fn endpoints(section: &Value) -> Vec<Entry> {
    let of = |field, state| entries(section, field, state, "endpoint_config", "/cluster_name");
    [
        of("static_endpoint_configs", State::Static),
        of("dynamic_endpoint_configs", State::Active),
    ]
    .concat()
}

fn routes(section: &Value) -> Vec<Entry> {
    let of = |field, state| entries(section, field, state, "route_config", "/name");
    [
        of("static_route_configs", State::Static),
        of("dynamic_route_configs", State::Active),
    ]
    .concat()
}

fn listeners(section: &Value) -> Vec<Entry> {
    let mut found = entries(section, "static_listeners", State::Static, "listener", "/name");
    for one in list(section, "/dynamic_listeners") {
        for (field, state) in [
            ("active_state", State::Active),
            ("warming_state", State::Warming),
            ("draining_state", State::Draining),
        ] {
            if let Some(at) = one.get(field) {
                found.push(Entry {
                    name: text(one, "/name").to_owned(),
                    state,
                    version: text(at, "/version_info").to_owned(),
                    config: at.get("listener").cloned().unwrap_or_default(),
                });
            }
        }
        // Envoy tells of the same failure with and without the listener's name.
        let error = one.get("error_state").filter(|_| one.get("name").is_some());
        found.extend(error.map(|error| Entry {
            name: text(one, "/name").to_owned(),
            state: State::Failed,
            version: text(error, "/version_info").to_owned(),
            config: error.clone(),
        }));
    }
    found
}

fn secrets(section: &Value) -> Vec<Entry> {
    let of = |field: &str, state| {
        let named = |one: &Value| Entry {
            name: text(one, "/name").to_owned(),
            state,
            version: text(one, "/version_info").to_owned(),
            config: one.get("secret").cloned().unwrap_or_default(),
        };
        list(section, field).map(named).collect::<Vec<_>>()
    };
    [
        of("/static_secrets", State::Static),
        of("/dynamic_active_secrets", State::Active),
        of("/dynamic_warming_secrets", State::Warming),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_listener_shows_in_each_state_that_it_has() {
        let page = json!({"configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [{
                "name": "virtualOutbound",
                "active_state": {"version_info": "1", "listener": {"name": "virtualOutbound"}},
                "warming_state": {"version_info": "2", "listener": {}},
                "error_state": {"details": "no such filter"},
            }]},
            {"@type": "type.googleapis.com/envoy.admin.v3.ScopedRoutesConfigDump"},
        ]});
        let dump = Dump::read(&page).expect("a dump");
        let states: Vec<(&str, &str)> = dump
            .listeners
            .iter()
            .map(|one| (one.state.word(), &*one.version))
            .collect();
        assert_eq!(states, [("ACTIVE", "1"), ("WARMING", "2"), ("ERROR", "")]);
        assert_eq!(
            Dump::read(&json!({"cluster_statuses": []})),
            Err(DumpError::NoConfigs)
        );
    }
}
