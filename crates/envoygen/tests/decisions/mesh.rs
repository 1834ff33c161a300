//! Workloads with policies, the inbound tables of all of them in one Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authz::PolicySet;
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, data_source::Specifier, transport_socket::ConfigType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, DownstreamTlsContext, Secret, TlsCertificate,
    common_tls_context::ValidationContextType, secret,
};
use envoy_types::util::pack_any;
use envoygen::Output;
use model::Snapshot;
use prost::Message;

use crate::authorizer;
use crate::certificates::{Authority, Leaf, Signer};
use crate::support::{envoy, generator, tables};

/// Identities that callers may have.
pub(crate) const PEERS: [&str; 6] = [
    "spiffe://cluster.local/ns/a/sa/x",
    "spiffe://cluster.local/ns/b/sa/y",
    "spiffe://old.example/ns/a/sa/x",
    "spiffe://cluster.local/ns/ab/sa/xx",
    "spiffe://cluster.local/ns/a.b/sa/x.y",
    "spiffe://cluster.local/ns/aXb/sa/xXy",
];

/// Where RBAC filters leave what trials would do.
const RBAC: &str = "envoy.filters.http.rbac";

/// The mesh without its workloads: a trust domain with an alias, three authorizers, and a log.
fn base(authorizer: &str, by_grpc: u16, log: &str, normalization: &str) -> String {
    let (host, port) = authorizer.rsplit_once(':').unwrap();
    format!(
        r#"
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {{name: istio, namespace: istio-system}}
spec:
  trustDomain: cluster.local
  trustDomainAliases: [old.example]
  pathNormalization: {{normalization: {normalization}}}
  accessLogFile: {log}
  accessLogFormat: "%REQ(X-CASE)% %DYNAMIC_METADATA(envoy.common:access_log_hint)% %DYNAMIC_METADATA({RBAC}:istio_dry_run_deny_shadow_engine_result)% %DYNAMIC_METADATA({RBAC}:istio_dry_run_allow_shadow_engine_result)%\n"
  extensionProviders:
  - name: asked
    envoyExtAuthzHttp: {{service: asked.example, port: 80, includeRequestHeadersInCheck: [x-answer], timeout: 5s}}
  - name: asked-too
    envoyExtAuthzHttp: {{service: asked.example, port: 80, pathPrefix: /too, includeRequestHeadersInCheck: [x-answer], timeout: 5s}}
  - name: asked-grpc
    envoyExtAuthzGrpc: {{service: asked-grpc.example, port: 80, timeout: 5s}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: asked-grpc, namespace: istio-system}}
spec: {{hosts: [asked-grpc.example], location: MESH_EXTERNAL, ports: [{{number: 80, name: grpc, protocol: GRPC, targetPort: {by_grpc}}}], resolution: STATIC, endpoints: [{{address: {host}}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: asked, namespace: istio-system}}
spec: {{hosts: [asked.example], location: MESH_EXTERNAL, ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}], resolution: STATIC, endpoints: [{{address: {host}}}]}}
"#
    )
}

/// A workload: HTTP on 8080, bytes on 9090.
fn workload(at: usize, address: IpAddr, echo: &str) -> String {
    format!(
        r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: w, namespace: w{at}}}
spec: {{address: {address}, serviceAccount: w, labels: {{app: w}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: w, namespace: w{at}}}
spec:
  ingress:
  - {{port: {{number: 8080, protocol: HTTP, name: http}}, bind: {address}, captureMode: NONE, defaultEndpoint: "{echo}"}}
  - {{port: {{number: 9090, protocol: TCP, name: tcp}}, bind: {address}, captureMode: NONE, defaultEndpoint: "{echo}"}}
"#
    )
}

/// A running Envoy with many workloads.
pub(crate) struct Mesh {
    snapshot: Arc<Snapshot>,
    documents: Vec<String>,
    addresses: Vec<IpAddr>,
    pub(crate) peers: BTreeMap<String, Leaf>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) stranger: Arc<Signer>,
    envoy: envoy::Running,
    log: tempfile::TempDir,
}

/// What the log says of a request.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) audited: bool,
    /// What DENY and ALLOW policies on trial would have done: `allowed`, `denied`, or `-`.
    pub(crate) trial_of_deny: String,
    pub(crate) trial_of_allow: String,
}

/// Blocks of loopback addresses, one for each Envoy of this process.
static BLOCKS: Mutex<u8> = Mutex::new(0);

/// A block of loopback addresses that nobody else has: three of the four numbers.
pub(crate) fn block() -> String {
    let mut last = BLOCKS.lock().unwrap();
    *last += 1;
    let pid = std::process::id();
    format!(
        "127.{}.{}",
        200 + pid % 50,
        (pid / 50 + u32::from(*last)) % 250 + 1
    )
}

impl Mesh {
    /// Workloads with these documents in their namespaces (`w0`, `w1`, …; `JWKS` stands for the signer's keys). None where
    /// there is no Envoy.
    pub(crate) fn start(documents: &[String]) -> Option<Mesh> {
        Mesh::start_with("DEFAULT", documents)
    }

    /// As [`Mesh::start`], with this `pathNormalization`.
    pub(crate) fn start_with(normalization: &str, documents: &[String]) -> Option<Mesh> {
        let block = block();
        let (echo, authorizer) = (format!("{block}.250:8000"), format!("{block}.251:8000"));
        envoy::echo(&echo);
        envoy::serve(&authorizer, answer);
        let by_grpc = authorizer::serve(&format!("{block}.251"));
        let log = tempfile::tempdir().unwrap();
        let signer = Signer::new();
        let addresses: Vec<IpAddr> = (0..documents.len())
            .map(|at| format!("{block}.{}", at + 1).parse().unwrap())
            .collect();
        let jwks = signer.jwks.replace('"', "\\\"");
        let documents: Vec<String> = documents.iter().map(|text| text.replace("JWKS", &jwks)).collect();
        let path = log.path().join("log");
        let mut texts = vec![base(&authorizer, by_grpc, path.to_str().unwrap(), normalization)];
        for (at, text) in documents.iter().enumerate() {
            texts.push(workload(at, addresses[at], "0.0.0.0:8000"));
            texts.push(text.clone());
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let generator = generator(&texts);
        let mut all = Output::default();
        for (at, address) in addresses.iter().enumerate() {
            let node = format!("sidecar~{address}~w.w{at}~w{at}.svc.cluster.local");
            all.resources.extend(tables(&generator, &node).resources);
        }
        let authority = Authority::new();
        let own = authority.leaf("spiffe://cluster.local/ns/w/sa/w");
        let edit = |bootstrap: &mut Bootstrap| {
            serve(bootstrap, &authority, &own);
            send_to(bootstrap, &echo);
        };
        let running = envoy::run(&all, &format!("{block}.252:8001"), edit)?;
        let mesh = Mesh {
            snapshot: generator.snapshot().clone(),
            documents,
            addresses,
            peers: PEERS
                .iter()
                .map(|id| ((*id).to_owned(), authority.leaf(id)))
                .collect(),
            signer,
            stranger: Signer::new(),
            envoy: running,
            log,
        };
        mesh.wait();
        Some(mesh)
    }

    /// Waits until each workload is listened for.
    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        for address in &self.addresses {
            for port in [8080, 9090] {
                while std::net::TcpStream::connect((*address, port)).is_err() {
                    assert!(Instant::now() < until, "nobody listens at {address}:{port}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    /// What the log says of the request that was sent by this name.
    pub(crate) fn logged(&self, case: &str) -> Logged {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let log = std::fs::read_to_string(self.log.path().join("log")).unwrap_or_default();
            let mut lines = log.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            if let Some(words) = lines.find(|words| words[0] == case) {
                let word = |at: usize| words[at].trim_matches('"').to_owned();
                return Logged {
                    audited: word(1) == "true",
                    trial_of_deny: word(2),
                    trial_of_allow: word(3),
                };
            }
            assert!(Instant::now() < until, "{case} is not in the log {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All of Envoy's counters whose names end so, summed up.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let page = self.envoy.page("/stats", name);
        let values = page.lines().filter_map(|line| line.split_once(": "));
        let own = values.filter(|(full, _)| full.ends_with(name));
        own.map(|(_, value)| value.trim().parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn workloads(&self) -> usize {
        self.documents.len()
    }

    pub(crate) fn address(&self, workload: usize) -> IpAddr {
        self.addresses[workload]
    }

    pub(crate) fn text(&self, workload: usize) -> &str {
        &self.documents[workload]
    }

    pub(crate) fn set(&self, workload: usize) -> PolicySet {
        let labels = BTreeMap::from([("app".to_owned(), "w".to_owned())]);
        PolicySet::of(&self.snapshot, &format!("w{workload}"), &labels)
    }
}

/// The authorizers: they answer by a header, each by its own word.
fn answer(head: &str) -> u16 {
    let word = if head.lines().next().unwrap_or_default().contains(" /too") {
        "too"
    } else {
        "asked"
    };
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let said = lines.find(|(name, _)| name.eq_ignore_ascii_case("x-answer"));
    if said.is_some_and(|(_, value)| value.contains(word)) {
        200
    } else {
        403
    }
}

/// One of each name; certificates of the test's own authority instead of the agent's.
fn serve(bootstrap: &mut Bootstrap, authority: &Authority, own: &Leaf) {
    let resources = bootstrap.static_resources.as_mut().unwrap();
    let mut names = BTreeSet::new();
    resources
        .clusters
        .retain(|cluster| names.insert(cluster.name.clone()));
    let mut names = BTreeSet::new();
    let inbound = |name: &str| name.ends_with("_8080") || name.ends_with("_9090");
    resources
        .listeners
        .retain(|listener| inbound(&listener.name) && names.insert(listener.name.clone()));
    let text = |text: &str| {
        Some(DataSource {
            specifier: Some(Specifier::InlineString(text.to_owned())),
            ..Default::default()
        })
    };
    let secret = |name: &str, kind| Secret {
        name: name.to_owned(),
        r#type: Some(kind),
    };
    resources.secrets = vec![
        secret(
            "default",
            secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: text(&own.chain_pem),
                private_key: text(&own.key_pem),
                ..Default::default()
            }),
        ),
        secret(
            "ROOTCA",
            secret::Type::ValidationContext(CertificateValidationContext {
                trusted_ca: text(&authority.pem),
                ..Default::default()
            }),
        ),
    ];
    let chains = resources
        .listeners
        .iter_mut()
        .flat_map(|listener| &mut listener.filter_chains);
    for socket in chains.filter_map(|chain| chain.transport_socket.as_mut()) {
        let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
            continue;
        };
        let mut context = DownstreamTlsContext::decode(any.value.as_slice()).unwrap();
        let common = context.common_tls_context.as_mut().unwrap();
        for secret in &mut common.tls_certificate_sds_secret_configs {
            secret.sds_config = None;
        }
        if let Some(ValidationContextType::CombinedValidationContext(combined)) =
            &mut common.validation_context_type
        {
            let sds = combined.validation_context_sds_secret_config.as_mut();
            sds.unwrap().sds_config = None;
        }
        socket.config_type = Some(ConfigType::TypedConfig(pack_any(context)));
    }
}

/// Makes the workloads' applications one.
fn send_to(bootstrap: &mut Bootstrap, echo: &str) {
    use envoy_types::pb::envoy::config::core::v3::{address, socket_address::PortSpecifier};
    use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
    let (host, port) = echo.rsplit_once(':').unwrap();
    for cluster in &mut bootstrap.static_resources.as_mut().unwrap().clusters {
        if !cluster.name.starts_with("inbound|") {
            continue;
        }
        cluster.upstream_bind_config = None;
        let localities = cluster
            .load_assignment
            .iter_mut()
            .flat_map(|set| &mut set.endpoints);
        for endpoint in localities.flat_map(|locality| &mut locality.lb_endpoints) {
            let Some(HostIdentifier::Endpoint(endpoint)) = &mut endpoint.host_identifier else {
                continue;
            };
            let Some(address::Address::SocketAddress(socket)) = endpoint
                .address
                .as_mut()
                .and_then(|address| address.address.as_mut())
            else {
                continue;
            };
            socket.address = host.to_owned();
            socket.port_specifier = Some(PortSpecifier::PortValue(port.parse().unwrap()));
        }
    }
}
