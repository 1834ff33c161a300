//! What Envoy does with discovery responses, as far as it was seen to: warming, subscriptions, ACKs and NACKs.
//!
//! - A new or changed EDS cluster warms until its endpoints arrive after it, or for 15 s; CDS is ACKed when all are warm.
//! - CDS and LDS reject resources one by one and name them; EDS and RDS reject the message from the bad one on.
//! - Endpoints are asked for by the clusters' names, routes by the listeners'.

use crate::world::{Facts, facts};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use xds::TypeUrl;
use xds::stream::{Response, Variant, nonce_text, version_text};
use xds::types::{CLUSTER, ENDPOINTS, LISTENER, ROUTE};

pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Sotw(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

impl Request {
    pub(crate) fn type_url(&self) -> TypeUrl {
        match self {
            Self::Sotw(request) => request.type_url.as_str().into(),
            Self::Delta(request) => request.type_url.as_str().into(),
        }
    }

    pub(crate) fn nonce(&self) -> &str {
        match self {
            Self::Sotw(request) => &request.response_nonce,
            Self::Delta(request) => &request.response_nonce,
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    have: BTreeMap<String, (u64, Facts)>,
    names: BTreeSet<String>,
    asked: bool,
    nonce: String,
}

#[derive(Debug)]
pub(crate) struct Envoy {
    variant: Variant,
    known: BTreeMap<TypeUrl, Known>,
    warming: BTreeMap<String, Duration>,
    /// The answer to CDS that waits for warming.
    held_ack: Option<(u64, Option<String>)>,
    /// When a cluster was last referred to by an applied route or listener.
    referred: BTreeMap<String, Duration>,
    pub(crate) out: Vec<Request>,
    /// Clusters that became warm by the timeout alone.
    pub(crate) stalls: usize,
}

impl Envoy {
    pub(crate) fn new(variant: Variant) -> Self {
        let known = [CLUSTER, ENDPOINTS, LISTENER, ROUTE].map(|url| (url, Known::default()));
        Self {
            variant,
            known: known.into(),
            warming: BTreeMap::new(),
            held_ack: None,
            referred: BTreeMap::new(),
            out: Vec::new(),
            stalls: 0,
        }
    }

    fn of(&mut self, url: &TypeUrl) -> &mut Known {
        self.known.get_mut(url).expect("one of the four types")
    }

    pub(crate) fn have(&self, url: &TypeUrl) -> &BTreeMap<String, (u64, Facts)> {
        &self.known[url].have
    }

    pub(crate) fn wants(&self, url: &TypeUrl, name: &str) -> bool {
        !matches!(url, url if *url == ENDPOINTS || *url == ROUTE) || self.known[url].names.contains(name)
    }

    pub(crate) fn is_warming(&self) -> bool {
        !self.warming.is_empty()
    }

    /// A new stream: asks for all again, with what it has.
    pub(crate) fn connect(&mut self) {
        self.out.clear();
        self.held_ack = None;
        for (url, known) in &mut self.known {
            known.asked = false;
            known.nonce.clear();
            if *url == CLUSTER || *url == LISTENER || !known.names.is_empty() {
                known.asked = true;
                self.out.push(first_request(self.variant, url, known));
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.warming.values().map(|since| *since + FETCH_TIMEOUT).min()
    }

    pub(crate) fn tick(&mut self, now: Duration) {
        let before = self.warming.len();
        self.warming.retain(|_, since| *since + FETCH_TIMEOUT > now);
        self.stalls += before - self.warming.len();
        self.ack_when_warm();
    }

    /// Takes a response; fails when it breaks what the protocol promises.
    pub(crate) fn take(&mut self, response: &Response, now: Duration, drain: Duration) -> Result<(), String> {
        let url = response.type_url.clone();
        self.of(&url).nonce = nonce_text(response.nonce);
        let mut wanted: Vec<_> = response
            .resources
            .iter()
            .map(|each| {
                (
                    each.name.to_string(),
                    each.version,
                    facts(&each.bytes, url == CLUSTER),
                )
            })
            .collect();
        wanted.retain(|(name, ..)| self.wants(&url, name));
        let mut removed: Vec<_> = response.removed.iter().map(ToString::to_string).collect();
        let whole = self.variant == Variant::Sotw && (url == CLUSTER || url == LISTENER);
        if whole {
            let named = |name: &String| wanted.iter().any(|(wanted, ..)| wanted == name);
            removed.extend(self.have(&url).keys().filter(|name| !named(name)).cloned());
        }
        let before = self.references();
        let error = self.apply(&url, wanted, now);
        for name in removed {
            if url == CLUSTER {
                self.may_lose(&name, now, drain)?;
            }
            if url != ROUTE {
                self.of(&url).have.remove(&name);
            }
            self.warming.remove(&name);
        }
        if url == LISTENER {
            self.refer(&ROUTE);
        }
        for gone in before.difference(&self.references()) {
            self.referred.insert(gone.clone(), now);
        }
        if url == CLUSTER {
            self.held_ack = Some((response.nonce, error));
            self.refer(&ENDPOINTS);
        } else {
            self.answer(&url, response.nonce, error);
        }
        self.ack_when_warm();
        Ok(())
    }

    /// Applies what is good, in order; says what is bad as Envoy does.
    fn apply(&mut self, url: &TypeUrl, wanted: Vec<(String, u64, Facts)>, now: Duration) -> Option<String> {
        let by_name = *url == CLUSTER || *url == LISTENER;
        let mut bad = Vec::new();
        for (name, version, facts) in wanted {
            if facts.bad {
                bad.push(format!("{name}: bad"));
                if by_name {
                    continue;
                }
                return Some("some of it is bad".into());
            }
            let old = self.of(url).have.insert(name.clone(), (version, facts));
            if *url == CLUSTER && old.is_none_or(|(old, _)| old != version) {
                self.warming.insert(name, now);
            } else if *url == ENDPOINTS {
                self.warming.remove(&name);
            }
        }
        (!bad.is_empty()).then(|| format!("Error adding/updating: {}", bad.join(", ")))
    }

    fn may_lose(&self, cluster: &str, now: Duration, drain: Duration) -> Result<(), String> {
        if self.references().contains(cluster) {
            return Err(format!("{cluster} was removed while a route refers to it"));
        }
        match self.referred.get(cluster) {
            Some(last) if *last + drain > now => {
                Err(format!("{cluster} was removed {:?} after use", now - *last))
            }
            _ => Ok(()),
        }
    }

    /// Clusters that applied routes and listeners refer to.
    fn references(&self) -> BTreeSet<String> {
        let all = [ROUTE, LISTENER];
        let all = all.iter().flat_map(|url| self.have(url).values());
        all.flat_map(|(_, facts)| facts.clusters.iter().cloned())
            .collect()
    }

    /// Subscribes to what the parents of a type refer to now.
    fn refer(&mut self, url: &TypeUrl) {
        let names: BTreeSet<String> = if *url == ROUTE {
            self.have(&LISTENER)
                .values()
                .filter_map(|(_, facts)| facts.route.clone())
                .collect()
        } else {
            self.have(&CLUSTER).keys().cloned().collect()
        };
        let variant = self.variant;
        let known = self.of(url);
        let added: Vec<_> = names.difference(&known.names).cloned().collect();
        let dropped: Vec<_> = known.names.difference(&names).cloned().collect();
        let first = !known.asked && !names.is_empty();
        known.have.retain(|name, _| names.contains(name));
        known.names = names;
        known.asked |= first;
        if first {
            let request = first_request(variant, url, known);
            self.out.push(request);
        } else if variant == Variant::Sotw && known.asked {
            // Also when nothing changed: after a cluster's update Envoy asks again.
            let request = sotw(url, known, None);
            self.out.push(request);
        } else if !added.is_empty() || !dropped.is_empty() {
            self.out.push(Request::Delta(DeltaDiscoveryRequest {
                type_url: url.to_string(),
                resource_names_subscribe: added,
                resource_names_unsubscribe: dropped,
                ..Default::default()
            }));
        }
    }

    fn ack_when_warm(&mut self) {
        if self.warming.is_empty()
            && let Some((nonce, error)) = self.held_ack.take()
        {
            self.answer(&CLUSTER, nonce, error);
        }
    }

    fn answer(&mut self, url: &TypeUrl, nonce: u64, error: Option<String>) {
        let error = error.map(|message| Status {
            code: 3,
            message,
            details: Vec::new(),
        });
        let request = match self.variant {
            Variant::Sotw => sotw(url, &self.known[url], error),
            Variant::Delta => Request::Delta(DeltaDiscoveryRequest {
                type_url: url.to_string(),
                response_nonce: nonce_text(nonce),
                error_detail: error,
                ..Default::default()
            }),
        };
        self.out.push(request);
    }
}

fn sotw(url: &TypeUrl, known: &Known, error_detail: Option<Status>) -> Request {
    Request::Sotw(DiscoveryRequest {
        type_url: url.to_string(),
        resource_names: known.names.iter().cloned().collect(),
        response_nonce: known.nonce.clone(),
        error_detail,
        ..Default::default()
    })
}

fn first_request(variant: Variant, url: &TypeUrl, known: &Known) -> Request {
    match variant {
        Variant::Sotw => sotw(url, known, None),
        Variant::Delta => Request::Delta(DeltaDiscoveryRequest {
            node: Some(Node::default()),
            type_url: url.to_string(),
            resource_names_subscribe: known.names.iter().cloned().collect(),
            initial_resource_versions: known
                .have
                .iter()
                .map(|(name, (version, _))| (name.clone(), version_text(*version)))
                .collect(),
            ..Default::default()
        }),
    }
}
