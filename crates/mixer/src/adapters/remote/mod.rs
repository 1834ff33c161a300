//! Adapters outside of the process: gRPC services of the templates that they take, as Istio 1.4 called them
//! (istio.io, "Mixer Out of Process Adapter").
//!
//! A session-based adapter is asked once whether its parameters are right (`Validate`), then gets a session for them
//! (`CreateSession`), whose number stands for them in each call, and is told when it is not needed any more (`CloseSession`).
//! Others get their parameters with each call.

mod encode;
mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use policy::{Answer, Code, InstanceValue, Remote};
use prost::Message;
use tokio::sync::OnceCell;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::dialer::Dialer;
use super::{Batching, Fault, Kit};
use encode::{Configured, Method, Wanted};
use wire::{
    Accepted, BytesOut, CheckResult, CloseSessionRequest, CreateSessionResponse, QuotaResult, ReportResult,
    RpcStatus, SessionRequest,
};

const BACKEND: &str = "/istio.mixer.adapter.model.v1beta1.InfrastructureBackend";
/// `type_url` of a session's number (`template_handler_service.proto` of Istio's templates).
const SESSION: &str = "google.protobuf.Any.type_url";
/// How long connecting, and a session's beginning and end may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The adapter.
pub(super) struct Adapter {
    remote: Remote,
    channel: Channel,
    methods: BTreeMap<String, Method>,
    /// The parameters, when it has any.
    configured: Option<Configured>,
    session: OnceCell<String>,
    calls: AtomicU64,
}

impl Adapter {
    /// Reads the descriptors; connects with the first call.
    pub(super) fn new(remote: &Remote, kit: &Kit) -> Result<Self, String> {
        let method = |(name, descriptor): (&String, &std::sync::Arc<str>)| {
            Method::new(name, descriptor).map(|method| (name.clone(), method))
        };
        let methods = remote.templates.iter().map(method).collect::<Result<_, _>>()?;
        let configured = match (remote.descriptor.is_empty(), remote.params.is_empty()) {
            (true, true) => None,
            (true, false) => {
                return Err(format!("the adapter {} takes no parameters", remote.adapter));
            }
            _ => Some(encode::params(
                &remote.adapter,
                &remote.descriptor,
                &remote.params,
            )?),
        };
        let mut endpoint = Endpoint::from_shared(format!("http://{}", remote.address))
            .map_err(|error| format!("{}: {error}", remote.address))?
            .connect_timeout(PATIENCE);
        if let Some(nanos) = remote.timeout.and_then(|nanos| u64::try_from(nanos).ok()) {
            endpoint = endpoint.timeout(Duration::from_nanos(nanos));
        }
        Ok(Self {
            remote: remote.clone(),
            channel: endpoint.connect_with_connector_lazy(Dialer::new(
                &remote.address,
                remote.tls.as_ref(),
                &["h2"],
                kit,
            )?),
            methods,
            configured,
            session: OnceCell::new(),
            calls: AtomicU64::default(),
        })
    }

    /// What stands for the parameters in a call.
    async fn configured(&self) -> Result<Option<Configured>, Fault> {
        if !self.remote.session_based {
            return Ok(self.configured.clone());
        }
        let session = self.session.get_or_try_init(|| self.begin()).await?;
        Ok(Some(Configured {
            type_url: SESSION.to_owned(),
            value: session.clone().into_bytes(),
        }))
    }

    async fn begin(&self) -> Result<String, Fault> {
        let request = SessionRequest {
            adapter_config: self.configured.as_ref().map(|configured| prost_types::Any {
                type_url: configured.type_url.clone(),
                value: configured.value.clone(),
            }),
        };
        let validated: Accepted = self
            .call(&format!("{BACKEND}/Validate"), request.encode_to_vec())
            .await?;
        accepted(validated.status, "the parameters")?;
        let path = format!("{BACKEND}/CreateSession");
        let created: CreateSessionResponse = self.call(&path, request.encode_to_vec()).await?;
        accepted(created.status, "a session")?;
        Ok(created.session_id)
    }

    async fn call<T: Message + Default + Send + 'static>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, Fault> {
        call(self.channel.clone(), path, body).await
    }

    async fn hand_over<T: Message + Default + Send + 'static>(
        &self,
        template: &str,
        instances: &[&InstanceValue],
        wanted: Option<(&str, Wanted)>,
    ) -> Result<T, Fault> {
        let Some(method) = self.methods.get(template) else {
            return Err(Fault::Refused(format!("takes no instances of {template}")));
        };
        let configured = self.configured().await?;
        let id = self.calls.fetch_add(1, Ordering::Relaxed).to_string();
        let body = method
            .request(instances, configured.as_ref(), &id, wanted)
            .map_err(Fault::Refused)?;
        self.call(&method.path, body).await
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let Some(session_id) = self.session.take() else {
            return;
        };
        // Whoever drops an adapter outside of a runtime is ending: the adapter outside finds out by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let channel = self.channel.clone();
        runtime.spawn(async move {
            let body = CloseSessionRequest { session_id }.encode_to_vec();
            let path = format!("{BACKEND}/CloseSession");
            let closing = call::<Accepted>(channel, &path, body);
            // Nobody is left whom a failure would concern.
            let _ = tokio::time::timeout(PATIENCE, closing).await;
        });
    }
}

async fn call<T: Message + Default + Send + 'static>(
    channel: Channel,
    path: &str,
    body: Vec<u8>,
) -> Result<T, Fault> {
    let path = PathAndQuery::try_from(path).map_err(|error| Fault::Refused(error.to_string()))?;
    let mut grpc = Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Fault::Away(error.to_string()))?;
    let answer = grpc
        .unary(Request::new(body), path, BytesOut::<T>::default())
        .await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| fault(&status))
}

fn fault(status: &Status) -> Fault {
    use tonic::Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown};
    let shown = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Aborted | Cancelled | DeadlineExceeded | ResourceExhausted | Unavailable | Unknown => {
            Fault::Away(shown)
        }
        _ => Fault::Refused(shown),
    }
}

fn accepted(status: Option<RpcStatus>, what: &str) -> Result<(), Fault> {
    match status {
        Some(status) if status.code != 0 => {
            Err(Fault::Refused(format!("refuses {what}: {}", status.message)))
        }
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl super::Adapter for Adapter {
    fn batching(&self) -> Batching {
        Batching::default()
    }

    async fn check(&self, instance: &InstanceValue) -> Result<Answer, Fault> {
        let result: CheckResult = self.hand_over(instance.template, &[instance], None).await?;
        let status = result.status.unwrap_or_default();
        Ok(match status.code {
            0 => Answer::ok(),
            code => Answer::refusal(Code(code), status.message),
        })
    }

    async fn quota(&self, instance: &InstanceValue, amount: u64, best_effort: bool) -> Result<u64, Fault> {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        // One quota is asked for at a time, by the instance's name.
        let name = instance.name.split('.').next().unwrap_or_default();
        let wanted = Wanted { amount, best_effort };
        let result: QuotaResult = self
            .hand_over(instance.template, &[instance], Some((name, wanted)))
            .await?;
        let granted = result.quotas.get(name);
        let granted = granted.ok_or_else(|| Fault::Refused(format!("says nothing of the quota {name}")))?;
        accepted(granted.status.clone(), "units")?;
        Ok(u64::try_from(granted.granted_amount).unwrap_or_default())
    }

    async fn report(&self, batch: &[InstanceValue]) -> Result<(), Fault> {
        let mut by_template: BTreeMap<&str, Vec<&InstanceValue>> = BTreeMap::new();
        for instance in batch {
            by_template.entry(instance.template).or_default().push(instance);
        }
        for (template, instances) in by_template {
            let _: ReportResult = self.hand_over(template, &instances, None).await?;
        }
        Ok(())
    }
}
