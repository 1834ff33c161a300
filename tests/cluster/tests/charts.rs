//! The charts without a cluster: that they are valid, what they render, and the rights that they give.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

use std::collections::{BTreeMap, BTreeSet};

use cluster::{helm, root};
use serde_json::Value;

const SYSTEM: &str = "argosy-system";
const CHARTS: [&str; 8] = [
    "argosy", "base", "citadel", "galley", "gateway", "injector", "mixer", "pilot",
];
/// Everything that is off by default, on.
const ALL_ON: &[&str] = &[
    "galley.serviceMonitor.enabled=true",
    "galley.autoscaling.enabled=true",
    "pilot.serviceMonitor.labels.release=prometheus",
    "pilot.serviceMonitor.enabled=true",
    "citadel.secretsNamespaces={ingress,shop}",
    "citadel.serviceMonitor.enabled=true",
    "citadel.image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "mixer.serviceMonitor.enabled=true",
    "mixer.telemetry.replicas=3",
    "injector.serviceMonitor.enabled=true",
    "injector.webhook.enableNamespacesByDefault=true",
    "injector.settings.holdApplicationUntilProxyStarts=true",
    "base.crds.enabled=false",
    "base.secretsNamespaces={ingress,shop}",
    "base.dashboards.enabled=true",
    "base.meshConfig.policyCheckFailOpen=true",
    "global.trustDomain=example.org",
    "global.imagePullPolicy=Always",
    "global.imagePullSecrets[0].name=registry",
    "global.hub=registry.example/mesh",
    "global.tag=1.2.3",
];

const GATEWAY_ALL_ON: &[&str] = &[
    "autoscaling.enabled=true",
    "clusterId=east",
    "credentialNames={shop-tls,shop-tls-cacert}",
    "meshId=fleet",
    "network=east-1",
    "networkPolicy.enabled=true",
    "proxyConfig.concurrency=4",
    "proxyConfig.proxyMetadata.ISTIO_META_HTTP10=1",
    "proxyConfig.proxyStatsMatcher.inclusionPrefixes={cluster.outbound}",
    "service.type=ClusterIP",
    "serviceMonitor.enabled=true",
];

/// Whether there is helm; where there is none, the test is left out, but not in CI.
fn available() -> bool {
    match helm::program() {
        Ok(_) => true,
        Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{error:#}"),
        Err(error) => {
            eprintln!("A test of the charts is left out: {error:#}");
            false
        }
    }
}

/// Compares with a file of the repository. UPDATE_EXPECT=1 writes it.
fn expect(path: &str, text: &str) {
    let path = root().join(path);
    // helm ends some documents with blanks.
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let first = known.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        known == text,
        "{} is not what it was made from any more, from line {:?} on; UPDATE_EXPECT=1 writes it anew",
        path.display(),
        first.map(|line| line + 1)
    );
}

#[test]
fn helm_finds_nothing_wrong() {
    if !available() {
        return;
    }
    for chart in CHARTS {
        helm::helm(&[
            "lint",
            "--strict",
            "--namespace",
            SYSTEM,
            &format!("helm/{chart}"),
        ])
        .unwrap();
    }
}

#[test]
fn what_is_rendered_is_what_was_reviewed() {
    if !available() {
        return;
    }
    let without = "base.crds.enabled=false";
    expect(
        "deploy/argosy.yaml",
        &manifests("argosy", "argosy", SYSTEM, &[without]),
    );
    expect(
        "tests/cluster/goldens/all-on.yaml",
        &helm::template("argosy", "argosy", SYSTEM, ALL_ON).unwrap(),
    );
    let canary = [
        "global.revision=canary",
        without,
        "base.enabled=false",
        "citadel.enabled=false",
    ];
    expect(
        "tests/cluster/goldens/canary.yaml",
        &helm::template("canary", "argosy", SYSTEM, &canary).unwrap(),
    );
    expect(
        "deploy/gateway.yaml",
        &manifests("istio-ingressgateway", "gateway", "istio-ingress", &[]),
    );
    expect(
        "tests/cluster/goldens/gateway-all-on.yaml",
        &helm::template("istio-egressgateway", "gateway", "egress", GATEWAY_ALL_ON).unwrap(),
    );
}

/// What `kubectl apply` takes: the namespace comes first, and there are no tests, which it would start.
fn manifests(release: &str, chart: &str, namespace: &str, set: &[&str]) -> String {
    let chart = format!("helm/{chart}");
    let mut arguments = vec![
        "template",
        release,
        &chart,
        "--namespace",
        namespace,
        "--skip-tests",
    ];
    arguments.extend(set.iter().flat_map(|value| ["--set", value]));
    let rendered = helm::helm(&arguments).unwrap();
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n{rendered}")
}

/// API servers before 1.29 drop `restartPolicy` of init containers, and a pod would wait for its proxy to end.
#[test]
fn sidecars_are_native_where_the_cluster_has_them() {
    if !available() {
        return;
    }
    let rendered = |version: &str, more: &[&str]| {
        let template = ["template", "argosy", "helm/injector", "--namespace", SYSTEM];
        helm::helm(&[&template[..], &["--kube-version", version], more].concat()).unwrap()
    };
    let line = |native: bool| format!("nativeSidecars: {native}");
    assert!(rendered("1.28.9", &[]).contains(&line(false)));
    assert!(rendered("1.29.0-eks-1", &[]).contains(&line(true)));
    let given = ["--set", "settings.nativeSidecars=true"];
    assert!(rendered("1.28.9", &given).contains(&line(true)));
}

#[test]
fn values_that_are_misspelt_are_refused() {
    if !available() {
        return;
    }
    let refused = |set: &str, words: &str| {
        let error = helm::template("argosy", "argosy", SYSTEM, &[set])
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{set}: {error}");
    };
    refused("galley.replica=3", "additional properties 'replica' not allowed");
    refused("pilot.replicas=many", "got string, want integer");
    refused("mixer.policy.replicas=-1", "minimum");
    refused("global.trustDomain=UPPER", "does not match pattern");
    let error = helm::template("argosy", "argosy", "default", &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("install with --namespace argosy-system"),
        "{error}"
    );
}

#[test]
fn each_setting_is_documented_and_has_a_rule() {
    for chart in CHARTS {
        let folder = root().join("helm").join(chart);
        let values = std::fs::read_to_string(folder.join("values.yaml")).unwrap();
        let parsed: Value = serde_saphyr::from_str(&values).unwrap();
        let schema: Value =
            serde_json::from_slice(&std::fs::read(folder.join("values.schema.json")).unwrap()).unwrap();
        let ruled: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
        for name in parsed.as_object().unwrap().keys() {
            assert!(
                ruled.contains(name),
                "{chart}: {name} is not in values.schema.json"
            );
        }
        assert!(
            values.starts_with('#'),
            "{chart}: values.yaml does not say what the chart is for"
        );
    }
}

/// The charts cannot share a schema, so what they mean alike is the same text in each.
#[test]
fn schemas_agree() {
    let mut known: BTreeMap<String, (String, Value)> = BTreeMap::new();
    for chart in CHARTS {
        let path = root().join("helm").join(chart).join("values.schema.json");
        let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for (name, rule) in schema["$defs"].as_object().unwrap() {
            let (first, other) = known
                .entry(name.clone())
                .or_insert_with(|| (chart.to_owned(), rule.clone()));
            assert_eq!(other, rule, "$defs.{name} of {chart} is not that of {first}");
        }
    }
}

#[test]
fn definitions_are_those_of_the_code() {
    let documents = config::crd::all()
        .into_iter()
        .map(|one| format!("---\n{}", serde_saphyr::to_string(&one).unwrap()));
    expect("helm/base/files/crds.yaml", &documents.collect::<String>());
}

fn rights(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("helm/base/files/rights").join(name)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// All (group, resource, verb) of the rules.
fn allowed(documents: &[Value]) -> BTreeSet<(String, String, String)> {
    let list = |rule: &Value, field: &str| -> Vec<String> {
        serde_json::from_value(rule[field].clone()).unwrap_or_default()
    };
    let rules = documents
        .iter()
        .flat_map(|document| document["rules"].as_array().cloned().unwrap_or_default());
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in list(&rule, "apiGroups") {
            for resource in list(&rule, "resources") {
                all.extend(
                    list(&rule, "verbs")
                        .into_iter()
                        .map(|verb| (group.clone(), resource.clone(), verb)),
                );
            }
        }
    }
    all
}

#[test]
fn galley_may_read_each_kind_that_it_follows() {
    let allowed = allowed(&rights("galley.yaml"));
    let may = |group: &str, resource: String, verb: &str| {
        allowed.contains(&(group.to_owned(), resource, verb.to_owned()))
    };
    for definition in config::crd::all() {
        let group = definition["spec"]["group"].as_str().unwrap();
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap();
        for verb in ["get", "list", "watch"] {
            assert!(may(group, plural.to_owned(), verb), "{verb} {plural}.{group}");
        }
        assert!(
            may(group, format!("{plural}/status"), "patch"),
            "status of {plural}.{group}"
        );
    }
}

#[test]
fn nobody_has_rights_by_wildcard_and_secrets_are_for_citadel() {
    if !available() {
        return;
    }
    let rendered = helm::template("argosy", "argosy", SYSTEM, &["base.crds.enabled=false"]).unwrap();
    let roles: Vec<Value> = helm::objects(&rendered)
        .unwrap()
        .into_iter()
        .filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Role")))
        .collect();
    assert!(!roles.is_empty());
    for role in &roles {
        let name = role["metadata"]["name"].as_str().unwrap();
        for (group, resource, verb) in allowed(std::slice::from_ref(role)) {
            assert!(
                ![&group, &resource, &verb].iter().any(|text| text.contains('*')),
                "{name}: {group} {resource} {verb}"
            );
            assert!(
                resource != "secrets" || name.starts_with("argosy-citadel"),
                "{name} may {verb} Secrets"
            );
        }
    }
}

#[test]
fn pods_have_no_rights_on_their_node() {
    if !available() {
        return;
    }
    let mut rendered = helm::template("argosy", "argosy", SYSTEM, &["base.crds.enabled=false"]).unwrap();
    rendered += &helm::template("ingress", "gateway", "ingress", &[]).unwrap();
    let mut seen = 0;
    for object in helm::objects(&rendered).unwrap() {
        let pod = match object["kind"].as_str().unwrap() {
            "Deployment" => &object["spec"]["template"]["spec"],
            "Pod" => &object["spec"],
            _ => continue,
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{name}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            assert!(container["resources"]["requests"]["memory"].is_string(), "{name}");
        }
        seen += 1;
    }
    assert!(seen >= 12, "{seen} pods were looked at");
}
