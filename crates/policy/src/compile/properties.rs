//! A compiled rule and Mixer give the same verdict: for random rules and requests, with matchers evaluated as Envoy does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::mesh::MeshConfig;
use model::Identity;
use proptest::prelude::*;

use super::{BodyPart, Fact, Matcher, Refusal, Test};
use crate::http::{HeaderMap, query_of};
use crate::partial::may_apply;
use crate::requirements::{Direction, Ports, Traffic};
use crate::rules::Rules;
use crate::workload::{ServiceView, WorkloadView};
use crate::{Party, Protocol, Request};

/// Expressions that are compiled, and some that are not.
const ATOMS: [&str; 44] = [
    r#"request.headers["x-user"] == "jason""#,
    r#"request.headers["X-User"] != "jason""#,
    r#"(request.headers["x-user"] | "jason") == "jason""#,
    r#"(request.headers["x-user"] | request.headers["x-tier"] | "none") != "gold""#,
    r#"(request.headers["x-user"] | request.headers["x-tier"]) == "gold""#,
    r#"(request.headers["x-tier"]).startsWith("go") | false"#,
    r#"(request.headers["x-tier"]).startsWith("go")"#,
    r#"(request.headers["x-tier"] | "").endsWith("n")"#,
    r#"match(request.headers["x-tier"], "g*")"#,
    r#"match((request.headers["x-tier"] | "tin"), "*n")"#,
    r#"match(request.path, "/a/b")"#,
    r#""^/a(/|$)".matches(request.url_path)"#,
    r#""[[:digit:]]$".matches(request.path)"#,
    r#""(?i)JASON|an+a".matches(request.headers["x-user"] | "JaSoN")"#,
    r#"toLower(request.headers["x-user"]) == "jason""#,
    r#"toLower(request.headers["x-tier"] | "GOLD") != "gold""#,
    r#"(toLower(request.headers["x-tier"]) | "gold") == "gold""#,
    r#"request.headers["x user"] == "a""#,
    r#"request.url_path == "/a""#,
    r#"request.path.endsWith("1")"#,
    r#"request.method == "GET" || request.method == "POST""#,
    r#"request.host == "ratings""#,
    r#"(request.useragent | "") == "curl""#,
    r#"context.protocol == "grpc""#,
    r#"context.protocol != "tcp""#,
    r#"context.reporter.kind == "inbound""#,
    r#"destination.labels["app"] == "ratings""#,
    r#"destination.labels["none"] == "x""#,
    r#"(destination.labels["none"] | "x") == "x""#,
    r#"destination.service.host.startsWith("ratings")"#,
    r#"destination.port == 8080 && destination.port < 9000"#,
    r#"response.code == 200"#,
    r#"(response.code | 200) >= 200"#,
    r#"source.principal == "cluster.local/ns/shop/sa/reviews""#,
    r#"source.principal.endsWith("reviews")"#,
    r#"(source.user | "none") == "none""#,
    r#"source.namespace == "shop""#,
    r#"(source.namespace | "none").startsWith("sh")"#,
    r#"(source.serviceAccount | "none") != "reviews""#,
    r#"source.ip == ip("10.0.0.1")"#,
    r#"source.ip != ip("10.0.0.1")"#,
    r#"connection.mtls"#,
    r#"connection.mtls == false"#,
    r#"conditional(connection.mtls, source.principal, request.headers["x-user"]).endsWith("a") | true"#,
];

fn condition() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(ATOMS.to_vec()).prop_map(|atom| format!("({atom})"));
    atom.prop_recursive(3, 12, 2, |inner| {
        let op = prop::sample::select(vec!["&&", "||", "==", "!=", "|"]);
        (inner.clone(), op, inner).prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    })
}

const VALUES: [&str; 8] = [
    r#"request.headers["x-user"]"#,
    r#"request.headers["x-user"] | "none""#,
    r#"request.headers["x-user"] | request.headers["x-tier"] | source.namespace"#,
    "request.url_path",
    "source.ip",
    "source.namespace",
    r#"source.principal | "nobody""#,
    r#"destination.labels["app"]"#,
];

/// Parameters of lists by what they hold.
const LISTS: [&str; 5] = [
    r#"overrides: [jason, none, shop, /a, ratings, nobody]"#,
    r#"overrides: [Jason, GOLD, SHOP], entryType: CASE_INSENSITIVE_STRINGS"#,
    r#"overrides: ["^j", "a$", "/a/.*"], entryType: REGEX"#,
    r#"overrides: [10.0.0.0/24, "10.1.0.1"], entryType: IP_ADDRESSES"#,
    r#"overrides: []"#,
];

/// A handler and the instance that it takes.
fn action() -> impl Strategy<Value = String> {
    let denier = prop::sample::select(vec![
        "compiledAdapter: denier\n  params: {status: {code: 7, message: nope}}",
        "compiledAdapter: denier\n  params: {}",
        "compiledAdapter: denier\n  params: {status: {code: 16, details: [{'@type': x.DirectHttpResponse, code: 302, body: go, headers: {location: /}}]}}",
    ])
    .prop_map(|spec| (spec.to_owned(), "'1'".to_owned()));
    let list = (
        prop::sample::select(LISTS.to_vec()),
        any::<bool>(),
        prop::sample::select(VALUES.to_vec()),
    );
    let list = list.prop_map(|(list, blacklist, value)| {
        let spec = format!("compiledAdapter: listchecker\n  params: {{{list}, blacklist: {blacklist}}}");
        (spec, format!("'{value}'"))
    });
    prop_oneof![denier, list].prop_map(|(handler, value)| {
        format!(
            "---\napiVersion: config.istio.io/v1alpha2\nkind: handler\nmetadata: {{name: hNAME, namespace: shop}}\nspec:\n  {handler}\n\
             ---\napiVersion: config.istio.io/v1alpha2\nkind: instance\nmetadata: {{name: iNAME, namespace: shop}}\nspec: {{compiledTemplate: listentry, params: {{value: {value}}}}}\n"
        )
    })
}

fn rule() -> impl Strategy<Value = String> {
    (condition(), action()).prop_map(|(condition, action)| {
        format!(
            "{action}---\napiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {{name: rNAME, namespace: shop}}\nspec:\n  match: {}\n  actions: [{{handler: hNAME, instances: [iNAME]}}]\n",
            serde_json::to_string(&condition).unwrap()
        )
    })
}

#[derive(Clone, Debug)]
struct Sent {
    headers: BTreeMap<String, String>,
    path: String,
    method: &'static str,
    peer: Option<&'static str>,
    ip: IpAddr,
}

fn sent() -> impl Strategy<Value = Sent> {
    let header = |name: &'static str, values: &'static [&'static str]| {
        prop::option::of(prop::sample::select(values)).prop_map(move |value| value.map(|value| (name, value)))
    };
    let headers = (
        header("x-user", &["jason", "JASON", "anna", "", "ja,son", "none"]),
        header("x-tier", &["gold", "Gold", "tin", "\u{212a}"]),
        header("user-agent", &["curl", "other"]),
        header(
            "content-type",
            &["application/grpc", "application/grpc-web", "text/plain"],
        ),
    );
    let peers = prop::sample::select(vec![
        None,
        Some("cluster.local/ns/shop/sa/reviews"),
        Some("cluster.local/ns/shop/sa/anna"),
        Some("cluster.local/ns/other/sa/reviews"),
        Some("elsewhere/x"),
    ]);
    (
        headers,
        prop::sample::select(vec!["/a", "/a/b", "/a/b?q=1", "/?q=2", "/b#c", "*"]),
        prop::sample::select(vec!["GET", "POST", "PUT"]),
        peers,
        prop::sample::select(vec!["10.0.0.1", "10.0.1.1", "10.1.0.1", "::1"]),
    )
        .prop_map(|((a, b, c, d), path, method, peer, ip)| Sent {
            headers: [a, b, c, d]
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            path: path.to_owned(),
            method,
            peer,
            ip: ip.parse().unwrap(),
        })
}

impl Sent {
    fn fact(&self, fact: &Fact) -> Option<String> {
        match fact {
            Fact::Header(name) => match name.as_str() {
                ":path" => Some(self.path.clone()),
                ":method" => Some(self.method.to_owned()),
                ":authority" => Some("ratings".to_owned()),
                ":scheme" => Some("http".to_owned()),
                name => self.headers.get(name).cloned(),
            },
            Fact::UrlPath => self.path.split(['?', '#']).next().map(str::to_owned),
            Fact::PeerUri => self.peer.map(|peer| format!("spiffe://{peer}")),
        }
    }

    fn passes(&self, matcher: &Matcher) -> bool {
        match matcher {
            Matcher::Always => true,
            Matcher::Never => false,
            Matcher::All(parts) => parts.iter().all(|part| self.passes(part)),
            Matcher::Any(parts) => parts.iter().any(|part| self.passes(part)),
            Matcher::Not(inner) => !self.passes(inner),
            Matcher::SourceIp(networks) => networks.iter().any(|network| network.contains(&self.ip)),
            Matcher::Text(fact, test) => self.fact(fact).is_some_and(|text| match test {
                Test::Present => true,
                Test::Exact(expected) => text == *expected,
                Test::Prefix(prefix) => text.starts_with(prefix),
                Test::Suffix(suffix) => text.ends_with(suffix),
                Test::Regex(pattern) => regex::Regex::new(&format!("^(?:{pattern})$"))
                    .unwrap()
                    .is_match(&text),
            }),
        }
    }

    fn body(&self, refusal: &Refusal) -> String {
        let part = |part: &BodyPart| match part {
            BodyPart::Text(text) => text.clone(),
            BodyPart::Fact(fact) => self.fact(fact).unwrap(),
            BodyPart::SourceIp => self.ip.to_string(),
        };
        refusal.body.iter().map(part).collect()
    }

    /// The verdict of Mixer.
    fn mixer(&self, rules: &Rules, own: &WorkloadView) -> crate::Verdict {
        let query = query_of(&self.path);
        let headers = HeaderMap(&self.headers);
        let request = Request {
            protocol: Protocol::of_content_type(self.headers.get("content-type").map(String::as_str)),
            source: Party {
                ip: Some(self.ip),
                principal: self.peer,
                ..Party::default()
            },
            destination: Party {
                workload: Some(own),
                ip: own.ip,
                port: Some(8080),
                principal: Some(own.principal()),
            },
            service: own.service(Some(8080), Some("ratings")),
            mtls: Some(self.peer.is_some()),
            headers: Some(&headers),
            path: Some(&self.path),
            query: Some(&query),
            method: Some(self.method),
            host: Some("ratings"),
            scheme: Some("http"),
            ..Request::default()
        };
        rules.check(&request, None)
    }
}

fn own() -> WorkloadView {
    let service = ServiceView {
        host: "ratings.shop.svc.cluster.local".into(),
        name: "ratings".into(),
        namespace: "shop".into(),
        ports: vec![8080],
        labels: None,
    };
    let labels = [("app".to_owned(), "ratings".to_owned())].into();
    let identity = Identity::new("cluster.local", "shop", "ratings");
    WorkloadView::new(
        "ratings-v1",
        &identity,
        Arc::new(labels),
        Some([10, 0, 0, 9].into()),
        vec![service],
    )
}

fn rules(yaml: &[String]) -> Rules {
    let named = yaml
        .iter()
        .enumerate()
        .map(|(i, text)| text.replace("NAME", &i.to_string()));
    let parsed = config::parse("test.yaml", named.collect::<String>().as_bytes(), "shop");
    let lost: Vec<_> = parsed.findings.iter().filter(|f| f.is_error()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let objects: Vec<_> = parsed.objects.into_iter().map(Arc::new).collect();
    let (rules, findings) = Rules::build(&objects, &MeshConfig::default().with_defaults());
    let bad: Vec<_> = findings.iter().filter(|f| f.is_error()).collect();
    assert!(bad.is_empty(), "{bad:?}");
    rules
}

const HTTP: Traffic = Traffic {
    direction: Direction::Inbound,
    tcp: false,
};

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_and_remote_rules_agree(yaml in prop::collection::vec(rule(), 1..4), sent in sent()) {
        let (rules, own) = (rules(&yaml), own());
        let mixer = sent.mixer(&rules, &own);
        let needs = rules.requirements_at(&own, HTTP, Ports::Only(8080));
        let refusal = needs.refusals.iter().find(|refusal| sent.passes(&refusal.when));
        match refusal {
            Some(refusal) => {
                prop_assert!(!mixer.is_ok(), "{refusal:?}");
                // Of several rules, one that stayed with Mixer may come first there.
                if needs.checks.is_empty() {
                    prop_assert_eq!(mixer.rule.as_ref().map(|key| format!("{}.{}", key.name, key.namespace)), Some(refusal.rule.clone()));
                    prop_assert_eq!(mixer.http_status, refusal.http_status);
                    prop_assert_eq!(&mixer.body, &sent.body(refusal));
                    prop_assert_eq!(&mixer.response_headers, &refusal.headers);
                }
            }
            None => {
                let asked = needs.checks.iter().any(|check| sent.passes(&check.when));
                prop_assert!(mixer.is_ok() || asked, "{:?}", mixer);
            }
        }
    }
}

/// Most of the expressions above are compiled: the property would hold for a compiler that does nothing.
#[test]
fn the_language_of_the_property_is_compiled() {
    let own = own();
    let mut remote = Vec::new();
    for atom in ATOMS {
        let deny = "---\napiVersion: config.istio.io/v1alpha2\nkind: handler\nmetadata: {name: h, namespace: shop}\nspec: {compiledAdapter: denier, params: {}}\n---\napiVersion: config.istio.io/v1alpha2\nkind: instance\nmetadata: {name: i, namespace: shop}\nspec: {compiledTemplate: checknothing}\n---\napiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {name: r, namespace: shop}\nspec:\n  match: MATCH\n  actions: [{handler: h, instances: [i]}]\n";
        let rules = rules(&[deny.replace("MATCH", &serde_json::to_string(atom).unwrap())]);
        let condition = &rules.by_namespace["shop"][0].condition;
        let needs = rules.requirements_at(&own, HTTP, Ports::Only(8080));
        if may_apply(&rules, condition, &own, HTTP, Ports::Only(8080))
            && needs.refusals.is_empty()
            && !needs.checks.is_empty()
        {
            remote.push(atom);
        }
    }
    assert_eq!(
        remote,
        [r#"(toLower(request.headers["x-tier"]) | "gold") == "gold""#]
    );
}
