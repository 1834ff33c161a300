//! Gateways that present the same certificate from the same proxies.

use config::Kind;
use config::networking::{Gateway, ServerTlsSettings};
use model::selects;

use super::full_name;
use crate::{Analyzer, Code, Report, Set};

/// Whether two gateways of the same proxies share a certificate, on which HTTP/2 clients would reuse a connection.
pub(crate) const DUPLICATES: Analyzer = Analyzer::new(
    "gateway.CertificateAnalyzer",
    "Gateways of the same proxies that present the same certificate",
    &[Code::GatewayDuplicateCertificate],
    &[Kind::Gateway],
    run,
);

fn run(set: &Set<'_>, report: &mut Report) {
    let gateways: Vec<_> = set
        .gateways()
        .filter(|(_, gateway)| tls(gateway).next().is_some())
        .collect();
    for (object, gateway) in &gateways {
        let near = gateways.iter().filter(|(other, body)| {
            other.key() != object.key() && selects(&gateway.selector, &body.selector)
        });
        for (other, body) in near {
            let shared =
                tls(gateway).find(|(_, mine)| tls(body).any(|(_, theirs)| same_certificate(mine, theirs)));
            if let Some((index, _)) = shared {
                let names = format!("{}, {}", full_name(object), full_name(other));
                let path = format!("spec.servers[{index}].tls");
                report.say(Code::GatewayDuplicateCertificate, object, path, &[&names]);
            }
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
