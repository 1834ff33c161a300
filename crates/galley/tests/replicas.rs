//! Several Galleys beside each other, with no other rights than docs/galley.md gives them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod common;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use common::{Root, address, context, eventually};
use config::Kind;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use runtime::{Context, Identity};
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;
use tower::ServiceExt;

/// What the page for operators says of rights is what is tried here.
const PAGE: &str = include_str!("../../../docs/galley.md");
const ACCOUNT: &str = "system:serviceaccount:argosy-system:galley";
const ROUTES: usize = 120;

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
    let resource = ApiResource::from_gvk(&kind);
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Applies an object; waits for kinds that were defined a moment ago.
async fn apply(client: &Client, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("test").force();
    eventually(|| async {
        let api = api(client, object);
        let applied = api.patch(name, &params, &Patch::Apply(object)).await;
        applied.map(drop).map_err(|error| format!("{object}: {error}"))
    })
    .await;
}

/// Roles in the page's YAML.
fn roles() -> Vec<Value> {
    let blocks = PAGE.split("```yaml\n").skip(1);
    let yaml = blocks
        .filter_map(|block| block.split_once("\n```"))
        .map(|(yaml, _)| yaml);
    let documents = yaml.flat_map(|yaml| serde_saphyr::from_multiple::<Value>(yaml).unwrap_or_default());
    documents
        .filter(|document| {
            document["kind"]
                .as_str()
                .is_some_and(|kind| kind.ends_with("Role"))
        })
        .collect()
}

/// The binding of a role to Galley's account.
fn binding(role: &Value) -> Value {
    let (kind, meta) = (role["kind"].as_str().unwrap(), &role["metadata"]);
    json!({
        "apiVersion": role["apiVersion"], "kind": format!("{kind}Binding"), "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": meta["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": "galley", "namespace": "argosy-system"}],
    })
}

/// A route to a host that is not there.
fn route(name: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"hosts": [name], "http": [{"route": [{"destination": {"host": "gone"}}]}]},
    })
}

/// The kinds of the mesh, namespaces, Galley's rights, and a webhook's configuration.
async fn install(client: &Client) {
    for name in ["shop", "argosy-system", "istio-system"] {
        let meta = json!({"name": name});
        apply(
            client,
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta}),
        )
        .await;
    }
    for definition in config::crd::all() {
        apply(client, &definition).await;
    }
    let roles = roles();
    assert_eq!(roles.len(), 4, "{roles:?}");
    for role in &roles {
        apply(client, role).await;
        apply(client, &binding(role)).await;
    }
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "argosy-galley"},
        "webhooks": [{
            "name": "validation.argosy.io", "clientConfig": {"url": "https://localhost:1/validate"},
            "rules": [{"apiGroups": ["networking.istio.io"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["*"]}],
            "failurePolicy": "Ignore", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            // Of no object here: that the webhook is called is tried elsewhere.
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["argosy-system", "shop"]},
            ]},
        }],
    });
    apply(client, &configuration).await;
}

struct Galley {
    name: String,
    context: Context,
    running: tokio::task::JoinHandle<Result<(), galley::Error>>,
}

impl Galley {
    fn start(server: &ApiServer, identity: Identity, number: usize) -> Self {
        let name = format!("galley-{number}");
        let context = context("galley");
        let args = galley::Args {
            config: Vec::new(),
            kubernetes: galley::kubernetes::Options {
                kubernetes: true,
                kubeconfig: Some(server.kubeconfig_of(ACCOUNT, None).unwrap()),
                ..Default::default()
            },
            jwks: Default::default(),
            secret_facts_address: None,
            state_dir: None,
            listen: address(),
            webhook: galley::webhook::Args {
                webhook_listen: Some(address()),
                webhook_host: Some("localhost".to_owned()),
                ..Default::default()
            },
            status: galley::status::Args {
                pod_name: name.clone(),
                ..Default::default()
            },
        };
        let running = tokio::spawn(galley::run(args, identity, context.clone()));
        Self {
            name,
            context,
            running,
        }
    }

    async fn stop(self) {
        self.context.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// A counter's value.
    fn count(&self, metric: &str) -> u64 {
        let text = self.context.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(metric));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    fn writes(&self) -> u64 {
        self.count("galley_status_writes ")
    }

    /// A page of its admin server.
    async fn page(&self, path: &str) -> Value {
        let request = Request::get(path).extension(ConnectInfo(address()));
        let request = request.body(Body::empty()).unwrap();
        let response = self.context.admin.router().oneshot(request).await.unwrap();
        let bytes = axum::body::to_bytes(response.into_body(), 64 << 20)
            .await
            .unwrap();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

/// The routes of which the status says that something is wrong.
async fn told(client: &Client) -> Vec<DynamicObject> {
    let listed = api(client, &route("any"))
        .list(&Default::default())
        .await
        .unwrap();
    let is_told = |object: &DynamicObject| {
        let messages = object.data["status"]["validationMessages"].as_array();
        messages.is_some_and(|all| all.iter().any(|each| each["type"]["code"] == "IST0101"))
    };
    listed.items.into_iter().filter(is_told).collect()
}

async fn all_told(client: &Client, count: usize) -> Vec<DynamicObject> {
    eventually(|| async {
        let told = told(client).await;
        match told.len() == count {
            true => Ok(told),
            false => Err(format!("{} of {count} are told", told.len())),
        }
    })
    .await
}

/// The one that has written, and the others.
async fn writer(mut galleys: Vec<Galley>) -> (Galley, Vec<Galley>) {
    let wrote: Vec<&str> = galleys
        .iter()
        .filter(|galley| galley.writes() > 0)
        .map(|galley| galley.name.as_str())
        .collect();
    assert_eq!(wrote.len(), 1, "one writes: {wrote:?}");
    let at = galleys.iter().position(|galley| galley.writes() > 0).unwrap();
    (galleys.remove(at), galleys)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_galleys_one_writes_and_when_it_goes_another() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let client = server.client().await.unwrap();
    install(&client).await;
    for number in 0..ROUTES {
        apply(&client, &route(&format!("r{number}"))).await;
    }
    let root = Root::new();
    let identity = || root.identity("argosy-system", "galley", &["localhost"]);
    let galleys: Vec<Galley> = (0..3)
        .map(|number| Galley::start(server, identity(), number))
        .collect();

    // Each status is written once, all by the same Galley, which also keeps the webhook's configuration.
    all_told(&client, ROUTES).await;
    let (leader, others) = writer(galleys).await;
    assert_eq!(leader.writes(), ROUTES as u64);
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {}});
    eventually(|| async {
        let live = api(&client, &configuration).get("argosy-galley").await;
        let live = live.map_err(|error| error.to_string())?;
        let bundle = live.data["webhooks"][0]["clientConfig"]["caBundle"].as_str();
        bundle.map(drop).ok_or("no caBundle".to_owned())
    })
    .await;

    // Galley lacks no right: every analyzer sees what it reads. Secrets are not Galley's to read.
    let page = leader.page("/debug/analysis").await;
    for name in page["skipped"].as_array().expect("the page") {
        let analyzer = analysis::find(name.as_str().unwrap()).unwrap();
        assert!(analyzer.inputs.contains(&Kind::Secret), "{name} cannot see");
    }
    assert_eq!(leader.count("galley_status_failures "), 0);

    // The leader goes: another one leads, and writes nothing that is there already.
    let before = all_told(&client, ROUTES).await;
    leader.stop().await;
    apply(&client, &route("late")).await;
    let after = all_told(&client, ROUTES + 1).await;
    let (second, rest) = writer(others).await;
    assert_eq!(second.writes(), 1, "the new one alone");
    let version = |all: &[DynamicObject], name: &str| {
        let found = all
            .iter()
            .find(|object| object.metadata.name.as_deref() == Some(name));
        found.and_then(|object| object.metadata.resource_version.clone())
    };
    assert_eq!(version(&before, "r7"), version(&after, "r7"));
    second.stop().await;
    for galley in rest {
        galley.stop().await;
    }
}
