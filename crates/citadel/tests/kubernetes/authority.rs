//! One authority for all replicas: their own in a Secret, or one that was plugged in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;

use crate::cluster::{Cluster, count, roots, try_roots, until};
use crate::support::{Mesh, admin};

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_race_have_one_authority_and_rotate_it_together() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "authority").await;
    let meshes = [Mesh::new(), Mesh::new(), Mesh::new()];
    let [a, b, c] = &meshes;
    let (one, two, three) = tokio::join!(cluster.citadel(a), cluster.citadel(b), cluster.citadel(c));
    let first = roots(a, &one).await;
    assert_eq!(count(&first), 1);
    assert_eq!(first, roots(b, &two).await);
    assert_eq!(first, roots(c, &three).await);
    let path = "/api/v1/namespaces/authority/secrets/argosy-ca-secret";
    let secret = cluster.get(path).await.unwrap();
    let held = STANDARD
        .decode(secret["data"]["root-cert.pem"].as_str().unwrap())
        .unwrap();
    assert_eq!(String::from_utf8(held).unwrap(), first);

    // A step that one takes, all have.
    let (code, _) = admin(&two.context, "PUT", "/ca/rotate").await;
    assert_eq!(code, 200);
    for (mesh, citadel) in [(a, &one), (b, &two), (c, &three)] {
        until("both roots are trusted", || async {
            (count(&roots(mesh, citadel).await) == 2).then_some(())
        })
        .await;
    }
    let both = roots(a, &one).await;
    until("all trust the same roots", || async {
        let same = both == roots(b, &two).await && both == roots(c, &three).await;
        same.then_some(())
    })
    .await;

    // A Secret that somebody deleted is put back as it was.
    cluster.send("DELETE", path, &Value::Null).await.unwrap();
    let restored = until("the Secret is back", || async { cluster.get(path).await.ok() }).await;
    assert_eq!(restored["data"]["root-key.pem"], secret["data"]["root-key.pem"]);

    // The next start has it too.
    one.stop().await;
    let late = Mesh::new();
    let four = cluster.citadel(&late).await;
    assert_eq!(roots(&late, &four).await, both);
    for citadel in [two, three, four] {
        citadel.stop().await;
    }
}

/// An authority as an operator would plug it in.
fn plugged(name: &str) -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![
        rcgen::KeyUsagePurpose::KeyCertSign,
        rcgen::KeyUsagePurpose::CrlSign,
    ];
    let pem = params.self_signed(&key).unwrap().pem();
    json!({"ca-key.pem": key.serialize_pem(), "ca-cert.pem": pem, "root-cert.pem": pem, "cert-chain.pem": pem})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugged_in_authority_is_taken_replaced_and_refused_when_it_is_wrong() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "plugged").await;
    let (first, mut second) = (plugged("first"), plugged("second"));
    // As its owner would do it: certificates of the first are good until they have ended.
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    second["root-cert.pem"] = json!(text(&second["root-cert.pem"]) + &text(&first["root-cert.pem"]));
    let secret = json!({"metadata": {"name": "cacerts"}, "stringData": first});
    let all = "/api/v1/namespaces/plugged/secrets";
    cluster.post(all, &secret).await.unwrap();
    let mesh = Mesh::new();
    let citadel = cluster.citadel(&mesh).await;
    assert_eq!(
        roots(&mesh, &citadel).await,
        first["root-cert.pem"].as_str().unwrap()
    );
    let one = format!("{all}/cacerts");
    // Another's key is refused, and what was there stays.
    let wrong = json!({"stringData": {"ca-key.pem": second["ca-key.pem"]}});
    cluster.send("PATCH", &one, &wrong).await.unwrap();
    until("the wrong pair is told", || async {
        let told = citadel
            .context
            .metrics
            .encode()
            .contains("citadel_authority_stale 1");
        told.then_some(())
    })
    .await;
    assert_eq!(
        roots(&mesh, &citadel).await,
        first["root-cert.pem"].as_str().unwrap()
    );
    cluster
        .send("PATCH", &one, &json!({ "stringData": second }))
        .await
        .unwrap();
    let wanted = second["root-cert.pem"].as_str().unwrap();
    until("the second authority signs", || async {
        (try_roots(&mesh, &citadel).await.as_deref() == Some(wanted)).then_some(())
    })
    .await;
    citadel.stop().await;
}
