//! Adapters outside of the process (Istio 1.4's `adapter` and `template` kinds): what a handler names, put together. What is in
//! the descriptors, Mixer finds out.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::adapters::{Problem, Tls, connection_address};
use config::templates::OwnTemplate;
use config::{descriptor, mixer, templates};
use serde_json::{Map, Value};

use super::Variety;

/// An adapter behind gRPC.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    /// `HOST:PORT`.
    pub address: String,
    /// TLS to it; plain text without.
    pub tls: Option<Tls>,
    /// Nanoseconds that a call may take, where the handler says it.
    pub timeout: Option<i64>,
    /// The adapter's name: `NAME.NAMESPACE`.
    pub adapter: String,
    /// Whether it is told its parameters once, when a session begins, and not with each call.
    pub session_based: bool,
    /// The descriptors of the parameters, a FileDescriptorSet in base64; empty when the adapter has none.
    pub descriptor: Arc<str>,
    /// The parameters as given.
    pub params: Map<String, Value>,
    /// The templates that it takes, by name: of Istio's the short one, of others `NAME.NAMESPACE`.
    pub templates: BTreeMap<String, Taken>,
}

/// A template that an adapter takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// Its descriptor, a FileDescriptorSet in base64.
    pub descriptor: Arc<str>,
    /// Of one that is not Istio's, what the descriptor says.
    own: Option<Arc<OwnTemplate>>,
}

impl Taken {
    /// Whether it is none of Istio's.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }
}

/// The `adapter` and `template` objects of a mesh, by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Remotes<'a> {
    pub(crate) adapters: BTreeMap<(String, String), &'a mixer::Adapter>,
    pub(crate) templates: BTreeMap<(String, String), &'a mixer::Template>,
    /// Those of the templates that are none of Istio's.
    pub(crate) own: BTreeMap<(String, String), Arc<OwnTemplate>>,
}

/// What `NAME` or `NAME.NAMESPACE` means in an object of `namespace`.
fn find<'a, T>(
    of: &BTreeMap<(String, String), &'a T>,
    reference: &str,
    namespace: &str,
) -> Option<((String, String), &'a T)> {
    let own = (namespace.to_owned(), reference.to_owned());
    let other = reference
        .rsplit_once('.')
        .map(|(name, namespace)| (namespace.to_owned(), name.to_owned()));
    [Some(own), other]
        .into_iter()
        .flatten()
        .find_map(|key| of.get(&key).map(|found| (key, *found)))
}

/// `NAME.NAMESPACE` of a namespace and a name.
fn full_name((namespace, name): &(String, String)) -> String {
    format!("{name}.{namespace}")
}

impl Remotes<'_> {
    /// What `NAME` or `NAME.NAMESPACE` means in an instance of `namespace`, if it is a template that is none of Istio's.
    pub(crate) fn own_template(
        &self,
        reference: &str,
        namespace: &str,
    ) -> Option<(String, Arc<OwnTemplate>)> {
        if templates::is_served(reference) {
            return None;
        }
        let (key, _) = find(&self.templates, reference, namespace)?;
        let own = self.own.get(&key)?.clone();
        Some((full_name(&key), own))
    }

    /// Reads a handler of `namespace` whose adapter is outside of the process.
    pub(crate) fn handler(&self, namespace: &str, spec: &mixer::Handler) -> Result<Remote, Problem> {
        let missing = || {
            format!(
                "there is no adapter {} in {namespace}; apply it, or name NAME.NAMESPACE",
                spec.adapter
            )
        };
        let (key, adapter) = find(&self.adapters, &spec.adapter, namespace)
            .ok_or_else(|| Problem::new("adapter", missing()))?;
        let Some(connection) = &spec.connection else {
            return Err(Problem::new("connection", "is needed: the adapter's address"));
        };
        bounded("adapter", &adapter.config)?;
        let timeout = connection.timeout.map(|timeout| timeout.0.as_nanos());
        let mut templates = BTreeMap::new();
        for reference in &adapter.templates {
            let (name, taken) = self.template(reference, &key.0)?;
            templates.insert(name, taken);
        }
        Ok(Remote {
            address: connection_address(&connection.address)?,
            tls: Tls::of_connection(connection)?,
            timeout: timeout
                .and_then(|nanos| i64::try_from(nanos).ok())
                .filter(|nanos| *nanos > 0),
            adapter: full_name(&key),
            session_based: adapter.session_based,
            descriptor: adapter.config.as_str().into(),
            params: spec.params.clone(),
            templates,
        })
    }

    /// A template of the adapter's.
    fn template(&self, reference: &str, namespace: &str) -> Result<(String, Taken), Problem> {
        let missing =
            || format!("the adapter takes {reference}, but there is no such template in {namespace}");
        let (key, template) =
            find(&self.templates, reference, namespace).ok_or_else(|| Problem::new("adapter", missing()))?;
        bounded("adapter", &template.descriptor)?;
        let descriptor = template.descriptor.as_str().into();
        if templates::is_served(&key.1) {
            return Ok((
                key.1,
                Taken {
                    descriptor,
                    own: None,
                },
            ));
        }
        // Why it cannot be used its own finding says.
        let own = self.own.get(&key).cloned();
        let unusable = || {
            Problem::new(
                "adapter",
                format!("the template {} cannot be used", full_name(&key)),
            )
        };
        let own = Some(own.ok_or_else(unusable)?);
        Ok((full_name(&key), Taken { descriptor, own }))
    }
}

fn bounded(path: &str, text: &str) -> Result<(), Problem> {
    match text.len() <= descriptor::MAX_LENGTH {
        true => Ok(()),
        false => Err(Problem::new(
            path,
            format!("has a descriptor of more than {} bytes", descriptor::MAX_LENGTH),
        )),
    }
}

impl Remote {
    /// How the adapter answers instances of a template; `None` when it takes none.
    pub(super) fn takes(&self, template: &str) -> Option<Variety> {
        let taken = self.templates.get(template)?;
        if let Some(own) = &taken.own {
            return Some(own.variety.into());
        }
        match template {
            "checknothing" | "listentry" | "authorization" | "apikey" => Some(Variety::Check),
            "metric" | "logentry" | "tracespan" | "edge" | "reportnothing" => Some(Variety::Report),
            "quota" => Some(Variety::Quota),
            // Attributes must be there before rules are looked at.
            _ => None,
        }
    }
}
