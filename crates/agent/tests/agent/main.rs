//! The whole agent with the real Envoy: from nothing to serving, through losses, to its end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

#[path = "../common/mod.rs"]
mod common;
mod credentials;
mod ground;
mod kubernetes;
mod listener;
mod revoked;

use std::time::Duration;

use common::{Tables, until, with_object, workload_entry};
use ground::{Ground, echoes, ends, replace, signal};
use testkit::Spec;
use xds::Table;

#[tokio::test]
async fn from_nothing_to_serving_and_through_losses() {
    let Some(ground) = Ground::new() else { return };
    let spec = ground
        .agent("agent", &ground.token())
        .flag("--address", ground.mesh.block.ip(21));
    let mut agent = spec.start().unwrap();

    // Each thing that is missing is named.
    ground
        .says(
            503,
            &format!("identity: Citadel at {}", ground.mesh.citadel_address()),
        )
        .await;
    ground
        .says(
            503,
            "envoy: not started: it waits for the certificate and the workload",
        )
        .await;
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    ground
        .says(
            503,
            &format!("workload: Pilot at {}", ground.mesh.pilot_address()),
        )
        .await;
    let tables = Tables::new(Table::default());
    let pilot = ground.mesh.pilot(&tables).await;
    ground
        .says(
            503,
            "knows no WorkloadEntry shop/catalog-v1; add it to the configuration",
        )
        .await;
    assert_eq!(ground.envoys(), [0_u32; 0], "Envoy has no address yet");
    tables.set(ground.with_entry(&Table::default()));
    ground.says(200, "ready").await;

    // Envoy has its identity from SDS, and Pilot knows it as the workload.
    tables.set(ground.with_entry(&ground.table()));
    let (orders, _context) = ground.mesh.identity("shop", "orders").await;
    ground.serves(&orders).await;
    let id = format!(
        "sidecar~{}~catalog-v1.shop~shop.svc.cluster.local",
        ground.mesh.block.ip(21)
    );
    assert!(
        tables.asked().iter().any(|(node, _)| *node == id),
        "{:?}",
        tables.asked()
    );
    assert_eq!(
        ground.get(15021, "/healthz/ready").await,
        Ok((200, "ready\n".into())),
        "through Envoy"
    );
    let (_, merged) = ground.get(15020, "/stats/prometheus").await.unwrap();
    assert!(merged.contains("argosy_agent_envoy_restarts_total 0"), "{merged}");
    assert!(
        merged.contains("envoy_server_live 1") || merged.contains("envoy_server_state"),
        "{merged}"
    );
    let (_, alone) = ground.get(15090, "/stats/prometheus").await.unwrap();
    assert!(
        alone.contains("envoy_server_") && !alone.contains("argosy_agent"),
        "{alone}"
    );

    // Without Pilot the proxy goes on; an Envoy that is killed then waits for Pilot.
    pilot.stop().await;
    ground.serves(&orders).await;
    ground.says(200, "ready").await;
    let [envoy] = ground.envoys()[..] else {
        panic!("{:?}", ground.envoys())
    };
    signal(envoy, "-9");
    ground
        .says(503, "envoy: Envoy has no clusters from Pilot yet")
        .await;
    ground
        .says(503, &format!("pilot: Pilot at {}", ground.mesh.pilot_address()))
        .await;
    let pilot = ground.mesh.pilot(&tables).await;
    ground.says(200, "ready").await;
    ground.serves(&orders).await;
    let (_, merged) = ground.get(15020, "/metrics").await.unwrap();
    assert!(merged.contains("argosy_agent_envoy_restarts_total 1"), "{merged}");

    // Nothing is left behind.
    signal(agent.id(), "-TERM");
    let (success, output) = ends(&mut agent).await;
    assert!(success, "{output}");
    assert_eq!(ground.envoys(), [0_u32; 0]);
    assert!(!ground.mesh.path("agent/agent.sock").exists());
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(6)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let agent = ground.agent("agent", &ground.token()).start().unwrap();
    ground.says(200, "ready").await;
    let [envoy] = ground.envoys()[..] else {
        panic!("{:?}", ground.envoys())
    };
    let admin = testkit::envoy::Admin::new(ground.address(15000));
    let serial = || async {
        let url = format!("http://{}/certs", ground.address(15000));
        let answer = ground
            .client
            .get(url)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let certificates = answer.json().map_err(|error| error.to_string())?;
        let serial = certificates["certificates"][0]["cert_chain"][0]["serial_number"].as_str();
        serial.map(str::to_owned).ok_or_else(|| certificates.to_string())
    };
    let first = until("a certificate", serial).await;
    until("another certificate", || async {
        let now = serial().await?;
        if now == first { Err(now) } else { Ok(()) }
    })
    .await;
    admin.ready().await.unwrap();
    assert_eq!(ground.envoys(), [envoy]);
    drop(agent);
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn what_cannot_work_is_told_and_ends_the_agent() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let token = ground.token();

    let fails = async |spec: Spec, expected: &[&str]| {
        let (success, output) = ends(&mut spec.start().unwrap()).await;
        assert!(
            !success && expected.iter().all(|text| output.contains(text)),
            "{expected:?} in {output}"
        );
    };
    let missing = replace(ground.agent("missing", &token), "--envoy", "/nowhere/envoy");
    fails(
        missing,
        &[
            "--envoy /nowhere/envoy: No such file",
            "give the path of Envoy's program",
        ],
    )
    .await;
    let flags = ground.agent("flags", &token).arg("--envoy-arg=--nonsense");
    fails(
        flags,
        &[
            "--nonsense -- Couldn't find match for argument",
            "correct the --envoy-… flags",
        ],
    )
    .await;
    let foreign = ground.mesh.token("bank", "teller", Duration::from_secs(600));
    fails(
        ground.agent("foreign", &foreign),
        &[
            "certificate is for spiffe://cluster.local/ns/bank/sa/teller",
            "correct --token or --workload",
        ],
    )
    .await;

    // A second agent of the same workload; the first is not disturbed.
    let first = ground.agent("first", &token).start().unwrap();
    ground.says(200, "ready").await;
    fails(ground.agent("first", &token), &["in use by another argosy-agent"]).await;
    let status = format!(
        "cannot listen on {} (--status-port): the port is in use",
        ground.address(15020)
    );
    fails(ground.agent("second", &token), &[&status]).await;
    let other_ports = ground
        .agent("third", &token)
        .flag("--status-port", 16020)
        .flag("--prometheus-port", 16090);
    let admin = format!("Envoy's admin port {} is taken", ground.address(15000));
    fails(other_ports, &[&admin, "a second argosy-agent?"]).await;
    ground.says(200, "ready").await;
    drop(first);
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_told_until_it_is_replaced() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let expired = ground.mesh.expired_token("shop", "catalog");
    let spec = ground
        .agent("agent", &expired)
        .flag("--address", ground.mesh.block.ip(21));
    let agent = spec.start().unwrap();
    ground.says(503, "expired").await;
    assert!(agent.output().contains("expired"), "{}", agent.output());
    // The file is read again.
    ground.token();
    ground.says(200, "ready").await;
    drop(agent);
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_killed_takes_envoy_with_it() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let spec = ground.agent("agent", &ground.token());
    let mut agent = spec.start().unwrap();
    ground.says(200, "ready").await;
    assert_eq!(ground.envoys().len(), 1);
    signal(agent.id(), "-9");
    ends(&mut agent).await;
    until("Envoy's end", || {
        let left = ground.envoys();
        std::future::ready(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        })
    })
    .await;

    // Another one takes its place, in the same folder.
    let mut agent = spec.start().unwrap();
    ground.says(200, "ready").await;
    let url = format!("http://{}/quitquitquit", ground.address(15020));
    assert_eq!(ground.client.get(&url).send().await.unwrap().status, 405);
    assert_eq!(
        ground.client.request("POST", &url).send().await.unwrap().status,
        200
    );
    let (success, output) = ends(&mut agent).await;
    assert!(success, "{output}");
    assert_eq!(ground.envoys(), [0_u32; 0]);
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn open_connections_may_end_before_envoy_does() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    // Longer than this test waits for anything: the agent must see that the last connection has ended.
    let spec = replace(ground.agent("agent", &ground.token()), "--shutdown-grace", "10m");
    let mut agent = spec.start().unwrap();
    ground.says(200, "ready").await;
    let (orders, _context) = ground.mesh.identity("shop", "orders").await;
    ground.serves(&orders).await;
    let stream = echoes(ground.connect(&orders).await.unwrap()).await.unwrap();
    signal(agent.id(), "-TERM");
    ground.says(503, "envoy: draining").await;
    let stream = echoes(stream).await.unwrap();
    assert_eq!(ground.envoys().len(), 1);
    drop(stream);
    let (success, output) = ends(&mut agent).await;
    assert!(success && output.contains("Envoy is drained"), "{output}");
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn a_workload_that_moves_takes_its_proxy_along() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let mut agent = ground.agent("agent", &ground.token()).start().unwrap();
    ground.says(200, "ready").await;
    let [first] = ground.envoys()[..] else {
        panic!("{:?}", ground.envoys())
    };

    // An address that cannot be listened on changes nothing.
    tables.update(|table| with_object(table, &workload_entry("catalog-v1", [192, 0, 2, 1].into())));
    let told = || {
        let output = agent.output();
        let told = output.contains("the workload's new address cannot be used, the old one stays");
        std::future::ready(if told { Ok(()) } else { Err(output) })
    };
    until("the refusal", told).await;
    ground.says(200, "ready").await;
    assert_eq!(ground.envoys(), [first]);

    let moved = ground.mesh.block.addr(22, 15020);
    tables.update(|table| with_object(table, &workload_entry("catalog-v1", ground.mesh.block.ip(22))));
    until("readiness at the new address", || async {
        let url = format!("http://{moved}/healthz/ready");
        let answer = ground
            .client
            .get(url)
            .send()
            .await
            .map_err(|error| format!("{error:#}"))?;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
    let [second] = ground.envoys()[..] else {
        panic!("{:?}", ground.envoys())
    };
    assert_ne!(first, second);
    assert!(
        ground.get(15020, "/healthz/ready").await.is_err(),
        "the old address is free again"
    );
    signal(agent.id(), "-TERM");
    assert!(ends(&mut agent).await.0);
    pilot.stop().await;
    citadel.stop().await;
}
