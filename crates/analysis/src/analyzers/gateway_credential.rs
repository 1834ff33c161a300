//! Credentials of gateways that can be used now and yet will not do: they end soon, are for other hosts, or lack what
//! clients are verified by. Istio has no such checks, so that the codes are ours.

use std::fmt::Display;

use config::kube::CertificateFacts;
use config::networking::{Server, ServerTlsSettings};
use config::{Kind, Object, Spec};

use super::credential;
use crate::analyzer::Check;
use crate::{Analyzer, Code, Report, Set};

/// Whether a credential will do.
pub(crate) const CREDENTIALS: Analyzer = Analyzer::new(
    "gateway.CredentialAnalyzer",
    "Credentials of gateways: whether certificates end soon, are for the servers' hosts, and have roots to verify clients by",
    &[
        Code::InvalidGatewayCredential,
        Code::GatewayCredentialEndsSoon,
        Code::GatewayHostNotInCertificate,
    ],
    &[
        Kind::Gateway,
        Kind::Pod,
        Kind::WorkloadEntry,
        Kind::Secret,
        Kind::SecretFacts,
    ],
    Check::Each(&[Kind::Gateway], check),
)
.by_clock();

/// A certificate ends soon when this many seconds are left, or a fifth of its life where that is less: those that are
/// renewed by machines live short and are renewed earlier.
const SOON: i64 = 14 * 24 * 3600;

fn check(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Gateway(gateway) = &object.spec else {
        return;
    };
    let Some(workload) = set.workloads(&gateway.selector, None).next() else {
        return;
    };
    let place = Place {
        object,
        namespace: &workload.object.meta.namespace,
    };
    for (index, server) in gateway.servers.iter().enumerate() {
        if let Some(tls) = &server.tls {
            place.server(set, report, index, server, tls);
        }
    }
}

/// A gateway, and where its proxies are.
struct Place<'a> {
    object: &'a Object,
    namespace: &'a str,
}

impl Place<'_> {
    fn server(
        &self,
        set: &Set<'_>,
        report: &mut Report,
        index: usize,
        server: &Server,
        tls: &ServerTlsSettings,
    ) {
        let mut shown: Vec<CertificateFacts> = Vec::new();
        let mut names = Vec::new();
        for (field, name) in credential::names(tls) {
            // What is missing or broken is told by the analyzer of Secrets.
            let Some(facts) = credential::find(set, self.namespace, name) else {
                return;
            };
            let Ok(certificate) = credential::usable(&facts, set.now()) else {
                return;
            };
            let path = format!("spec.servers[{index}].{field}");
            self.expiry(report, &path, name, certificate, set.now());
            if credential::wants_roots(tls) && !credential::has_roots(set, self.namespace, tls, name) {
                let problem = "it has no roots to verify clients by: neither the Secret of its name with -cacert behind it, nor itself, has ca.crt or cacert";
                let args: [&dyn Display; 3] = [&name, &self.object.meta.name, &problem];
                report.say(Code::InvalidGatewayCredential, self.object, path, &args);
            }
            shown.push(certificate.clone());
            names.push(name);
        }
        if shown.is_empty() {
            return;
        }
        for (at, host) in server.hosts.iter().enumerate() {
            let name = host.split_once('/').map_or(host.as_str(), |(_, name)| name);
            if !shown
                .iter()
                .any(|certificate| is_for(&certificate.dns_names, name))
            {
                let path = format!("spec.servers[{index}].hosts[{at}]");
                let code = Code::GatewayHostNotInCertificate;
                report.say(code, self.object, path, &[&name, &names.join(", ")]);
            }
        }
    }

    fn expiry(&self, report: &mut Report, path: &str, name: &str, certificate: &CertificateFacts, now: i64) {
        let life = certificate.not_after.saturating_sub(certificate.not_before);
        let left = certificate.not_after.saturating_sub(now);
        if left < SOON.min(life / 5) {
            let (gateway, end) = (&self.object.meta.name, credential::time(certificate.not_after));
            let code = Code::GatewayCredentialEndsSoon;
            report.say(code, self.object, path, &[&name, gateway, &end]);
        }
    }
}

/// Whether a certificate with these names is for some host that `host` stands for (RFC 6125, section 6.4: a `*` in a
/// certificate stands for one label). Names are compared without case.
fn is_for(names: &[String], host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    names.iter().any(|name| {
        let name = name.to_ascii_lowercase();
        match host.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix),
            None => name == host || is_wildcard_for(&name, &host),
        }
    })
}

fn is_wildcard_for(name: &str, host: &str) -> bool {
    let parent = host.split_once('.').map(|(_, parent)| parent);
    name.strip_prefix("*.").is_some_and(|rest| parent == Some(rest))
}

#[cfg(test)]
mod tests {
    use super::is_for;

    #[test]
    fn names_are_compared_as_clients_compare_them() {
        let check = |names: &[&str], host: &str, expected: bool| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(is_for(&names, host), expected, "{names:?} for {host}");
        };
        check(&["web.example.com"], "web.example.com", true);
        check(&["WEB.example.com"], "web.Example.com", true);
        check(&["*.example.com"], "web.example.com", true);
        check(&["*.example.com"], "a.web.example.com", false);
        check(&["*.example.com"], "example.com", false);
        check(&["example.com"], "web.example.com", false);
        check(&["*.example.com"], "*.example.com", true);
        check(&["web.example.com"], "*.example.com", true);
        check(&["web.example.org"], "*.example.com", false);
        check(&["web.example.org"], "*", true);
        check(&[], "web.example.com", false);
    }
}
