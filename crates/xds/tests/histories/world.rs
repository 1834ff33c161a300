//! A small mesh that changes at random, and the tables that it gives. Its tables are consistent, as a generator's are:
//! routes and listeners refer only to what is in the same table.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use proptest::prelude::*;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use xds::Table;
use xds::types::{CLUSTER, ENDPOINTS, LISTENER, ROUTE};

/// A change of the mesh. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    AddCluster(u8),
    RemoveCluster(u8),
    NewCluster(u8, Quality),
    NewEndpoints(u8, Quality),
    PointRoute(u8, BTreeSet<u8>, Quality),
    AddListener(u8, u8),
    RemoveListener(u8),
    NewListener(u8, BTreeSet<u8>, Quality),
}

/// Whether Envoy accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    Good,
    Bad,
}

/// The mesh.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    clusters: BTreeMap<u8, Content>,
    endpoints: BTreeMap<u8, Content>,
    routes: BTreeMap<u8, (Content, BTreeSet<u8>)>,
    listeners: BTreeMap<u8, (Content, u8, BTreeSet<u8>)>,
    count: u32,
}

type Content = (u32, Quality);

/// What the model of Envoy reads from a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub bad: bool,
    /// Clusters that a route or listener refers to.
    pub clusters: BTreeSet<String>,
    /// The route configuration of a listener.
    pub route: Option<String>,
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let id = 0..4u8;
    let some = proptest::collection::btree_set(0..4u8, 0..3);
    let quality = prop_oneof![6 => Just(Quality::Good), 1 => Just(Quality::Bad)];
    prop_oneof![
        3 => id.clone().prop_map(Change::AddCluster),
        3 => id.clone().prop_map(Change::RemoveCluster),
        3 => (id.clone(), quality.clone()).prop_map(|(id, quality)| Change::NewCluster(id, quality)),
        3 => (id.clone(), quality.clone()).prop_map(|(id, quality)| Change::NewEndpoints(id, quality)),
        4 => (id.clone(), some.clone(), quality.clone()).prop_map(|(id, to, quality)| Change::PointRoute(id, to, quality)),
        2 => (id.clone(), id.clone()).prop_map(|(id, route)| Change::AddListener(id, route)),
        1 => id.clone().prop_map(Change::RemoveListener),
        1 => (id, some, quality).prop_map(|(id, to, quality)| Change::NewListener(id, to, quality)),
    ]
}

impl World {
    pub(crate) fn apply(&mut self, change: Change) {
        self.count += 1;
        let good = (self.count, Quality::Good);
        match change {
            Change::AddCluster(id) => {
                self.clusters.entry(id).or_insert(good);
                self.endpoints.entry(id).or_insert(good);
            }
            Change::RemoveCluster(id) => {
                self.clusters.remove(&id);
                self.endpoints.remove(&id);
                self.routes
                    .values_mut()
                    .for_each(|(content, to)| refer_less(content, to, id, good));
                self.listeners
                    .values_mut()
                    .for_each(|(content, _, to)| refer_less(content, to, id, good));
            }
            Change::NewCluster(id, quality) => {
                self.clusters
                    .entry(id)
                    .and_modify(|content| *content = (good.0, quality));
            }
            Change::NewEndpoints(id, quality) => {
                self.endpoints
                    .entry(id)
                    .and_modify(|content| *content = (good.0, quality));
            }
            Change::PointRoute(id, to, quality) => {
                let to = self.existing(to);
                self.routes.insert(id, ((good.0, quality), to));
            }
            Change::AddListener(id, route) => {
                self.routes.entry(route).or_insert((good, BTreeSet::new()));
                self.listeners.insert(id, (good, route, BTreeSet::new()));
            }
            Change::RemoveListener(id) => {
                self.listeners.remove(&id);
            }
            Change::NewListener(id, to, quality) => {
                let to = self.existing(to);
                self.listeners
                    .entry(id)
                    .and_modify(|listener| *listener = ((good.0, quality), listener.1, to));
            }
        }
    }

    fn existing(&self, clusters: BTreeSet<u8>) -> BTreeSet<u8> {
        clusters
            .into_iter()
            .filter(|id| self.clusters.contains_key(id))
            .collect()
    }

    pub(crate) fn table(&self, previous: Option<&Table>) -> Table {
        let mut table = Table::builder();
        for (id, content) in &self.clusters {
            table.insert(
                CLUSTER,
                cluster_name(*id).into(),
                cluster(*id, *content).encode_to_vec().into(),
            );
        }
        for (id, content) in &self.endpoints {
            table.insert(
                ENDPOINTS,
                cluster_name(*id).into(),
                text(*content, &BTreeSet::new(), None).into(),
            );
        }
        for (id, (content, to)) in &self.routes {
            table.insert(ROUTE, format!("r{id}").into(), text(*content, to, None).into());
        }
        for (id, (content, route, to)) in &self.listeners {
            table.insert(
                LISTENER,
                format!("l{id}").into(),
                text(*content, to, Some(*route)).into(),
            );
        }
        table.build(previous)
    }
}

fn refer_less(content: &mut Content, to: &mut BTreeSet<u8>, id: u8, new: Content) {
    if to.remove(&id) {
        *content = new;
    }
}

fn cluster_name(id: u8) -> String {
    format!("c{id}")
}

fn cluster(id: u8, (count, quality): Content) -> Cluster {
    Cluster {
        name: cluster_name(id),
        alt_stat_name: format!("{count} {quality:?}"),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        ..Default::default()
    }
}

/// `COUNT QUALITY ROUTE CLUSTER…`.
fn text((count, quality): Content, to: &BTreeSet<u8>, route: Option<u8>) -> String {
    let route = route.map_or("-".to_owned(), |id| format!("r{id}"));
    let to: Vec<_> = to.iter().map(|id| cluster_name(*id)).collect();
    format!("{count} {quality:?} {route} {}", to.join(" "))
}

pub(crate) fn facts(bytes: &[u8], is_cluster: bool) -> Facts {
    if is_cluster {
        let cluster = Cluster::decode(bytes).expect("the model's own cluster");
        return Facts {
            bad: cluster.alt_stat_name.ends_with("Bad"),
            ..Facts::default()
        };
    }
    let text = std::str::from_utf8(bytes).expect("the model's own text");
    let words: Vec<_> = text.split(' ').collect();
    if words.len() < 4 {
        // No endpoints, in the server's own words.
        return Facts::default();
    }
    Facts {
        bad: words[1] == "Bad",
        clusters: words[3..]
            .iter()
            .filter(|word| !word.is_empty())
            .map(|word| (*word).to_owned())
            .collect(),
        route: (words[2] != "-").then(|| words[2].to_owned()),
    }
}
