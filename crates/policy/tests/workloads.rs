//! What attributes and rules know of workloads from the feed: names and owners of all that makes Pods, containers, addresses of
//! both families.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use config::Object;
use expr::Attributes;
use model::Snapshot;
use policy::{Direction, Party, Ports, ReporterKind, Request, Traffic, WorkloadView};

use common::{objects, rules};

fn pod(name: &str, labels: &str, owner: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: shop\n  labels: {{app: db, {labels}}}\n  ownerReferences: [{owner}]\n\
         spec: {{serviceAccountName: db, containers: [{{name: main, image: main, ports: [{{containerPort: 3306}}]}}, {{name: side, image: side, ports: [{{containerPort: 9104}}, {{containerPort: 3306}}]}}]}}\n\
         status: {{phase: Running, podIP: 10.0.0.7, podIPs: [{{ip: 10.0.0.7}}, {{ip: 'fd00::7'}}]}}\n"
    )
}

fn controller(kind: &str, version: &str, name: &str) -> String {
    let other = "{apiVersion: x/v1, kind: Other, name: other, uid: '1'}";
    format!("{other}, {{apiVersion: {version}, kind: {kind}, name: {name}, uid: '2', controller: true}}")
}

/// The view of the one workload of this text, over the feed's wire.
fn view(yaml: &str) -> WorkloadView {
    let objects = objects(yaml).into_iter();
    let objects = objects.map(|object| Arc::new(Object::from_feed(object.to_feed()).unwrap()));
    let snapshot = Snapshot::build(objects);
    let workload = snapshot.workloads().iter().next().unwrap();
    WorkloadView::of(&snapshot, workload)
}

fn told(view: &WorkloadView, name: &str) -> Option<String> {
    let party = Party {
        workload: Some(view),
        port: Some(3306),
        ..Party::default()
    };
    let request = Request {
        source: party,
        destination: party,
        ..Request::default()
    };
    request.get(name).map(|value| value.to_string())
}

#[test]
fn workloads_are_named_after_what_made_them() {
    let check = |name: &str, labels: &str, owner: &str, workload: &str, expected: Option<&str>| {
        let view = view(&pod(name, labels, owner));
        let owner = expected.map(|path| format!("kubernetes://apis/{path}"));
        for end in ["source", "destination"] {
            let told = |field: &str| told(&view, &format!("{end}.{field}"));
            assert_eq!(told("workload.name").as_deref(), Some(workload), "{name}");
            let uid = format!("istio://shop/workloads/{workload}");
            assert_eq!(told("workload.uid"), Some(uid));
            assert_eq!(told("owner"), owner, "{name}");
            assert_eq!(told("name").as_deref(), Some(name));
        }
    };
    let of = controller;
    check(
        "mysql-0",
        "",
        &of("StatefulSet", "apps/v1", "mysql"),
        "mysql",
        Some("apps/v1/namespaces/shop/statefulsets/mysql"),
    );
    check(
        "node-x7k2p",
        "",
        &of("DaemonSet", "apps/v1", "node"),
        "node",
        Some("apps/v1/namespaces/shop/daemonsets/node"),
    );
    check(
        "import-abcde",
        "",
        &of("Job", "batch/v1", "import"),
        "import",
        Some("batch/v1/namespaces/shop/jobs/import"),
    );
    check(
        "backup-29384756-abcde",
        "",
        &of("Job", "batch/v1", "backup-29384756"),
        "backup",
        Some("batch/v1/namespaces/shop/cronjobs/backup"),
    );
    check(
        "web-7f9c-abcde",
        "pod-template-hash: 7f9c",
        &of("ReplicaSet", "apps/v1", "web-7f9c"),
        "web",
        Some("apps/v1/namespaces/shop/deployments/web"),
    );
    check("probe", "", "", "probe", None);
    check(
        "mysql-0",
        "service.istio.io/workload-name: database",
        &of("StatefulSet", "apps/v1", "mysql"),
        "database",
        Some("apps/v1/namespaces/shop/statefulsets/mysql"),
    );
    // A manifest that somebody wrote by hand names no owner.
    check(
        "web-7f9c-abcde",
        "pod-template-hash: 7f9c",
        "",
        "web",
        Some("apps/v1/namespaces/shop/deployments/web"),
    );
}

#[test]
fn a_workload_entry_has_an_owner_only_when_one_made_it() {
    let entry = |owner: &str| {
        view(&format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm-1, namespace: shop, ownerReferences: [{owner}]}}\nspec: {{address: 10.0.0.8, serviceAccount: vm}}\n"
        ))
    };
    let own = entry("");
    assert_eq!((own.workload_name(), own.owner()), ("vm-1", None));
    let grouped = entry(&controller("WorkloadGroup", "networking.istio.io/v1", "vms"));
    let group = "kubernetes://apis/networking.istio.io/v1/namespaces/shop/workloadgroups/vms";
    assert_eq!((grouped.workload_name(), grouped.owner()), ("vm-1", Some(group)));
}

#[test]
fn the_container_is_the_one_that_listens_there() {
    let view = view(&pod("mysql-0", "", ""));
    assert_eq!(told(&view, "destination.container.name").as_deref(), Some("main"));
    assert_eq!((view.container(9104), view.container(1)), (Some("side"), None));
}

const DENY: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: deny, namespace: shop}
spec: {compiledAdapter: denier}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: all, namespace: shop}
spec: {compiledTemplate: checknothing}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: closed, namespace: shop}
spec:
  match: MATCH
  actions: [{handler: deny, instances: [all]}]
"#;

const INBOUND: Traffic = Traffic {
    direction: Direction::Inbound,
    tcp: false,
};

#[test]
fn a_stateful_sets_rule_applies_to_its_pods() {
    let view = view(&pod(
        "mysql-0",
        "",
        &controller("StatefulSet", "apps/v1", "mysql"),
    ));
    let other = self::view(&pod(
        "other-0",
        "",
        &controller("StatefulSet", "apps/v1", "other"),
    ));
    let check = |condition: &str, is_compiled: bool| {
        let rules = rules(&DENY.replace("MATCH", condition));
        for (view, applies) in [(&view, true), (&other, false)] {
            let needs = rules.requirements_at(view, INBOUND, Ports::Only(3306));
            assert_eq!(
                needs.refusals.len(),
                usize::from(applies && is_compiled),
                "{condition}"
            );
            assert_eq!(
                needs.checks.len(),
                usize::from(applies && !is_compiled),
                "{condition}"
            );
            let party = Party {
                workload: Some(view),
                port: Some(3306),
                ..Party::default()
            };
            let request = Request {
                reporter: ReporterKind::Inbound,
                destination: party,
                ..Request::default()
            };
            assert_eq!(rules.check(&request, None).is_ok(), !applies, "{condition}");
        }
    };
    check(r#"destination.workload.name == "mysql""#, true);
    check(
        r#"destination.workload.name == "mysql" && (source.uid | "none") == "none""#,
        false,
    );
    check(
        r#"destination.owner == "kubernetes://apis/apps/v1/namespaces/shop/statefulsets/mysql""#,
        true,
    );
}

#[test]
fn both_families_reach_a_workloads_services() {
    let service = |name: &str, families: &str, slices: &[(&str, &str)]| {
        let slices = slices.iter().map(|(family, address)| {
            format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{}, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: {family}\nports: [{{name: tcp, port: 3306}}]\nendpoints: [{{addresses: ['{address}'], targetRef: {{kind: Pod, name: mysql-0, namespace: shop}}}}]\n",
                family.to_lowercase()
            )
        });
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{ipFamilies: {families}, ports: [{{name: tcp, port: 3306}}]}}\n{}",
            slices.collect::<String>()
        )
    };
    let both = service(
        "both",
        "[IPv4, IPv6]",
        &[("IPv4", "10.0.0.7"), ("IPv6", "fd00::7")],
    );
    let sixth = service("sixth", "[IPv6]", &[("IPv6", "fd00::7")]);
    let view = view(&format!("{}{both}{sixth}", pod("mysql-0", "", "")));
    let services = view.services.iter();
    let services: Vec<_> = services.map(|s| (s.name.as_str(), s.ports.as_slice())).collect();
    assert_eq!(services, [("both", &[3306][..]), ("sixth", &[3306][..])]);
    let ips: Vec<String> = view.ips().map(|ip| ip.to_string()).collect();
    assert_eq!(ips, ["10.0.0.7", "fd00::7"]);
}
