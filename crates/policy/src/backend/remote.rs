//! Adapters outside of the process (Istio 1.4's `adapter` and `template` kinds): what a handler names, put together. What is in
//! the descriptors, Mixer finds out.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::adapters::{Problem, Tls, connection_address};
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
    /// The descriptors of the templates that it takes, by name: FileDescriptorSets in base64.
    pub templates: BTreeMap<String, Arc<str>>,
}

/// The `adapter` and `template` objects of a mesh, by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Remotes<'a> {
    pub(crate) adapters: BTreeMap<(String, String), &'a mixer::Adapter>,
    pub(crate) templates: BTreeMap<(String, String), &'a mixer::Template>,
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

impl Remotes<'_> {
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
            let (name, descriptor) = self.template(reference, &key.0)?;
            templates.insert(name, descriptor);
        }
        Ok(Remote {
            address: connection_address(&connection.address)?,
            tls: Tls::of_connection(connection)?,
            timeout: timeout
                .and_then(|nanos| i64::try_from(nanos).ok())
                .filter(|nanos| *nanos > 0),
            adapter: format!("{}.{}", key.1, key.0),
            session_based: adapter.session_based,
            descriptor: adapter.config.as_str().into(),
            params: spec.params.clone(),
            templates,
        })
    }

    /// A template of the adapter's, by its short name.
    fn template(&self, reference: &str, namespace: &str) -> Result<(String, Arc<str>), Problem> {
        let missing =
            || format!("the adapter takes {reference}, but there is no such template in {namespace}");
        let ((_, name), template) =
            find(&self.templates, reference, namespace).ok_or_else(|| Problem::new("adapter", missing()))?;
        if !templates::is_served(&name) {
            let message =
                format!("the template {name} is none of Istio's; templates of your own are not served yet");
            return Err(Problem::new("adapter", message));
        }
        bounded("adapter", &template.descriptor)?;
        Ok((name, template.descriptor.as_str().into()))
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
        if !self.templates.contains_key(template) {
            return None;
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
