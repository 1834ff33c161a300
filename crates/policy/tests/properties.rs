//! What holds for every rule and every request: a workload whose request a rule refuses was told to ask, with all that
//! the rule reads; and a quota decides the same by a descriptor as by the request itself.

mod common;

use std::collections::BTreeMap;

use common::{DENIER, QUOTA, build, workload};
use policy::{
    DescriptorFacts, Direction, HeaderMap, Headers, Party, Protocol, QuotaDescriptor, Request, Rules,
    Traffic, Windows, WorkloadView, query_of,
};
use proptest::prelude::*;

const ATOMS: [&str; 22] = [
    r#"destination.labels["app"] == "ratings""#,
    r#"destination.labels["version"] != "v1""#,
    r#"(destination.labels["none"] | "x") == "x""#,
    r#"destination.labels["none"] == "x""#,
    r#"destination.service.host == "ratings.shop.svc.cluster.local""#,
    r#"destination.service.name.startsWith("rev")"#,
    r#"destination.namespace == "shop""#,
    r#"destination.workload.name == "ratings-v1""#,
    r#"destination.port == 8080"#,
    r#"source.labels["version"] == "v3""#,
    r#"(source.namespace | "none") == "shop""#,
    r#"source.principal == "cluster.local/ns/shop/sa/reviews""#,
    r#"source.ip == ip("127.1.0.21")"#,
    r#"request.headers["x-user"] == "jason""#,
    r#"(request.headers["X-Tier"] | "gold") == "gold""#,
    r#"request.url_path.endsWith("/b")"#,
    r#"(request.query_params["q"] | "") == "1""#,
    r#"(request.useragent | "") == "curl""#,
    r#"context.protocol == "grpc""#,
    r#"context.protocol == "tcp""#,
    r#"request.method == "GET""#,
    r#"connection.mtls | false"#,
];

fn condition() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(ATOMS.to_vec()).prop_map(str::to_owned);
    atom.prop_recursive(3, 12, 2, |inner| {
        let op = prop::sample::select(vec!["&&", "||"]);
        (inner.clone(), op, inner).prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    })
}

fn view() -> impl Strategy<Value = WorkloadView> {
    let account = prop::sample::select(vec!["ratings", "reviews", "details"]);
    (account, prop::sample::select(vec!["v1", "v3"]))
        .prop_map(|(account, version)| workload(account, version))
}

/// A request over HTTP, before it is known to whom.
#[derive(Clone, Debug)]
struct Sent {
    source: Option<WorkloadView>,
    headers: BTreeMap<String, String>,
    path: String,
    grpc: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let header = |name: &'static str, values: &'static [&'static str]| {
        prop::option::of(prop::sample::select(values)).prop_map(move |value| value.map(|value| (name, value)))
    };
    let headers = (
        header("x-user", &["jason", "anna"]),
        header("x-tier", &["gold", "tin"]),
        header("user-agent", &["curl", "other"]),
        header("unread", &["a", "b"]),
    );
    let path = prop::sample::select(vec!["/a", "/a/b", "/a/b?q=1", "/?q=2"]);
    (prop::option::of(view()), headers, path, any::<bool>()).prop_map(|(source, (a, b, c, d), path, grpc)| {
        let content = grpc.then_some(("content-type", "application/grpc"));
        let headers = [a, b, c, d, content]
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        Sent {
            source,
            headers: headers.collect(),
            path: path.to_owned(),
            grpc,
        }
    })
}

impl Sent {
    /// Calls `then` with the request as Mixer sees it when only `named` headers come along.
    fn with<T>(&self, to: &WorkloadView, named: &Headers, then: impl FnOnce(&Request<'_>) -> T) -> T {
        let kept = |name: &str| match named {
            Headers::All => true,
            Headers::Named(names) => names.contains(name),
        };
        let headers: BTreeMap<String, String> = self
            .headers
            .iter()
            .filter(|(name, _)| kept(name))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let (headers, query) = (HeaderMap(&headers), query_of(&self.path));
        let party = |view: &'_ WorkloadView| (view.ip, Some(8080), view.principal().to_owned());
        let principal = self.source.as_ref().map(|view| party(view).2);
        let source = Party {
            workload: self.source.as_ref(),
            ip: Some([127, 1, 0, 21].into()),
            port: Some(4000),
            principal: principal.as_deref(),
        };
        let destination = Party {
            workload: Some(to),
            ip: to.ip,
            port: Some(8080),
            principal: Some(to.principal()),
        };
        then(&Request {
            protocol: if self.grpc { Protocol::Grpc } else { Protocol::Http },
            source,
            destination,
            service: to.service(Some(8080), None),
            mtls: Some(self.source.is_some()),
            headers: Some(&headers),
            path: Some(&self.path),
            query: Some(&query),
            method: Some("GET"),
            host: Some("ratings"),
            ..Request::default()
        })
    }

    /// What Envoy would put into the descriptor.
    fn descriptor(&self, asked: &QuotaDescriptor) -> Vec<(String, String)> {
        let absent = "\u{7f}".to_owned();
        let value = |key: &str, cel: &str| match key {
            "source.address" => "127.1.0.21:4000".to_owned(),
            "destination.address" => "127.1.0.21:8080".to_owned(),
            "source.principal" => match &self.source {
                Some(view) => format!("spiffe://{}", view.principal()),
                None => absent.clone(),
            },
            "connection.mtls" => self.source.is_some().to_string(),
            "request.path" => self.path.clone(),
            "request.method" => "GET".to_owned(),
            "request.host" => "ratings".to_owned(),
            key => match key
                .strip_prefix("request.headers[")
                .and_then(|rest| rest.strip_suffix(']'))
            {
                Some(name) => self.headers.get(name).cloned().unwrap_or(absent.clone()),
                None => cel.trim_matches('\'').to_owned(),
            },
        };
        asked
            .entries
            .iter()
            .map(|e| (e.key.clone(), value(&e.key, &e.cel)))
            .collect()
    }
}

fn with_condition(yaml: &str, original: &str, condition: &str) -> Rules {
    let (rules, findings) = build(&yaml.replace(original, &condition.replace('\'', "''")));
    assert!(findings.iter().all(|f| !f.is_error()), "{findings:?}");
    rules
}

const DENIER_MATCH: &str = r#"destination.labels["app"] == "ratings" && source.labels["app"] == "reviews" && source.labels["version"] == "v3""#;
const QUOTA_MATCH: &str = r#"(request.headers["x-internal"] | "no") != "yes""#;
const INBOUND: Traffic = Traffic {
    direction: Direction::Inbound,
    tcp: false,
};

proptest! {
    #[test]
    fn whoever_would_be_refused_was_told_to_ask_with_all_that_is_read(
        condition in condition(), to in view(), sent in sent(),
    ) {
        let rules = with_condition(DENIER, DENIER_MATCH, &condition);
        let verdict = sent.with(&to, &Headers::All, |request| rules.check(request, None));
        let requirements = rules.requirements(&to, INBOUND);
        match requirements.checks.first() {
            // What the proxy refuses by itself has a property of its own (`compile`).
            None if !requirements.refusals.is_empty() => {}
            None => prop_assert!(verdict.is_ok(), "{condition}: {}", verdict.body),
            Some(check) => {
                let seen = sent.with(&to, &check.headers, |request| rules.check(request, Some(false)));
                prop_assert_eq!(seen.body, verdict.body);
            }
        }
    }

    #[test]
    fn a_quota_decides_the_same_by_descriptor(condition in condition(), to in view(), sent in sent()) {
        let rules = with_condition(QUOTA, QUOTA_MATCH, &condition);
        let mut windows = Windows::default();
        let mut direct = || sent.with(&to, &Headers::All, |request| {
            common::charge(rules.due("quota.istio-system", request), &mut windows, 0).map_err(|denial| denial.body)
        });
        let expected: Vec<_> = (0..4).map(|_| direct()).collect();
        let requirements = rules.requirements(&to, INBOUND);
        let Some(asked) = requirements.quotas.first() else {
            prop_assert!(expected.iter().all(Result::is_ok));
            return Ok(());
        };
        let entries = sent.descriptor(asked);
        let facts = DescriptorFacts::read(entries.iter().map(|(k, v)| (k.as_str(), v.as_str()))).unwrap();
        let headers = facts.headers();
        let request = facts.request(&headers, &to, sent.source.as_ref(), expr::Timestamp(0));
        let mut windows = Windows::default();
        let mut by_descriptor = || common::charge(rules.due(&facts.rule, &request), &mut windows, 0).map_err(|denial| denial.body);
        let seen: Vec<_> = (0..4).map(|_| by_descriptor()).collect();
        prop_assert_eq!(seen, expected);
    }
}
