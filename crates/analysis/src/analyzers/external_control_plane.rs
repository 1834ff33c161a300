//! Webhooks that reach a control plane outside the cluster.

use std::net::IpAddr;

use config::kube::WebhookClientConfig;
use config::{Kind, Object, Spec};

use crate::analyzer::Check;
use crate::{Analyzer, Code, Report, Set};

/// Whether Istio's webhooks have an address, by name.
pub(crate) const WEBHOOKS: Analyzer = Analyzer::new(
    "externalcontrolplane.ExternalControlPlaneAnalyzer",
    "Addresses by which webhooks reach a control plane outside the cluster",
    &[
        Code::InvalidExternalControlPlaneConfig,
        Code::ExternalControlPlaneAddressIsNotAHostname,
    ],
    INPUTS,
    Check::Each(INPUTS, run),
);

const INPUTS: &[Kind] = &[
    Kind::ValidatingWebhookConfiguration,
    Kind::MutatingWebhookConfiguration,
];

fn run(_: &Set<'_>, object: &Object, report: &mut Report) {
    let name = object.meta.name.as_str();
    let is_meant = match object.kind {
        Kind::ValidatingWebhookConfiguration => is_validator(name),
        _ => name.starts_with("istio-sidecar-injector"),
    };
    let Spec::WebhookConfiguration(configuration) = &object.spec else {
        return;
    };
    for (index, webhook) in configuration.webhooks.iter().enumerate().filter(|_| is_meant) {
        let path = format!("webhooks[{index}].clientConfig");
        check(object, &webhook.name, &webhook.client_config, path, report);
    }
}

fn is_validator(name: &str) -> bool {
    name == "istiod-default-validator" || name.starts_with("istio-validator")
}

fn check(object: &Object, name: &str, client: &WebhookClientConfig, path: String, report: &mut Report) {
    let code = Code::InvalidExternalControlPlaneConfig;
    match (&client.url, &client.service) {
        (Some(url), _) => match host(url) {
            None => report.say(code, object, path + ".url", &[&name, url, &"is not a URL"]),
            Some(host) if host.parse::<IpAddr>().is_ok() => {
                let code = Code::ExternalControlPlaneAddressIsNotAHostname;
                report.say(code, object, path + ".url", &[&name, url]);
            }
            Some(_) => {}
        },
        (None, None) => report.say(code, object, path, &[&name, &"", &"is missing"]),
        (None, Some(_)) => {}
    }
}

/// The host of a URL, without brackets; empty when it has none. None for what is no URL.
fn host(url: &str) -> Option<&str> {
    let bad = |c: char| c.is_control() || c == ' ' || c == '"' || c == '<' || c == '>';
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => return (!url.contains(bad) && !url.contains(':')).then_some(""),
    };
    let mut letters = scheme.chars();
    let is_scheme = letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let address = authority
        .rsplit_once('@')
        .map_or(authority, |(_, address)| address);
    if !is_scheme || address.contains(bad) || address.contains('%') {
        return None;
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => match address.split_once(':') {
            Some((host, port)) => (host, port),
            None => (address, ""),
        },
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    port.bytes().all(|b| b.is_ascii_digit()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls() {
        for (url, expected) in [
            ("https://a.example:15017/inject", Some("a.example")),
            ("https://1.1.1.1/inject", Some("1.1.1.1")),
            ("https://[::1]:80/", Some("::1")),
            ("https://user@a.example?x", Some("a.example")),
            ("https://a example/", None),
            ("https://a:b:80/", None),
            ("://x", None),
            ("http", Some("")),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
    }
}
