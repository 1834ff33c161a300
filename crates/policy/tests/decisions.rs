//! Rules decide on requests.

mod common;

use std::collections::BTreeMap;

use common::{DENIER, QUOTA, build, rules, workload};
use policy::{Code, HeaderChange, HeaderMap, Party, Request, Verdict, Windows, WorkloadView};

fn party(view: &WorkloadView) -> Party<'_> {
    Party {
        workload: Some(view),
        ip: view.ip,
        port: Some(8080),
        principal: Some(view.principal()),
    }
}

fn request<'a>(source: Option<&'a WorkloadView>, destination: &'a WorkloadView) -> Request<'a> {
    Request {
        source: source.map(party).unwrap_or_default(),
        destination: party(destination),
        service: destination.service(Some(8080), None),
        ..Request::default()
    }
}

fn check(yaml: &str, source: Option<&WorkloadView>, destination: &WorkloadView) -> Verdict {
    rules(yaml).check(&request(source, destination), None)
}

#[test]
fn a_denier_refuses_with_its_handlers_status() {
    let (v2, v3, ratings) = (
        workload("reviews", "v2"),
        workload("reviews", "v3"),
        workload("ratings", "v1"),
    );
    assert!(check(DENIER, Some(&v2), &ratings).is_ok());
    assert!(check(DENIER, Some(&v3), &v2).is_ok());
    let verdict = check(DENIER, Some(&v3), &ratings);
    assert_eq!(
        (verdict.code, verdict.http_status),
        (Code::PERMISSION_DENIED, 403)
    );
    assert_eq!(verdict.body, "PERMISSION_DENIED:deny.shop:Not allowed");
    assert_eq!(verdict.rule.unwrap().to_string(), "rule shop/denyv3");
}

#[test]
fn the_form_with_kinds_of_their_own_means_the_same() {
    let yaml = DENIER
        .replace("kind: handler", "kind: denier")
        .replace(
            "  compiledAdapter: denier\n  params: {status: {code: 7, message: Not allowed}}",
            "  status: {code: 7, message: Not allowed}",
        )
        .replace("kind: instance", "kind: checknothing")
        .replace("spec: {compiledTemplate: checknothing}", "spec: {}")
        .replace("handler: deny\n", "handler: deny.denier\n")
        .replace("[request]", "[request.checknothing]");
    let (v3, ratings) = (workload("reviews", "v3"), workload("ratings", "v1"));
    assert_eq!(
        check(&yaml, Some(&v3), &ratings).body,
        "PERMISSION_DENIED:deny.denier.shop:Not allowed"
    );
}

#[test]
fn rules_of_a_namespace_hold_for_its_own_destinations() {
    let elsewhere = DENIER.replace("namespace: shop", "namespace: other");
    let everywhere = DENIER.replace("namespace: shop", "namespace: istio-system");
    let (v3, ratings) = (workload("reviews", "v3"), workload("ratings", "v1"));
    assert!(check(&elsewhere, Some(&v3), &ratings).is_ok());
    assert!(!check(&everywhere, Some(&v3), &ratings).is_ok());
}

#[test]
fn malformed_values_refuse_but_absent_ones_do_not() {
    let yaml = DENIER.replace(
        r#"destination.labels["app"] == "ratings" && source.labels["app"] == "reviews" && source.labels["version"] == "v3""#,
        r#"ip(request.headers["x-ip"]) == ip("1.2.3.4")"#,
    );
    let (rules, ratings) = (rules(&yaml), workload("ratings", "v1"));
    let verdict = |ip: Option<&str>| {
        let headers: BTreeMap<String, String> = ip
            .map(|ip| ("x-ip".to_owned(), ip.to_owned()))
            .into_iter()
            .collect();
        let headers = HeaderMap(&headers);
        rules.check(
            &Request {
                headers: Some(&headers),
                ..request(None, &ratings)
            },
            None,
        )
    };
    assert!(verdict(None).is_ok());
    assert!(verdict(Some("1.1.1.1")).is_ok());
    assert_eq!(verdict(Some("1.2.3.4")).code, Code::PERMISSION_DENIED);
    let broken = verdict(Some("nonsense"));
    assert_eq!(
        (broken.code, broken.http_status, broken.errors.len()),
        (Code::INTERNAL, 500, 1)
    );
}

#[test]
fn the_failure_mode_of_a_filter_chooses_its_rules() {
    let open = DENIER.replace(
        "name: denyv3,",
        "name: denyv3, annotations: {policy.argosy.io/fail-open: \"true\"},",
    );
    let (rules, v3, ratings) = (rules(&open), workload("reviews", "v3"), workload("ratings", "v1"));
    let request = request(Some(&v3), &ratings);
    assert!(!rules.check(&request, None).is_ok());
    assert!(!rules.check(&request, Some(true)).is_ok());
    assert!(rules.check(&request, Some(false)).is_ok());
}

#[test]
fn headers_change_when_the_request_passes() {
    let yaml = r#"
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: headers, namespace: shop}
spec:
  requestHeaderOperations:
  - {name: X-App, values: ['source.labels["app"]', 'source.labels["none"]']}
  - {name: x-old, operation: REMOVE}
  responseHeaderOperations:
  - {name: x-served-by, values: [destination.workload.name], operation: APPEND}
"#;
    let (frontend, ratings) = (workload("frontend", "v1"), workload("ratings", "v1"));
    let verdict = check(yaml, Some(&frontend), &ratings);
    let expected = [
        HeaderChange::Replace("x-app".into(), "frontend".into()),
        HeaderChange::Remove("x-old".into()),
    ];
    assert_eq!(verdict.request_headers, expected);
    assert_eq!(
        verdict.response_headers,
        [HeaderChange::Append("x-served-by".into(), "ratings-v1".into())]
    );
}

/// A client that could write line ends into a header's value could add headers of its own.
#[test]
fn values_that_no_header_may_have_are_left_out() {
    let rules = rules(
        r#"
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: headers, namespace: shop}
spec:
  requestHeaderOperations: [{name: x-q, values: ['request.query_params["q"]', '"fixed"'], operation: APPEND}]
  responseHeaderOperations: [{name: x-r, values: ['request.query_params["q"]']}]
"#,
    );
    let ratings = workload("ratings", "v1");
    let told = |path: &str| {
        let query = policy::query_of(path);
        let request = Request {
            path: Some(path),
            query: Some(&query),
            ..request(None, &ratings)
        };
        rules.check(&request, None)
    };
    let append = |value: &str| HeaderChange::Append("x-q".into(), value.into());
    for bad in ["b%0d%0aset-cookie:%20evil=1", "%0a", "a%00", "%7f", "%01"] {
        let verdict = told(&format!("/?q={bad}"));
        assert!(verdict.is_ok());
        assert_eq!(verdict.request_headers, [append("fixed")], "{bad}");
        assert!(verdict.response_headers.is_empty(), "{bad}");
        let [(rule, first), (_, second)] = verdict.errors.as_slice() else {
            panic!("{:?}", verdict.errors)
        };
        assert_eq!(rule.to_string(), "rule shop/headers");
        assert!(
            first.contains("x-q") && second.contains("x-r"),
            "{first} {second}"
        );
    }
    let verdict = told("/?q=a%09b%20%c3%a9");
    assert_eq!(verdict.request_headers, [append("a\tb é"), append("fixed")]);
    assert!(verdict.errors.is_empty());
}

/// A proxy that has not heard yet that a rule has another name asks for the old one.
#[test]
fn a_name_that_no_rule_has_asks_for_all() {
    let (v3, ratings) = (workload("reviews", "v3"), workload("ratings", "v1"));
    let rules = rules(DENIER);
    let asked = |names: Vec<&str>, fail_open| {
        let asked = policy::Asked {
            fail_open: Some(fail_open),
            rules: Some(names),
        };
        rules.check_asked(&request(Some(&v3), &ratings), &asked).is_ok()
    };
    assert!(asked(vec![], false), "the proxy decides on this one");
    assert!(!asked(vec!["denyv3.shop"], false));
    assert!(!asked(vec!["former.shop"], false));
    assert!(asked(vec!["former.shop"], true), "of the other failure mode");
}

/// Which service of several is meant, the client says.
#[test]
fn the_authority_does_not_choose_a_service_without_quota() {
    let rules = rules(QUOTA);
    let mut ratings = workload("ratings", "v1");
    let free = |port| policy::ServiceView {
        host: "free.shop.svc.cluster.local".into(),
        name: "free".into(),
        namespace: "shop".into(),
        ports: vec![port],
        labels: None,
    };
    ratings.services.insert(0, free(8080));
    ratings.services.insert(0, free(9090));
    let headers = BTreeMap::new();
    let headers = HeaderMap(&headers);
    let due = |port, host| {
        let request = Request {
            headers: Some(&headers),
            destination: Party {
                port: Some(port),
                ..party(&ratings)
            },
            service: ratings.service(Some(port), host),
            ..request(None, &ratings)
        };
        rules.due("quota.istio-system", &request).unwrap().len()
    };
    for host in [Some("ratings"), Some("free"), Some("nowhere"), None] {
        assert_eq!(due(8080, host), 1, "{host:?}");
    }
    assert_eq!(due(9090, Some("ratings")), 0, "another port has another service");
}

#[test]
fn a_binding_may_choose_a_version_of_a_service() {
    let yaml = QUOTA.replace(
        "  - name: ratings\n",
        "  - name: ratings\n    labels: {version: v2}\n",
    );
    let rules = rules(&yaml);
    let headers = BTreeMap::new();
    let headers = HeaderMap(&headers);
    // A gateway knows the service alone.
    for (version, known, expected) in [("v1", true, 0), ("v2", true, 1), ("v1", false, 1)] {
        let mut own = workload("ratings", version);
        for service in &mut own.services {
            service.labels = known.then(|| own.labels.clone());
        }
        let request = Request {
            headers: Some(&headers),
            ..request(None, &own)
        };
        let due = rules.due("quota.istio-system", &request).unwrap();
        assert_eq!(due.len(), expected, "{version}");
        let traffic = policy::Traffic {
            direction: policy::Direction::Inbound,
            tcp: false,
        };
        assert_eq!(
            rules.requirements(&own, traffic).quotas.len(),
            expected,
            "{version}"
        );
    }
}

#[test]
fn lists_refuse_what_is_not_on_them() {
    let yaml = r#"
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: whitelist, namespace: shop}
spec:
  compiledAdapter: listchecker
  params: {overrides: ["v1", "v2"], blacklist: false}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: appversion, namespace: shop}
spec:
  compiledTemplate: listentry
  params: {value: 'source.labels["version"]'}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: checkversion, namespace: shop}
spec:
  match: destination.labels["app"] == "ratings"
  actions:
  - handler: whitelist
    instances: [appversion]
"#;
    let (v1, v3, ratings) = (
        workload("reviews", "v1"),
        workload("reviews", "v3"),
        workload("ratings", "v1"),
    );
    assert!(check(yaml, Some(&v1), &ratings).is_ok());
    let refused = check(yaml, Some(&v3), &ratings);
    assert_eq!(refused.body, "NOT_FOUND:whitelist.shop:v3 is not whitelisted");
    // Whoever cannot be told apart is refused.
    assert_eq!(check(yaml, None, &ratings).code, Code::INTERNAL);
}

const SECOND: i64 = 1_000_000_000;

#[test]
fn a_quota_runs_out_and_comes_back() {
    let (rules, ratings, details) = (rules(QUOTA), workload("ratings", "v1"), workload("details", "v1"));
    let mut windows = Windows::default();
    let mut charge = |destination: &WorkloadView, user: &str, now: i64| {
        let headers = BTreeMap::from([("x-user".to_owned(), user.to_owned())]);
        let headers = HeaderMap(&headers);
        let request = Request {
            headers: Some(&headers),
            ..request(None, destination)
        };
        common::charge(rules.due("quota.istio-system", &request), &mut windows, now)
    };
    for _ in 0..3 {
        assert_eq!(charge(&ratings, "anna", 0), Ok(()));
    }
    let denial = charge(&ratings, "anna", SECOND).unwrap_err();
    assert_eq!(
        denial.body,
        "RESOURCE_EXHAUSTED:Quota is exhausted for: requestcount"
    );
    assert_eq!(denial.retry_after, Some(9 * SECOND));
    assert_eq!(
        charge(&ratings, "bert", SECOND),
        Ok(()),
        "another dimension has its own window"
    );
    assert_eq!(charge(&ratings, "jason", SECOND), Ok(()));
    assert!(
        charge(&ratings, "jason", SECOND).is_err(),
        "the override allows one"
    );
    assert_eq!(
        charge(&details, "anna", SECOND),
        Ok(()),
        "no QuotaSpec is bound to details"
    );
    assert_eq!(charge(&ratings, "anna", 11 * SECOND), Ok(()));
}

#[test]
fn a_fixed_window_gives_all_units_back_together() {
    let check = |algorithm: &str, again: bool| {
        let yaml = QUOTA.replace(
            "    validDuration: 10s\n    overrides",
            &format!("    validDuration: 10s\n    rateLimitAlgorithm: {algorithm}\n    overrides"),
        );
        let (rules, ratings) = (rules(&yaml), workload("ratings", "v1"));
        let mut windows = Windows::default();
        let mut granted = |now: i64| {
            let request = request(None, &ratings);
            common::charge(rules.due("quota.istio-system", &request), &mut windows, now).is_ok()
        };
        assert!(granted(0) && granted(9 * SECOND) && granted(9 * SECOND));
        // The first unit is back in both; the others only where the window is fixed.
        assert!(granted(10 * SECOND));
        assert_eq!(granted(10 * SECOND), again, "{algorithm}");
    };
    check("ROLLING_WINDOW", false);
    check("FIXED_WINDOW", true);
}

#[test]
fn metrics_are_sampled_with_their_labels() {
    let yaml = r#"
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: prometheus, namespace: istio-system}
spec:
  compiledAdapter: prometheus
  params:
    metrics:
    - name: requests_total
      instance_name: requestcount.instance.istio-system
      kind: COUNTER
      label_names: [source_app, destination_app, response_code]
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: requestcount, namespace: istio-system}
spec:
  compiledTemplate: metric
  params:
    value: "1"
    dimensions:
      source_app: source.labels["app"] | "unknown"
      destination_app: destination.labels["app"] | "unknown"
      response_code: response.code | 200
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: promhttp, namespace: istio-system}
spec:
  match: context.protocol == "http" || context.protocol == "grpc"
  actions:
  - handler: prometheus
    instances: [requestcount]
"#;
    let (rules, frontend, ratings) = (rules(yaml), workload("frontend", "v1"), workload("ratings", "v1"));
    assert_eq!(rules.metrics()[0].name, "istio_requests_total");
    let mut request = request(Some(&frontend), &ratings);
    request.response.code = Some(404);
    let reports = rules.report(&request);
    let (samples, failed) = (reports.samples, reports.failed);
    assert_eq!((samples.len(), failed, samples[0].value), (1, 0, 1.0));
    assert_eq!(samples[0].labels, ["frontend", "ratings", "404"]);
    request.protocol = policy::Protocol::Tcp;
    assert!(rules.report(&request).samples.is_empty());
}

#[test]
fn what_cannot_be_used_is_named_and_takes_nothing_else_with_it() {
    let yaml = format!(
        "{DENIER}---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {{name: outside, namespace: shop}}
spec: {{adapter: gone, connection: {{address: '127.0.0.1:1'}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {{name: mixed, namespace: shop}}
spec:
  actions:
  - {{handler: outside, instances: [request]}}
  - {{handler: nobody, instances: [request]}}
  - {{handler: deny, instances: [nothing]}}
"
    );
    let (rules, findings) = build(&yaml);
    let seen: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let seen: Vec<&str> = seen.iter().map(|text| text.split_once(": ").unwrap().1).collect();
    let expected = [
        "handler shop/outside: spec.adapter: there is no adapter gone in shop; apply it, or name NAME.NAMESPACE",
        "rule shop/mixed: spec.actions[0].handler: the handler \"outside\" cannot be used, so this action is not taken",
        "rule shop/mixed: spec.actions[1].handler: there is no handler \"nobody\"; write NAME or NAME.NAMESPACE",
        "rule shop/mixed: spec.actions[2].instances[0]: there is no instance \"nothing\"; write NAME or NAME.TEMPLATE.NAMESPACE",
    ];
    assert_eq!(seen, expected);
    let (v3, ratings) = (workload("reviews", "v3"), workload("ratings", "v1"));
    assert!(!rules.check(&request(Some(&v3), &ratings), None).is_ok());
}

/// The tier is a manifest's attribute that a specification gives.
const TIERS: &str = r#"
---
apiVersion: config.istio.io/v1alpha2
kind: attributemanifest
metadata: {name: own, namespace: istio-system}
spec: {attributes: {shop.tier: {valueType: STRING}}}
---
apiVersion: config.istio.io/v1alpha2
kind: HTTPAPISpec
metadata: {name: tiers, namespace: shop}
spec: {patterns: [{httpMethod: GET, uriTemplate: "/gold/{id}", attributes: {attributes: {shop.tier: {stringValue: gold}}}}]}
---
apiVersion: config.istio.io/v1alpha2
kind: HTTPAPISpecBinding
metadata: {name: tiers, namespace: shop}
spec: {services: [{name: ratings}], apiSpecs: [{name: tiers}]}
"#;

#[test]
fn a_quota_is_charged_by_an_attribute_of_ones_own() {
    let charged = "  - match: [{clause: {shop.tier: {exact: gold}}}]\n    quotas:\n    - charge: 1";
    let yaml = QUOTA.replace("  - quotas:\n    - charge: 1", charged);
    let rules = rules(&(yaml.clone() + TIERS));
    let ratings = workload("ratings", "v1");
    let due = |path: &'static str| {
        let request = Request {
            method: Some("GET"),
            path: Some(path),
            ..request(None, &ratings)
        };
        rules.due("quota.istio-system", &request).unwrap().len()
    };
    assert_eq!((due("/gold/1"), due("/tin/1")), (1, 0));
    let (_, findings) = build(&yaml);
    let said = findings
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(said.contains("unknown attribute shop.tier"), "{said}");
}

#[test]
fn an_answer_is_valid_as_long_as_the_least_of_its_handlers_says() {
    const LIST: &str = r#"
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: versions, namespace: shop}
spec: {compiledAdapter: listchecker, params: {overrides: [v1, v3], cachingInterval: 2s, cachingUseCount: 20}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: version, namespace: shop}
spec: {compiledTemplate: listentry, params: {value: 'source.labels["version"] | "none"'}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: a, namespace: shop}
spec: {match: 'destination.labels["app"] == "ratings"', actions: [{handler: versions, instances: [version]}]}
"#;
    let denier = DENIER.replace(
        "params: {status:",
        "params: {validDuration: 9s, validUseCount: 3, status:",
    );
    let yaml = denier + LIST;
    let ratings = workload("ratings", "v1");
    let check = |source: &str, version: &str, to: &WorkloadView, code: Code, seconds: i64, uses: i32| {
        let verdict = check(&yaml, Some(&workload(source, version)), to);
        let validity = verdict.validity;
        assert_eq!(
            (verdict.code, validity.duration, validity.uses),
            (code, seconds * 1_000_000_000, uses)
        );
    };
    check("web", "v1", &ratings, Code::OK, 2, 20);
    check("web", "v2", &ratings, Code::NOT_FOUND, 2, 20);
    check("reviews", "v3", &ratings, Code::PERMISSION_DENIED, 2, 3);
    check("web", "v1", &workload("web", "v1"), Code::OK, 60, 10_000);
}

#[test]
fn a_namespace_cannot_take_the_name_of_a_metric_of_the_mesh() {
    let of = |namespace: &str| {
        format!(
            r#"
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {{name: prom, namespace: {namespace}}}
spec: {{compiledAdapter: prometheus, params: {{metrics: [{{name: visits, instance_name: v.instance.{namespace}, kind: COUNTER}}]}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {{name: v, namespace: {namespace}}}
spec: {{compiledTemplate: metric, params: {{value: "1"}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {{name: r, namespace: {namespace}}}
spec: {{actions: [{{handler: prom, instances: [v]}}]}}
"#
        )
    };
    // Istio's root namespace comes later by name.
    let (rules, findings) = build(&(of("aaa") + &of("istio-system")));
    assert_eq!(rules.metrics().len(), 1);
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}")
    };
    assert_eq!(finding.object.as_ref().unwrap().namespace, "aaa");
}
