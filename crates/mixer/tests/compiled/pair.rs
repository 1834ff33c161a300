//! A workload with two proxies: one decides by its rules, the other asks a real Mixer about each request.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::core::v3::{DataSource, TransportSocket, data_source::Specifier};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, TlsCertificate, UpstreamTlsContext,
};
use envoy_types::util::pack_any;
use envoygen::{Generator, Settings};
use prost::Message;
use runtime::{Identity, Svid};
use testkit::net::Block;

use crate::common::server::Server;
use crate::common::state;
use crate::support::envoy::{Running, echo, run};
use crate::support::{manager, snapshot, tables};
use crate::tcp::repeat;

/// The workload's port for HTTP.
pub(crate) const HTTP: u16 = 8080;
/// The first of those for other connections, and how many there are.
pub(crate) const TCP: u16 = 9001;
pub(crate) const TCP_PORTS: u16 = 12;
/// Where the application listens for them.
const APPLICATION: u16 = 9000;
/// Last number of the addresses of the two proxies.
pub(crate) const COMPILED: u8 = 3;
pub(crate) const ASKED: u8 = 4;

const ENVOY: &str = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";

/// A condition that no proxy can decide: labels of callers are Mixer's to know. It says the same.
pub(crate) fn forced(condition: &str) -> String {
    format!(r#"{condition} && ((source.labels["none"] | "x") == "x")"#)
}

/// The proxies, and Mixer.
pub(crate) struct Pair {
    pub(crate) compiled: Running,
    pub(crate) asked: Running,
    pub(crate) place: Place,
}

/// Where they are.
pub(crate) struct Place {
    pub(crate) block: Block,
    pub(crate) server: Server,
}

impl Pair {
    /// A pair with the rules that `rules` gives, those for the proxy that decides and those for the one that asks; none where there
    /// is no Envoy.
    pub(crate) async fn of(rules: impl FnOnce(&Place) -> (String, String)) -> Option<Self> {
        let place = Place {
            block: Block::take().unwrap(),
            server: Server::start().await,
        };
        let (compiled, asked) = rules(&place);
        let mesh = place.mesh(ASKED);
        place.server.mixer.configure(state([mesh.as_str(), &asked]));
        let findings = place.server.mixer.findings();
        assert!(findings.iter().all(|finding| !finding.is_error()), "{findings:?}");
        echo(&place.block.addr(2, HTTP).to_string());
        repeat(place.block.addr(2, APPLICATION));
        let compiled = place.run(COMPILED, &compiled)?;
        let asked = place.run(ASKED, &asked)?;
        Some(Self {
            compiled,
            asked,
            place,
        })
    }
}

impl Place {
    /// The mesh with the proxy at this address.
    fn mesh(&self, proxy: u8) -> String {
        let prefix = self.block.prefix();
        let ports = || (TCP..TCP + TCP_PORTS).map(|port| format!("{{name: tcp-{port}, port: {port}}}"));
        let ports: Vec<String> = ports().collect();
        let ingress = |port: u16, protocol: &str, to: u16| {
            format!(
                "{{port: {{number: {port}, protocol: {protocol}, name: p-{port}}}, bind: {prefix}{proxy}, captureMode: NONE, defaultEndpoint: \"{prefix}2:{to}\"}}"
            )
        };
        let tcp = (TCP..TCP + TCP_PORTS).map(|port| ingress(port, "TCP", APPLICATION));
        let ingress: Vec<String> = tcp.chain([ingress(HTTP, "HTTP", HTTP)]).collect();
        format!(
            "
{{apiVersion: v1, kind: Service, metadata: {{name: echo, namespace: shop}}, spec: {{selector: {{app: echo}}, ports: [{{name: http, port: 80, targetPort: 8080}}, {}]}}}}
---
{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: echo-v1, namespace: shop}}, spec: {{address: {prefix}2, serviceAccount: echo, labels: {{app: echo, version: v1}}}}}}
---
{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: echo, namespace: shop}}, spec: {{workloadSelector: {{labels: {{app: echo}}}}, egress: [{{hosts: [\"~/*\"]}}], ingress: [{}]}}}}
",
            ports.join(", "),
            ingress.join(", ")
        )
    }

    pub(crate) fn generator(&self, proxy: u8, rules: &str) -> Generator {
        let settings = Settings {
            mixer_address: Some(self.server.address.clone()),
            ..Settings::default()
        };
        Generator::new(snapshot(&[&self.mesh(proxy), "---\n", rules]), settings)
    }

    fn run(&self, proxy: u8, rules: &str) -> Option<Running> {
        let generator = self.generator(proxy, rules);
        let node = format!(
            "sidecar~{}2~echo-v1.shop~shop.svc.cluster.local",
            self.block.prefix()
        );
        let own = self.server.root.identity("shop", "echo").current();
        let admin = self.block.addr(proxy, 15000).to_string();
        run(&tables(&generator, &node), &admin, |bootstrap| {
            edit(bootstrap, &own);
        })
    }

    pub(crate) fn identity(&self, namespace: &str, account: &str) -> Identity {
        self.server.root.identity(namespace, account)
    }
}

/// Certificates that Pilot's agent would bring are written in, and all requests are asked about, not those alone for which a rule may
/// hold by what the proxy knows: that is told by the code that is tried here.
fn edit(bootstrap: &mut Bootstrap, own: &Svid) {
    let resources = bootstrap.static_resources.as_mut().unwrap();
    resources.listeners.retain(|listener| {
        let port = listener
            .name
            .rsplit('_')
            .next()
            .and_then(|port| port.parse().ok());
        port.is_some_and(|port: u16| port == HTTP || (TCP..TCP + TCP_PORTS).contains(&port))
    });
    for chain in resources
        .listeners
        .iter_mut()
        .flat_map(|one| &mut one.filter_chains)
    {
        if let Some(socket) = &mut chain.transport_socket {
            change(socket, |context: &mut DownstreamTlsContext| {
                fill(context.common_tls_context.as_mut().unwrap(), own);
            });
        }
        for filter in &mut chain.filters {
            let Some(mut manager) = manager(filter) else {
                continue;
            };
            for filter in &mut manager.http_filters {
                if let Some(http_filter::ConfigType::TypedConfig(any)) = &mut filter.config_type
                    && any.type_url == ENVOY
                {
                    let mut asks = ExtAuthz::decode(any.value.as_slice()).unwrap();
                    asks.filter_enabled_metadata = None;
                    *any = pack_any(asks);
                }
            }
            filter.config_type = Some(ConfigType::TypedConfig(pack_any(manager)));
        }
    }
    for cluster in &mut resources.clusters {
        if let Some(socket) = &mut cluster.transport_socket {
            change(socket, |context: &mut UpstreamTlsContext| {
                fill(context.common_tls_context.as_mut().unwrap(), own);
            });
        }
    }
}

fn change<M: Message + Default + prost::Name>(socket: &mut TransportSocket, by: impl FnOnce(&mut M)) {
    let Some(SocketConfig::TypedConfig(any)) = &mut socket.config_type else {
        return;
    };
    let mut context = M::decode(any.value.as_slice()).unwrap();
    by(&mut context);
    any.value = context.encode_to_vec();
}

/// Writes the certificate, its key and the roots into a context, instead of where they come from.
fn fill(context: &mut CommonTlsContext, own: &Svid) {
    let text = |text: &str| {
        Some(DataSource {
            specifier: Some(Specifier::InlineString(text.to_owned())),
            ..Default::default()
        })
    };
    context.tls_certificate_sds_secret_configs.clear();
    context.tls_certificates = vec![TlsCertificate {
        certificate_chain: text(&own.chain_pem()),
        private_key: text(&own.key_pem()),
        ..Default::default()
    }];
    let mut validation = match context.validation_context_type.take() {
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined.default_validation_context.unwrap_or_default()
        }
        _ => Default::default(),
    };
    validation.trusted_ca = text(&own.roots_pem());
    context.validation_context_type = Some(ValidationContextType::ValidationContext(validation));
}
