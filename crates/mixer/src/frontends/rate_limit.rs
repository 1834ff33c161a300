//! Rate limit service v3: charges quotas. Each descriptor is one rule's; the request is over the limit as soon as one of
//! them refuses.

use std::sync::Arc;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code as Limit, DescriptorStatus};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::Duration;
use policy::{QuotaDenial, RATE_LIMIT_DOMAIN};
use tonic::{Request, Response, Status};

use crate::attributes::descriptor::Call;
use crate::engine::Engine;
use crate::meters::Outcome;

/// Most descriptors of one call.
const MAX_DESCRIPTORS: usize = 256;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct RateLimits(pub(super) Arc<Engine>);

impl RateLimits {
    pub(super) async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let caller = super::caller(request.extensions())?;
        let answer = self.charge(request.get_ref(), &caller).await;
        let code = match &answer {
            Ok(response) if response.overall_code() == Limit::Ok => "OK",
            Ok(_) => "RESOURCE_EXHAUSTED",
            Err(_) => "UNAVAILABLE",
        };
        self.0.meters.quotas.get_or_create(&Outcome { code }).inc();
        answer.map(Response::new)
    }

    async fn charge(&self, request: &RateLimitRequest, caller: &str) -> Result<RateLimitResponse, Status> {
        if request.domain != RATE_LIMIT_DOMAIN {
            return Err(Status::invalid_argument(format!(
                "the domain must be {RATE_LIMIT_DOMAIN}"
            )));
        }
        if request.descriptors.len() > MAX_DESCRIPTORS {
            return Err(Status::invalid_argument(format!(
                "more than {MAX_DESCRIPTORS} descriptors in one call"
            )));
        }
        let mut response = RateLimitResponse {
            overall_code: Limit::Ok.into(),
            ..RateLimitResponse::default()
        };
        let mut call = Call::new(&request.descriptors, request.hits_addend);
        for descriptor in &request.descriptors {
            match self
                .0
                .charge(descriptor, &mut call, caller, super::wall())
                .await?
            {
                None => response.statuses.push(status(Limit::Ok, None)),
                Some(denial) => {
                    refuse(&mut response, &denial);
                    // As in Istio: what was charged before stays charged, the rest is not asked.
                    break;
                }
            }
        }
        Ok(response)
    }
}

fn refuse(response: &mut RateLimitResponse, denial: &QuotaDenial) {
    response.overall_code = Limit::OverLimit.into();
    response.raw_body = denial.body.clone().into_bytes();
    response
        .statuses
        .push(status(Limit::OverLimit, denial.retry_after));
}

fn status(code: Limit, reset: Option<i64>) -> DescriptorStatus {
    let reset = reset.map(|nanos| Duration {
        seconds: nanos / 1_000_000_000,
        nanos: i32::try_from(nanos % 1_000_000_000).unwrap_or_default(),
    });
    DescriptorStatus {
        code: code.into(),
        duration_until_reset: reset,
        ..DescriptorStatus::default()
    }
}
