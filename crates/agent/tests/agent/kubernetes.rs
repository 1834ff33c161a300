//! The whole way of a gateway's credential: a Secret at a real API server, Citadel with its watch and its questions about rights,
//! the agent, and a real Envoy that serves TLS with it.

use std::time::{Duration, Instant};

use http::Request;
use serde_json::{Value, json};
use testkit::kubernetes::{ApiServer, Client};

use crate::common::{Tables, until};
use crate::credentials::{Outside, Pair, call, credential, works};
use crate::ground::Ground;
use crate::listener;

/// Within this time of a Secret's change a gateway is to use it.
const SOON: Duration = Duration::from_secs(1);

async fn send(admin: &Client, method: &str, path: &str, body: &Value) -> Value {
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", kind);
    let body = match body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    admin.request(request.body(body).unwrap()).await.unwrap()
}

/// The namespace of the gateway, with a Role that lets its account read Secrets there.
async fn prepare(admin: &Client) {
    send(
        admin,
        "POST",
        "/api/v1/namespaces",
        &json!({"metadata": {"name": "shop"}}),
    )
    .await;
    let root = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop";
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let role = json!({"metadata": {"name": "gateway"}, "rules": rules});
    send(admin, "POST", &format!("{root}/roles"), &role).await;
    let binding = json!({"metadata": {"name": "gateway"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gateway"},
        "subjects": [{"kind": "ServiceAccount", "name": "catalog", "namespace": "shop"}]});
    send(admin, "POST", &format!("{root}/rolebindings"), &binding).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_cluster_is_what_envoy_serves_with_and_so_is_its_change() {
    let Some(ground) = Ground::new() else { return };
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let admin = server.client().await.unwrap();
    prepare(&admin).await;
    let outside = Outside::new();
    let first = outside.pair(1);
    let secret = json!({"metadata": {"name": "web"}, "type": "kubernetes.io/tls",
        "stringData": credential(&first, &outside)});
    send(&admin, "POST", "/api/v1/namespaces/shop/secrets", &secret).await;

    let kubernetes = citadel::kubernetes::Options {
        kubernetes: true,
        kubeconfig: Some(server.kubeconfig_of("citadel", Some("system:masters")).unwrap()),
        ca_secret: String::new(),
        root_config_maps: false,
        ..citadel::kubernetes::Options::default()
    };
    let args = citadel::Args {
        kubernetes,
        ..citadel::Args::new(ground.mesh.path("ca"))
    };
    let citadel = ground.mesh.citadel_with(args).await;
    let address = ground.address(8443);
    let table = listener::with_tls(&ground.table(), address, "kubernetes://web", None, false);
    let tables = Tables::new(ground.with_entry(&table));
    let pilot = ground.mesh.pilot(&tables).await;
    let agent = ground.agent("agent", &ground.token()).start().unwrap();
    works("TLS by the Secret", address, &outside, None).await;
    let serves = async |pair: &Pair| {
        let seen = call(address, &outside, None)
            .await
            .map_err(|error| error.to_string())?;
        (seen == *pair.certificate.der())
            .then_some(())
            .ok_or_else(|| "it serves with another certificate".to_owned())
    };
    serves(&first).await.unwrap();

    let path = "/api/v1/namespaces/shop/secrets/web";
    // Each change comes to be used. One that takes less than a second shows that nothing on the way waits for that long by a clock,
    // whatever else the machine has to do.
    let (mut number, mut last, mut took) = (2, first, Vec::new());
    while number < 12 && took.iter().all(|took| *took >= SOON) {
        last = outside.pair(number);
        let change = json!({"stringData": credential(&last, &outside)});
        let start = Instant::now();
        send(&admin, "PATCH", path, &change).await;
        until("the changed Secret in use", || serves(&last)).await;
        took.push(start.elapsed());
        number += 1;
    }
    assert!(took.iter().any(|took| *took < SOON), "always later: {took:?}");

    // One that is deleted is not missed by who has it: Envoy goes on with what it was given, as in Istio.
    send(&admin, "DELETE", path, &Value::Null).await;
    let held = "credential not available";
    until("the agent told", || async {
        match agent.output().contains(held) {
            true => Ok(()),
            false => Err(agent.output()),
        }
    })
    .await;
    serves(&last).await.unwrap();
    drop(agent);
    pilot.stop().await;
    citadel.stop().await;
}
