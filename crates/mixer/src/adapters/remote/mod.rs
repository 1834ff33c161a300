//! Adapters outside of the process: gRPC services of the templates that they take, as Istio 1.4 called them
//! (istio.io, "Mixer Out of Process Adapter").
//!
//! A session-based adapter is asked once whether its parameters are right (`Validate`), then gets a session for them
//! (`CreateSession`), whose number stands for them in each call, and is told when it is not needed any more (`CloseSession`).
//! Others get their parameters with each call.

mod encode;
mod session;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use policy::{Answer, Code, InstanceValue, Remote, Taken};
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::dialer::Dialer;
use super::runner::random_id;
use super::{Batching, Fault, Kit};
use encode::{Configured, Method, Wanted};
use session::Sessions;
use wire::{BytesOut, CheckResult, QuotaResult, ReportResult, RpcStatus};

/// How long connecting, and a session's beginning and end may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The adapter.
pub(super) struct Adapter {
    channel: Channel,
    methods: BTreeMap<String, Method>,
    /// The parameters, when it has any.
    configured: Option<Configured>,
    /// Of an adapter with sessions.
    sessions: Option<Sessions>,
}

impl Adapter {
    /// Reads the descriptors; connects with the first call.
    pub(super) fn new(remote: &Remote, kit: &Kit) -> Result<Self, String> {
        let method =
            |(name, taken): (&String, &Taken)| Method::new(name, taken).map(|method| (name.clone(), method));
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
        let dialer = Dialer::new(&remote.address, remote.tls.as_ref(), &["h2"], kit)?;
        let channel = endpoint.connect_with_connector_lazy(dialer);
        let sessions = match remote.session_based {
            true => {
                let pool = kit.pool.handle();
                let pool = pool.map_err(|error| format!("no threads for adapters: {error}"))?;
                Some(Sessions::new(
                    &remote.adapter,
                    channel.clone(),
                    configured.clone(),
                    pool,
                ))
            }
            false => None,
        };
        Ok(Self {
            channel,
            methods,
            configured,
            sessions,
        })
    }

    /// Calls the template's method under an id by which the adapter knows a repetition.
    async fn hand_over<T: Message + Default + Send + 'static>(
        &self,
        template: &str,
        instances: &[&InstanceValue],
        id: &str,
        wanted: Option<(&str, Wanted)>,
    ) -> Result<T, Fault> {
        let Some(method) = self.methods.get(template) else {
            return Err(Fault::Refused(format!("takes no instances of {template}")));
        };
        let ask = async |configured: Option<&Configured>| {
            let body = method.request(instances, configured, id, wanted);
            match body {
                Ok(body) => call(self.channel.clone(), &method.path, body).await,
                Err(why) => Err(Status::invalid_argument(why)),
            }
        };
        let Some(sessions) = &self.sessions else {
            return ask(self.configured.as_ref())
                .await
                .map_err(|status| fault(&status));
        };
        let (session, begun) = sessions.get().await?;
        let answer = match ask(Some(&session)).await {
            // An adapter that was started anew knows no session of before.
            Err(status) if session::may_be_unknown(&status) && sessions.lost(&begun) => {
                let (session, _) = sessions.get().await?;
                ask(Some(&session)).await
            }
            answer => answer,
        };
        answer.map_err(|status| fault(&status))
    }
}

async fn call<T: Message + Default + Send + 'static>(
    channel: Channel,
    path: &str,
    body: Vec<u8>,
) -> Result<T, Status> {
    let path = PathAndQuery::try_from(path).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let mut grpc = Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let answer = grpc
        .unary(Request::new(body), path, BytesOut::<T>::default())
        .await;
    answer.map(tonic::Response::into_inner)
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
        let result: CheckResult = self
            .hand_over(&instance.template, &[instance], &random_id(), None)
            .await?;
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
            .hand_over(
                &instance.template,
                &[instance],
                &random_id(),
                Some((name, wanted)),
            )
            .await?;
        let granted = result.quotas.get(name);
        let granted = granted.ok_or_else(|| Fault::Refused(format!("says nothing of the quota {name}")))?;
        accepted(granted.status.clone(), "units")?;
        Ok(u64::try_from(granted.granted_amount).unwrap_or_default())
    }

    async fn report_as(&self, id: &str, batch: &[InstanceValue]) -> Result<(), Fault> {
        let Some(first) = batch.first() else {
            return Ok(());
        };
        let instances: Vec<&InstanceValue> = batch.iter().collect();
        let _: ReportResult = self.hand_over(&first.template, &instances, id, None).await?;
        Ok(())
    }
}
