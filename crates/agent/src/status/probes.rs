//! The kubelet's probes of the application, passed on: the kubelet asks the agent, and the agent the application, as the injector
//! wrote it down (`ISTIO_KUBE_APP_PROBERS`). The application would refuse the kubelet, which has no certificate of the mesh's.
//!
//! Connections come from an address that redirection leaves alone, so they reach the application past Envoy, also while that is
//! not there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use reqwest::redirect::Policy;
use serde::Deserialize;
use tokio::net::TcpSocket;
use tonic::transport::Endpoint;

/// Kubernetes' default for `timeoutSeconds`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time for a probe.
const LONGEST: Duration = Duration::from_secs(600);
/// Most redirects, as the kubelet follows them.
const REDIRECTS: usize = 10;
/// Largest text of all probes, in bytes.
const MAX_TEXT: usize = 1 << 20;
/// Headers that belong to the kubelet's own connection.
const HOP_BY_HOP: [header::HeaderName; 4] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// The injector's record is not what injectors write.
#[derive(Debug, thiserror::Error)]
#[error("ISTIO_KUBE_APP_PROBERS is not what the injector writes ({0}); have the pod made anew")]
pub struct RecordError(String);

/// What is asked of the application.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocketProbe>,
    grpc: Option<Grpc>,
    #[serde(default)]
    timeout_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: u16,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct TcpSocketProbe {
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Grpc {
    port: u16,
    #[serde(default)]
    service: Option<String>,
}

/// Passes probes on. Clones share connections.
#[derive(Debug, Clone)]
pub struct Probes {
    probes: BTreeMap<String, Probe>,
    own: IpAddr,
    client: reqwest::Client,
}

impl Probes {
    /// The probes of the record (an empty one has none), to the application at `own`.
    ///
    /// # Errors
    /// When the record is not what the injector writes.
    pub fn read(record: &str, own: IpAddr) -> Result<Self, RecordError> {
        if record.len() > MAX_TEXT {
            return Err(RecordError("larger than 1 MiB".to_owned()));
        }
        let failed = |error: &dyn std::error::Error| RecordError(error.to_string());
        let probes = match record.trim() {
            "" => BTreeMap::new(),
            text => serde_json::from_str(text).map_err(|error| failed(&error))?,
        };
        let client = reqwest::Client::builder()
            .local_address(past_envoy(own))
            // The kubelet verifies no certificate of a probe either.
            .tls_danger_accept_invalid_certs(true)
            .redirect(Policy::limited(REDIRECTS))
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self { probes, own, client })
    }

    /// What the application answers to the probe that the kubelet asks for by this path; `None` for one that is not known.
    pub async fn ask(&self, path: &str, headers: &HeaderMap) -> Option<StatusCode> {
        let probe = self.probes.get(path)?;
        let bound = match probe.timeout_seconds {
            0 => DEFAULT_TIMEOUT,
            seconds => Duration::from_secs(seconds).min(LONGEST),
        };
        let asked = tokio::time::timeout(bound, self.pass_on(probe, headers)).await;
        let outcome = asked.unwrap_or_else(|_| Err(format!("no answer within {bound:?}")));
        Some(outcome.unwrap_or_else(|reason| {
            tracing::warn!(path, reason, "a probe of the application failed");
            StatusCode::INTERNAL_SERVER_ERROR
        }))
    }

    async fn pass_on(&self, probe: &Probe, headers: &HeaderMap) -> Result<StatusCode, String> {
        match probe {
            Probe {
                http_get: Some(http), ..
            } => self.http(http, headers).await,
            Probe {
                tcp_socket: Some(tcp),
                ..
            } => self.tcp(tcp.port).await,
            Probe { grpc: Some(grpc), .. } => self.grpc(grpc).await,
            _ => Err("the record says nothing to ask".to_owned()),
        }
    }

    async fn http(&self, probe: &HttpGet, headers: &HeaderMap) -> Result<StatusCode, String> {
        let scheme = if probe.scheme.eq_ignore_ascii_case("https") {
            "https"
        } else {
            "http"
        };
        let address = SocketAddr::new(self.own, probe.port);
        let slash = if probe.path.starts_with('/') { "" } else { "/" };
        let url = format!("{scheme}://{address}{slash}{}", probe.path);
        let mut request = self.client.get(url);
        for (name, value) in headers.iter().filter(|(name, _)| !HOP_BY_HOP.contains(name)) {
            request = request.header(name, value);
        }
        let mut own = probe.http_headers.iter();
        if let Some(host) = own.find(|header| header.name.eq_ignore_ascii_case("host")) {
            request = request.header(header::HOST, &host.value);
        }
        let response = request.send().await;
        response
            .map(|response| response.status())
            .map_err(|error| chain(&error))
    }

    async fn tcp(&self, port: u16) -> Result<StatusCode, String> {
        let socket = if self.own.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        };
        let connect = async {
            let socket = socket?;
            socket.bind(SocketAddr::new(past_envoy(self.own), 0))?;
            socket.connect(SocketAddr::new(self.own, port)).await
        };
        let connected = connect.await;
        connected
            .map(|_| StatusCode::OK)
            .map_err(|error| error.to_string())
    }

    async fn grpc(&self, probe: &Grpc) -> Result<StatusCode, String> {
        let address = SocketAddr::new(self.own, probe.port);
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| chain(&error))?;
        let endpoint = endpoint.local_address(Some(past_envoy(self.own)));
        let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|error| chain(&error))?;
        let request = tonic::Request::new(HealthCheckRequest {
            service: probe.service.clone().unwrap_or_default(),
        });
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let answer = client.unary(request, path, codec).await;
        match answer.map_err(|status| status.to_string())?.into_inner().status {
            SERVING => Ok(StatusCode::OK),
            status => Err(format!("its health is {status}, not SERVING ({SERVING})")),
        }
    }
}

/// The address that redirection leaves alone (Istio's choice).
fn past_envoy(own: IpAddr) -> IpAddr {
    match own {
        IpAddr::V4(_) => Ipv4Addr::new(127, 0, 0, 6).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    runtime::context::describe(error)
}

/// `SERVING` of gRPC's health protocol (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    /// An application, and probes of it as the injector writes them.
    async fn application() -> Probes {
        let page = |ConnectInfo(from): ConnectInfo<SocketAddr>, headers: HeaderMap| async move {
            let host = headers.get("host").is_some_and(|host| host == "shop.example");
            let told = headers.get("x-probe").is_some_and(|value| value == "1");
            match host && told && from.ip() == Ipv4Addr::new(127, 0, 0, 6) {
                true => StatusCode::IM_A_TEAPOT,
                false => StatusCode::FORBIDDEN,
            }
        };
        let router = Router::new()
            .route("/ready", get(page))
            .route("/slow", get(std::future::pending::<&str>))
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let record = serde_json::json!({
            "/app-health/app/readyz": {"httpGet": {"path": "ready", "port": port, "httpHeaders": [{"name": "Host", "value": "shop.example"}]}, "timeoutSeconds": 5},
            "/app-health/app/startupz": {"httpGet": {"path": "/slow", "port": port}},
            "/app-health/app/livez": {"tcpSocket": {"port": port}},
            "/app-health/app/prestopz": {"tcpSocket": {"port": closed}},
            "/app-health/web/livez": {"grpc": {"port": port, "service": "s"}, "timeoutSeconds": 5},
        });
        Probes::read(&record.to_string(), Ipv4Addr::LOCALHOST.into()).unwrap()
    }

    #[tokio::test]
    async fn the_application_is_asked_and_its_status_passed_on() {
        let probes = application().await;
        let mut headers = HeaderMap::new();
        headers.insert("x-probe", "1".parse().unwrap());
        headers.insert("host", "10.0.0.7:15020".parse().unwrap());
        for (path, expected) in [
            ("/app-health/app/readyz", Some(StatusCode::IM_A_TEAPOT)),
            ("/app-health/app/livez", Some(StatusCode::OK)),
            (
                "/app-health/app/prestopz",
                Some(StatusCode::INTERNAL_SERVER_ERROR),
            ),
            (
                "/app-health/app/startupz",
                Some(StatusCode::INTERNAL_SERVER_ERROR),
            ),
            ("/app-health/web/livez", Some(StatusCode::INTERNAL_SERVER_ERROR)),
            ("/app-health/other/livez", None),
        ] {
            assert_eq!(probes.ask(path, &headers).await, expected, "{path}");
        }
    }

    #[tokio::test]
    async fn grpcs_health_protocol_is_spoken() {
        for (status, expected) in [(SERVING, StatusCode::OK), (2, StatusCode::INTERNAL_SERVER_ERROR)] {
            let port = grpc_health(status).await;
            let record = format!(
                r#"{{"/g": {{"grpc": {{"port": {port}, "service": "shop"}}, "timeoutSeconds": 5}}}}"#
            );
            let probes = Probes::read(&record, Ipv4Addr::LOCALHOST.into()).unwrap();
            assert_eq!(probes.ask("/g", &HeaderMap::new()).await, Some(expected));
        }
    }

    /// A server that answers `status` for the service `shop`.
    async fn grpc_health(status: i32) -> u16 {
        use prost::Message;

        let page = axum::routing::post(move |body: bytes::Bytes| async move {
            let asked = HealthCheckRequest::decode(body.slice(5..)).unwrap();
            assert_eq!(asked.service, "shop");
            let message = HealthCheckResponse { status }.encode_to_vec();
            let mut frame = vec![0, 0, 0, 0, message.len() as u8];
            frame.extend(message);
            let headers = [("content-type", "application/grpc"), ("grpc-status", "0")];
            (headers, frame)
        });
        let router = Router::new().route("/grpc.health.v1.Health/Check", page);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    #[test]
    fn a_record_of_others_is_refused() {
        let own = Ipv4Addr::LOCALHOST.into();
        let error = Probes::read("{\"/x\": 3}", own).unwrap_err().to_string();
        assert!(error.starts_with("ISTIO_KUBE_APP_PROBERS is not"), "{error}");
        assert!(Probes::read("", own).is_ok());
    }
}
