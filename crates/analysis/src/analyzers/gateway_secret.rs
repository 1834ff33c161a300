//! The Secrets that gateways take their certificates from.

use std::fmt::Display;

use config::{Kind, Object, Spec};

use super::credential;
use crate::analyzer::Check;
use crate::selector;
use crate::{Analyzer, Code, Report, Set};

/// Whether a credential is there, where the gateway's proxies are, and can be used.
pub(crate) const SECRETS: Analyzer = Analyzer::new(
    "gateway.SecretAnalyzer",
    "Credentials of gateways: whether the Secret is there, where the proxies are, and can be used",
    &[Code::ReferencedResourceNotFound, Code::InvalidGatewayCredential],
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

fn check(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Gateway(gateway) = &object.spec else {
        return;
    };
    let Some(workload) = set.workloads(&gateway.selector, None).next() else {
        let selector = selector::text(&gateway.selector);
        report.say(
            Code::ReferencedResourceNotFound,
            object,
            "spec.selector",
            &[&"pod with labels", &selector],
        );
        return;
    };
    let namespace = &workload.object.meta.namespace;
    for (index, server) in gateway.servers.iter().enumerate() {
        for (field, name) in server.tls.iter().flat_map(credential::names) {
            let path = format!("spec.servers[{index}].{field}");
            let Some(facts) = credential::find(set, namespace, name) else {
                let missing = format!("{namespace}/{name}");
                let code = Code::ReferencedResourceNotFound;
                report.say(code, object, path, &[&"Secret", &missing]);
                continue;
            };
            if let Err(problem) = credential::usable(&facts, set.now()) {
                let args: [&dyn Display; 3] = [&name, &object.meta.name, &problem];
                report.say(Code::InvalidGatewayCredential, object, path, &args);
            }
        }
    }
}
