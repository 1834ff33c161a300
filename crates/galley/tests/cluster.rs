//! Webhook, status and election against a real Kubernetes API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Root, address, context, eventually};
use feed::distribution::{DistributionClient, DistributionReport, ObjectName, ObjectProgress};
use futures::stream;
use galley::status::lease::{self, Candidate, Leader};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use runtime::{Context, Identity};
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "shop";
const EARLY: &str = "early";
const CONFIGURATION: &str = "argosy-galley";

fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn routes(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = resource("networking.istio.io", "v1", "VirtualService");
    Api::namespaced_with(client.clone(), namespace, &kind)
}

fn configurations(client: &Client) -> Api<DynamicObject> {
    let group = "admissionregistration.k8s.io";
    Api::all_with(
        client.clone(),
        &resource(group, "v1", "ValidatingWebhookConfiguration"),
    )
}

async fn apply(client: &Client, object: Value) {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = resource(group, version, object["kind"].as_str().unwrap());
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let params = PatchParams::apply("test").force();
    api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap();
}

fn route(name: &str, namespace: &str, regex: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": [name], "http": [
            {"match": [{"uri": {"regex": regex}}], "route": [{"destination": {"host": "reviews"}}]},
        ]},
    }))
    .unwrap()
}

/// The kinds of the mesh, and the namespaces of the tests.
async fn install(client: &Client) {
    for definition in config::crd::all() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let wanted = ["virtualservices.", "sidecars.", "rules."];
        if wanted.iter().any(|wanted| name.starts_with(wanted)) {
            apply(client, definition).await;
        }
    }
    for name in [NAMESPACE, EARLY, "argosy-system"] {
        apply(
            client,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
    }
    let api = routes(client, NAMESPACE);
    eventually(|| async {
        let listed = api.list(&Default::default()).await;
        listed.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

/// A configuration of that name for one namespace, as an installer makes it.
fn webhook(name: &str, namespace: &str, address: SocketAddr) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{
            "name": format!("{namespace}.argosy.io"),
            "clientConfig": {"url": format!("https://localhost:{}/validate", address.port())},
            "rules": [{"apiGroups": ["networking.istio.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["*"]}],
            "failurePolicy": "Ignore", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 10,
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["argosy-system"]},
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]},
            ]},
        }],
    })
}

/// Waits until the API server trusts the webhook and its failure policy is this one.
async fn registered(client: &Client, name: &str, policy: &str) -> DynamicObject {
    eventually(|| async {
        let live = configurations(client)
            .get(name)
            .await
            .map_err(|error| error.to_string())?;
        let webhook = &live.data["webhooks"][0];
        let bundle = webhook["clientConfig"]["caBundle"].as_str().unwrap_or_default();
        match webhook["failurePolicy"] == policy && bundle.len() > 100 {
            true => Ok(live),
            false => Err(webhook.to_string()),
        }
    })
    .await
}

/// Waits until a bad object is refused by the webhook, which the API server may not call at once.
async fn refused(client: &Client, namespace: &str) -> kube::core::Status {
    let api = routes(client, namespace);
    eventually(|| async {
        let dry = PostParams {
            dry_run: true,
            ..Default::default()
        };
        match api.create(&dry, &route("bad", namespace, "(")).await {
            Err(kube::Error::Api(status)) if status.message.contains("admission webhook") => Ok(*status),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// A Galley that reads the cluster.
struct Galley {
    feed: SocketAddr,
    webhook: SocketAddr,
    context: Context,
    running: tokio::task::JoinHandle<Result<(), galley::Error>>,
}

/// Flags of a Galley; `configuration` is its webhook's, `namespace` its Lease's.
fn args(server: &ApiServer, configuration: &str, namespace: &str) -> galley::Args {
    galley::Args {
        config: Vec::new(),
        kubernetes: galley::kubernetes::Options {
            kubernetes: true,
            kubeconfig: Some(server.kubeconfig()),
            ..Default::default()
        },
        state_dir: None,
        secret_facts_address: None,
        listen: address(),
        jwks: Default::default(),
        webhook: galley::webhook::Args {
            webhook_listen: Some(address()),
            webhook_host: Some("localhost".to_owned()),
            webhook_configuration: configuration.to_owned(),
            ..Default::default()
        },
        status: galley::status::Args {
            pod_namespace: namespace.to_owned(),
            ..Default::default()
        },
    }
}

impl Galley {
    fn start(server: &ApiServer, identity: Identity) -> Self {
        let context = context("galley");
        let args = args(server, CONFIGURATION, "argosy-system");
        let (feed, webhook) = (args.listen, args.webhook.webhook_listen.unwrap());
        let running = tokio::spawn(galley::run(args, identity, context.clone()));
        Self {
            feed,
            webhook,
            context,
            running,
        }
    }

    async fn stop(self) {
        self.context.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// Waits until an object's status is as `check` wants it.
async fn status(api: &Api<DynamicObject>, name: &str, check: impl Fn(&Value) -> bool) -> DynamicObject {
    eventually(|| async {
        let object = api.get(name).await.map_err(|error| error.to_string())?;
        let status = object.data["status"].clone();
        match check(&status) {
            true => Ok(object),
            false => Err(format!("{name}: {status}")),
        }
    })
    .await
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|each| each["type"] == kind));
    found.unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_object_is_refused_and_a_good_one_is_told_what_became_of_it() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let client = server.client().await.unwrap();
    install(&client).await;
    let root = Root::new();
    let galley = Galley::start(server, root.identity("argosy-system", "galley", &["localhost"]));
    apply(&client, webhook(CONFIGURATION, NAMESPACE, galley.webhook)).await;

    // The webhook's configuration is brought to what Galley can answer for, and kept there.
    registered(&client, CONFIGURATION, "Fail").await;
    apply(&client, webhook(CONFIGURATION, NAMESPACE, galley.webhook)).await;
    let live = registered(&client, CONFIGURATION, "Fail").await;
    let managers = live.metadata.managed_fields.unwrap();
    assert!(
        managers
            .iter()
            .any(|each| each.manager.as_deref() == Some("argosy-galley-webhook"))
    );

    // A bad object is refused in Galley's words, wherever the rule is beyond the kind's schema.
    let refused = refused(&client, NAMESPACE).await;
    let (api, params) = (routes(&client, NAMESPACE), PostParams::default());
    let expected = "admission webhook \"shop.argosy.io\" denied the request: VirtualService shop/bad: spec.http[0].match[0].uri.regex: ";
    assert!(refused.message.contains(expected), "{}", refused.message);
    assert_eq!(refused.code, 400);
    let dry = PostParams {
        dry_run: true,
        ..Default::default()
    };
    api.create(&dry, &route("good", NAMESPACE, "/a.*")).await.unwrap();
    assert!(api.get_opt("good").await.unwrap().is_none());
    let own = routes(&client, "argosy-system");
    own.create(&params, &route("bad", "argosy-system", "("))
        .await
        .unwrap();

    // A good one is stored, and told what analysis says.
    api.create(&params, &route("good", NAMESPACE, "/a.*"))
        .await
        .unwrap();
    let good = status(&api, "good", |status| {
        condition(status, "PassedAnalysis")["status"] == "False"
    })
    .await;
    let said = &good.data["status"]["validationMessages"][0];
    assert_eq!(
        (&said["type"]["code"], &said["level"]),
        (&json!("IST0101"), &json!("ERROR")),
        "{said}"
    );
    assert_eq!(good.data["status"]["observedGeneration"], 1);
    let bad = status(&own, "bad", |status| {
        condition(status, "Reconciled")["reason"] == "NotUsed"
    })
    .await;
    assert_eq!(
        bad.data["status"]["validationMessages"][0]["type"]["code"],
        "IST0106"
    );

    // Pilots' reports are added up.
    let report = |uid: &str, accepted, rejected| DistributionReport {
        pilot: "pilot-1".to_owned(),
        changed: vec![ObjectProgress {
            object: Some(ObjectName {
                type_url: "networking.istio.io/v1/VirtualService".to_owned(),
                name: "shop/good".to_owned(),
            }),
            uid: uid.to_owned(),
            generation: 1,
            proxies: 100,
            accepted,
            rejected,
            reason: "regex too complex".to_owned(),
        }],
        complete: true,
        ..Default::default()
    };
    let uid = good.metadata.uid.clone().unwrap();
    let (reports, receiver) = tokio::sync::mpsc::channel(4);
    let outbound = stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    });
    let mut pilot = DistributionClient::new(root.channel(galley.feed, "argosy-system", "pilot"));
    let open = tokio::spawn(async move {
        pilot
            .report(outbound)
            .await
            .map(drop)
            .map_err(|status| status.to_string())
    });
    reports.send(report(&uid, 97, 3)).await.unwrap();
    let good = status(&api, "good", |status| {
        condition(status, "Reconciled")["reason"] == "Rejected"
    })
    .await;
    let message = condition(&good.data["status"], "Reconciled")["message"]
        .as_str()
        .unwrap();
    assert_eq!(
        message,
        "97/100 proxies up to date; 3/100 proxies reject it: regex too complex"
    );
    reports.send(report(&uid, 100, 0)).await.unwrap();
    let good = status(&api, "good", |status| {
        condition(status, "Reconciled")["status"] == "True"
    })
    .await;

    // What has not changed is not written: others' statuses come and this object's version stays.
    api.create(&params, &route("other", NAMESPACE, "/b.*"))
        .await
        .unwrap();
    status(&api, "other", |status| {
        condition(status, "PassedAnalysis")["status"] == "False"
    })
    .await;
    reports.send(report(&uid, 100, 0)).await.unwrap();
    api.delete("other", &Default::default()).await.unwrap();
    api.create(&params, &route("third", NAMESPACE, "/b.*"))
        .await
        .unwrap();
    status(&api, "third", |status| {
        condition(status, "PassedAnalysis")["status"] == "False"
    })
    .await;
    let again = api.get("good").await.unwrap();
    assert_eq!(
        again.metadata.resource_version, good.metadata.resource_version,
        "{:?}",
        again.data["status"]
    );

    // A rule of Mixer's is told what proxies do for it by themselves; this one names a handler that is not there.
    let kind = resource("config.istio.io", "v1alpha2", "rule");
    let rules: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
    let rule = DynamicObject::new("lost", &kind)
        .data(json!({"spec": {"actions": [{"handler": "gone", "instances": ["nothing"]}]}}));
    eventually(|| async {
        let created = rules.create(&params, &rule).await;
        created.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let rule = status(&rules, "lost", |status| {
        condition(status, "Compiled")["reason"] == "ErrorsFound"
    })
    .await;
    let said = &condition(&rule.data["status"], "Compiled")["message"];
    assert!(said.as_str().unwrap().contains("\"gone\""), "{said}");

    // Who is no Pilot may not report.
    let mut stranger = DistributionClient::new(root.channel(galley.feed, "shop", "pilot"));
    let denied = stranger
        .report(stream::iter([report(&uid, 1, 0)]))
        .await
        .unwrap_err();
    assert_eq!(denied.code(), tonic::Code::PermissionDenied);
    drop(reports);
    open.await.unwrap().unwrap();
    configurations(&client)
        .delete(CONFIGURATION, &Default::default())
        .await
        .unwrap();
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_citadel_the_webhook_signs_for_itself_and_nobody_relies_on_it() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let client = server.client().await.unwrap();
    install(&client).await;
    let (args, context) = (args(server, EARLY, EARLY), context("galley"));
    let address = args.webhook.webhook_listen.unwrap();
    let prepared = galley::prepare(&args, &context).await.unwrap();
    apply(&client, webhook(EARLY, EARLY, address)).await;
    let own = registered(&client, EARLY, "Ignore").await;
    refused(&client, EARLY).await;
    // Citadel is there: the certificate changes without a restart, and the webhook is relied on.
    let identity = Root::new().identity("argosy-system", "galley", &["localhost"]);
    let running = tokio::spawn(galley::run_prepared(args, prepared, identity, context.clone()));
    let citadels = registered(&client, EARLY, "Fail").await;
    let bundle = |live: &DynamicObject| live.data["webhooks"][0]["clientConfig"]["caBundle"].clone();
    assert_ne!(bundle(&own), bundle(&citadels));
    let told = refused(&client, EARLY).await.message;
    assert!(
        told.contains("denied the request: VirtualService early/bad"),
        "{told}"
    );
    configurations(&client)
        .delete(EARLY, &Default::default())
        .await
        .unwrap();
    context.shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_leader_goes_another_one_leads() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let client = server.client().await.unwrap();
    let stand = |name: &str| {
        let (sender, receiver) = watch::channel(Leader::default());
        let candidate = Candidate {
            name: name.to_owned(),
            address: Some(format!("{name}:15019")),
            namespace: "default".to_owned(),
            lease: "election-test".to_owned(),
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(lease::run(client.clone(), candidate, sender, stop.clone()));
        (receiver, stop, running)
    };
    let leads = |mut leader: watch::Receiver<Leader>| async move {
        let leads = leader.wait_for(|leader| leader.is_me);
        tokio::time::timeout(Duration::from_secs(40), leads)
            .await
            .expect("leads")
            .unwrap()
            .clone()
    };
    let (first, stop_first, first_running) = stand("a");
    leads(first.clone()).await;
    let (second, stop_second, second_running) = stand("b");
    let told = |leader: &Leader| leader.address.as_deref() == Some("a:15019") && !leader.is_me;
    tokio::time::timeout(common::LONG, second.clone().wait_for(told))
        .await
        .unwrap()
        .unwrap();
    // The first gives the Lease back, so the second need not wait until it runs out.
    stop_first.cancel();
    first_running.await.unwrap();
    leads(second.clone()).await;
    // The second dies: its Lease runs out.
    second_running.abort();
    drop(stop_second);
    let (third, stop_third, third_running) = stand("c");
    leads(third).await;
    stop_third.cancel();
    third_running.await.unwrap();
}
