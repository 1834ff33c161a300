//! DestinationRules: servers that are not verified, hosts and subsets that are nobody.

use config::networking::{ClientTlsMode, ClientTlsSettings, DestinationRule};
use config::{Kind, Object, Spec};
use model::selects;

use super::locality::some_pod_has;
use crate::analyzer::Check;
use crate::hosts;
use crate::selector::Labels;
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
    Check::Each(&[Kind::DestinationRule], ca_certificates),
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
    Check::Each(&[Kind::DestinationRule], subsets),
)
.alias("destinationrule.SubsetSelectPodAnalyzer");

fn ca_certificates(_: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::DestinationRule(rule) = &object.spec else {
        return;
    };
    let Some(policy) = &rule.traffic_policy else {
        return;
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

/// The TLS mode, when it is one that needs roots of trust and there are none. `credentialName` counts only together with a
/// workloadSelector: proxies that nothing selects may not read Secrets.
fn unverified(tls: Option<&ClientTlsSettings>, rule: &DestinationRule) -> Option<&'static str> {
    let tls = tls?;
    let needs = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    let by_credential = !tls.credential_name.is_empty() && rule.workload_selector.is_some();
    (needs && tls.ca_certificates.is_empty() && !by_credential).then(|| tls.mode.as_str())
}

fn subsets(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::DestinationRule(rule) = &object.spec else {
        return;
    };
    let Some(service) = hosts::find(set, &rule.host, &object.meta.namespace, &rule.export_to) else {
        report.say(
            Code::UnknownDestinationRuleHost,
            object,
            "spec.host",
            &[&rule.host],
        );
        return;
    };
    for (index, subset) in rule.subsets.iter().enumerate() {
        let mut wanted = service.workload_labels();
        wanted.extend(subset.labels.clone());
        let selected = some_pod_has(set, &wanted)
            || some_entry_has(set, &wanted)
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

/// Whether a WorkloadEntry has all of these labels, those of its body alone.
fn some_entry_has(set: &Set<'_>, wanted: &Labels) -> bool {
    set.workload_entries_of(wanted)
        .any(|entry| selects(wanted, &entry.labels))
}
