//! What holds for any security policy that is accepted: for property tests, and for fuzzing without end (fuzz/).

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken promise ends the test; each user takes a part"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use authz::{Http, PolicySet, Request, Verdict};
use config::Object;
use envoygen::{Generator, Interception, Proxy, Scope, Settings, type_url};
use model::Snapshot;
use serde_json::{Map, Value, json};

/// A workload with a port for HTTP and one for bytes.
const WORKLOAD: &str = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: w, namespace: shop}
spec: {address: 127.1.0.5, serviceAccount: w, labels: {app: w}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: w, namespace: shop}
spec:
  ingress:
  - {port: {number: 8080, protocol: HTTP, name: http}, bind: 127.1.0.5, captureMode: NONE, defaultEndpoint: "127.0.0.1:1"}
  - {port: {number: 9090, protocol: TCP, name: tcp}, bind: 127.1.0.5, captureMode: NONE, defaultEndpoint: "127.0.0.1:1"}
"#;
const NODE: &str = "sidecar~127.1.0.5~w.shop~shop.svc.cluster.local";

static MESH: LazyLock<Vec<Arc<Object>>> = LazyLock::new(|| {
    let parsed = config::parse("mesh.yaml", WORKLOAD.as_bytes(), "shop");
    parsed.objects.into_iter().map(Arc::new).collect()
});

/// Words that fields give a meaning to. In place of one, bytes may stand as they are.
const WORDS: [&str; 24] = [
    "*",
    "",
    "a",
    "a*",
    "*a",
    "*a*",
    "**",
    "/a/{*}",
    "/{**}",
    "/{*}{**}",
    "cluster.local/ns/a/sa/b",
    "*/sa/b",
    "ns/sa",
    "shop.example:8080",
    "[::1]:80",
    "10.0.0.0/8",
    "::/0",
    "8080",
    "65536",
    "GET",
    "https://issuer/x",
    "*/x",
    "\\C+(",
    "\u{0}é\u{202e}",
];
/// Fields of a source that are about who the peer is, and those that are not.
const IDENTITY: [&str; 8] = [
    "principals",
    "notPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
];
const SOURCE: [&str; 6] = [
    "requestPrincipals",
    "notRequestPrincipals",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];
const OPERATION: [&str; 8] = [
    "hosts",
    "notHosts",
    "methods",
    "notMethods",
    "paths",
    "notPaths",
    "ports",
    "notPorts",
];
const KEYS: [&str; 18] = [
    "request.headers[x-a]",
    "request.headers[:authority]",
    "request.headers[']%)]",
    "request.headers[]",
    "request.auth.claims[a][b]",
    "request.auth.claims[a]b]",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.principal",
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "experimental.envoy.filters.a[b]",
];

/// Choices drawn from bytes: each takes the next, and once there are none left every choice is the first.
struct Draw<'a>(&'a [u8]);

impl Draw<'_> {
    fn number(&mut self, below: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first) % below
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        let at = self.number(of.len());
        of.get(at).copied().unwrap_or_default()
    }

    fn word(&mut self) -> String {
        match self.number(6) {
            5 => {
                let count = self.number(12).min(self.0.len());
                let (taken, rest) = self.0.split_at(count);
                self.0 = rest;
                String::from_utf8_lossy(taken).into_owned()
            }
            _ => self.one(&WORDS).to_owned(),
        }
    }

    fn words(&mut self) -> Value {
        (0..=self.number(3)).map(|_| Value::from(self.word())).collect()
    }

    fn fields(&mut self, of: &[&str]) -> Map<String, Value> {
        let count = self.number(3);
        (0..count)
            .map(|_| (self.one(of).to_owned(), self.words()))
            .collect()
    }

    fn rule(&mut self) -> Value {
        let mut rule = Map::new();
        let from: Vec<Value> = (0..self.number(3))
            .map(|_| {
                let mut source = self.fields(&IDENTITY);
                source.extend(self.fields(&SOURCE));
                json!({ "source": source })
            })
            .collect();
        let to: Vec<Value> = (0..self.number(3))
            .map(|_| json!({"operation": self.fields(&OPERATION)}))
            .collect();
        let when: Vec<Value> = (0..self.number(3))
            .map(|_| {
                let mut condition = self.fields(&["values", "notValues"]);
                condition.insert("key".to_owned(), self.one(&KEYS).into());
                Value::Object(condition)
            })
            .collect();
        for (name, list) in [("from", from), ("to", to), ("when", when)] {
            if !list.is_empty() {
                rule.insert(name.to_owned(), list.into());
            }
        }
        Value::Object(rule)
    }

    fn policy(&mut self) -> Value {
        let action = self.one(&["ALLOW", "DENY", "AUDIT", "CUSTOM"]);
        let rules: Vec<Value> = (0..self.number(4)).map(|_| self.rule()).collect();
        let mut spec = json!({"action": action, "rules": rules});
        if action == "CUSTOM" {
            spec["provider"] = json!({"name": "nobody"});
        }
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "shop"}, "spec": spec,
        })
    }

    fn request(&mut self) -> Request {
        let http = Http {
            method: self.word(),
            authority: self.word(),
            path: self.word(),
            headers: BTreeMap::from([("x-a".to_owned(), vec![self.word(), self.word()])]),
            tokens: Vec::new(),
        };
        let address = "127.1.0.5".parse().unwrap();
        Request {
            peer: None,
            source_ip: address,
            remote_ip: address,
            destination_ip: address,
            port: 8080,
            sni: self.word(),
            http: (self.number(3) > 0).then_some(http),
        }
    }
}

/// Whether each way through a policy asks who the peer is.
fn asks_for_identity(policy: &Value) -> bool {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let asks = |source: &Value| {
        let given = |name: &&str| {
            source["source"][*name]
                .as_array()
                .is_some_and(|list| !list.is_empty())
        };
        IDENTITY.iter().any(given)
    };
    list(&policy["spec"], "rules").iter().all(|rule| {
        let from = list(rule, "from");
        !from.is_empty() && from.iter().all(asks)
    })
}

/// Bytes as choices that make an AuthorizationPolicy and a request without an identity. What is accepted is compiled and decided
/// on without a panic, and no ALLOW policy that asks for an identity lets the request in (ISTIO-SECURITY-2021-004).
pub fn policy(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let value = draw.policy();
    let Ok((object, _)) = config::decode(&value) else {
        return;
    };
    let objects = MESH.iter().cloned().chain([Arc::new(object)]);
    let snapshot = Arc::new(Snapshot::build(objects.collect::<Vec<_>>()));
    let labels = BTreeMap::from([("app".to_owned(), "w".to_owned())]);
    let set = PolicySet::of(&snapshot, "shop", &labels);
    let verdict = set.decide(&draw.request(), &BTreeMap::new()).verdict;
    if value["spec"]["action"] == "ALLOW" && asks_for_identity(&value) {
        assert_ne!(verdict, Verdict::Allowed, "{value}");
    }
    let generator = Generator::new(snapshot, Settings::default());
    let mut proxy = Proxy::parse(NODE, None).unwrap();
    proxy.interception = Some(Interception::None);
    let output = generator.generate(&Scope::of(&proxy, &generator));
    let ports = output.of_type(type_url::LISTENER).count();
    assert!(ports >= 2, "a policy takes no port away: {value}");
    for listener in output.of_type(type_url::LISTENER) {
        envoygen::to_json(type_url::LISTENER, &listener.bytes).unwrap();
    }
}
