//! What is known of a gateway's credential: what Citadel tells of its Secret or, without Citadel, what the Secret in files
//! or in the cluster shows. Keys are in neither.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::kube::{CertificateFacts, Secret, SecretFactsSpec};
use config::networking::{ServerTlsMode, ServerTlsSettings};
use config::{Kind, Spec};
use x509_parser::prelude::{ASN1Time, GeneralName, X509Certificate};

use crate::Set;

/// Names of the certificate and of the key, as Istio's generic Secrets and Kubernetes' TLS Secrets have them.
pub(super) const PAIRS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];
/// Names of the roots that clients are verified by.
const ROOTS: [&str; 2] = ["ca.crt", "cacert"];
/// What stands behind the name of the Secret that has the roots alone.
const ROOTS_SUFFIX: &str = "-cacert";

/// The facts of a Secret; `None` where there is none of that name.
pub(super) fn find<'a>(set: &Set<'a>, namespace: &str, name: &str) -> Option<Cow<'a, SecretFactsSpec>> {
    if let Some(Spec::SecretFacts(facts)) = set
        .get(Kind::SecretFacts, namespace, name)
        .map(|facts| &facts.spec)
    {
        return Some(Cow::Borrowed(&facts.spec));
    }
    match &set.get(Kind::Secret, namespace, name)?.spec {
        Spec::Secret(secret) => Some(Cow::Owned(of_secret(secret))),
        _ => None,
    }
}

/// All names of Secrets that a server takes certificates from.
pub(super) fn names(tls: &ServerTlsSettings) -> impl Iterator<Item = (String, &str)> {
    let one = (!tls.credential_name.is_empty())
        .then(|| ("tls.credentialName".to_owned(), tls.credential_name.as_str()));
    let more = tls.credential_names.iter().enumerate();
    one.into_iter()
        .chain(more.map(|(index, name)| (format!("tls.credentialNames[{index}]"), name.as_str())))
}

/// The certificate that a server would show, and its key's name in the Secret.
///
/// # Errors
/// Why there is none that can be used at `now`, in words.
pub(super) fn usable(facts: &SecretFactsSpec, now: i64) -> Result<&CertificateFacts, String> {
    let has = |name: &str| facts.keys.iter().any(|key| key == name);
    let pair = PAIRS
        .iter()
        .find(|(certificate, key)| has(certificate) && has(key));
    let Some((name, key)) = pair else {
        return Err("it has neither tls.crt and tls.key nor cert and key, with values".to_owned());
    };
    let about = |problem: &&String| [name, key].iter().any(|part| is_about(problem, part));
    if let Some(problem) = facts.problems.iter().find(about) {
        return Err(problem.clone());
    }
    let certificate = facts.certificates.iter().find(|known| known.key == *name);
    let certificate = certificate.ok_or_else(|| format!("{name} is not a certificate"))?;
    if facts.key_matches == Some(false) {
        return Err(format!("{key} is not the key of the certificate in {name}"));
    }
    match certificate.not_before <= now && now <= certificate.not_after {
        true => Ok(certificate),
        false => Err(format!(
            "{name} is valid from {} to {}",
            time(certificate.not_before),
            time(certificate.not_after)
        )),
    }
}

/// Whether there are roots to verify clients by, for a server that asks clients for certificates.
pub(super) fn has_roots(set: &Set<'_>, namespace: &str, tls: &ServerTlsSettings, name: &str) -> bool {
    let from = |secret: &str| {
        let facts = find(set, namespace, secret);
        facts.is_some_and(|facts| facts.keys.iter().any(|key| ROOTS.contains(&key.as_str())))
    };
    match tls.ca_cert_credential_name.as_str() {
        "" => from(&format!("{name}{ROOTS_SUFFIX}")) || from(name),
        roots => from(roots),
    }
}

/// Whether a server verifies its clients by roots of a Secret.
pub(super) fn wants_roots(tls: &ServerTlsSettings) -> bool {
    matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual)
        && tls.ca_certificates.is_empty()
}

/// A time in the words of certificates.
pub(super) fn time(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// Problems begin with the name of the key that they are about.
fn is_about(problem: &str, key: &str) -> bool {
    let rest = problem.strip_prefix(key);
    rest.is_some_and(|rest| rest.starts_with([' ', ':']))
}

fn of_secret(secret: &Secret) -> SecretFactsSpec {
    let mut facts = SecretFactsSpec {
        r#type: secret.r#type.clone(),
        ..SecretFactsSpec::default()
    };
    let keys = secret.keys().filter(|key| secret.has(key));
    facts.keys = keys.map(str::to_owned).collect();
    for (name, _) in PAIRS {
        match secret.has(name).then(|| certificate(secret, name)) {
            None => {}
            Some(Ok(certificate)) => facts.certificates.push(certificate),
            Some(Err(problem)) => facts.problems.push(format!("{name} is {problem}")),
        }
    }
    facts
}

fn certificate(secret: &Secret, key: &str) -> Result<CertificateFacts, &'static str> {
    let text = value(secret, key).ok_or("not base64")?;
    let block = pem::parse(&text).map_err(|_| "not PEM")?;
    let parsed = x509_parser::parse_x509_certificate(block.contents());
    let (_, certificate) = parsed.map_err(|_| "not a certificate")?;
    let validity = certificate.validity();
    Ok(CertificateFacts {
        key: key.to_owned(),
        dns_names: dns_names(&certificate),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        ..CertificateFacts::default()
    })
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}

/// A value in clear.
fn value(secret: &Secret, key: &str) -> Option<Vec<u8>> {
    if let Some(text) = secret.string_data.get(key) {
        return Some(text.clone().into_bytes());
    }
    let text: String = secret.data.get(key)?.split_whitespace().collect();
    STANDARD.decode(text).ok()
}
