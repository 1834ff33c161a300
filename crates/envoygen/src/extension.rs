//! WasmPlugins and TrafficExtensions: filters of the user's, put where their phase says. Stock Envoy loads Wasm modules from files
//! and over HTTP from services that the mesh knows; what it cannot load is reported, and the proxy does without it.

use std::sync::Arc;

use config::extensions::{
    EnvValueSource, ExecutionPhase, FailStrategy, PluginPhase, PluginType, TrafficExtension, TrafficSelector,
    WasmConfig, WasmPlugin,
};
use config::selector::WorkloadMode;
use config::{Finding, ObjectKey, Spec};
use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, DataSource, HttpUri, RemoteDataSource, async_data_source, data_source::Specifier,
    http_uri::HttpUpstreamType,
};
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::http::lua::v3::Lua;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm as HttpWasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm as NetworkWasm;
use envoy_types::pb::envoy::extensions::wasm::v3::{
    EnvironmentVariables, FailurePolicy, PluginConfig, VmConfig, plugin_config,
};
use envoy_types::pb::google::protobuf::{Any, StringValue};
use model::{Service, Snapshot};

use crate::filter;
use crate::names;
use crate::reflect;
use crate::telemetry::Side;
use crate::wire::{plain_any, seconds};

/// A filter and where it goes.
#[derive(Debug, Clone)]
struct Extension {
    phase: ExecutionPhase,
    traffic: Vec<TrafficSelector>,
    filter: Made,
}

#[derive(Debug, Clone)]
enum Made {
    Http(HttpFilter),
    Network(Filter),
}

/// What users add to a workload's filters.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    /// Within a phase in the order of the filters.
    all: Vec<Extension>,
    /// The objects that they come from.
    pub(crate) origins: Vec<ObjectKey>,
    /// Where modules come from.
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) findings: Vec<Finding>,
}

/// Why an extension cannot be used: the field below `spec` and the reason.
type Fault = (&'static str, String);

impl Extensions {
    pub(crate) fn new(snapshot: &Snapshot, keys: &[ObjectKey], namespace: &str) -> Extensions {
        let mut out = Extensions::default();
        let mut sorted: Vec<(i32, Extension)> = Vec::new();
        for key in keys {
            let Some(object) = snapshot.objects().get(key) else {
                continue;
            };
            let mut sources = Sources {
                snapshot,
                namespace,
                services: Vec::new(),
            };
            let made = match &object.spec {
                Spec::WasmPlugin(plugin) => of_plugin(key, plugin, &mut sources),
                Spec::TrafficExtension(extension) => of_extension(key, extension, &mut sources),
                _ => continue,
            };
            match made {
                Ok((priority, extension)) => {
                    sorted.push((priority, extension));
                    out.services.extend(sources.services);
                    out.origins.push(key.clone());
                }
                Err((path, reason)) => {
                    out.findings.push(
                        Finding::warning(reason)
                            .at(format!("spec.{path}"))
                            .of(key.clone()),
                    );
                }
            }
        }
        // The highest priority comes first (Istio).
        sorted.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        out.all = sorted.into_iter().map(|(_, extension)| extension).collect();
        out
    }

    /// HTTP filters with the extensions among them: AUTHN before tokens are checked, AUTHZ before policies decide, STATS after
    /// that, those without a phase last (Istio).
    pub(crate) fn weave(&self, filters: Vec<HttpFilter>, side: Side, port: u16) -> Vec<HttpFilter> {
        let is = |filter: &HttpFilter, names: &[&str]| names.iter().any(|name| filter.name == *name);
        let peers = filters
            .iter()
            .take_while(|f| is(f, &[filter::PEER, filter::HEADER_TO_METADATA]))
            .count();
        // External authorizers are asked before all else (Istio).
        let asks = filters.iter().rposition(|f| is(f, &[filter::EXT_AUTHZ]));
        let first = asks.map_or(peers, |at| at + 1);
        let last = |names: &[&str]| {
            filters
                .iter()
                .rposition(|f| is(f, names))
                .map_or(first, |at| at + 1)
        };
        let authz = last(&[filter::JWT]);
        let stats = last(&[filter::JWT, filter::HTTP_RBAC]);
        let places = [
            (ExecutionPhase::Authn, first),
            (ExecutionPhase::Authz, authz),
            (ExecutionPhase::Stats, stats),
            (ExecutionPhase::Unspecified, filters.len()),
        ];
        let mut out = Vec::with_capacity(filters.len() + self.all.len());
        let mut rest = filters.into_iter();
        let mut done = 0;
        for (phase, at) in places {
            out.extend(rest.by_ref().take(at.saturating_sub(done)));
            done = done.max(at);
            out.extend(self.of(phase, side, port).filter_map(|made| match made {
                Made::Http(filter) => Some(filter.clone()),
                Made::Network(_) => None,
            }));
        }
        out
    }

    /// Network filters, in the order of phases.
    pub(crate) fn network(&self, side: Side, port: u16) -> Vec<Filter> {
        use ExecutionPhase::{Authn, Authz, Stats, Unspecified};
        let all = [Authn, Authz, Stats, Unspecified]
            .into_iter()
            .flat_map(|phase| self.of(phase, side, port));
        let network = all.filter_map(|made| match made {
            Made::Network(filter) => Some(filter.clone()),
            Made::Http(_) => None,
        });
        network.collect()
    }

    fn of(&self, phase: ExecutionPhase, side: Side, port: u16) -> impl Iterator<Item = &Made> {
        let own = self.all.iter().filter(move |e| e.phase == phase);
        own.filter(move |e| e.traffic.is_empty() || e.traffic.iter().any(|t| sees(t, side, port)))
            .map(|e| &e.filter)
    }
}

fn sees(traffic: &TrafficSelector, side: Side, port: u16) -> bool {
    let mode = match traffic.mode {
        WorkloadMode::Undefined | WorkloadMode::ClientAndServer => true,
        WorkloadMode::Client => side == Side::Client,
        WorkloadMode::Server => side == Side::Server,
    };
    mode && (traffic.ports.is_empty() || traffic.ports.iter().any(|p| p.number == u32::from(port)))
}

fn of_plugin(
    key: &ObjectKey,
    plugin: &WasmPlugin,
    sources: &mut Sources<'_>,
) -> Result<(i32, Extension), Fault> {
    let config = WasmConfig {
        url: plugin.url.clone(),
        sha256: plugin.sha256.clone(),
        image_pull_policy: plugin.image_pull_policy,
        image_pull_secret: plugin.image_pull_secret.clone(),
        verification_key: plugin.verification_key.clone(),
        plugin_config: plugin.plugin_config.clone(),
        plugin_name: plugin.plugin_name.clone(),
        fail_strategy: plugin.fail_strategy,
        vm_config: plugin.vm_config.clone(),
        r#type: plugin.r#type,
    };
    let phase = match plugin.phase {
        PluginPhase::Unspecified => ExecutionPhase::Unspecified,
        PluginPhase::Authn => ExecutionPhase::Authn,
        PluginPhase::Authz => ExecutionPhase::Authz,
        PluginPhase::Stats => ExecutionPhase::Stats,
    };
    let name = format!("extensions.istio.io/wasmplugin/{}.{}", key.namespace, key.name);
    let extension = Extension {
        phase,
        traffic: plugin.r#match.clone(),
        filter: wasm(&name, key, &config, sources)?,
    };
    Ok((plugin.priority.unwrap_or_default(), extension))
}

fn of_extension(
    key: &ObjectKey,
    extension: &TrafficExtension,
    sources: &mut Sources<'_>,
) -> Result<(i32, Extension), Fault> {
    let name = format!(
        "extensions.istio.io/trafficextension/{}.{}",
        key.namespace, key.name
    );
    let filter = match (&extension.lua, &extension.wasm) {
        (Some(lua), _) => Made::Http(filter::http(&name, plain_any(&lua_config(&lua.inline_code)))),
        (None, Some(config)) => wasm(&name, key, config, sources)?,
        (None, None) => return Err(("wasm", "neither wasm nor lua is given".to_owned())),
    };
    let extension_of = Extension {
        phase: extension.phase,
        traffic: extension.r#match.clone(),
        filter,
    };
    Ok((extension.priority.unwrap_or_default(), extension_of))
}

fn lua_config(code: &str) -> Lua {
    Lua {
        default_source_code: Some(DataSource {
            specifier: Some(Specifier::InlineString(code.to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn wasm(name: &str, key: &ObjectKey, config: &WasmConfig, sources: &mut Sources<'_>) -> Result<Made, Fault> {
    if !config.verification_key.is_empty() {
        return Err((
            "verificationKey",
            "modules' signatures are not verified; name the module's sha256 instead".to_owned(),
        ));
    }
    let code = sources.code(&config.url, &config.sha256)?;
    let json = config
        .plugin_config
        .as_ref()
        .map(|map| serde_json::Value::Object(map.clone()).to_string());
    let plugin = PluginConfig {
        name: format!("{}.{}", key.namespace, key.name),
        root_id: config.plugin_name.clone(),
        configuration: json.map(|value| plain_any(&StringValue { value })),
        failure_policy: match config.fail_strategy {
            FailStrategy::FailClose => FailurePolicy::FailClosed,
            FailStrategy::FailOpen => FailurePolicy::FailOpen,
            FailStrategy::FailReload => FailurePolicy::FailReload,
        } as i32,
        vm: Some(plugin_config::Vm::VmConfig(VmConfig {
            runtime: "envoy.wasm.runtime.v8".to_owned(),
            code: Some(code),
            environment_variables: environment(config),
            ..Default::default()
        })),
        ..Default::default()
    };
    Ok(match config.r#type {
        PluginType::Unspecified | PluginType::Http => {
            Made::Http(filter::http(name, sorted(&HttpWasm { config: Some(plugin) })))
        }
        PluginType::Network => Made::Network(filter::network(
            name,
            sorted(&NetworkWasm { config: Some(plugin) }),
        )),
    })
}

fn environment(config: &WasmConfig) -> Option<EnvironmentVariables> {
    let all = &config.vm_config.as_ref()?.env;
    let (host, own): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|variable| variable.value_from == EnvValueSource::Host);
    Some(EnvironmentVariables {
        host_env_keys: host.iter().map(|variable| variable.name.clone()).collect(),
        key_values: own
            .iter()
            .map(|variable| (variable.name.clone(), variable.value.clone()))
            .collect(),
    })
}

/// Wraps a message whose maps are not among those that [`crate::wire`] knows.
fn sorted<M: prost::Message + prost::Name>(message: &M) -> Any {
    let mut any = plain_any(message);
    if let Ok(of) = reflect::descriptor(&M::full_name()) {
        any.value = reflect::canonical(&any.value, &of);
    }
    any
}

/// Where modules come from.
struct Sources<'a> {
    snapshot: &'a Snapshot,
    namespace: &'a str,
    services: Vec<Arc<Service>>,
}

impl Sources<'_> {
    fn code(&mut self, url: &str, sha256: &str) -> Result<AsyncDataSource, Fault> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("oci", url));
        let specifier = match scheme {
            "file" => async_data_source::Specifier::Local(DataSource {
                specifier: Some(Specifier::Filename(rest.to_owned())),
                ..Default::default()
            }),
            "http" | "https" => async_data_source::Specifier::Remote(self.remote(url, scheme, rest, sha256)?),
            other => {
                let reason =
                    format!("Envoy cannot pull {other} images; give the module as file:// or http(s)://");
                return Err(("url", reason));
            }
        };
        Ok(AsyncDataSource {
            specifier: Some(specifier),
        })
    }

    fn remote(
        &mut self,
        url: &str,
        scheme: &str,
        rest: &str,
        sha256: &str,
    ) -> Result<RemoteDataSource, Fault> {
        if sha256.is_empty() {
            return Err((
                "sha256",
                "Envoy fetches only modules whose checksum is known; name it".to_owned(),
            ));
        }
        let authority = rest.split('/').next().unwrap_or_default();
        let default = if scheme == "https" { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().unwrap_or(default)),
            None => (authority, default),
        };
        let service = self.snapshot.services().seen_from(host, self.namespace);
        let service = service
            .filter(|service| service.port(port).is_some())
            .ok_or_else(|| {
                (
                    "url",
                    format!("the mesh knows no service {host} with port {port}; add a ServiceEntry for it"),
                )
            })?;
        self.services.push(Arc::clone(service));
        Ok(RemoteDataSource {
            http_uri: Some(HttpUri {
                uri: url.to_owned(),
                timeout: seconds(30),
                http_upstream_type: Some(HttpUpstreamType::Cluster(names::outbound_cluster(
                    port,
                    "",
                    &service.host,
                ))),
            }),
            sha256: sha256.to_owned(),
            ..Default::default()
        })
    }
}
