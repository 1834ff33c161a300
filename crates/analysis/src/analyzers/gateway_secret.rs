//! The Secrets that gateways take their certificates from.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::kube::Secret;
use config::{Kind, Spec};
use x509_parser::parse_x509_certificate;

use crate::selector;
use crate::{Analyzer, Code, Report, Set};

/// Whether a credential is there, where the gateway's proxies are, and can be used.
pub(crate) const SECRETS: Analyzer = Analyzer::new(
    "gateway.SecretAnalyzer",
    "Credentials of gateways: whether the Secret is there, where the proxies are, and can be used",
    &[Code::ReferencedResourceNotFound, Code::InvalidGatewayCredential],
    &[Kind::Gateway, Kind::Pod, Kind::WorkloadEntry, Kind::Secret],
    run,
)
.by_clock();

/// Names of the certificate and of the key, as Istio's generic Secrets and Kubernetes' TLS Secrets have them.
const PAIRS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];

fn run(set: &Set<'_>, report: &mut Report) {
    for (object, gateway) in set.gateways() {
        let workloads = set.workloads(&gateway.selector, None);
        let Some(workload) = workloads.first() else {
            let selector = selector::text(&gateway.selector);
            report.say(
                Code::ReferencedResourceNotFound,
                object,
                "spec.selector",
                &[&"pod with labels", &selector],
            );
            continue;
        };
        let namespace = &workload.object.meta.namespace;
        for (index, server) in gateway.servers.iter().enumerate() {
            let name = server.tls.as_ref().map_or("", |tls| tls.credential_name.as_str());
            if name.is_empty() {
                continue;
            }
            let path = format!("spec.servers[{index}].tls.credentialName");
            let found = set.get(Kind::Secret, namespace, name);
            match found.map(|secret| &secret.spec) {
                Some(Spec::Secret(secret)) => {
                    if let Err(problem) = usable(secret, set.now()) {
                        let gateway = &object.meta.name;
                        report.say(
                            Code::InvalidGatewayCredential,
                            object,
                            path,
                            &[&name, gateway, &problem],
                        );
                    }
                }
                _ => {
                    let missing = format!("{namespace}/{name}");
                    report.say(
                        Code::ReferencedResourceNotFound,
                        object,
                        path,
                        &[&"Secret", &missing],
                    );
                }
            }
        }
    }
}

/// Whether a Secret has a certificate and a key, and the certificate is valid at `now`.
fn usable(secret: &Secret, now: i64) -> Result<(), String> {
    let pair = PAIRS
        .iter()
        .find(|(certificate, key)| secret.has(certificate) && secret.has(key));
    let Some((name, _)) = pair else {
        return Err("it has neither tls.crt and tls.key nor cert and key, with values".to_owned());
    };
    let text = value(secret, name).ok_or_else(|| format!("{name} is not base64"))?;
    let block = pem::parse(&text).map_err(|_| format!("{name} is not PEM"))?;
    let (_, certificate) =
        parse_x509_certificate(block.contents()).map_err(|_| format!("{name} is not a certificate"))?;
    let validity = certificate.validity();
    match validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp() {
        true => Ok(()),
        false => Err(format!(
            "{name} is valid from {} to {}",
            validity.not_before, validity.not_after
        )),
    }
}

/// A value in clear.
fn value(secret: &Secret, key: &str) -> Option<Vec<u8>> {
    if let Some(text) = secret.string_data.get(key) {
        return Some(text.clone().into_bytes());
    }
    let text: String = secret.data.get(key)?.split_whitespace().collect();
    STANDARD.decode(text).ok()
}
