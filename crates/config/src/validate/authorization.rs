//! AuthorizationPolicy: sources, operations, conditions, and what each action needs.

use super::common::{attachment, no_empty_values};
use super::spiffe;
use crate::path::At;
use crate::security::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source};
use crate::{Meta, Spec, syntax};

/// The annotation by which a policy is only tried: its verdicts are logged and not enforced.
pub(super) const DRY_RUN: &str = "istio.io/dry-run";

/// Checks an AuthorizationPolicy.
pub(super) fn check(spec: &AuthorizationPolicy, _meta: &Meta, at: &At<'_>) {
    attachment(
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
        at,
    );
    provider(spec, at);
    if spec.rules.is_empty() && matches!(spec.action, Action::Deny | Action::Custom) {
        let message = format!("without rules action {} never applies", spec.action.as_str());
        at.key("rules")
            .error_help(message, "add an empty rule {} to match every request");
    }
    at.each("rules", &spec.rules, |value, at| {
        rule(value, spec.action, at);
        if spec.action == Action::Custom {
            custom(value, at);
        }
        if spec.action == Action::Deny && http_only(value) {
            at.warning("HTTP attributes are unknown on TCP ports, so this denies all there; name the ports in to.operation");
        }
    });
}

fn provider(spec: &AuthorizationPolicy, at: &At<'_>) {
    match (&spec.provider, spec.action) {
        (Some(provider), Action::Custom) => {
            at.key("provider")
                .key("name")
                .require(!provider.name.is_empty(), "must not be empty");
        }
        (None, Action::Custom) => at
            .key("provider")
            .error("action CUSTOM needs the provider that decides"),
        (Some(_), _) => at
            .key("provider")
            .error("is for action CUSTOM only; remove it or change action"),
        (None, _) => {}
    }
}

/// Checks the dry-run annotation's value.
pub(super) fn dry_run(spec: &Spec, value: &str, at: &At<'_>) {
    match spec {
        Spec::AuthorizationPolicy(policy) if matches!(policy.action, Action::Allow | Action::Deny) => {
            at.require(matches!(value, "true" | "false"), "must be \"true\" or \"false\"");
        }
        Spec::AuthorizationPolicy(_) => {
            at.error("only the actions ALLOW and DENY can be tried without effect")
        }
        _ => at.error("is for AuthorizationPolicy only; remove it"),
    }
}

fn rule(rule: &Rule, action: Action, at: &At<'_>) {
    at.each("from", &rule.from, |from, at| match &from.source {
        Some(value) => source(value, &at.key("source")),
        None => at.key("source").error("this field is required"),
    });
    at.each("to", &rule.to, |to, at| match &to.operation {
        Some(value) => operation(value, action, &at.key("operation")),
        None => at.key("operation").error("this field is required"),
    });
    at.each("when", &rule.when, condition);
}

fn source(source: &Source, at: &At<'_>) {
    let lists = source_lists(source);
    if lists.iter().all(|(_, values)| values.is_empty()) {
        at.error("no condition is given, so the rule would never match; give one or remove the entry");
    }
    for (key, values) in &lists {
        no_empty_values(key, values, at);
    }
    for (key, values) in lists
        .iter()
        .filter(|(key, _)| key.to_ascii_lowercase().ends_with("ipblocks"))
    {
        ip_blocks(key, values, at);
    }
    for (key, values) in [
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
    ] {
        at.each(key, values, |value, at| service_account(value, at));
    }
    for (key, values) in [
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ] {
        at.each(key, values, |value, at| {
            wildcard_at_an_end(value, at);
            at.require(!value.contains('/'), "a trust domain has no slash");
        });
    }
    spiffe::principals(&source.principals, &at.key("principals"));
    spiffe::principals(&source.not_principals, &at.key("notPrincipals"));
    let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others = [
        &source.principals,
        &source.not_principals,
        &source.namespaces,
        &source.not_namespaces,
    ];
    if accounts && others.iter().any(|values| !values.is_empty()) {
        at.error("serviceAccounts exclude principals and namespaces, which say the same; keep one of them");
    }
}

/// All lists of a source with their names.
fn source_lists(source: &Source) -> [(&'static str, &Vec<String>); 14] {
    [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ]
}

/// All lists of an operation with their names.
fn operation_lists(operation: &Operation) -> [(&'static str, &Vec<String>); 8] {
    [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("ports", &operation.ports),
        ("notPorts", &operation.not_ports),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ]
}

fn operation(operation: &Operation, action: Action, at: &At<'_>) {
    let lists = operation_lists(operation);
    if lists.iter().all(|(_, values)| values.is_empty()) {
        at.error("no condition is given, so the rule would never match; give one or remove the entry");
    }
    for (key, values) in &lists {
        no_empty_values(key, values, at);
    }
    ports("ports", &operation.ports, at);
    ports("notPorts", &operation.not_ports, at);
    for (key, values) in [("paths", &operation.paths), ("notPaths", &operation.not_paths)] {
        at.each(key, values, |path, at| {
            path_template(path, at);
            let Some((problem, way_out)) = never_normalised(path) else {
                return;
            };
            // What refuses takes an escape for the character as well.
            let refuses = (action == Action::Deny) == (key == "paths") && matches!(action, Action::Allow | Action::Deny);
            let message = match refuses && is_escaped_slash(path) {
                true => format!("{problem}, so {path:?} refuses paths with a plain slash in this place, too"),
                false => format!("{problem}, so no path is ever equal to {path:?} where MeshConfig's pathNormalization is not set"),
            };
            at.warning_help(message, way_out);
        });
    }
}

/// Whether escapes and backslashes are all that keeps paths from reading as a value does.
fn is_escaped_slash(value: &str) -> bool {
    let mut plain = value.replace('\\', "/");
    for escaped in ["%2f", "%2F", "%5c", "%5C"] {
        plain = plain.replace(escaped, "/");
    }
    plain != value && never_normalised(&plain).is_none()
}

fn ip_blocks(key: &str, values: &[String], at: &At<'_>) {
    at.each(key, values, |value, at| {
        if !value.is_empty() && !syntax::is_ip_or_range(value) {
            at.error(format!(
                "{value:?} is neither an IP address nor a range such as 10.0.0.0/8"
            ));
        }
    });
}

fn ports(key: &str, values: &[String], at: &At<'_>) {
    at.each(key, values, |value, at| {
        if !value.is_empty() && value.parse::<u16>().is_err() {
            at.error(format!("{value:?} is not a port number"));
        }
    });
}

fn service_account(value: &str, at: &At<'_>) {
    let parts: Vec<&str> = value.split('/').collect();
    let fine = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty()) && !value.contains('*');
    if !value.is_empty() && !fine {
        at.error(format!(
            "{value:?} must be ACCOUNT or NAMESPACE/ACCOUNT, without wildcard"
        ));
    }
}

fn wildcard_at_an_end(value: &str, at: &At<'_>) {
    let inner = value
        .strip_prefix('*')
        .or_else(|| value.strip_suffix('*'))
        .unwrap_or(value);
    at.require(!inner.contains('*'), "a wildcard may stand at one end only");
}

/// A path with `{*}` for one part and `{**}`, at the end only, for all that follows.
fn path_template(path: &str, at: &At<'_>) {
    let is_template = path.contains("{*}") || path.contains("{**}");
    let literal = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&b))
    };
    let mut rest_taken = false;
    for part in path.trim_matches('/').split('/') {
        match part {
            "{*}" | "{**}" if rest_taken => {
                return at.error("nothing may follow {**}, which takes all that is left");
            }
            "{*}" => {}
            "{**}" => rest_taken = true,
            part if part.contains(['{', '}']) => {
                return at.error(format!(
                    "{part:?}: braces are for the templates {{*}} and {{**}} only"
                ));
            }
            part if is_template && !literal(part) => {
                return at.error(format!(
                    "{part:?} cannot stand beside a template; wildcards and templates do not mix"
                ));
            }
            _ => {}
        }
    }
}

/// Why no path reads as a value does once it is normalised (Envoy's `normalize_path`, `merge_slashes`,
/// `path_with_escaped_slashes_action`), and what to write instead.
fn never_normalised(value: &str) -> Option<(&'static str, &'static str)> {
    let (inner, open) = match value.strip_suffix('*').filter(|_| value != "*") {
        Some(start) => (start, true),
        None => (value.strip_prefix('*').unwrap_or(value), false),
    };
    let lower = inner.to_ascii_lowercase();
    let parts: Vec<&str> = inner.split('/').collect();
    let ended = parts.len().saturating_sub(usize::from(open));
    let is_dot = |part: &&str| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if inner.contains(['?', '#']) {
        Some((
            "paths are compared without query and fragment",
            "leave out what begins with ? or #",
        ))
    } else if inner.contains("//") || inner.contains('\\') || lower.contains("%2f") || lower.contains("%5c") {
        Some((
            "repeated and escaped slashes and backslashes become one slash",
            "write a single /",
        ))
    } else if parts.iter().take(ended).skip(1).any(is_dot) {
        Some((
            "the segments . and .. are resolved",
            "write the path that results",
        ))
    } else {
        None
    }
}

fn condition(condition: &Condition, at: &At<'_>) {
    let key = condition.key.as_str();
    at.key("key").require(!key.is_empty(), "must not be empty");
    if condition.values.is_empty() && condition.not_values.is_empty() {
        at.error("values or notValues is needed");
    }
    if !key.is_empty() {
        attribute(key, &at.key("key"));
    }
    for (field, values) in [
        ("values", &condition.values),
        ("notValues", &condition.not_values),
    ] {
        no_empty_values(field, values, at);
        match key {
            "source.ip" | "remote.ip" | "destination.ip" => ip_blocks(field, values, at),
            "destination.port" => ports(field, values, at),
            "source.serviceAccount" => at.each(field, values, |value, at| service_account(value, at)),
            "source.principal" => spiffe::principals(values, &at.key(field)),
            "source.trustDomain" => at.each(field, values, |value, at| wildcard_at_an_end(value, at)),
            _ => {}
        }
    }
}

/// Attributes without a part in brackets.
const PLAIN: &[&str] = &[
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
];
/// Beginnings of attributes with a part in brackets.
const BRACKETED: &[&str] = &[
    "request.headers",
    "request.auth.claims",
    "experimental.envoy.filters.",
];

fn attribute(key: &str, at: &At<'_>) {
    if PLAIN.contains(&key) {
        return;
    }
    if BRACKETED.iter().any(|start| key.starts_with(start)) {
        let inner = key.strip_suffix(']').and_then(|key| key.split_once('['));
        let fine = inner.is_some_and(|(name, inner)| !name.is_empty() && !inner.is_empty());
        if !fine {
            at.error(format!(
                "{key:?} must have its part in brackets, as in request.headers[user-agent]"
            ));
        }
        return;
    }
    match key {
        "destination.namespace" => at.error("is gone; a policy holds in its own namespace"),
        "destination.name" | "destination.user" => at.error("is gone since v1alpha1; use selector"),
        key if key.starts_with("destination.labels") => at.error("is gone; use selector"),
        key => {
            let known = PLAIN
                .iter()
                .chain(&["request.headers[NAME]", "request.auth.claims[NAME]"])
                .copied();
            let known: Vec<&str> = known.collect();
            at.error_help(
                format!("{key:?} is not an attribute"),
                format!("use one of {}", known.join(", ")),
            );
        }
    }
}

/// What a rule of action CUSTOM cannot ask: the filter that calls the authorizer runs before these are known.
fn custom(rule: &Rule, at: &At<'_>) {
    at.each("from", &rule.from, |from, at| {
        let lists = from.source.as_ref().map(source_lists).into_iter().flatten();
        for (key, values) in lists.filter(|(key, _)| !key.to_ascii_lowercase().ends_with("ipblocks")) {
            let at = at.key("source");
            at.key(key)
                .require(values.is_empty(), "cannot be asked by action CUSTOM");
        }
    });
    at.each("when", &rule.when, |condition, at| {
        let key = condition.key.as_str();
        let unknown = matches!(
            key,
            "source.namespace" | "source.serviceAccount" | "source.trustDomain" | "source.principal"
        ) || key.starts_with("request.auth.");
        at.key("key")
            .require(!unknown, "cannot be asked by action CUSTOM");
    });
}

/// Whether a rule asks only for what HTTP requests have.
fn http_only(rule: &Rule) -> bool {
    let sources = rule.from.iter().filter_map(|from| from.source.as_ref());
    let of_tcp = |source: &Source| {
        source_lists(source)
            .iter()
            .any(|(key, v)| !v.is_empty() && !key.to_ascii_lowercase().contains("requestprincipals"))
    };
    let operations = || rule.to.iter().filter_map(|to| to.operation.as_ref());
    let has_ports = |operation: &Operation| !operation.ports.is_empty() || !operation.not_ports.is_empty();
    let of_http = |condition: &Condition| condition.key.starts_with("request.");
    if rule.when.iter().any(|condition| !of_http(condition)) {
        return false;
    }
    match rule.to.is_empty() {
        true => (!rule.from.is_empty() || !rule.when.is_empty()) && !sources.into_iter().any(of_tcp),
        false => !operations().any(has_ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a DENY policy with one rule.
    fn said(rule: &str) -> Vec<String> {
        said_of("DENY", rule)
    }

    /// What is said of a policy with one rule.
    fn said_of(action: &str, rule: &str) -> Vec<String> {
        let text = format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: a}}, spec: {{action: {action}, rules: [{rule}]}}}}"
        );
        let findings = crate::parse("a.yaml", text.as_bytes(), "default").findings;
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_denies_all_connections_is_told() {
        for rule in [
            "{when: [{key: 'request.headers[x-a]', values: [b]}]}",
            "{from: [{source: {requestPrincipals: [a/b]}}]}",
            "{to: [{operation: {methods: [GET]}}]}",
        ] {
            let said = said(rule);
            assert!(
                said.len() == 1 && said[0].contains("TCP ports"),
                "{rule}: {said:?}"
            );
        }
        for rule in [
            "{}",
            "{when: [{key: 'request.headers[x-a]', values: [b]}, {key: destination.port, values: ['80']}]}",
            "{when: [{key: 'request.headers[x-a]', values: [b]}], to: [{operation: {ports: ['80']}}]}",
            "{from: [{source: {namespaces: [a]}}], when: [{key: 'request.headers[x-a]', values: [b]}]}",
        ] {
            assert_eq!(said(rule), Vec::<String>::new(), "{rule}");
        }
    }

    #[test]
    fn what_an_escaped_slash_means_is_told() {
        for (action, key, part) in [
            ("ALLOW", "paths", "no path is ever equal"),
            ("ALLOW", "notPaths", "with a plain slash in this place, too"),
            ("DENY", "paths", "with a plain slash in this place, too"),
            ("DENY", "notPaths", "no path is ever equal"),
            ("AUDIT", "paths", "no path is ever equal"),
        ] {
            let rule = format!("{{to: [{{operation: {{ports: ['80'], {key}: ['/a%2fb']}}}}]}}");
            let said = said_of(action, &rule);
            assert!(
                said.len() == 1 && said[0].contains(part),
                "{action} {key}: {said:?}"
            );
        }
    }

    #[test]
    fn values_that_no_path_has() {
        for value in [
            "/a?b=c",
            "/a#b",
            "/a//b",
            "*//b",
            "/a%2Fb*",
            "/a\\b",
            "/a/../b",
            "/a/..",
            "*/./b",
            "/%2e%2E/b",
        ] {
            assert!(never_normalised(value).is_some(), "{value}");
        }
        for value in [
            "*",
            "/",
            "/a/b",
            "/a/..*",
            "*..",
            "/a*",
            "*.css",
            "/a/{*}/b/{**}",
            "/.well-known/*",
            "/...",
            "/a%20b",
        ] {
            assert_eq!(never_normalised(value), None, "{value}");
        }
        for (value, expected) in [
            ("/a%2Fb*", true),
            ("/a\\b", true),
            ("/a/b", false),
            ("/a%2f/b", false),
            ("/a%5c..", false),
            ("/a?%2f", false),
        ] {
            assert_eq!(is_escaped_slash(value), expected, "{value}");
        }
    }
}
