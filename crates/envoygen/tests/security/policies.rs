//! AuthorizationPolicies as RBAC filters.

use envoy_types::pb::envoy::config::rbac::v3::{Policy, Principal, principal::Identifier, rbac};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use crate::support::{FEATURES, SHOP, generator, listener, tables};
use crate::{CATALOG, EDGE, FRONTEND, http, inbound, policies, rules};

#[test]
fn paths_have_one_spelling_where_policies_decide() {
    let (_, plain) = inbound(&[SHOP]);
    let keep = PathWithEscapedSlashesAction::KeepUnchanged as i32;
    assert_eq!(http(&plain).path_with_escaped_slashes_action, keep);
    let (_, decided) = inbound(&[SHOP, FEATURES]);
    let manager = http(&decided);
    assert_eq!(
        manager.path_with_escaped_slashes_action,
        PathWithEscapedSlashesAction::UnescapeAndForward as i32
    );
    assert!(manager.merge_slashes && manager.normalize_path.unwrap().value);
}

#[test]
fn deny_comes_before_allow() {
    let filters = policies(&[SHOP, FEATURES]);
    let actions: Vec<_> = filters
        .iter()
        .map(|f| f.rules.as_ref().map(|r| r.action))
        .collect();
    use rbac::Action::{Allow, Deny, Log};
    assert_eq!(actions, [Some(Log as i32), Some(Deny as i32), Some(Allow as i32)]);
    let names: Vec<_> = rules(&filters[2]).policies.keys().collect();
    assert_eq!(names, ["ns[shop]-policy[catalog-allow]-rule[0]"]);
    let trial = filters[1].shadow_rules.as_ref().unwrap();
    assert!(
        trial
            .policies
            .contains_key("ns[shop]-policy[catalog-trial]-rule[0]"),
        "a trial is not enforced"
    );
    assert!(
        !rules(&filters[1])
            .policies
            .contains_key("ns[shop]-policy[catalog-trial]-rule[0]")
    );
}

/// A policy for the catalog with one rule.
fn one(action: &str, rule: &str) -> Policy {
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{action: {action}, rules: [{rule}]}}\n"
    );
    let filters = policies(&[SHOP, &text]);
    rules(&filters[0]).policies["ns[shop]-policy[p]-rule[0]"].clone()
}

/// Whether a rule's callers must have an identity at all.
fn demands_identity(principal: &Principal) -> bool {
    match principal.identifier.as_ref().unwrap() {
        Identifier::Authenticated(_) => true,
        Identifier::AndIds(set) => set.ids.iter().any(demands_identity),
        Identifier::OrIds(set) => set.ids.iter().all(demands_identity),
        _ => false,
    }
}

#[test]
fn a_missing_identity_never_lets_in() {
    for field in ["notPrincipals", "notNamespaces"] {
        let rule = format!("{{from: [{{source: {{{field}: [evil]}}}}]}}");
        assert!(
            demands_identity(&one("ALLOW", &rule).principals[0]),
            "ALLOW {field}"
        );
        assert!(
            !demands_identity(&one("DENY", &rule).principals[0]),
            "DENY {field} refuses plaintext"
        );
    }
    let by_condition = one(
        "ALLOW",
        "{when: [{key: source.principal, notValues: [x/ns/a/sa/b]}]}",
    );
    assert!(demands_identity(&by_condition.principals[0]));
}

#[test]
fn trust_domains_and_their_aliases() {
    let mesh = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio, namespace: istio-system}\nspec: {trustDomain: new.example, trustDomainAliases: [old.example]}\n";
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {rules: [{from: [{source: {principals: [old.example/ns/a/sa/b, cluster.local/ns/c/sa/d, third.example/ns/e/sa/f]}}]}]}\n";
    let filters = policies(&[SHOP, mesh, policy]);
    let principal = &rules(&filters[0]).policies["ns[shop]-policy[p]-rule[0]"].principals[0];
    let Some(Identifier::OrIds(set)) = &principal.identifier else {
        panic!("{principal:?}")
    };
    let names: Vec<_> = set
        .ids
        .iter()
        .map(|id| match &id.identifier {
            Some(Identifier::Authenticated(a)) => match &a.principal_name.as_ref().unwrap().match_pattern {
                Some(MatchPattern::Exact(text)) => text.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        names,
        [
            "spiffe://new.example/ns/a/sa/b",
            "spiffe://old.example/ns/a/sa/b",
            "spiffe://new.example/ns/c/sa/d",
            "spiffe://old.example/ns/c/sa/d",
            "spiffe://third.example/ns/e/sa/f"
        ]
    );
}

#[test]
fn a_policy_without_rules_allows_nothing() {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: {}\n";
    let filters = policies(&[SHOP, text]);
    assert_eq!(rules(&filters[0]).action, rbac::Action::Allow as i32);
    let policy = &rules(&filters[0]).policies["ns[istio-system]-policy[p]-rule[0]"];
    assert!(
        matches!(policy.principals[0].identifier, Some(Identifier::NotId(_))),
        "matches nobody"
    );
}

#[test]
fn policies_attached_to_a_gateway_are_for_the_proxies_that_serve_it() {
    let labelled = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: front, namespace: istio-system}\nspec: {address: 127.1.0.2, labels: {istio: ingressgateway, gateway.networking.k8s.io/gateway-name: front}}\n";
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: front}], action: DENY, rules: [{}]}\n";
    let generator = generator(&[SHOP, labelled, policy]);
    let has = |node: &str| {
        let output = tables(&generator, node);
        let name = output
            .of_type(envoygen::type_url::LISTENER)
            .next()
            .unwrap()
            .name
            .clone();
        http(&listener(&output, &name))
            .http_filters
            .iter()
            .any(|f| f.name == "envoy.filters.http.rbac")
    };
    assert!(has(
        "router~127.1.0.2~front.istio-system~istio-system.svc.cluster.local"
    ));
    assert!(!has(EDGE), "another gateway");
}

#[test]
fn a_policy_changes_the_proxies_that_it_selects_alone() {
    let nodes = [FRONTEND, CATALOG, EDGE];
    let all = |texts: &[&str]| {
        let generator = generator(texts);
        nodes.map(|node| tables(&generator, node).resources)
    };
    let policy = |selector: &str, path: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{{selector} action: DENY, rules: [{{to: [{{operation: {{paths: [{path}]}}}}]}}]}}\n"
        )
    };
    let changed = |selector: &str| {
        let (before, after) = (policy(selector, "/a"), policy(selector, "/b"));
        let (before, after) = (all(&[SHOP, &before]), all(&[SHOP, &after]));
        let pairs = before.iter().zip(&after).map(|(before, after)| before != after);
        pairs.collect::<Vec<_>>()
    };
    let catalog = changed("selector: {matchLabels: {app: catalog}},");
    assert_eq!(catalog, [false, true, false]);
    assert_eq!(changed(""), [true, true, false], "its namespace");
}
