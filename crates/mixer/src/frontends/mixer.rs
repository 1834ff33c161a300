//! Istio 1.4's Mixer API: Check (preconditions and quotas) and Report, from proxies of the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use expr::Use;
use policy::{
    Code, Due, HeaderChange, QuotaDenial, ReporterKind, Request as Described, Rules, Validity, Verdict,
};
use proto::mixer::check_response::{PreconditionResult, QuotaResult};
use proto::mixer::header_operation::Operation;
use proto::mixer::mixer_server::Mixer;
use proto::mixer::report_request::RepeatedAttributesSemantics;
use proto::mixer::{
    CheckRequest, CheckResponse, CompressedAttributes, HeaderOperation, ReferencedAttributes, ReportRequest,
    ReportResponse, RouteDirective, Status as RpcStatus,
};
use tonic::{Request, Response, Status};

use super::dedup::{self, Remembered};
use crate::engine::api::Grant;
use crate::engine::{Engine, Undecided};
use crate::policies::Policies;
use crate::wire::decode::BadAttributes;
use crate::wire::references::referenced;
use crate::wire::sent::Sent;

/// Most quotas of one call.
const MAX_QUOTAS: usize = 64;
/// Most sets of attributes in one report.
const MAX_SETS: usize = 5_000;
/// Sets after which other tasks get their turn.
const TURN: usize = 256;
const SECOND: i64 = 1_000_000_000;

/// The service.
#[derive(Debug)]
pub(crate) struct MixerApi {
    engine: Arc<Engine>,
    remembered: Remembered,
}

/// A quota that a call names, looked up.
struct Wanted {
    name: String,
    amount: u64,
    best_effort: bool,
    due: Result<Vec<Due>, Box<QuotaDenial>>,
    referenced: ReferencedAttributes,
}

/// What a call comes to before anyone else is asked.
struct Weighed {
    verdict: Verdict,
    referenced: ReferencedAttributes,
    wanted: Vec<Wanted>,
}

impl From<BadAttributes> for Status {
    fn from(why: BadAttributes) -> Self {
        Self::invalid_argument(why.to_string())
    }
}

#[tonic::async_trait]
impl Mixer for MixerApi {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let caller = super::caller(request.extensions())?;
        let request = request.into_inner();
        let policies = self.engine.policies()?;
        let weighed = self.weigh(&policies, &request, &caller)?;
        let verdict = self.engine.consulted(&policies, weighed.verdict).await;
        let mut quotas = BTreeMap::new();
        if verdict.is_ok() {
            for wanted in weighed.wanted {
                let name = wanted.name.clone();
                let result = self
                    .quota(&policies, wanted, &caller, &request.deduplication_id)
                    .await;
                quotas.insert(name, result);
            }
        }
        let precondition = precondition(&verdict, weighed.referenced);
        Ok(Response::new(CheckResponse {
            precondition: Some(precondition),
            quotas,
        }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let caller = super::caller(request.extensions())?;
        let request = request.get_ref();
        if request.attributes.len() > MAX_SETS {
            return Err(Status::invalid_argument(format!(
                "more than {MAX_SETS} sets of attributes in one report; send several"
            )));
        }
        let policies = self.engine.policies()?;
        let independent =
            request.repeated_attributes_semantics() == RepeatedAttributesSemantics::IndependentEncoding;
        let mut sent = Sent::default();
        for (at, set) in request.attributes.iter().enumerate() {
            if independent {
                sent = Sent::default();
            }
            sent.change(set, &request.default_words)
                .map_err(|why| Status::invalid_argument(format!("attributes[{at}]: {why}")))?;
            let own = sent.own(&policies.mesh, &caller, None);
            self.engine.meters.reports.inc();
            sent.with_request(&sent.derived(), &policies.mesh, &caller, own, |request| {
                self.engine.report(&policies, request);
            });
            if at % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Response::new(ReportResponse {}))
    }
}

impl MixerApi {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            remembered: Remembered::default(),
        }
    }

    fn weigh(&self, policies: &Policies, request: &CheckRequest, caller: &str) -> Result<Weighed, Status> {
        if request.quotas.len() > MAX_QUOTAS {
            return Err(Status::invalid_argument(format!(
                "more than {MAX_QUOTAS} quotas in one call"
            )));
        }
        let nothing = CompressedAttributes::default();
        let sent = Sent::new(request.attributes.as_ref().unwrap_or(&nothing))?;
        let known = request.global_word_count;
        let Some(own) = sent.own(&policies.mesh, caller, None) else {
            let why = Undecided::UnknownCaller(caller.to_owned());
            return Err(self.engine.refused(why).into());
        };
        let rules = &policies.rules;
        sent.with_request(&sent.derived(), &policies.mesh, caller, Some(own), |described| {
            let namespace = described
                .destination
                .workload
                .map(|workload| workload.namespace.as_str());
            let named = |uses: &BTreeSet<Use>| referenced(uses, &sent, known);
            let mut wanted = Vec::with_capacity(request.quotas.len());
            for (name, params) in &request.quotas {
                let amount = u64::try_from(params.amount).map_err(|_| {
                    Status::invalid_argument(format!(
                        "quota {name}: the amount {} is negative",
                        params.amount
                    ))
                })?;
                wanted.push(Wanted {
                    name: name.clone(),
                    amount,
                    best_effort: params.best_effort,
                    due: due(rules, name, amount, described),
                    referenced: named(&rules.quota_reads(name, namespace)),
                });
            }
            Ok(Weighed {
                verdict: self.engine.weigh(policies, described),
                referenced: named(&rules.check_reads(namespace)),
                wanted,
            })
        })
    }

    async fn quota(&self, policies: &Policies, wanted: Wanted, caller: &str, id: &str) -> QuotaResult {
        let Wanted {
            name,
            amount,
            best_effort,
            due,
            referenced,
        } = wanted;
        let charge = self.engine.grant(&policies.adapters, due, amount, best_effort);
        let place = self.remembered.place(caller, id, &name, self.engine.now());
        quota_result(dedup::once(place.as_deref(), charge).await, referenced)
    }
}

/// What a quota is charged: only where requests arrive, as the workload that is called says itself. Whoever calls could use up what
/// belongs to others.
fn due(
    rules: &Rules,
    quota: &str,
    amount: u64,
    described: &Described<'_>,
) -> Result<Vec<Due>, Box<QuotaDenial>> {
    match described.reporter {
        ReporterKind::Inbound => rules.wanted(quota, amount, described),
        ReporterKind::Outbound => Ok(Vec::new()),
    }
}

fn precondition(verdict: &Verdict, referenced: ReferencedAttributes) -> PreconditionResult {
    let validity = match verdict.code {
        // It cannot be told for how long that will last.
        Code::INTERNAL | Code::UNAVAILABLE => Validity::NONE,
        _ => verdict.validity,
    };
    PreconditionResult {
        status: Some(status(verdict.code, verdict.message.clone())),
        valid_duration: Some(duration(validity.duration)),
        valid_use_count: validity.uses,
        referenced_attributes: Some(referenced),
        route_directive: directive(verdict),
    }
}

fn quota_result(grant: Grant, referenced: ReferencedAttributes) -> QuotaResult {
    let (code, message) = grant.failure.unwrap_or((Code::OK, String::new()));
    QuotaResult {
        valid_duration: Some(duration(grant.valid.unwrap_or(Validity::UNSAID.duration))),
        granted_amount: i64::try_from(grant.amount).unwrap_or(i64::MAX),
        referenced_attributes: Some(referenced),
        status: Some(status(code, message)),
    }
}

fn status(code: Code, message: String) -> RpcStatus {
    RpcStatus {
        code: code.0,
        message,
        details: Vec::new(),
    }
}

fn duration(nanos: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: nanos / SECOND,
        nanos: i32::try_from(nanos % SECOND).unwrap_or_default(),
    }
}

/// What becomes of the headers, and a response of the handler's own instead of the code's.
fn directive(verdict: &Verdict) -> Option<RouteDirective> {
    let own = !verdict.is_ok()
        && (verdict.http_status != verdict.code.http()
            || verdict.body != format!("{}:{}", verdict.code.name(), verdict.message));
    let (direct_response_code, direct_response_body) = match own {
        true => (verdict.http_status.into(), verdict.body.clone()),
        false => (0, String::new()),
    };
    let directive = RouteDirective {
        request_header_operations: verdict.request_headers.iter().map(operation).collect(),
        response_header_operations: verdict.response_headers.iter().map(operation).collect(),
        direct_response_code,
        direct_response_body,
    };
    (directive != RouteDirective::default()).then_some(directive)
}

fn operation(change: &HeaderChange) -> HeaderOperation {
    let (name, value, operation) = match change {
        HeaderChange::Replace(name, value) => (name, value.clone(), Operation::Replace),
        HeaderChange::Append(name, value) => (name, value.clone(), Operation::Append),
        HeaderChange::Remove(name) => (name, String::new(), Operation::Remove),
    };
    HeaderOperation {
        name: name.clone(),
        value,
        operation: operation.into(),
    }
}
