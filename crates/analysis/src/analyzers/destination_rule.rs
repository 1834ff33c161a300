//! DestinationRules: servers that are not verified, hosts and subsets that are nobody.

use config::Kind;
use config::networking::{ClientTlsMode, ClientTlsSettings, DestinationRule};
use model::selects;

use super::locality::some_pod_has;
use crate::hosts::Hosts;
use crate::{Analyzer, Code, Report, Set};

/// Whether TLS towards a destination verifies the server.
pub(crate) const CA_CERTIFICATES: Analyzer = Analyzer::new(
    "destinationrule.CaCertificateAnalyzer",
    "TLS towards servers that are not verified",
    &[
        Code::NoServerCertificateVerificationDestinationLevel,
        Code::NoServerCertificateVerificationPortLevel,
    ],
    &[Kind::DestinationRule],
    ca_certificates,
);

/// Whether hosts are services and subsets select pods.
pub(crate) const SUBSETS: Analyzer = Analyzer::new(
    "destinationrule.PodNotSelectedAnalyzer",
    "DestinationRules whose host is no service or whose subsets select no pod",
    &[
        Code::DestinationRuleSubsetNotSelectPods,
        Code::UnknownDestinationRuleHost,
    ],
    &[
        Kind::DestinationRule,
        Kind::Pod,
        Kind::Service,
        Kind::ServiceEntry,
        Kind::WorkloadEntry,
        Kind::Node,
    ],
    subsets,
)
.alias("destinationrule.SubsetSelectPodAnalyzer");

fn ca_certificates(set: &Set<'_>, report: &mut Report) {
    for (object, rule) in set.destination_rules() {
        let Some(policy) = &rule.traffic_policy else {
            continue;
        };
        if let Some(mode) = unverified(policy.tls.as_ref(), rule) {
            report.say(
                Code::NoServerCertificateVerificationDestinationLevel,
                object,
                "spec.trafficPolicy.tls",
                &[&mode, &rule.host],
            );
        }
        for (index, port) in policy.port_level_settings.iter().enumerate() {
            if let Some(mode) = unverified(port.tls.as_ref(), rule) {
                let number = port.port.as_ref().map_or(0, |port| port.number);
                report.say(
                    Code::NoServerCertificateVerificationPortLevel,
                    object,
                    format!("spec.trafficPolicy.portLevelSettings[{index}].tls"),
                    &[&mode, &rule.host, &number],
                );
            }
        }
    }
}

/// The TLS mode, when it is one that needs roots of trust and there are none. `credentialName` counts only together with a
/// workloadSelector: proxies that nothing selects may not read Secrets.
fn unverified(tls: Option<&ClientTlsSettings>, rule: &DestinationRule) -> Option<&'static str> {
    let tls = tls?;
    let needs = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    let by_credential = !tls.credential_name.is_empty() && rule.workload_selector.is_some();
    (needs && tls.ca_certificates.is_empty() && !by_credential).then(|| tls.mode.as_str())
}

fn subsets(set: &Set<'_>, report: &mut Report) {
    let hosts = Hosts::of(set);
    let entries: Vec<_> = set.workload_entries().map(|(_, entry)| &entry.labels).collect();
    for (object, rule) in set.destination_rules() {
        let Some(service) = hosts.find(&rule.host, &object.meta.namespace, &rule.export_to) else {
            report.say(
                Code::UnknownDestinationRuleHost,
                object,
                "spec.host",
                &[&rule.host],
            );
            continue;
        };
        for (index, subset) in rule.subsets.iter().enumerate() {
            let mut wanted = service.workload_labels();
            wanted.extend(subset.labels.clone());
            let selected = some_pod_has(set, &wanted)
                || entries.iter().any(|labels| selects(&wanted, labels))
                || service
                    .endpoint_labels()
                    .any(|labels| selects(&subset.labels, labels));
            if !selected {
                report.say(
                    Code::DestinationRuleSubsetNotSelectPods,
                    object,
                    format!("spec.subsets[{index}].labels"),
                    &[&subset.name],
                );
            }
        }
    }
}
