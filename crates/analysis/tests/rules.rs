//! Sets of objects as YAML, and the messages that analysis gives for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use analysis::{Code, Message, Set, Store};

/// 2026-01-01.
const NOW: i64 = 1_767_225_600;

fn analyze(yaml: &str) -> Vec<Message> {
    let parsed = config::parse("test.yaml", yaml.as_bytes(), "default");
    let unreadable: Vec<_> = parsed.findings.iter().filter(|f| f.object.is_none()).collect();
    assert!(unreadable.is_empty(), "{unreadable:?}");
    let objects = parsed.objects.into_iter().chain(parsed.invalid);
    let mut store: Store = objects.map(Arc::new).collect();
    for (key, status) in &parsed.statuses {
        store.set_status(key, Some(status));
    }
    analysis::run(&Set::new(&store, NOW), analysis::ALL)
}

/// `CODE OBJECT PATH` of all messages, or of those with one code.
fn seen(yaml: &str, code: Option<Code>) -> BTreeSet<String> {
    analyze(yaml)
        .into_iter()
        .filter(|message| code.is_none_or(|code| message.code == code))
        .map(|m| {
            format!("{} {} {}", m.code.id(), m.subject(), m.path)
                .trim_end()
                .to_owned()
        })
        .collect()
}

fn check(yaml: &str, code: Code, expected: &[&str]) {
    let expected = expected
        .iter()
        .map(|rest| format!("{} {rest}", code.id()))
        .collect();
    assert_eq!(seen(yaml, Some(code)), expected, "{yaml}");
}

const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example]
  gateways: [front]
  http:
  - match: [{headers: {'@request.auth.claims.group': {exact: admin}}}]
    route: [{destination: {host: web, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {app: front}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*/web.example']}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80, name: http}], selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {ports: [{port: 80, name: http, targetPort: 8080}], selector: {app: front}}
---
apiVersion: v1
kind: Pod
metadata: {name: front-1, namespace: shop, labels: {app: front}}
spec: {containers: [{name: istio-proxy, image: proxyv2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web, version: v1}}
spec: {containers: [{name: istio-proxy, image: proxyv2}]}
";

#[test]
fn what_a_route_lacks_is_said_until_it_is_there() {
    let rule = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
";
    let tokens = "---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec: {selector: {matchLabels: {app: front}}, jwtRules: [{issuer: me}]}
";
    let expected = [
        "IST0101 VirtualService shop/web spec.http[0].route[0].destination.subset",
        "IST0149 VirtualService shop/web spec.http",
    ];
    assert_eq!(seen(ROUTES, None), expected.map(str::to_owned).into());
    assert_eq!(seen(&format!("{ROUTES}{rule}{tokens}"), None), BTreeSet::new());
}

#[test]
fn an_annotation_suppresses_what_it_lists() {
    let only = |codes: &str| {
        let annotated = format!("annotations: {{galley.istio.io/analyze-suppress: '{codes}'}}");
        let yaml = ROUTES.replacen(
            "{name: web, namespace: shop}",
            &format!("{{name: web, namespace: shop, {annotated}}}"),
            1,
        );
        analyze(&yaml).len()
    };
    assert_eq!(
        [only(""), only("IST0149"), only("IST0101,IST0149"), only("*")],
        [2, 1, 0, 0]
    );
}

#[test]
fn policies_without_workloads() {
    let policy = |rest: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, namespace: shop}}
spec: {rest}
---
apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: a, namespace: shop, labels: {{app: a}}}}
spec: {{containers: [{{name: a, image: a}}]}}
"
        )
    };
    let code = Code::NoMatchingWorkloadsFound;
    check(&policy("{selector: {matchLabels: {app: a}}}"), code, &[]);
    check(
        &policy("{selector: {matchLabels: {app: b}}}"),
        code,
        &["AuthorizationPolicy shop/p spec.selector"],
    );
    let outside = policy("{}").replace("istio-injection: enabled", "istio-injection: disabled");
    check(&outside, code, &["AuthorizationPolicy shop/p spec.selector"]);
    check(
        &policy("{rules: [{from: [{source: {namespaces: [sh*, '*op', bar], notNamespaces: [foo]}}]}]}"),
        Code::ReferencedResourceNotFound,
        &[
            "AuthorizationPolicy shop/p spec.rules[0].from[0].source.namespaces[2]",
            "AuthorizationPolicy shop/p spec.rules[0].from[0].source.notNamespaces[0]",
        ],
    );
}

#[test]
fn services_that_disagree_about_a_deployment() {
    let yaml = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web, sidecar.istio.io/inject: 'true'}}
    spec: {containers: [{name: web, image: web, securityContext: {runAsUser: 1337}}]}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {ports: [{port: 80, name: http, targetPort: 8080}], selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop}
spec: {ports: [{port: 80, name: x, protocol: UDP}, {port: 81, name: http-b, targetPort: 8080}], selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: c, namespace: other}
spec: {ports: [{port: 82, name: web, targetPort: 8080}], selector: {app: web}}
";
    let expected = [
        "IST0116 Deployment shop/web metadata.name",
        "IST0118 Service other/c spec.ports[0].name",
        "IST0137 Deployment shop/web metadata.name",
        "IST0144 Deployment shop/web spec.template.spec.containers[0].securityContext.runAsUser",
    ];
    assert_eq!(seen(yaml, None), expected.map(str::to_owned).into());
}

#[test]
fn what_daemon_sets_run_is_looked_at_as_in_deployments() {
    let yaml = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: edge, namespace: shop}
spec:
  template:
    metadata: {labels: {app: edge}}
    spec:
      containers:
      - {name: istio-proxy, image: auto}
      - {name: app, image: app, securityContext: {runAsUser: 1337}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: plain, namespace: shop}
spec: {template: {metadata: {labels: {app: plain}}, spec: {containers: [{name: app, image: auto}]}}}
";
    let expected = [
        "IST0144 DaemonSet shop/edge spec.template.spec.containers[1].securityContext.runAsUser",
        "IST0146 DaemonSet shop/edge spec.template.spec.containers[0].image",
    ];
    assert_eq!(seen(yaml, None), expected.map(str::to_owned).into());
}

#[test]
fn annotations_unknown_misplaced_invalid_deprecated() {
    let yaml = "
apiVersion: v1
kind: Pod
metadata:
  name: a
  namespace: shop
  annotations:
    sidecar.istio.io/inject: 'true'
    sidecar.istio.io/proxyCPU: much
    networking.istio.io/exportTo: '.'
    sidecar.istio.io/injct: 'true'
    example.com/mine: x
spec: {containers: [{name: a, image: a}]}
";
    let at = |name: &str| format!("Pod shop/a metadata.annotations[\"{name}\"]");
    for (code, name) in [
        (Code::UnknownAnnotation, "sidecar.istio.io/injct"),
        (Code::MisplacedAnnotation, "networking.istio.io/exportTo"),
        (Code::InvalidAnnotation, "sidecar.istio.io/proxyCPU"),
        (Code::DeprecatedAnnotation, "sidecar.istio.io/inject"),
    ] {
        check(yaml, code, &[&at(name)]);
    }
}

#[test]
fn subsets_see_where_nodes_are() {
    let yaml = |zone: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: shop}}
spec:
  host: web
  subsets:
  - {{name: near, labels: {{topology.kubernetes.io/zone: {zone}}}}}
  - {{name: vm, labels: {{kind: vm}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [web.shop.svc.cluster.local]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 10.0.0.1, labels: {{kind: vm}}}}]
---
apiVersion: v1
kind: Node
metadata: {{name: node-1, labels: {{topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web-1, namespace: shop}}
spec: {{nodeName: node-1, containers: [{{name: web, image: web}}]}}
"
        )
    };
    let code = Code::DestinationRuleSubsetNotSelectPods;
    check(&yaml("z1"), code, &[]);
    check(
        &yaml("z2"),
        code,
        &["DestinationRule shop/web spec.subsets[0].labels"],
    );
}

#[test]
fn definitions_that_are_old_or_gone() {
    let yaml = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: tlsroutes.gateway.networking.k8s.io
  annotations: {gateway.networking.k8s.io/bundle-version: v1.4.1}
spec: {group: gateway.networking.k8s.io, names: {kind: TLSRoute}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rbacconfigs.rbac.istio.io}
spec: {group: rbac.istio.io, names: {kind: RbacConfig}}
";
    let expected = [
        "IST0002 CustomResourceDefinition rbacconfigs.rbac.istio.io spec.names.kind",
        "IST0176 CustomResourceDefinition tlsroutes.gateway.networking.k8s.io \
         metadata.annotations[\"gateway.networking.k8s.io/bundle-version\"]",
    ];
    assert_eq!(seen(yaml, None), expected.map(str::to_owned).into());
}

#[test]
fn images_left_to_injection() {
    let yaml = |selected: &str| {
        format!(
            "
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: injector}}
webhooks:
- name: sidecar-injector.istio.io
  clientConfig: {{url: 'https://istiod.example/inject'}}
  objectSelector: {{matchExpressions: [{{key: inject, operator: In, values: [{selected}]}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: gw, namespace: shop}}
spec:
  template:
    metadata: {{labels: {{inject: 'me'}}}}
    spec: {{containers: [{{name: istio-proxy, image: auto}}]}}
"
        )
    };
    let code = Code::ImageAutoWithoutInjectionWarning;
    check(&yaml("me"), code, &[]);
    check(
        &yaml("you"),
        code,
        &["Deployment shop/gw spec.template.spec.containers[0].image"],
    );
}

#[test]
fn a_change_reruns_what_reads_the_kind() {
    let names = |kind| -> Vec<&str> { analysis::dependent(&[kind]).map(|a| a.name).collect() };
    assert_eq!(
        names(config::Kind::EnvoyFilter),
        ["envoyfilter.EnvoyPatchAnalyzer"]
    );
    assert_eq!(
        names(config::Kind::Node),
        ["destinationrule.PodNotSelectedAnalyzer"]
    );
    assert!(names(config::Kind::Rule).is_empty());
}

#[test]
fn rules_that_are_never_used_have_codes_of_their_own() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example]
  http:
  - match: [{uri: {exact: /x}}]
    route: [{destination: {host: web}}]
  - match: [{uri: {exact: /x}}, {uri: {exact: /y}}]
    route: [{destination: {host: web}}]
  - match: [{uri: {exact: /x}}]
    route: [{destination: {host: web}}]
  - route: [{destination: {host: web}}]
  - match: [{uri: {exact: /z}}]
    route: [{destination: {host: web}}]
";
    let parsed = config::parse("test.yaml", yaml.as_bytes(), "default");
    let seen: BTreeSet<String> = analysis::of_findings(&parsed.findings)
        .iter()
        .map(|message| format!("{} {}", message.code.id(), message.path))
        .collect();
    let expected = [
        "IST0130 spec.http[2]",
        "IST0130 spec.http[4]",
        "IST0131 spec.http[1].match[0]",
        "IST0131 spec.http[2].match[0]",
    ];
    assert_eq!(seen, expected.map(str::to_owned).into());
}
