//! Whatever comes and goes in whatever order: the engine has found what one run over the outcome finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use analysis::{ALL, Analysis, Code, Engine, Input, Message, SUPPRESS, Set, Store};
use config::{Finding, Kind, Object, ObjectKey, Status};
use proptest::prelude::*;
use proptest::sample::Index;

const NOW: i64 = 1_800_000_000;

/// Objects that say things about one another.
const WORLD: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio-injection: enabled}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: other}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {app: web}, ports: [{name: x, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: other}, spec: {selector: {app: web}, ports: [{name: http, port: 80}, {name: http-b, port: 81}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web, version: v1}}, spec: {containers: [{name: web, image: web}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: gw-1, namespace: shop, labels: {app: gw}}, spec: {containers: [{name: istio-proxy, image: auto}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: web, namespace: shop}, spec: {hosts: [web.example], gateways: [front], http: [{route: [{destination: {host: web, subset: v1}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: far, namespace: other}, spec: {hosts: [web.example], http: [{route: [{destination: {host: web}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: web, namespace: shop}, spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}}
---
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: front, namespace: shop}, spec: {selector: {app: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [web.example]}]}}
---
{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: a, namespace: shop}, spec: {egress: [{hosts: ['./*']}]}}
---
{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: b, namespace: shop}, spec: {egress: [{hosts: ['./*']}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop}, spec: {rules: [{from: [{source: {namespaces: [other]}}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: q, namespace: shop}, spec: {selector: {matchLabels: {version: v2}}, rules: [{from: [{source: {namespaces: ['o*']}}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: root, namespace: istio-system}, spec: {selector: {matchLabels: {app: web}}}}
---
{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: tokens, namespace: shop}, spec: {selector: {matchLabels: {app: gw}}, jwtRules: [{issuer: me}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: claims, namespace: shop}, spec: {hosts: [web.example], gateways: [front], http: [{match: [{headers: {'@request.auth.claims.group': {exact: admin}}}], route: [{destination: {host: x.out.example}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: mesh, namespace: shop}, spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v2}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: any, namespace: other}, spec: {hosts: ['*.example'], exportTo: [.], http: [{route: [{destination: {host: web.shop.svc.cluster.local}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: out, namespace: shop}, spec: {hosts: ['*.out.example'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x, namespace: shop}, spec: {hosts: [x.out.example], exportTo: [., other], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, workloadSelector: {labels: {app: web}}}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: tcp, namespace: other}, spec: {hosts: [x.out.example], ports: [{number: 80, name: tcp, protocol: TCP}], resolution: DNS}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: vm, namespace: shop}, spec: {address: 10.0.0.1, labels: {app: web, version: v2}}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: x, namespace: other}, spec: {host: x.out.example, subsets: [{name: v2, labels: {version: v2}}]}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: zone, namespace: other}, spec: {host: web.shop.svc.cluster.local, subsets: [{name: a, labels: {topology.kubernetes.io/region: a}}]}}
---
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: same, namespace: other}, spec: {selector: {app: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [web.example]}, {port: {number: 443, name: https, protocol: HTTPS}, hosts: [b.example], tls: {mode: SIMPLE, credentialName: web}}]}}
---
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: tls, namespace: other}, spec: {selector: {app: gw}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, credentialName: web}}]}}
---
{apiVersion: v1, kind: Secret, metadata: {name: web, namespace: shop}, stringData: {tls.crt: none, tls.key: none}}
---
{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: c, namespace: shop}, spec: {workloadSelector: {labels: {app: web}}, egress: [{hosts: ['./*']}]}}
---
{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: d, namespace: shop}, spec: {workloadSelector: {labels: {version: v2}}, egress: [{hosts: ['./*']}]}}
---
{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: a, namespace: shop}, spec: {selector: {matchLabels: {app: web}}, accessLogging: [{disabled: false}]}}
---
{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: b, namespace: shop}, spec: {selector: {matchLabels: {version: v2}}}}
---
{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: c, namespace: shop}, spec: {}}
---
{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: d, namespace: shop}, spec: {}}
---
{apiVersion: v1, kind: Service, metadata: {name: web-udp, namespace: shop}, spec: {selector: {app: web}, ports: [{name: x, port: 80, protocol: UDP}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: istio-proxy, image: auto}]}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: istiod, namespace: istio-system, labels: {app: istiod}}, spec: {template: {metadata: {labels: {app: istiod}}, spec: {containers: [{name: discovery, image: pilot}]}}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio-sidecar-injector, namespace: istio-system}, data: {values: '{\"sidecarInjectorWebhook\":{\"enableNamespacesByDefault\":true},\"global\":{\"hub\":\"h\",\"tag\":\"1\",\"proxy\":{\"image\":\"p\"}}}'}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: inject}, webhooks: [{name: a.istio.io, clientConfig: {service: {name: web, namespace: shop}}, namespaceSelector: {matchLabels: {istio-injection: enabled}}}]}
---
{apiVersion: v1, kind: Node, metadata: {name: node, labels: {topology.kubernetes.io/region: a}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-2, namespace: shop, labels: {app: web, gateway.networking.k8s.io/gateway-name: g}}, spec: {nodeName: node, containers: [{name: web, image: web}]}}
";

fn world() -> Vec<Arc<Object>> {
    let parsed = config::parse("world.yaml", WORLD.as_bytes(), "default");
    assert!(!parsed.has_errors(), "{:?}", parsed.findings);
    let mesh = config::parse_mesh_config("mesh.yaml", b"rootNamespace: shop\n", "istio-system");
    let objects = parsed.objects.into_iter().chain(mesh.objects);
    objects.map(Arc::new).collect()
}

/// What may happen to one of the objects.
#[derive(Clone, Debug)]
enum Event {
    Come,
    Go,
    /// Another label.
    Label(&'static str, &'static str),
    /// It asks not to be told of.
    Suppress,
}

fn events() -> impl Strategy<Value = Vec<(Index, Event)>> {
    let event = prop_oneof![
        4 => Just(Event::Come),
        2 => Just(Event::Go),
        1 => Just(Event::Label("version", "v2")),
        1 => Just(Event::Label("app", "web")),
        1 => Just(Event::Label("istio-injection", "disabled")),
        1 => Just(Event::Label("istio.io/dataplane-mode", "ambient")),
        1 => Just(Event::Suppress),
    ];
    proptest::collection::vec((any::<Index>(), event), 1..80)
}

fn apply(held: &mut BTreeMap<ObjectKey, Arc<Object>>, object: &Arc<Object>, event: &Event) {
    let mut new = (**object).clone();
    match event {
        Event::Come => {}
        Event::Go => {
            held.remove(&object.key());
            return;
        }
        Event::Label(key, value) => {
            new.meta.labels.insert((*key).to_owned(), (*value).to_owned());
        }
        Event::Suppress => {
            new.meta.annotations.insert(SUPPRESS.to_owned(), "*".to_owned());
        }
    }
    held.insert(object.key(), Arc::new(new));
}

fn once(objects: &[Arc<Object>]) -> Vec<Message> {
    let store: Store = objects.iter().cloned().collect();
    analysis::run(&Set::new(&store, NOW), ALL)
}

fn input<'a>(
    objects: &'a [Arc<Object>],
    statuses: &'a BTreeMap<ObjectKey, Status>,
    findings: &'a [Finding],
    unseen: &'a [Kind],
) -> Input<'a> {
    Input {
        objects,
        statuses,
        findings,
        unseen,
    }
}

fn check_counts(analysis: &Analysis) {
    let mut counts: BTreeMap<Code, usize> = BTreeMap::new();
    for message in analysis.messages() {
        *counts.entry(message.code).or_default() += 1;
    }
    assert_eq!(analysis.counts, counts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn histories(events in events()) {
        let world = world();
        let none = BTreeMap::new();
        let (mut whole, mut single) = (Engine::default(), Engine::default());
        let mut held = BTreeMap::new();
        for (index, event) in events {
            let object = index.get(&world);
            apply(&mut held, object, &event);
            let objects: Vec<Arc<Object>> = held.values().cloned().collect();
            whole.replace(input(&objects, &none, &[], &[]), NOW);
            match held.get(&object.key()) {
                Some(now) => single.apply([now.clone()], &[], NOW),
                None => single.apply([], &[object.key()], NOW),
            };
            let expected = once(&objects);
            for engine in [&whole, &single] {
                let found: Vec<Message> = engine.analysis().messages().into_iter().cloned().collect();
                prop_assert_eq!(&found, &expected);
            }
            check_counts(&whole.analysis());
        }
    }
}

#[test]
fn nothing_new_is_no_analysis_and_a_change_reruns_what_reads_it() {
    let objects = world();
    let none = BTreeMap::new();
    let mut engine = Engine::default();
    let first = engine
        .replace(input(&objects, &none, &[], &[]), NOW)
        .expect("the first");
    assert_eq!((first.version, first.ran.len()), (1, ALL.len()));
    assert!(
        engine.replace(input(&objects, &none, &[], &[]), NOW).is_none(),
        "the same"
    );
    let without: Vec<_> = objects
        .iter()
        .filter(|o| o.kind != Kind::DestinationRule)
        .cloned()
        .collect();
    let second = engine
        .replace(input(&without, &none, &[], &[]), NOW)
        .expect("a change");
    let readers: Vec<&str> = analysis::dependent(&[Kind::DestinationRule])
        .map(|a| a.name)
        .collect();
    assert_eq!(second.ran, readers);
    assert!(
        !second
            .of(&ObjectKey::new(Kind::VirtualService, "shop", "web"))
            .is_empty(),
        "its subset is gone"
    );
}

/// One service of many, with what belongs to it.
const SERVICE: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: nsNUM, labels: {istio-injection: enabled}}}
---
{apiVersion: v1, kind: Service, metadata: {name: appNUM, namespace: nsNUM}, spec: {selector: {app: appNUM}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: appNUM-1, namespace: nsNUM, labels: {app: appNUM, version: v1}}, spec: {containers: [{name: app, image: app}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: appNUM, namespace: nsNUM}, spec: {template: {metadata: {labels: {app: appNUM}}, spec: {containers: [{name: app, image: app}]}}}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: appNUM, namespace: nsNUM}, spec: {hosts: [appNUM.example], gateways: [front], http: [{route: [{destination: {host: appNUM, subset: v1}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: appNUM, namespace: nsNUM}, spec: {host: appNUM, subsets: [{name: v1, labels: {app: appNUM, version: v1}}]}}
---
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: front, namespace: nsNUM}, spec: {selector: {app: appNUM}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [appNUM.example]}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: out, namespace: nsNUM}, spec: {hosts: [outNUM.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}}
---
{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: appNUM, namespace: nsNUM}, spec: {workloadSelector: {labels: {app: appNUM}}, egress: [{hosts: ['./*']}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: appNUM, namespace: nsNUM}, spec: {selector: {matchLabels: {app: appNUM}}, rules: [{from: [{source: {namespaces: [nsNUM]}}]}]}}
---
{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: appNUM, namespace: nsNUM}, spec: {selector: {matchLabels: {app: appNUM}}}}
";

#[test]
fn a_change_costs_what_it_concerns() {
    let service = |number: usize| {
        let yaml = SERVICE.replace("NUM", &number.to_string());
        let parsed = config::parse("many.yaml", yaml.as_bytes(), "default");
        assert!(!parsed.has_errors(), "{:?}", parsed.findings);
        parsed.objects.into_iter().map(Arc::new)
    };
    let objects: Vec<Arc<Object>> = (0..300).flat_map(service).collect();
    let none = BTreeMap::new();
    let mut engine = Engine::default();
    let first = engine.replace(input(&objects, &none, &[], &[]), NOW);
    assert!(first.expect("the first").looks > 3000);
    for object in service(7) {
        engine.apply([], &[object.key()], NOW);
        let gone = engine.looks();
        engine.apply([object.clone()], &[], NOW);
        let back = engine.looks();
        // What comes back is looked at itself, if anybody reads its kind that way.
        assert!(
            back > 0 || analysis::dependent(&[object.kind]).next().is_none(),
            "{} is looked at by nobody",
            object.key()
        );
        assert!(gone < 20 && back < 20, "{}: {gone}, {back} looks", object.key());
    }
}

#[test]
fn who_cannot_see_does_not_judge() {
    let objects = world();
    let none = BTreeMap::new();
    let key = ObjectKey::new(Kind::AuthorizationPolicy, "shop", "p");
    let mut engine = Engine::default();
    let gone: Vec<_> = objects
        .iter()
        .filter(|o| o.kind != Kind::Namespace)
        .cloned()
        .collect();
    let seen = engine
        .replace(input(&gone, &none, &[], &[]), NOW)
        .expect("the first");
    assert!(!seen.of(&key).is_empty(), "there is no such namespace");
    let unseen = engine
        .replace(input(&gone, &none, &[], &[Kind::Namespace]), NOW)
        .expect("a change");
    assert!(unseen.of(&key).is_empty());
    assert!(unseen.skipped.contains(&"authz.AuthorizationPoliciesAnalyzer"));
}

#[test]
fn validation_and_status_are_told_too() {
    let text = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x, namespace: shop}, \
                spec: {hosts: [x.example], ports: [{number: 80000, name: http, protocol: HTTP}], resolution: DNS}, \
                status: {conditions: [{type: istio.io/WaypointBound, status: 'False'}]}}";
    let parsed = config::parse("x.yaml", text.as_bytes(), "default");
    let objects: Vec<_> = parsed.invalid.into_iter().map(Arc::new).collect();
    let mut engine = Engine::default();
    let found = engine
        .replace(input(&objects, &parsed.statuses, &parsed.findings, &[]), NOW)
        .expect("the first");
    let codes: Vec<Code> = found.counts.keys().copied().collect();
    assert_eq!(
        codes,
        [Code::SchemaValidationError, Code::NegativeConditionStatus]
    );
    let none = BTreeMap::new();
    let cured = engine
        .replace(input(&objects, &none, &[], &[]), NOW)
        .expect("a change");
    assert!(cured.objects.is_empty(), "{cured:?}");
}

#[test]
fn time_alone_makes_a_certificate_invalid() {
    let certificate = include_str!("data/expires.pem").replace('\n', "\\n");
    let yaml = format!(
        "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: front, namespace: shop}}, spec: {{selector: {{app: gw}}, \
         servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [web.example], tls: {{mode: SIMPLE, credentialName: web}}}}]}}}}\n\
         ---\n{{apiVersion: v1, kind: Pod, metadata: {{name: gw-1, namespace: shop, labels: {{app: gw}}}}, spec: {{containers: [{{name: istio-proxy, image: p}}]}}}}\n\
         ---\n{{apiVersion: v1, kind: Secret, metadata: {{name: web, namespace: shop}}, stringData: {{tls.crt: \"{certificate}\", tls.key: x}}}}\n"
    );
    let parsed = config::parse("x.yaml", yaml.as_bytes(), "default");
    assert!(!parsed.has_errors(), "{:?}", parsed.findings);
    let objects: Vec<_> = parsed.objects.into_iter().map(Arc::new).collect();
    let none = BTreeMap::new();
    let mut engine = Engine::default();
    let found = engine
        .replace(input(&objects, &none, &[], &[]), NOW)
        .expect("the first");
    assert!(
        !found.counts.contains_key(&Code::InvalidGatewayCredential),
        "{found:?}"
    );
    assert!(engine.tick(NOW + 86_400).is_none(), "a day later");
    let later = engine.tick(NOW + 40 * 365 * 86_400).expect("news");
    assert_eq!(later.counts.get(&Code::InvalidGatewayCredential), Some(&1));
}
