//! What Citadel takes from a certificate signing request: its public key, once the signature proves that the caller has
//! the private one. A request that asks for more than a key is refused rather than cut down, so that nobody believes to
//! have got what was asked for.

use rcgen::{PublicKeyData, SubjectPublicKeyInfo};
use runtime::spiffe::SpiffeId;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
};
use x509_parser::prelude::{FromDer, GeneralName};
use x509_parser::public_key::PublicKey;

/// Largest request, in bytes of PEM: room for an RSA key of 4096 bits, several times over.
pub const MAX_CSR: usize = 16 << 10;

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Larger than [`MAX_CSR`].
    #[error("the request is larger than {MAX_CSR} bytes")]
    TooLarge,
    /// Not one PEM block of a request.
    #[error("the request is not one PEM block \"CERTIFICATE REQUEST\"")]
    Pem,
    /// Not a PKCS #10 request.
    #[error("the request is not valid PKCS #10")]
    Parse,
    /// An algorithm that is not accepted, SHA-1 for one.
    #[error(
        "the request is signed by an algorithm that is not accepted; take ECDSA or RSA with SHA-256, SHA-384 or SHA-512"
    )]
    Algorithm,
    /// The caller does not have the private key.
    #[error("the request's signature does not verify")]
    Signature,
    /// A kind of key that proxies do not use.
    #[error("the request's key is not accepted: {0}; take ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits")]
    Key(&'static str),
    /// It asks for something other than a certificate for a key.
    #[error("the request asks for {0}; only a key is taken, the identity is the caller's")]
    Foreign(&'static str),
    /// It names somebody else.
    #[error("the request names {asked:?}, the caller is {caller}")]
    OtherIdentity {
        /// The URI SAN, shortened.
        asked: String,
        /// Who asks.
        caller: SpiffeId,
    },
}

/// Gives the request's key for `caller` to have signed.
///
/// # Errors
/// When a rule above is broken.
pub fn public_key(pem: &str, caller: &SpiffeId) -> Result<SubjectPublicKeyInfo, CsrError> {
    if pem.len() > MAX_CSR {
        return Err(CsrError::TooLarge);
    }
    let der = one_block(pem)?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError::Parse)?;
    if !rest.is_empty() {
        return Err(CsrError::Parse);
    }
    check_key(&request)?;
    check_wishes(&request, caller)?;
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| CsrError::Key("it cannot be parsed"))
}

fn one_block(pem: &str) -> Result<CertificateSigningRequestDer<'static>, CsrError> {
    // The older label is what openssl's -newhdr writes.
    let pem = pem.replace(" NEW CERTIFICATE REQUEST", " CERTIFICATE REQUEST");
    let mut blocks = CertificateSigningRequestDer::pem_slice_iter(pem.as_bytes());
    match (blocks.next(), blocks.next()) {
        (Some(Ok(der)), None) => Ok(der),
        _ => Err(CsrError::Pem),
    }
}

fn check_key(request: &X509CertificationRequest<'_>) -> Result<(), CsrError> {
    let accepted = [
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
        OID_PKCS1_RSASSAPSS,
    ];
    if !accepted.contains(&request.signature_algorithm.algorithm) {
        return Err(CsrError::Algorithm);
    }
    let key = &request.certification_request_info.subject_pki;
    match key.parsed().map_err(|_| CsrError::Key("it cannot be parsed"))? {
        PublicKey::RSA(rsa) if (2048..=4096).contains(&rsa.key_size()) => Ok(()),
        PublicKey::RSA(_) => Err(CsrError::Key("an RSA key of another size")),
        // The curve is that of a known algorithm: P-256 or P-384, seen when the signature is verified.
        PublicKey::EC(point) if matches!(point.data(), [4, ..]) => Ok(()),
        PublicKey::EC(_) => Err(CsrError::Key("a compressed point")),
        _ => Err(CsrError::Key("another kind of key")),
    }
}

/// Attributes: at most one request for extensions, and in it at most a SAN with one URI, the caller's own (as Istio's
/// agents send it).
fn check_wishes(request: &X509CertificationRequest<'_>, caller: &SpiffeId) -> Result<(), CsrError> {
    let info = &request.certification_request_info;
    info.attributes_map()
        .map_err(|_| CsrError::Foreign("an attribute twice"))?;
    for attribute in info.iter_attributes() {
        match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(wanted) => check_extensions(&wanted.extensions, caller)?,
            _ => return Err(CsrError::Foreign("an attribute other than extensions")),
        }
    }
    Ok(())
}

fn check_extensions(extensions: &[X509Extension<'_>], caller: &SpiffeId) -> Result<(), CsrError> {
    let mut sans = 0;
    for extension in extensions {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => {
                sans += 1;
                check_names(&san.general_names, caller)?;
            }
            _ => {
                return Err(CsrError::Foreign(
                    "an extension other than a subject alternative name",
                ));
            }
        }
    }
    match sans {
        0 | 1 => Ok(()),
        _ => Err(CsrError::Foreign("subject alternative names twice")),
    }
}

fn check_names(names: &[GeneralName<'_>], caller: &SpiffeId) -> Result<(), CsrError> {
    match names {
        [] => Ok(()),
        [GeneralName::URI(uri)] if *uri == caller.to_string() => Ok(()),
        [GeneralName::URI(uri)] => {
            let asked = uri.chars().take(256).collect();
            Err(CsrError::OtherIdentity {
                asked,
                caller: caller.clone(),
            })
        }
        [_] => Err(CsrError::Foreign("a DNS name, address or other name")),
        _ => Err(CsrError::Foreign("several names")),
    }
}

/// What kind of key it is, for the audit log.
#[must_use]
pub fn describe(key: &SubjectPublicKeyInfo) -> &'static str {
    let algorithm = key.algorithm();
    if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
        "P-256"
    } else if *algorithm == rcgen::PKCS_ECDSA_P384_SHA384 {
        "P-384"
    } else {
        "RSA"
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "cases read better by value")]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize, SanType,
    };

    fn caller() -> SpiffeId {
        SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/orders").unwrap()
    }

    fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::default();
        change(&mut params);
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn check(change: impl FnOnce(&mut CertificateParams), expected: Result<(), CsrError>) {
        let key = KeyPair::generate().unwrap();
        let seen = public_key(&request(&key, change), &caller());
        assert_eq!(seen.as_ref().map(|_| ()).map_err(Clone::clone), expected);
        if let Ok(seen) = seen {
            assert_eq!(seen.der_bytes(), key.der_bytes());
        }
    }

    #[test]
    fn a_key_and_the_callers_own_name_are_all_that_is_taken() {
        let foreign = |what| Err(CsrError::Foreign(what));
        check(|_| {}, Ok(()));
        check(
            |p| p.subject_alt_names = vec![uri("spiffe://cluster.local/ns/shop/sa/orders")],
            Ok(()),
        );
        let other = "spiffe://cluster.local/ns/argosy-system/sa/citadel";
        let error = CsrError::OtherIdentity {
            asked: other.into(),
            caller: caller(),
        };
        check(|p| p.subject_alt_names = vec![uri(other)], Err(error));
        let own = uri("spiffe://cluster.local/ns/shop/sa/orders");
        check(
            |p| p.subject_alt_names = vec![own.clone(), uri(other)],
            foreign("several names"),
        );
        let dns = SanType::DnsName("orders.shop".try_into().unwrap());
        check(
            |p| p.subject_alt_names = vec![dns.clone()],
            foreign("a DNS name, address or other name"),
        );
        check(|p| p.subject_alt_names = vec![own, dns], foreign("several names"));
        let extension = "an extension other than a subject alternative name";
        check(
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            foreign(extension),
        );
        check(
            |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign],
            foreign(extension),
        );
        check(
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
            foreign(extension),
        );
        let custom = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        check(|p| p.custom_extensions = vec![custom], foreign(extension));
    }

    #[test]
    fn keys_that_proxies_use_are_accepted_and_others_not() {
        let accepted = |key: &KeyPair| public_key(&request(key, |_| {}), &caller()).map(|k| describe(&k));
        assert_eq!(accepted(&KeyPair::generate().unwrap()), Ok("P-256"));
        assert_eq!(
            accepted(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()),
            Ok("P-384")
        );
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        assert_eq!(accepted(&rsa), Ok("RSA"));
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        assert_eq!(accepted(&ed25519), Err(CsrError::Algorithm));
    }

    #[test]
    fn a_broken_signature_or_encoding_is_refused() {
        let good = request(&KeyPair::generate().unwrap(), |_| {});
        let mut der = pem::parse(&good).unwrap().into_contents();
        *der.last_mut().unwrap() ^= 1;
        let wrap = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
        let refused = |text: &str| public_key(text, &caller()).unwrap_err();
        assert_eq!(refused(&wrap("CERTIFICATE REQUEST", &der)), CsrError::Signature);
        assert_eq!(
            refused(&wrap("CERTIFICATE REQUEST", &der[..der.len() - 3])),
            CsrError::Parse
        );
        der.push(0);
        assert_eq!(refused(&wrap("CERTIFICATE REQUEST", &der)), CsrError::Parse);
        assert_eq!(refused(&wrap("CERTIFICATE", &der)), CsrError::Pem);
        assert_eq!(refused(&format!("{good}{good}")), CsrError::Pem);
        assert_eq!(refused(""), CsrError::Pem);
        assert_eq!(refused(&"A".repeat(MAX_CSR + 1)), CsrError::TooLarge);
        assert!(public_key(&good.replace("CERTIFICATE", "NEW CERTIFICATE"), &caller()).is_ok());
    }
}
