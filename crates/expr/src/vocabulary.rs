//! Which attributes exist, and of what type.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::value::ValueType::{self, Bool, Duration, Int64, IpAddress, String as Text, StringMap, Timestamp};

/// The languages of expressions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Mixer's own.
    #[default]
    Cexl,
    /// The Common Expression Language.
    Cel,
}

/// Annotation of a rule or instance that says in which language its expressions are (Istio 1.4): `CEXL` or `CEL`.
pub const LANGUAGE_ANNOTATION: &str = "policy.istio.io/lang";

impl FromStr for Language {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "CEXL" => Ok(Self::Cexl),
            "CEL" => Ok(Self::Cel),
            "COMPAT" => {
                Err("COMPAT, CEXL's syntax with CEL's rules, is not served; write CEXL or CEL".to_owned())
            }
            other => Err(format!("there is no language {other:?}; write CEXL or CEL")),
        }
    }
}

/// Attributes by name.
pub trait Vocabulary {
    /// The language of the expressions that are compiled against it.
    fn language(&self) -> Language {
        Language::Cexl
    }

    /// The type of the attribute, or `None` when there is no such attribute.
    fn attribute(&self, name: &str) -> Option<ValueType>;

    /// The attribute whose name is nearest to `name`, for a hint.
    fn nearest(&self, name: &str) -> Option<String>;
}

/// A vocabulary for expressions in another language.
#[derive(Clone, Copy)]
pub struct Speaking<'a>(pub &'a dyn Vocabulary, pub Language);

impl Vocabulary for Speaking<'_> {
    fn language(&self) -> Language {
        self.1
    }

    fn attribute(&self, name: &str) -> Option<ValueType> {
        self.0.attribute(name)
    }

    fn nearest(&self, name: &str) -> Option<String> {
        self.0.nearest(name)
    }
}

impl fmt::Debug for Speaking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Speaking").field(&self.1).finish()
    }
}

/// Istio's attribute vocabulary (istio.io, "Attribute Vocabulary" of 1.4), in the order of names.
pub static STANDARD: Standard = Standard;

/// The type of [`STANDARD`].
#[derive(Clone, Copy, Debug)]
pub struct Standard;

const ATTRIBUTES: &[(&str, ValueType)] = &[
    ("api.operation", Text),
    ("api.protocol", Text),
    ("api.service", Text),
    ("api.version", Text),
    ("check.cache_hit", Bool),
    ("check.error_code", Int64),
    ("check.error_message", Text),
    ("connection.duration", Duration),
    ("connection.event", Text),
    ("connection.id", Text),
    ("connection.mtls", Bool),
    ("connection.received.bytes", Int64),
    ("connection.received.bytes_total", Int64),
    ("connection.requested_server_name", Text),
    ("connection.sent.bytes", Int64),
    ("connection.sent.bytes_total", Int64),
    ("context.protocol", Text),
    ("context.proxy_error_code", Text),
    ("context.proxy_version", Text),
    ("context.reporter.kind", Text),
    ("context.reporter.local", Bool),
    ("context.reporter.uid", Text),
    ("context.time", Timestamp),
    ("context.timestamp", Timestamp),
    ("destination.container.name", Text),
    ("destination.ip", IpAddress),
    ("destination.labels", StringMap),
    ("destination.metadata", StringMap),
    ("destination.name", Text),
    ("destination.namespace", Text),
    ("destination.owner", Text),
    ("destination.port", Int64),
    ("destination.principal", Text),
    // Deprecated since 1.0, still written by users.
    ("destination.service", Text),
    ("destination.service.host", Text),
    ("destination.service.name", Text),
    ("destination.service.namespace", Text),
    ("destination.service.uid", Text),
    ("destination.serviceAccount", Text),
    ("destination.uid", Text),
    ("destination.user", Text),
    ("destination.workload.name", Text),
    ("destination.workload.namespace", Text),
    ("destination.workload.uid", Text),
    ("origin.ip", IpAddress),
    ("origin.uid", Text),
    ("origin.user", Text),
    ("quota.cache_hit", Bool),
    ("rbac.permissive.effective_policy_id", Text),
    ("rbac.permissive.response_code", Text),
    ("request.api_key", Text),
    ("request.auth.audiences", Text),
    ("request.auth.claims", StringMap),
    ("request.auth.presenter", Text),
    ("request.auth.principal", Text),
    ("request.auth.raw_claims", Text),
    ("request.headers", StringMap),
    ("request.host", Text),
    ("request.id", Text),
    ("request.method", Text),
    ("request.path", Text),
    ("request.query_params", StringMap),
    ("request.reason", Text),
    ("request.referer", Text),
    ("request.scheme", Text),
    ("request.size", Int64),
    ("request.time", Timestamp),
    ("request.total_size", Int64),
    ("request.url_path", Text),
    ("request.useragent", Text),
    ("response.code", Int64),
    ("response.duration", Duration),
    ("response.grpc_message", Text),
    ("response.grpc_status", Text),
    ("response.headers", StringMap),
    ("response.size", Int64),
    ("response.time", Timestamp),
    ("response.total_size", Int64),
    ("source.ip", IpAddress),
    ("source.labels", StringMap),
    ("source.metadata", StringMap),
    ("source.name", Text),
    ("source.namespace", Text),
    ("source.owner", Text),
    ("source.principal", Text),
    // Deprecated since 1.0, still written by users.
    ("source.service", Text),
    ("source.serviceAccount", Text),
    ("source.services", Text),
    ("source.uid", Text),
    ("source.user", Text),
    ("source.workload.name", Text),
    ("source.workload.namespace", Text),
    ("source.workload.uid", Text),
];

impl Standard {
    /// All attributes and their types.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, ValueType)> {
        ATTRIBUTES.iter().copied()
    }
}

impl Vocabulary for Standard {
    fn attribute(&self, name: &str) -> Option<ValueType> {
        let at = ATTRIBUTES.binary_search_by(|(known, _)| known.cmp(&name)).ok()?;
        ATTRIBUTES.get(at).map(|(_, ty)| *ty)
    }

    fn nearest(&self, name: &str) -> Option<String> {
        nearest(name, self.all().map(|(known, _)| known))
    }
}

/// A vocabulary of a user's making: the standard one and what attributemanifests add to it, or a set alone.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    own: BTreeMap<String, ValueType>,
    standard: bool,
}

impl Manifest {
    /// Istio's attributes, to be added to.
    pub fn standard() -> Self {
        Self {
            own: BTreeMap::new(),
            standard: true,
        }
    }

    /// Adds an attribute. A type that contradicts an earlier one is refused and that one returned.
    ///
    /// # Errors
    /// The type that the attribute has already; use that, or another name.
    pub fn declare(&mut self, name: &str, ty: ValueType) -> Result<(), ValueType> {
        match self.attribute(name) {
            Some(known) if known != ty => Err(known),
            Some(_) => Ok(()),
            None => {
                self.own.insert(name.to_owned(), ty);
                Ok(())
            }
        }
    }
}

impl FromIterator<(String, ValueType)> for Manifest {
    fn from_iter<I: IntoIterator<Item = (String, ValueType)>>(attributes: I) -> Self {
        Self {
            own: attributes.into_iter().collect(),
            standard: false,
        }
    }
}

impl Vocabulary for Manifest {
    fn attribute(&self, name: &str) -> Option<ValueType> {
        let own = self.own.get(name).copied();
        own.or_else(|| {
            if self.standard {
                STANDARD.attribute(name)
            } else {
                None
            }
        })
    }

    fn nearest(&self, name: &str) -> Option<String> {
        let standard = self.standard.then(|| STANDARD.all().map(|(known, _)| known));
        nearest(
            name,
            self.own
                .keys()
                .map(String::as_str)
                .chain(standard.into_iter().flatten()),
        )
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let limit = (name.len() / 4).clamp(1, 4);
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        .filter(|(distance, _)| *distance <= limit)
        .map(|(_, known)| known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_its_search() {
        assert!(ATTRIBUTES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn manifests_add_but_do_not_contradict() {
        let mut manifest = Manifest::standard();
        assert_eq!(manifest.declare("shop.tier", Text), Ok(()));
        assert_eq!(manifest.declare("request.size", Text), Err(Int64));
        assert_eq!(manifest.attribute("shop.tier"), Some(Text));
        assert_eq!(manifest.nearest("source.lables"), Some("source.labels".into()));
    }
}
