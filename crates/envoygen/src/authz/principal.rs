//! Who calls: the `source` of a rule.

use config::security::Source;
use envoy_types::pb::envoy::config::rbac::v3::{
    Principal,
    principal::{Authenticated, Identifier},
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use model::Identity;

use super::matching::{Pattern, quoted};
use super::{Compiler, all_of, condition, not_principal, one_of, principal_of};
use crate::wire::{cidr, exact, prefix, regex_match};

/// What every SPIFFE ID begins with.
const SPIFFE: &str = "spiffe://";

impl Compiler<'_> {
    /// The conditions of a source, all of which must hold; `None` if they cannot be expressed.
    pub(super) fn source(&self, namespace: &str, source: &Source) -> Option<Vec<Principal>> {
        let mut out = Vec::new();
        self.identity(
            &source.principals,
            &source.not_principals,
            &|value| self.principal(value),
            &mut out,
        );
        self.identity(
            &source.namespaces,
            &source.not_namespaces,
            &|value| vec![of_namespace(value)],
            &mut out,
        );
        let account = |value: &str| self.service_account(namespace, value);
        self.identity(
            &source.service_accounts,
            &source.not_service_accounts,
            &account,
            &mut out,
        );
        self.identity(
            &source.trust_domains,
            &source.not_trust_domains,
            &|value| vec![of_trust_domain(value)],
            &mut out,
        );
        if !source.request_principals.is_empty() || !source.not_request_principals.is_empty() {
            self.request_principals(
                &source.request_principals,
                &source.not_request_principals,
                &mut out,
            )?;
        }
        self.addresses(
            &source.ip_blocks,
            &source.not_ip_blocks,
            Identifier::DirectRemoteIp,
            &mut out,
        )?;
        self.addresses(
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
            Identifier::RemoteIp,
            &mut out,
        )?;
        Some(out)
    }

    /// One of `values` and none of `not_values`. In an ALLOW rule the latter needs an identity at all.
    pub(super) fn identity(
        &self,
        values: &[String],
        not_values: &[String],
        make: &dyn Fn(&str) -> Vec<Principal>,
        out: &mut Vec<Principal>,
    ) {
        let all = |values: &[String]| one_of(values.iter().flat_map(|value| make(value)).collect());
        if !values.is_empty() {
            out.push(all(values));
        }
        if !not_values.is_empty() {
            if self.strict() {
                out.push(authenticated(prefix(SPIFFE)));
            }
            out.push(not_principal(all(not_values)));
        }
    }

    /// Identities without `spiffe://`. One of the mesh's own trust domain stands for its aliases too, and `cluster.local`
    /// for the mesh's own.
    pub(super) fn principal(&self, value: &str) -> Vec<Principal> {
        match Pattern::parse(value) {
            Pattern::Present => vec![authenticated(prefix(SPIFFE))],
            Pattern::Suffix(_) => vec![authenticated(Pattern::parse(value).matcher())],
            Pattern::Exact(text) => self
                .in_domains(text)
                .map(|id| authenticated(exact(&id)))
                .collect(),
            Pattern::Prefix(text) => self
                .in_domains(text)
                .map(|id| authenticated(prefix(&id)))
                .collect(),
        }
    }

    fn in_domains<'t>(&self, text: &'t str) -> impl Iterator<Item = String> + use<'t, '_> {
        let (domain, rest) = text.split_once('/').unwrap_or((text, ""));
        let own = self.domains();
        let known = domain == "cluster.local" || own.iter().any(|own| own == domain);
        let domains = if known && text.contains('/') {
            own
        } else {
            vec![domain.to_owned()]
        };
        let slash = if text.contains('/') { "/" } else { "" };
        domains
            .into_iter()
            .map(move |domain| format!("{SPIFFE}{domain}{slash}{rest}"))
    }

    /// The mesh's trust domain and its aliases.
    fn domains(&self) -> Vec<String> {
        let mesh = self.snapshot.mesh();
        std::iter::once(&mesh.trust_domain)
            .chain(&mesh.trust_domain_aliases)
            .cloned()
            .collect()
    }

    /// `name` (in the policy's namespace) or `namespace/name`.
    pub(super) fn service_account(&self, namespace: &str, value: &str) -> Vec<Principal> {
        let (namespace, account) = value.split_once('/').unwrap_or((namespace, value));
        let id =
            |domain: String| authenticated(exact(&Identity::new(&domain, namespace, account).to_string()));
        self.domains().into_iter().map(id).collect()
    }

    /// Token subjects as `ISSUER/SUBJECT`.
    pub(super) fn request_principals(
        &self,
        values: &[String],
        not_values: &[String],
        out: &mut Vec<Principal>,
    ) -> Option<()> {
        if self.tcp {
            return (!self.strict()).then_some(());
        }
        let all = |values: &[String]| {
            one_of(
                values
                    .iter()
                    .map(|value| condition::request_principal(value))
                    .collect(),
            )
        };
        if !values.is_empty() {
            out.push(all(values));
        }
        if !not_values.is_empty() {
            if self.strict() {
                out.push(condition::request_principal("*"));
            }
            out.push(not_principal(all(not_values)));
        }
        Some(())
    }

    pub(super) fn addresses(
        &self,
        values: &[String],
        not_values: &[String],
        make: fn(envoy_types::pb::envoy::config::core::v3::CidrRange) -> Identifier,
        out: &mut Vec<Principal>,
    ) -> Option<()> {
        let all = |values: &[String]| -> Option<Principal> {
            let ranges: Option<Vec<_>> = values
                .iter()
                .map(|value| Some(principal_of(make(cidr(value)?))))
                .collect();
            ranges.map(one_of)
        };
        if !values.is_empty() {
            out.push(all(values)?);
        }
        if !not_values.is_empty() {
            out.push(not_principal(all(not_values)?));
        }
        Some(())
    }
}

/// A namespace, perhaps with `*` in it.
pub(super) fn of_namespace(value: &str) -> Principal {
    let parts: Vec<String> = value.split('*').map(quoted).collect();
    authenticated(regex_match(&format!(
        "spiffe://[^/]+/ns/{}/.*",
        parts.join("[^/]*")
    )))
}

/// A trust domain as it stands in the certificate, perhaps with `*` at one end. Aliases are not looked at: who names a trust
/// domain means that one.
pub(super) fn of_trust_domain(value: &str) -> Principal {
    if value == "*" {
        return authenticated(prefix(SPIFFE));
    }
    if !value.contains('*') {
        return authenticated(prefix(&format!("{SPIFFE}{value}/")));
    }
    let parts: Vec<String> = value.split('*').map(quoted).collect();
    authenticated(regex_match(&format!("spiffe://{}/.*", parts.join("[^/]*"))))
}

/// The certificate's URI matches.
pub(super) fn authenticated(name: StringMatcher) -> Principal {
    principal_of(Identifier::Authenticated(Authenticated {
        principal_name: Some(name),
    }))
}

/// All of several.
pub(super) fn both(ids: Vec<Principal>) -> Principal {
    all_of(ids)
}
