//! ext_authz v3: may a request (HTTP) or connection (TCP) pass?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoy_types::pb::google::rpc;
use policy::{
    Asked, Code, FAIL_CLOSED, FAIL_OPEN, FAILURE_MODE_METADATA, HeaderChange, RULES_METADATA, SENT, Sent,
};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::engine::{Decision, Engine};

/// The service.
#[derive(Debug)]
pub(crate) struct Checks(pub(crate) Arc<Engine>);

#[tonic::async_trait]
impl Authorization for Checks {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let caller = super::caller(request.extensions())?;
        let (metadata, message) = (request.metadata(), request.get_ref());
        let sent = sent(metadata, message)?;
        let asked = asked(metadata, sent.as_ref())?;
        let decision = self.0.check(message, &caller, &asked, sent.as_ref()).await?;
        Ok(Response::new(response(decision, headers(message))))
    }
}

/// What a gateway says of a request, or of a connection, that it sends.
fn sent<'a>(metadata: &'a MetadataMap, message: &'a CheckRequest) -> Result<Option<Sent<'a>>, Status> {
    let of_route = message
        .attributes
        .as_ref()
        .and_then(|attributes| attributes.context_extensions.get(SENT));
    let said = match of_route {
        Some(said) => Some(said.as_str()),
        None => text(metadata, SENT)?,
    };
    let malformed = || Status::invalid_argument(format!("{SENT} must be NAMESPACE/HOST RULE,RULE"));
    said.map(|said| Sent::parse(said).ok_or_else(malformed))
        .transpose()
}

/// Which rules the filter asks for.
fn asked<'a>(metadata: &'a MetadataMap, sent: Option<&Sent<'a>>) -> Result<Asked<'a>, Status> {
    let names = text(metadata, RULES_METADATA)?.map(|names| names.split(',').collect());
    Ok(Asked {
        fail_open: failure_mode(metadata)?,
        rules: sent.map_or(names, |sent| Some(sent.rules.clone())),
    })
}

fn text<'a>(metadata: &'a MetadataMap, name: &'static str) -> Result<Option<&'a str>, Status> {
    let malformed = |_| Status::invalid_argument(format!("{name} must be text"));
    metadata
        .get(name)
        .map(|value| value.to_str().map_err(malformed))
        .transpose()
}

/// Those that fail open (true), closed (false), or all.
fn failure_mode(metadata: &MetadataMap) -> Result<Option<bool>, Status> {
    match metadata.get(FAILURE_MODE_METADATA).map(|value| value.as_bytes()) {
        None => Ok(None),
        Some(mode) if mode == FAIL_OPEN.as_bytes() => Ok(Some(true)),
        Some(mode) if mode == FAIL_CLOSED.as_bytes() => Ok(Some(false)),
        Some(_) => Err(Status::invalid_argument(format!(
            "{FAILURE_MODE_METADATA} must be {FAIL_OPEN} or {FAIL_CLOSED}"
        ))),
    }
}

/// The request's headers, those that the filter sends.
fn headers(message: &CheckRequest) -> Option<&HashMap<String, String>> {
    let request = message.attributes.as_ref()?.request.as_ref()?;
    Some(&request.http.as_ref()?.headers)
}

/// The same changes of the request's headers, one for each name. Envoy's filter sets what it is told to append here, so a value goes
/// behind what the request has by then, which rules that append have it send.
fn settled(changes: Vec<HeaderChange>, there: Option<&HashMap<String, String>>) -> Vec<HeaderChange> {
    let mut settled = BTreeMap::<String, Option<String>>::new();
    for change in changes {
        let (name, value) = match change {
            HeaderChange::Remove(name) => (name, None),
            HeaderChange::Replace(name, value) => (name, Some(value)),
            HeaderChange::Append(name, value) => {
                let of_request = || there.and_then(|headers| headers.get(&name)).cloned();
                let before = settled.get(&name).cloned().unwrap_or_else(of_request);
                let value = match before {
                    Some(before) => format!("{before},{value}"),
                    None => value,
                };
                (name, Some(value))
            }
        };
        settled.insert(name, value);
    }
    let change = |(name, value)| match value {
        Some(value) => HeaderChange::Replace(name, value),
        None => HeaderChange::Remove(name),
    };
    settled.into_iter().map(change).collect()
}

/// The changes of the response's headers that the filter makes, and those that are taken away: by other filters, as the
/// answer's dynamic metadata says.
fn answered(changes: Vec<HeaderChange>) -> (Vec<HeaderChange>, BTreeSet<String>) {
    let (mut kept, mut removed) = (Vec::<(String, HeaderChange)>::new(), BTreeSet::new());
    for change in changes {
        match change {
            HeaderChange::Remove(name) => {
                kept.retain(|(known, _)| *known != name);
                removed.insert(name);
            }
            HeaderChange::Append(name, value) if removed.remove(&name) => {
                kept.push((name.clone(), HeaderChange::Replace(name, value)));
            }
            HeaderChange::Append(ref name, _) => kept.push((name.clone(), change)),
            HeaderChange::Replace(ref name, _) => {
                removed.remove(name);
                kept.push((name.clone(), change));
            }
        }
    }
    (kept.into_iter().map(|(_, change)| change).collect(), removed)
}

/// Dynamic metadata that tells the proxy to take headers out of the response.
fn removals(headers: &BTreeSet<String>) -> Option<Struct> {
    let yes = || Value {
        kind: Some(Kind::BoolValue(true)),
    };
    let fields = headers.iter().map(|header| (policy::removal(header), yes()));
    (!headers.is_empty()).then(|| Struct {
        fields: fields.collect(),
    })
}

fn response(decision: Decision, there: Option<&HashMap<String, String>>) -> CheckResponse {
    let status = rpc::Status {
        code: decision.code.0,
        message: decision.message,
        details: Vec::new(),
    };
    let mut dynamic_metadata = None;
    let http = match decision.code {
        Code::OK => {
            let (answered, removed_later) = answered(decision.response_headers);
            dynamic_metadata = removals(&removed_later);
            let changes = settled(decision.request_headers, there);
            HttpResponse::OkResponse(OkHttpResponse {
                headers: values(&changes),
                headers_to_remove: removed(&changes),
                response_headers_to_add: values(&answered),
                ..OkHttpResponse::default()
            })
        }
        _ => HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus {
                code: decision.http_status.into(),
            }),
            headers: values(&decision.response_headers),
            body: decision.body,
        }),
    };
    CheckResponse {
        status: Some(status),
        dynamic_metadata,
        http_response: Some(http),
    }
}

fn values(changes: &[HeaderChange]) -> Vec<HeaderValueOption> {
    let option = |name: &str, value: &str, action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    };
    let set = changes.iter().filter_map(|change| match change {
        HeaderChange::Replace(name, value) => {
            Some(option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd))
        }
        HeaderChange::Append(name, value) => {
            Some(option(name, value, HeaderAppendAction::AppendIfExistsOrAdd))
        }
        HeaderChange::Remove(_) => None,
    });
    set.collect()
}

fn removed(changes: &[HeaderChange]) -> Vec<String> {
    let names = changes.iter().filter_map(|change| match change {
        HeaderChange::Remove(name) => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(code: Code, request_headers: Vec<HeaderChange>) -> Decision {
        Decision {
            code,
            message: "doorman.shop:no".into(),
            http_status: 403,
            body: "PERMISSION_DENIED:doorman.shop:no".into(),
            request_headers,
            response_headers: vec![HeaderChange::Append("x-b".into(), "2".into())],
        }
    }

    #[test]
    fn a_refusal_carries_status_body_and_headers() {
        let seen = response(decision(Code::PERMISSION_DENIED, Vec::new()), None);
        assert_eq!(seen.status.unwrap().code, 7);
        let Some(HttpResponse::DeniedResponse(denied)) = seen.http_response else {
            panic!("not refused")
        };
        assert_eq!(denied.status.unwrap().code, 403);
        assert_eq!(denied.body, "PERMISSION_DENIED:doorman.shop:no");
        assert_eq!(
            denied.headers[0].append_action(),
            HeaderAppendAction::AppendIfExistsOrAdd
        );
    }

    #[test]
    fn changes_of_headers_travel_with_a_consent() {
        let changes = vec![
            HeaderChange::Replace("x-a".into(), "1".into()),
            HeaderChange::Remove("x-gone".into()),
        ];
        let seen = response(decision(Code::OK, changes), None);
        let Some(HttpResponse::OkResponse(ok)) = seen.http_response else {
            panic!("refused")
        };
        assert_eq!(
            ok.headers[0].append_action(),
            HeaderAppendAction::OverwriteIfExistsOrAdd
        );
        assert_eq!(
            (ok.headers.len(), ok.headers_to_remove),
            (1, vec!["x-gone".to_owned()])
        );
        assert_eq!(ok.response_headers_to_add.len(), 1);
    }

    #[test]
    fn a_header_of_the_response_is_taken_away_by_metadata() {
        let append = |name: &str, value: &str| HeaderChange::Append(name.to_owned(), value.to_owned());
        let replace = |name: &str, value: &str| HeaderChange::Replace(name.to_owned(), value.to_owned());
        let remove = |name: &str| HeaderChange::Remove(name.to_owned());
        let check = |changes: Vec<HeaderChange>, expected: Vec<HeaderChange>, gone: &[&str]| {
            let decision = Decision {
                response_headers: changes.clone(),
                ..decision(Code::OK, Vec::new())
            };
            let seen = response(decision, None);
            let keys = seen.dynamic_metadata.map(|metadata| metadata.fields);
            let keys: Vec<String> = keys.into_iter().flatten().map(|(key, _)| key).collect();
            let gone: Vec<String> = gone.iter().map(|name| format!("argosy.removed.{name}")).collect();
            assert_eq!(keys, gone, "{changes:?}");
            assert_eq!(answered(changes).0, expected);
        };
        check(vec![remove("server")], vec![], &["server"]);
        check(vec![replace("x-a", "1"), remove("x-a")], vec![], &["x-a"]);
        check(
            vec![remove("x-a"), replace("x-a", "1")],
            vec![replace("x-a", "1")],
            &[],
        );
        check(
            vec![remove("x-a"), append("x-a", "1"), append("x-a", "2")],
            vec![replace("x-a", "1"), append("x-a", "2")],
            &[],
        );
        check(
            vec![append("x-a", "1"), remove("x-b")],
            vec![append("x-a", "1")],
            &["x-b"],
        );
    }

    #[test]
    fn values_are_appended_to_what_the_request_has() {
        let append = |name: &str, value: &str| HeaderChange::Append(name.to_owned(), value.to_owned());
        let replace = |name: &str, value: &str| HeaderChange::Replace(name.to_owned(), value.to_owned());
        let remove = |name: &str| HeaderChange::Remove(name.to_owned());
        let there = HashMap::from([("x-a".to_owned(), "own".to_owned())]);
        let check = |changes: Vec<HeaderChange>, expected: Vec<HeaderChange>| {
            assert_eq!(settled(changes.clone(), Some(&there)), expected, "{changes:?}");
        };
        check(
            vec![append("x-a", "1"), append("x-a", "2")],
            vec![replace("x-a", "own,1,2")],
        );
        check(
            vec![append("x-b", "1"), append("x-b", "2")],
            vec![replace("x-b", "1,2")],
        );
        check(
            vec![replace("x-a", "1"), append("x-a", "2")],
            vec![replace("x-a", "1,2")],
        );
        check(vec![remove("x-a"), append("x-a", "2")], vec![replace("x-a", "2")]);
        check(vec![append("x-a", "1"), remove("x-a")], vec![remove("x-a")]);
    }

    #[test]
    fn the_filter_says_which_rules_it_asks_for() {
        let check = |mode: Option<&str>| {
            let mut metadata = MetadataMap::new();
            if let Some(mode) = mode {
                metadata.insert(FAILURE_MODE_METADATA, mode.parse().unwrap());
            }
            failure_mode(&metadata).map_err(|status| status.code())
        };
        assert_eq!(check(None), Ok(None));
        assert_eq!(check(Some("open")), Ok(Some(true)));
        assert_eq!(check(Some("closed")), Ok(Some(false)));
        assert_eq!(check(Some("ajar")), Err(tonic::Code::InvalidArgument));
    }
}
