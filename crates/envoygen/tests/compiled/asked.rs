//! A server in Mixer's place that keeps what it is asked, for what a real Mixer does not show.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::core::v3::{
    Address, SocketAddress, address, socket_address::PortSpecifier,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use tonic::{Request, Response, Status};

/// What was asked: the gRPC metadata by which a call says what it is about, and the message.
pub(crate) type Call = (Option<String>, CheckRequest);

/// The server. It refuses what has the header `x-user: mallory`, and connections of which it is told `deny-tcp`;
/// from answers to `x-user: quiet` it has a header taken away, and `x-user: down` it cannot decide on.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    calls: Arc<Mutex<Vec<Call>>>,
    delay: Duration,
}

#[tonic::async_trait]
impl Authorization for Asked {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let sent = request.metadata().get(policy::SENT);
        let sent = sent.map(|sent| sent.to_str().unwrap().to_owned());
        let message = request.into_inner();
        self.calls.lock().unwrap().push((sent.clone(), message.clone()));
        tokio::time::sleep(self.delay).await;
        let http = message.attributes.and_then(|attributes| attributes.request?.http);
        let user = http.and_then(|http| http.headers.get("x-user").cloned());
        if user.as_deref() == Some("down") {
            return Err(Status::failed_precondition("its store is away"));
        }
        let refused =
            user.as_deref() == Some("mallory") || sent.is_some_and(|sent| sent.contains("deny-tcp"));
        let yes = Value {
            kind: Some(Kind::BoolValue(true)),
        };
        let status = RpcStatus {
            code: if refused { 7 } else { 0 },
            ..Default::default()
        };
        Ok(Response::new(CheckResponse {
            status: Some(status),
            dynamic_metadata: (user.as_deref() == Some("quiet")).then(|| Struct {
                fields: [(policy::removal("x-powered-by"), yes)].into(),
            }),
            ..Default::default()
        }))
    }
}

impl Asked {
    /// A server that answers after a while; its port on 127.0.0.1.
    pub(crate) fn serve(delay: Duration) -> (Asked, u16) {
        let asked = Asked {
            delay,
            ..Asked::default()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = asked.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                let server =
                    tonic::transport::Server::builder().add_service(AuthorizationServer::new(served));
                server.serve_with_incoming(incoming).await.unwrap();
            });
        });
        (asked, port)
    }

    /// What was asked since the last time.
    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

/// Leads Mixer's cluster to the server, in plaintext.
pub(crate) fn lead(bootstrap: &mut Bootstrap, port: u16) {
    lead_to(bootstrap, "127.0.0.1", port);
}

/// The same for one at another address.
pub(crate) fn lead_to(bootstrap: &mut Bootstrap, host: &str, port: u16) {
    let resources = bootstrap.static_resources.as_mut().unwrap();
    let mixer = resources
        .clusters
        .iter_mut()
        .find(|cluster| cluster.name.contains("mixer."))
        .unwrap();
    mixer.transport_socket = None;
    let address = Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    };
    let only = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        ..Default::default()
    };
    mixer.load_assignment = Some(ClusterLoadAssignment {
        cluster_name: mixer.name.clone(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![only],
            ..Default::default()
        }],
        ..Default::default()
    });
}
