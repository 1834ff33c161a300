//! What a delta client knows, and what it says to a server: no transport, no clock.

use crate::types::TypeUrl;
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use envoy_types::pb::google::rpc::Status;
use std::collections::{BTreeMap, HashMap};

/// `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

/// Which resources of a type a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// All.
    Wildcard,
    /// These.
    Names(Vec<String>),
}

/// Resources of one type that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The type.
    pub type_url: TypeUrl,
    /// New and changed resources.
    pub upserts: Vec<Upsert>,
    /// Names of resources that no longer exist, or (of those asked for by name) never did.
    pub removed: Vec<String>,
    /// Whether the client now has all that the server has of this type. False in all but the last part of a long
    /// first state.
    pub complete: bool,
}

/// A new or changed resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upsert {
    /// Its name.
    pub name: String,
    /// The server's version of it.
    pub version: String,
    /// The encoded message.
    pub bytes: Bytes,
}

/// The client's side of the protocol.
#[derive(Debug)]
pub struct State {
    node: Node,
    types: BTreeMap<TypeUrl, Known>,
}

#[derive(Debug)]
struct Known {
    wants: Subscription,
    versions: HashMap<String, String>,
}

impl State {
    /// A client that has nothing yet.
    #[must_use]
    pub fn new(node: Node, wants: impl IntoIterator<Item = (TypeUrl, Subscription)>) -> Self {
        let known = |wants| Known {
            wants,
            versions: HashMap::new(),
        };
        Self {
            node,
            types: wants
                .into_iter()
                .map(|(type_url, wants)| (type_url, known(wants)))
                .collect(),
        }
    }

    /// The requests that begin a stream, with the versions of all that is known from an earlier one.
    #[must_use]
    pub fn hello(&self) -> Vec<DeltaDiscoveryRequest> {
        let mut requests: Vec<_> = self
            .types
            .iter()
            .map(|(type_url, known)| known.hello(type_url))
            .collect();
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// Takes a response: what changed, and the answer to be sent once the owner has taken it.
    pub fn on_response(
        &mut self,
        response: DeltaDiscoveryResponse,
    ) -> (Option<Update>, DeltaDiscoveryRequest) {
        let mut answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        };
        match self.read(response) {
            Ok(update) => (Some(update), answer),
            Err(message) => {
                answer.error_detail = Some(Status {
                    code: INVALID_ARGUMENT,
                    message,
                    details: Vec::new(),
                });
                (None, answer)
            }
        }
    }

    fn read(&mut self, response: DeltaDiscoveryResponse) -> Result<Update, String> {
        let type_url = TypeUrl::from(response.type_url);
        let known = self
            .types
            .get_mut(&type_url)
            .ok_or_else(|| format!("{type_url}: not subscribed to it"))?;
        let upserts = response
            .resources
            .into_iter()
            .map(|resource| upsert(resource, &type_url));
        let upserts: Vec<_> = upserts.collect::<Result<_, _>>()?;
        for each in &upserts {
            known.versions.insert(each.name.clone(), each.version.clone());
        }
        for name in &response.removed_resources {
            known.versions.remove(name);
        }
        let complete = !response.system_version_info.is_empty();
        Ok(Update {
            type_url,
            upserts,
            removed: response.removed_resources,
            complete,
        })
    }
}

impl Known {
    fn hello(&self, type_url: &TypeUrl) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: type_url.to_string(),
            resource_names_subscribe: match &self.wants {
                Subscription::Wildcard => vec!["*".to_owned()],
                Subscription::Names(names) => names.clone(),
            },
            initial_resource_versions: self.versions.clone(),
            ..Default::default()
        }
    }
}

fn upsert(resource: Resource, type_url: &TypeUrl) -> Result<Upsert, String> {
    let Resource {
        name,
        version,
        resource,
        ..
    } = resource;
    let Some(any) = resource else {
        return Err(format!("{name}: a resource without content"));
    };
    if any.type_url != type_url.as_str() {
        return Err(format!("{name}: is of type {} and not {type_url}", any.type_url));
    }
    Ok(Upsert {
        name,
        version,
        bytes: any.value.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::protobuf::Any;

    const TYPE: TypeUrl = TypeUrl::fixed("core/v1/Service");

    fn state() -> State {
        State::new(
            Node {
                id: "pilot".into(),
                ..Default::default()
            },
            [(TYPE, Subscription::Wildcard)],
        )
    }

    fn response(
        type_url: &str,
        upserts: &[(&str, &str)],
        removed: &[&str],
        last: bool,
    ) -> DeltaDiscoveryResponse {
        let resource = |(name, version): &(&str, &str)| Resource {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            resource: Some(Any {
                type_url: type_url.into(),
                value: version.as_bytes().to_vec(),
            }),
            ..Default::default()
        };
        DeltaDiscoveryResponse {
            type_url: type_url.into(),
            nonce: "n".into(),
            system_version_info: if last { "v".into() } else { String::new() },
            resources: upserts.iter().map(resource).collect(),
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_new_stream_resumes_from_what_was_learned() {
        let mut state = state();
        let first = state.hello();
        assert_eq!(first[0].node.as_ref().unwrap().id, "pilot");
        assert_eq!(first[0].resource_names_subscribe, ["*"]);
        assert!(first[0].initial_resource_versions.is_empty());

        let (update, ack) = state.on_response(response(TYPE.as_str(), &[("a", "1"), ("b", "1")], &[], false));
        assert!(!update.unwrap().complete);
        assert_eq!((ack.response_nonce.as_str(), ack.error_detail), ("n", None));
        let (update, _) = state.on_response(response(TYPE.as_str(), &[("a", "2")], &["b"], true));
        let update = update.unwrap();
        assert!(update.complete);
        assert_eq!(update.removed, ["b"]);
        assert_eq!(update.upserts[0].bytes, "2");

        let again = state.hello();
        let versions = &again[0].initial_resource_versions;
        assert_eq!(versions.len(), 1);
        assert_eq!(versions["a"], "2");
    }

    #[test]
    fn rejects_what_it_cannot_read_and_learns_nothing_of_it() {
        let mut state = state();
        let (update, nack) = state.on_response(response("other", &[("a", "1")], &[], true));
        assert_eq!(update, None);
        assert_eq!(nack.error_detail.unwrap().message, "other: not subscribed to it");
        let mut wrong = response(TYPE.as_str(), &[("a", "1"), ("b", "1")], &[], true);
        wrong.resources[1].resource = None;
        let (update, nack) = state.on_response(wrong);
        assert_eq!(update, None);
        assert!(nack.error_detail.unwrap().message.starts_with("b: "));
        assert!(state.hello()[0].initial_resource_versions.is_empty());
    }
}
