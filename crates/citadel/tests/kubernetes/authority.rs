//! One authority for all replicas: their own in a Secret, or one that was plugged in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::kubernetes::ApiServer;

use crate::cluster::{Cluster, count, roots, try_roots, until};
use crate::support::{Mesh, admin, context};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_lost_makes_no_new_root() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "lost").await;
    let path = "/api/v1/namespaces/lost/secrets/argosy-ca-secret";
    let mesh = Mesh::new();
    let citadel = cluster.citadel(&mesh).await;
    let first = roots(&mesh, &citadel).await;
    // A file of the copy comes back from the Secret.
    std::fs::remove_file(mesh.path("ca/root-cert.pem")).unwrap();
    until("the file is back", || async {
        (std::fs::read_to_string(mesh.path("ca/root-cert.pem")).ok()? == first).then_some(())
    })
    .await;
    let secret = cluster.get(path).await.unwrap();
    let held = STANDARD.decode(secret["data"]["root-cert.pem"].as_str().unwrap());
    assert_eq!(String::from_utf8(held.unwrap()).unwrap(), first);
    citadel.stop().await;
    // Half a Secret is no authority.
    let half = json!({"data": {"root-cert.pem": null}});
    cluster.send("PATCH", path, &half).await.unwrap();
    let late = Mesh::new();
    let args = citadel::Args {
        kubernetes: cluster.options(),
        ..late.args()
    };
    let error = citadel::Ca::open(&args).await.unwrap_err().to_string();
    for part in ["lost/argosy-ca-secret", "has no root-cert.pem", "backup"] {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    assert!(!late.path("ca/root-key.pem").exists());
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_of_a_plugged_in_authority_all_replicas_know() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "noted").await;
    let all = "/api/v1/namespaces/noted/secrets";
    let secret = json!({"metadata": {"name": "cacerts"}, "stringData": plugged("noted")});
    cluster.post(all, &secret).await.unwrap();
    let meshes = [Mesh::new(), Mesh::new(), Mesh::new()];
    let [a, b, c] = &meshes;
    let (one, two) = tokio::join!(cluster.citadel(a), cluster.citadel(b));
    for (citadel, serial) in [(&one, "aff01"), (&two, "beef")] {
        let (code, state) = admin(
            &citadel.context,
            "PUT",
            &format!("/ca/revoke?serial={serial}&force=true"),
        )
        .await;
        assert_eq!(code, 200, "{state}");
    }
    let late = cluster.citadel(c).await;
    for citadel in [&one, &two, &late] {
        until("both serial numbers", || async {
            let (_, state) = admin(&citadel.context, "GET", "/ca/status").await;
            let revoked = state["revoked"].to_string();
            (revoked.contains("aff01") && revoked.contains("beef")).then_some(())
        })
        .await;
    }
    let noted = cluster
        .get(&format!("{all}/argosy-ca-secret-notes"))
        .await
        .unwrap();
    let names: Vec<&String> = noted["data"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["plugged.json", "revoked.json"], "no key is in it");
    for citadel in [one, two, late] {
        citadel.stop().await;
    }
    // Whose authority is lost gets no root of its own in its place.
    let path = format!("{all}/cacerts");
    cluster.send("DELETE", &path, &Value::Null).await.unwrap();
    let next = Mesh::new();
    let args = citadel::Args {
        kubernetes: cluster.options(),
        ..next.args()
    };
    let error = citadel::Ca::open(&args).await.unwrap_err().to_string();
    for part in [
        "noted/argosy-ca-secret-notes",
        "no Secret cacerts",
        "put that back",
    ] {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    assert!(!next.path("ca/root-key.pem").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_was_plugged_in_and_is_lost_is_replaced_by_none() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "unplugged").await;
    let all = "/api/v1/namespaces/unplugged/secrets";
    let secret = json!({"metadata": {"name": "cacerts"}, "stringData": plugged("lost")});
    cluster.post(all, &secret).await.unwrap();
    let mesh = Mesh::new();
    let citadel = cluster.citadel(&mesh).await;
    // Nothing was revoked; that it was plugged in is noted all the same.
    let notes = format!("{all}/argosy-ca-secret-notes");
    until("the mark", || async {
        let notes = cluster.get(&notes).await.ok()?;
        notes["data"]["plugged.json"].is_string().then_some(())
    })
    .await;
    let (_, state) = admin(&citadel.context, "GET", "/ca/status").await;
    let root = state["roots"][0]["fingerprint"].as_str().unwrap().to_owned();
    citadel.stop().await;
    let cacerts = format!("{all}/cacerts");
    cluster.send("DELETE", &cacerts, &Value::Null).await.unwrap();
    let refused = async |mesh: &Mesh, parts: &[&str]| {
        let args = citadel::Args {
            kubernetes: cluster.options(),
            ..mesh.args()
        };
        let error = citadel::Ca::open(&args).await.unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "no {part:?} in: {error}");
        }
    };
    let late = Mesh::new();
    refused(
        &late,
        &["unplugged/argosy-ca-secret-notes", "no Secret cacerts", &root],
    )
    .await;
    assert!(!late.path("ca/root-key.pem").exists());

    // A container that is started again has the folder still: its files are nobody's to give away or to delete.
    cluster.send("DELETE", &notes, &Value::Null).await.unwrap();
    let (key, cert) = istio_root();
    let data = json!({"ca-key.pem": key, "ca-cert.pem": cert});
    let istio =
        json!({"metadata": {"name": "istio-ca-secret"}, "type": "istio.io/ca-root", "stringData": data});
    cluster.post(all, &istio).await.unwrap();
    refused(
        &mesh,
        &["no Secret unplugged/cacerts", "has its files", "--ca-secret"],
    )
    .await;
    assert!(mesh.path("ca/ca-key.pem").exists());
    assert!(cluster.get(&format!("{all}/argosy-ca-secret")).await.is_err());
    // With it put back all is well.
    cluster.post(all, &secret).await.unwrap();
    let again = cluster.citadel(&mesh).await;
    let (_, state) = admin(&again.context, "GET", "/ca/status").await;
    assert_eq!(state["roots"][0]["fingerprint"], root);
    again.stop().await;
}

/// A root as Istio makes it for itself: RSA, in PKCS #1.
fn istio_root() -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |args: &[&str]| {
        let run = std::process::Command::new("openssl")
            .args(args)
            .current_dir(dir.path())
            .output();
        let run = run.expect("openssl is there");
        assert!(
            run.status.success(),
            "{args:?} {}",
            String::from_utf8_lossy(&run.stderr)
        );
    };
    openssl(&["genrsa", "-traditional", "-out", "key", "2048"]);
    let root = "req -new -x509 -key key -subj /O=cluster.local -days 3650 -addext keyUsage=critical,keyCertSign,cRLSign -out cert";
    openssl(&root.split(' ').collect::<Vec<_>>());
    let read = |name| std::fs::read_to_string(dir.path().join(name)).unwrap();
    (read("key"), read("cert"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_an_istio_that_was_here_is_taken_over() {
    let Some(server) = ApiServer::shared().await.unwrap() else {
        return;
    };
    let cluster = Cluster::new(server, "moved").await;
    let (key, cert) = istio_root();
    assert!(key.contains("BEGIN RSA PRIVATE KEY"), "{key}");
    let (wrong, _) = istio_root();
    let all = "/api/v1/namespaces/moved/secrets";
    let data = json!({"ca-key.pem": wrong, "ca-cert.pem": cert, "root-cert.pem": "", "cert-chain.pem": "", "key.pem": ""});
    let secret =
        json!({"metadata": {"name": "istio-ca-secret"}, "type": "istio.io/ca-root", "stringData": data});
    cluster.post(all, &secret).await.unwrap();
    // A root that cannot be used is not replaced by another in silence.
    let mesh = Mesh::new();
    let args = citadel::Args {
        kubernetes: cluster.options(),
        ..mesh.args()
    };
    let error = citadel::Ca::open(&args).await.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("moved/istio-ca-secret") && error.contains("not the key"),
        "{error}"
    );
    let right = json!({"stringData": {"ca-key.pem": key}});
    cluster
        .send("PATCH", &format!("{all}/istio-ca-secret"), &right)
        .await
        .unwrap();

    let meshes = [Mesh::new(), Mesh::new()];
    let [a, b] = &meshes;
    let (one, two) = tokio::join!(cluster.citadel(a), cluster.citadel(b));
    for (mesh, citadel) in [(a, &one), (b, &two)] {
        assert_eq!(roots(mesh, citadel).await.trim(), cert.trim());
    }
    let own = cluster.get(&format!("{all}/argosy-ca-secret")).await.unwrap();
    let held = STANDARD
        .decode(own["data"]["root-key.pem"].as_str().unwrap())
        .unwrap();
    assert_eq!(String::from_utf8(held).unwrap(), key);
    // From now on the own Secret counts: what becomes of Istio's is nobody's business.
    cluster
        .send("DELETE", &format!("{all}/istio-ca-secret"), &Value::Null)
        .await
        .unwrap();
    one.stop().await;
    let late = Mesh::new();
    let three = cluster.citadel(&late).await;
    assert_eq!(roots(&late, &three).await.trim(), cert.trim());
    two.stop().await;
    three.stop().await;
}

/// As in a cold start of a whole cluster: Citadel comes up before the API server does.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_it_waits_and_says_why() {
    let mesh = Mesh::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let kubeconfig = mesh.path("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "away",
        "clusters": [{"name": "away", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "me"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let args = citadel::Args {
        kubernetes: citadel::kubernetes::Options {
            kubernetes: true,
            kubeconfig: Some(kubeconfig),
            ..citadel::kubernetes::Options::default()
        },
        ..mesh.args()
    };
    let context = context("citadel");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = tokio::spawn(citadel::serve(listener, args, context.clone()));
    let reason = until("a reason", || async {
        let missing = context.readiness.missing();
        let why = missing
            .into_iter()
            .find(|one| one.condition == "citadel/authority")?
            .reason;
        (why != "starting").then_some(why)
    })
    .await;
    assert!(
        reason.starts_with("the API server does not give the authority: Secret argosy-system/"),
        "{reason}"
    );
    // And it ends when it is told to.
    context.shutdown.cancel();
    running.await.unwrap().unwrap();
}
