//! An authorizer that speaks gRPC (`envoy.service.auth.v3`): of requests it goes by the header `x-answer`, of connections by the
//! peer's account.

use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use tonic::{Request, Response, Status};

/// `PERMISSION_DENIED` of google.rpc.Code.
const REFUSED: i32 = 7;

struct Asked;

#[tonic::async_trait]
impl Authorization for Asked {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http);
        let lets_in = match http {
            Some(http) => http
                .headers
                .get("x-answer")
                .is_some_and(|said| said.contains("grpc")),
            None => attributes
                .source
                .is_some_and(|source| source.principal.ends_with("/sa/x")),
        };
        let status = RpcStatus {
            code: if lets_in { 0 } else { REFUSED },
            ..Default::default()
        };
        Ok(Response::new(CheckResponse {
            status: Some(status),
            ..Default::default()
        }))
    }
}

/// Serves at an address until the process ends; the port.
pub(crate) fn serve(address: &str) -> u16 {
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let server = tonic::transport::Server::builder().add_service(AuthorizationServer::new(Asked));
            server.serve_with_incoming(incoming).await.unwrap();
        });
    });
    port
}
