//! The feed from folders and from a real Kubernetes API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{LONG, Root, address, context};
use config::{Kind, Object, ObjectKey, Spec};
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use runtime::Context;
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;
use tokio::sync::watch;

/// A Galley and a subscriber of its feed.
struct Galley {
    context: Context,
    states: watch::Receiver<Option<Arc<feed::State>>>,
    running: tokio::task::JoinHandle<Result<(), galley::Error>>,
}

impl Galley {
    fn start(folders: &[&Path], kubeconfig: Option<PathBuf>) -> Self {
        let root = Root::new();
        let (listen, context) = (address(), context("galley"));
        let args = galley::Args {
            config: folders.iter().map(|folder| folder.to_path_buf()).collect(),
            kubernetes: galley::kubernetes::Options {
                kubernetes: kubeconfig.is_some(),
                kubeconfig,
                ..Default::default()
            },
            state_dir: None,
            secret_facts_address: None,
            listen,
            jwks: Default::default(),
            webhook: Default::default(),
            status: Default::default(),
        };
        let identity = root.identity("argosy-system", "galley", &[]);
        let running = tokio::spawn(galley::run(args, identity, context.clone()));
        let options = feed::Options {
            address: listen.to_string(),
            kinds: Kind::distributed().collect(),
        };
        let pilot = root.identity("argosy-system", "pilot", &[]);
        let states = feed::follow(&options, &pilot, &context.child("pilot")).unwrap();
        Self {
            context,
            states,
            running,
        }
    }

    /// The first state that is as `check` wants it.
    async fn sees(&self, what: &str, check: impl Fn(&feed::State) -> bool) -> Arc<feed::State> {
        let wanted = |state: &Option<Arc<feed::State>>| state.as_ref().is_some_and(|state| check(state));
        let mut states = self.states.clone();
        if let Ok(state) = tokio::time::timeout(LONG, states.wait_for(wanted)).await {
            return state.unwrap().clone().unwrap();
        }
        let keys = self.states.borrow().as_ref().map(|state| keys(state));
        panic!(
            "never saw {what}; missing: {:?}; held: {keys:?}",
            self.context.readiness.missing()
        );
    }

    async fn stop(self) {
        self.context.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn keys(state: &feed::State) -> Vec<String> {
    state.objects.keys().map(ToString::to_string).collect()
}

fn has(state: &feed::State, kind: Kind, namespace: &str, name: &str) -> bool {
    state.objects.contains_key(&ObjectKey::new(kind, namespace, name))
}

fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    all.into_iter().filter(|value| !value.is_null()).collect()
}

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let name = object["kind"].as_str().unwrap();
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, name));
    if let Some(kind) = Kind::find(group, name) {
        resource.plural = kind.plural().to_owned();
    }
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Applies objects as kubectl does; waits for kinds that were defined a moment ago.
async fn apply(client: &Client, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("test").force();
    common::eventually(|| async {
        let applied = api(client, object)
            .patch(name, &params, &Patch::Apply(object))
            .await;
        applied.map(drop).map_err(|error| format!("{object}: {error}"))
    })
    .await;
}

async fn delete(client: &Client, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    api(client, object)
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn route(name: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"hosts": [name], "http": [{"route": [{"destination": {"host": name}}]}]},
    })
}

fn mesh(text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": text},
    })
}

/// A kubeconfig with the rights that the documentation tells to give, but for one API group.
async fn documented_rights(server: &ApiServer, client: &Client, without: &str) -> PathBuf {
    let docs = include_str!("../../../docs/galley.md");
    let yaml = docs.split("```yaml").nth(1).unwrap().split("```").next().unwrap();
    for mut role in documents(yaml) {
        for rule in role["rules"].as_array_mut().unwrap() {
            let groups = rule["apiGroups"].as_array_mut().unwrap();
            groups.retain(|group| group != without);
        }
        apply(client, &role).await;
        let kind = role["kind"].as_str().unwrap();
        apply(client, &json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"),
            "metadata": role["metadata"],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role["metadata"]["name"]},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "galley"}],
        }))
        .await;
    }
    server.kubeconfig_of("galley", None).unwrap()
}

/// Objects that are in every cluster.
const EVERYWHERE: [&str; 5] = [
    "Namespace default",
    "Namespace kube-node-lease",
    "Namespace kube-public",
    "Namespace kube-system",
    "Service default/kubernetes",
];

/// The object without what an API server alone gives it, and without the place where it was read.
fn plain(object: &Object) -> Object {
    let mut object = object.clone();
    object.origin = config::Origin::default();
    object.meta.uid.clear();
    object.meta.resource_version.clear();
    (object.meta.generation, object.meta.created) = (0, None);
    object
}

/// An object of a file as an API server stores it: with the defaults that it writes into Services (Kubernetes' Service
/// reference), and an address that it has chosen.
fn stored(object: &Object, in_cluster: &Object) -> Object {
    let mut object = plain(object);
    if let (Spec::Service(service), Spec::Service(other)) = (&mut object.spec, &in_cluster.spec) {
        let spec = &mut service.spec;
        let fill = |field: &mut String, default: &str| {
            if field.is_empty() {
                *field = default.to_owned();
            }
        };
        let chosen = &other.spec.cluster_ip;
        assert!(
            chosen.starts_with("10.96."),
            "{chosen} is not of the Services' range"
        );
        fill(&mut spec.cluster_ip, chosen);
        spec.cluster_ips = vec![spec.cluster_ip.clone()];
        fill(&mut spec.r#type, "ClusterIP");
        fill(&mut spec.session_affinity, "None");
        fill(&mut spec.internal_traffic_policy, "Cluster");
        fill(&mut spec.ip_family_policy, "SingleStack");
        spec.ip_families = vec!["IPv4".to_owned()];
        for port in &mut spec.ports {
            fill(&mut port.protocol, "TCP");
        }
    }
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_is_the_same_feed_from_files_and_from_a_cluster() {
    if !ApiServer::available().await.unwrap() {
        return;
    }
    let server = ApiServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/src/sample");
    for name in ["shop", "istio-system", "argosy-system"] {
        apply(&client, &namespace(name)).await;
    }
    for definition in config::crd::all() {
        apply(&client, &definition).await;
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(&sample)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        match file.file_name().unwrap().to_str().unwrap() {
            "identity.yaml" => {}
            "mesh.yaml" => apply(&client, &mesh(&text)).await,
            _ => {
                for object in documents(&text) {
                    apply(&client, &object).await;
                }
            }
        }
    }
    let from_files = Galley::start(&[&sample], None);
    let expected = from_files.sees("the folder", |_| true).await;
    assert!(expected.objects.len() > 20, "{:?}", keys(&expected));
    let applied = ["shop", "istio-system", "argosy-system"].map(|name| format!("Namespace {name}"));
    let more = EVERYWHERE.map(str::to_owned).into_iter().chain(applied);
    let wanted: BTreeSet<String> = keys(&expected).into_iter().chain(more).collect();
    let kubeconfig = documented_rights(&server, &client, "none.example").await;
    let from_cluster = Galley::start(&[], Some(kubeconfig.clone()));
    let whole = from_cluster
        .sees("the same objects from the cluster", |state| {
            keys(state).into_iter().collect::<BTreeSet<_>>() == wanted
        })
        .await;
    for (key, object) in &expected.objects {
        let found = &whole.objects[key];
        assert_eq!(plain(found), stored(object, found), "{key}");
    }

    // The very same feed is followed on: what selects namespaces, what a folder lays over the cluster, what changes nothing.
    // Each kind is a subscription of its own, so that kinds change one after the other.
    let selected = |state: &feed::State| {
        let mut keys = state.objects.keys();
        keys.all(|key| key.namespace.is_empty() || key.kind == Kind::MeshConfig)
    };
    apply(
        &client,
        &mesh("discoverySelectors: [{matchLabels: {mesh: 'yes'}}]"),
    )
    .await;
    from_cluster.sees("no namespace selected", selected).await;
    let mut labelled = namespace("shop");
    labelled["metadata"]["labels"] = json!({"mesh": "yes"});
    apply(&client, &labelled).await;
    let shop = from_cluster
        .sees("a namespace selected", |state| !selected(state))
        .await;
    assert!(
        !has(&shop, Kind::WorkloadEntry, "istio-system", "ingressgateway"),
        "{:?}",
        keys(&shop)
    );
    apply(&client, &mesh("enableAutoMtls: true")).await;
    let gateway = |state: &feed::State| has(state, Kind::WorkloadEntry, "istio-system", "ingressgateway");
    let before = from_cluster.sees("all namespaces again", gateway).await;

    let mut noted = route("catalog");
    noted["spec"] = json!(documents(include_str!("../../cli/src/sample/traffic.yaml"))[1]["spec"]);
    noted["metadata"]["annotations"] = json!({"example.com/seen": "now"});
    apply(&client, &noted).await;
    apply(&client, &route("marker")).await;
    let after = from_cluster
        .sees("the marker", |state| {
            has(state, Kind::VirtualService, "shop", "marker")
        })
        .await;
    let key = ObjectKey::new(Kind::VirtualService, "shop", "catalog");
    assert!(
        Arc::ptr_eq(&before.objects[&key], &after.objects[&key]),
        "an annotation that nobody reads was sent"
    );
    from_cluster.stop().await;

    let over = tempfile::tempdir().unwrap();
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: marker, namespace: shop}\nspec: {hosts: [other], http: [{route: [{destination: {host: other}}]}]}\n";
    std::fs::write(over.path().join("x.yaml"), text).unwrap();
    let layered = Galley::start(&[over.path()], Some(kubeconfig));
    let state = layered
        .sees("both sources", |state| {
            has(state, Kind::VirtualService, "shop", "marker")
        })
        .await;
    let marker = &state.objects[&ObjectKey::new(Kind::VirtualService, "shop", "marker")];
    assert_eq!(marker.origin.file.as_deref(), Some("x.yaml"));
    assert!(has(&state, Kind::Service, "shop", "catalog"));
    layered.stop().await;
    from_files.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_come_later_and_the_api_server_comes_and_goes() {
    if !ApiServer::available().await.unwrap() {
        return;
    }
    let mut server = ApiServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    for name in ["shop", "istio-system"] {
        apply(&client, &namespace(name)).await;
    }
    let kubeconfig = documented_rights(&server, &client, "telemetry.istio.io").await;
    let galley = Galley::start(&[], Some(kubeconfig));
    galley
        .sees("a cluster without definitions", |state| {
            has(state, Kind::Namespace, "", "shop")
        })
        .await;

    // A kind that may not be read does not hold up those that may.
    apply(&client, &config::crd::of(Kind::Telemetry).unwrap()).await;
    // Two more; the second goes again, with its objects.
    let definitions: Vec<Value> = [Kind::VirtualService, Kind::ServiceEntry]
        .into_iter()
        .filter_map(config::crd::of)
        .collect();
    for definition in &definitions {
        apply(&client, definition).await;
    }
    apply(&client, &route("first")).await;
    let entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "entry", "namespace": "shop"},
        "spec": {"hosts": ["a.example"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"},
    });
    apply(&client, &entry).await;
    let both = |state: &feed::State| {
        has(state, Kind::VirtualService, "shop", "first") && has(state, Kind::ServiceEntry, "shop", "entry")
    };
    galley.sees("kinds that were defined later", both).await;
    delete(&client, &definitions[1]).await;
    galley
        .sees("a kind that is gone", |state| {
            !both(state) && has(state, Kind::VirtualService, "shop", "first")
        })
        .await;

    // While the API server is away the last state stays; then its history is gone, and every kind has to be listed anew.
    server.kill();
    server.compact().await.unwrap();
    assert!(has(
        galley.states.borrow().as_ref().unwrap(),
        Kind::VirtualService,
        "shop",
        "first"
    ));
    server.restart().await.unwrap();
    let client = server.client().await.unwrap();
    apply(&client, &route("second")).await;
    delete(&client, &route("first")).await;
    let renewed = |state: &feed::State| {
        has(state, Kind::VirtualService, "shop", "second")
            && !has(state, Kind::VirtualService, "shop", "first")
    };
    galley.sees("what changed after a restart", renewed).await;
    let metrics = galley.context.metrics.encode();
    for (kind, reason) in [
        ("Telemetry", "forbidden"),
        ("VirtualService", "unreachable"),
        ("VirtualService", "expired"),
    ] {
        let labels = format!("galley_watch_failures{{kind=\"{kind}\",reason=\"{reason}\"}}");
        let counted = metrics.lines().any(|line| line.starts_with(&labels));
        assert!(counted, "{labels}: {metrics}");
    }
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_galley_is_not_ready_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "clusters": [{"name": "none", "cluster": {"server": format!("http://{}", address())}}],
        "users": [{"name": "none", "user": {}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let galley = Galley::start(&[], Some(kubeconfig));
    let why = common::eventually(|| async {
        let missing = galley.context.readiness.missing();
        let source = missing
            .iter()
            .find(|missing| missing.condition.ends_with("source"));
        match source {
            Some(source) if source.reason.contains("refused") => Ok(source.reason.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(
        why.starts_with("the Kubernetes API: waiting for ") && why.contains("kinds more"),
        "{why}"
    );
    assert!(galley.states.borrow().is_none(), "nothing is served as complete");
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_are_layers_and_each_follows_its_edits() {
    let (base, over) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let service = |port: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: shop}}\nspec:\n  ports: [{{name: http, port: {port}}}]\n"
        )
    };
    std::fs::write(base.path().join("a.yaml"), service(1)).unwrap();
    std::fs::write(over.path().join("b.yaml"), "# nothing yet\n").unwrap();
    let galley = Galley::start(&[base.path(), over.path()], None);
    let port = |state: &feed::State| match state
        .objects
        .get(&ObjectKey::new(Kind::Service, "shop", "a"))
        .map(|o| &o.spec)
    {
        Some(Spec::Service(service)) => service.spec.ports[0].port,
        _ => 0,
    };
    galley.sees("the lower folder's", |state| port(state) == 1).await;
    std::fs::write(over.path().join("b.yaml"), service(2)).unwrap();
    galley.sees("the upper folder's", |state| port(state) == 2).await;
    std::fs::write(base.path().join("a.yaml"), service(3)).unwrap();
    std::fs::write(over.path().join("b.yaml"), "# nothing any more\n").unwrap();
    galley
        .sees("the lower folder's edit", |state| port(state) == 3)
        .await;
    galley.stop().await;
}
