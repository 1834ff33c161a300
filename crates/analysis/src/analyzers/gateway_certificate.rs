//! Gateways that present the same certificate from the same proxies.

use config::networking::{Gateway, ServerTlsSettings};
use config::{Kind, Object, Spec};
use model::selects;

use super::{by_name, full_name};
use crate::analyzer::Check;
use crate::term::certificate;
use crate::{Analyzer, Code, Report, Set};

/// Whether two gateways of the same proxies share a certificate, on which HTTP/2 clients would reuse a connection.
pub(crate) const DUPLICATES: Analyzer = Analyzer::new(
    "gateway.CertificateAnalyzer",
    "Gateways of the same proxies that present the same certificate",
    &[Code::GatewayDuplicateCertificate],
    &[Kind::Gateway],
    Check::Each(&[Kind::Gateway], run),
);

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Gateway(gateway) = &object.spec else {
        return;
    };
    let certificates = tls(gateway).filter_map(|(_, mine)| certificate(mine));
    let near = certificates.flat_map(|term| set.found(Kind::Gateway, term));
    for other in by_name(near) {
        let Spec::Gateway(body) = &other.spec else {
            continue;
        };
        if other.key() == object.key() || !selects(&gateway.selector, &body.selector) {
            continue;
        }
        let shared =
            tls(gateway).find(|(_, mine)| tls(body).any(|(_, theirs)| same_certificate(mine, theirs)));
        if let Some((index, _)) = shared {
            let names = format!("{}, {}", full_name(object), full_name(other));
            let path = format!("spec.servers[{index}].tls");
            report.say(Code::GatewayDuplicateCertificate, object, path, &[&names]);
        }
    }
}

fn tls(gateway: &Gateway) -> impl Iterator<Item = (usize, &ServerTlsSettings)> {
    let servers = gateway.servers.iter().enumerate();
    servers.filter_map(|(index, server)| Some((index, server.tls.as_ref()?)))
}

fn same_certificate(a: &ServerTlsSettings, b: &ServerTlsSettings) -> bool {
    let files = |tls: &ServerTlsSettings| (tls.server_certificate.clone(), tls.private_key.clone());
    match (a.credential_name.as_str(), b.credential_name.as_str()) {
        ("", "") => !a.server_certificate.is_empty() && !a.private_key.is_empty() && files(a) == files(b),
        (a, b) => a == b,
    }
}
