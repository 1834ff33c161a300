//! What Pilot makes of rules for the called workload's proxy, as an Envoy without a control plane takes it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{DataSource, TransportSocket, data_source::Specifier};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, TlsCertificate, UpstreamTlsContext,
};
use envoy_types::util::pack_any;
use envoygen::{Generator, Interception, Proxy, Scope, Settings, type_url};
use model::Snapshot;
use prost::Message;

use super::rules::NODE;

/// A listener of the called workload, and the clusters that it needs.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) listener: Listener,
    pub(super) clusters: Vec<Cluster>,
}

/// The snapshot of objects in YAML, which must be right.
pub(super) fn objects(yaml: &str) -> anyhow::Result<Vec<Arc<config::Object>>> {
    let parsed = config::parse("bench.yaml", yaml.as_bytes(), "shop");
    let errors: Vec<_> = parsed.findings.iter().filter(|f| f.is_error()).collect();
    anyhow::ensure!(errors.is_empty(), "{errors:?}");
    Ok(parsed.objects.into_iter().map(Arc::new).collect())
}

/// The inbound listener at `port` for a mesh in YAML, whose Mixer is at `mixer`; its filters are Pilot's, to the byte. Certificates
/// come from `folder`, where Pilot's come from the agent; and of the listener's chains only that without TLS stays, since the
/// load has none.
pub(super) fn inbound(
    yaml: &str,
    port: u16,
    mixer: Option<SocketAddr>,
    folder: &Path,
) -> anyhow::Result<Inbound> {
    let settings = Settings {
        mixer_address: mixer.map(|address| address.to_string()),
        ..Settings::default()
    };
    let generator = Generator::new(Arc::new(Snapshot::build(objects(yaml)?)), settings);
    let mut proxy = Proxy::parse(NODE, None)?;
    proxy.interception = Some(Interception::None);
    let output = generator.generate(&Scope::of(&proxy, &generator));

    let suffix = format!("_{port}");
    let found = output
        .of_type(type_url::LISTENER)
        .find(|resource| resource.name.ends_with(&suffix))
        .with_context(|| format!("Pilot makes no listener at {port}"))?;
    let mut listener = Listener::decode(found.bytes.clone())?;
    listener
        .filter_chains
        .retain(|chain| chain.transport_socket.is_none());
    listener.filter_chains.truncate(1);
    for chain in &mut listener.filter_chains {
        chain.filter_chain_match = None;
    }
    listener.listener_filters.clear();
    let inbound = format!("inbound|{port}|");
    let mut clusters = Vec::new();
    for resource in output.of_type(type_url::CLUSTER) {
        let mut cluster = Cluster::decode(resource.bytes.clone())?;
        if is_mixer(&cluster.name) {
            cluster.transport_socket = Some(tls(folder));
        } else if !cluster.name.starts_with(&inbound) {
            continue;
        }
        clusters.push(cluster);
    }
    Ok(Inbound { listener, clusters })
}

/// Whether a cluster leads to a Mixer.
pub(super) fn is_mixer(cluster: &str) -> bool {
    cluster.contains("|argosy.")
}

/// Mutual TLS with the files that [`super::envoy::Envoy::start`] writes.
fn tls(folder: &Path) -> TransportSocket {
    let file = |kind: &str| {
        Some(DataSource {
            specifier: Some(Specifier::Filename(folder.join(kind).display().to_string())),
            ..Default::default()
        })
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificates: vec![TlsCertificate {
                certificate_chain: file("chain"),
                private_key: file("key"),
                ..Default::default()
            }],
            validation_context_type: Some(ValidationContextType::ValidationContext(
                CertificateValidationContext {
                    trusted_ca: file("root"),
                    ..Default::default()
                },
            )),
            alpn_protocols: vec!["h2".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    TransportSocket {
        name: "tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(context))),
    }
}
