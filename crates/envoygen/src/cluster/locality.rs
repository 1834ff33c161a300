//! Which endpoints a client prefers by where they are: `distribute`, `failover`, `failoverPriority`, `trafficDistribution` and
//! zone awareness, as priorities and weights of localities (Istio, "Locality load balancing").

use std::collections::{BTreeMap, BTreeSet};

use config::mesh::MeshConfig;
use config::networking::{
    LoadBalancerSettings, LocalityDistribute, LocalityFailover, LocalityLoadBalancerSetting,
    ZoneAwareLoadBalancerSetting,
};
use model::topology::{NODE_LABEL, Place, REGION_LABEL, SUB_ZONE_LABEL, ZONE_LABEL};
use model::{NETWORK_LABEL, Service, TrafficDistribution};

use crate::endpoint::Group;

/// What decides about localities.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Preference {
    /// Weights or priorities. Priorities need a way to know that endpoints are down: outlier detection, or (`forced`)
    /// endpoints' own health.
    Locality {
        setting: LocalityLoadBalancerSetting,
        forced: bool,
    },
    /// Envoy's own balance between zones.
    Zone(ZoneAwareLoadBalancerSetting),
}

impl Preference {
    /// The DestinationRule's counts, then the service's traffic distribution, then the mesh's.
    pub(crate) fn of(
        balancer: Option<&LoadBalancerSettings>,
        service: &Service,
        mesh: &MeshConfig,
    ) -> Option<Preference> {
        if let Some(zone) = balancer.and_then(|b| b.zone_aware_lb_setting.as_ref()) {
            return Some(Preference::Zone(zone.clone()));
        }
        if let Some(setting) = balancer.and_then(|b| b.locality_lb_setting.as_ref()) {
            return Preference::enabled(setting);
        }
        let near: &[&str] = match service.traffic_distribution {
            TrafficDistribution::Any => &[],
            TrafficDistribution::PreferSameZone => &[NETWORK_LABEL, REGION_LABEL, ZONE_LABEL],
            TrafficDistribution::PreferSameNode => &[
                NETWORK_LABEL,
                REGION_LABEL,
                ZONE_LABEL,
                SUB_ZONE_LABEL,
                NODE_LABEL,
            ],
        };
        if !near.is_empty() {
            return Some(Preference::Locality {
                setting: LocalityLoadBalancerSetting {
                    failover_priority: near.iter().map(|label| (*label).to_owned()).collect(),
                    ..LocalityLoadBalancerSetting::default()
                },
                forced: true,
            });
        }
        if let Some(zone) = &mesh.zone_aware_lb_setting {
            return Some(Preference::Zone(zone.clone()));
        }
        match &mesh.locality_lb_setting {
            Some(setting) => Preference::enabled(setting),
            None => Preference::enabled(&LocalityLoadBalancerSetting::default()),
        }
    }

    fn enabled(setting: &LocalityLoadBalancerSetting) -> Option<Preference> {
        (setting.enabled != Some(false)).then(|| Preference::Locality {
            setting: setting.clone(),
            forced: false,
        })
    }

    /// Whether localities' weights count: where something was asked for that sets them. Envoy's least request would otherwise
    /// be one within localities only.
    pub(crate) fn weighs_localities(&self, outlier_detection: bool) -> bool {
        match self {
            Preference::Locality { setting, forced } => {
                let asked = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
                !setting.distribute.is_empty() || (asked && (*forced || outlier_detection))
            }
            Preference::Zone(_) => false,
        }
    }

    /// Sets the priorities and weights of endpoints for a client.
    pub(crate) fn apply(
        &self,
        groups: Vec<Group>,
        client: &Place<'_>,
        outlier_detection: bool,
    ) -> Vec<Group> {
        match self {
            Preference::Locality { setting, .. } if !setting.distribute.is_empty() => {
                distribute(groups, client, &setting.distribute)
            }
            Preference::Locality { setting, forced } if *forced || outlier_detection => {
                let labels = &setting.failover_priority;
                if labels.is_empty() {
                    return by_distance(groups, client, &setting.failover);
                }
                let groups = by_labels(groups, client, labels);
                if setting.failover.is_empty() {
                    groups
                } else {
                    by_distance(groups, client, &setting.failover)
                }
            }
            Preference::Locality { .. } => groups,
            Preference::Zone(zone) if zone.enabled == Some(false) => groups,
            Preference::Zone(zone) => {
                let groups = if zone.failover_priority.is_empty() {
                    groups
                } else {
                    by_labels(groups, client, &zone.failover_priority)
                };
                by_region(groups, client, &zone.failover)
            }
        }
    }
}

/// Traffic from the client's locality goes to others by percentages; localities that none names get nothing.
fn distribute(mut groups: Vec<Group>, client: &Place<'_>, rules: &[LocalityDistribute]) -> Vec<Group> {
    let Some(rule) = rules.iter().find(|rule| client.locality.is_in(&rule.from)) else {
        return groups;
    };
    let mut left: BTreeSet<usize> = (0..groups.len()).collect();
    for (place, percent) in narrowest_first(&rule.to) {
        let here: Vec<usize> = left
            .iter()
            .copied()
            .filter(|at| groups.get(*at).is_some_and(|group| group.locality.is_in(place)))
            .collect();
        let total: u64 = here
            .iter()
            .filter_map(|at| groups.get(*at))
            .map(|group| u64::from(group.weight().max(1)))
            .sum();
        for at in here {
            left.remove(&at);
            if let Some(group) = groups.get_mut(at) {
                let share = u64::from(group.weight().max(1)) * u64::from(*percent);
                let weight = share.div_ceil(total.max(1));
                group.share = u32::try_from(weight).ok().filter(|weight| *weight > 0);
                if group.share.is_none() {
                    group.endpoints.clear();
                }
            }
        }
    }
    for at in left {
        if let Some(group) = groups.get_mut(at) {
            group.endpoints.clear();
        }
    }
    groups
}

/// Places in the order in which they take localities: those that say more come first, so that `region/*` takes what
/// `region/zone/*` leaves.
fn narrowest_first(to: &BTreeMap<String, u32>) -> Vec<(&String, &u32)> {
    let wide = |place: &str| {
        let parts = place.split('/').filter(|part| *part != "*" && !part.is_empty());
        std::cmp::Reverse(parts.count())
    };
    let mut all: Vec<_> = to.iter().collect();
    all.sort_by_key(|(place, _)| wide(place));
    all
}

/// Priorities by how far a locality is from the client: the same, its zone, its region, the region that takes over from it,
/// all others.
fn by_distance(mut groups: Vec<Group>, client: &Place<'_>, failover: &[LocalityFailover]) -> Vec<Group> {
    let takes_over = failover.iter().find(|f| f.from == client.locality.region);
    for group in &mut groups {
        let mut distance = client.locality.distance(&group.locality);
        if distance == 3 && takes_over.is_some_and(|f| f.to != group.locality.region) {
            distance = 4;
        }
        group.priority = group.priority * 5 + distance;
    }
    compact(groups)
}

/// Priorities by region alone, for Envoy to balance zones within the first.
fn by_region(mut groups: Vec<Group>, client: &Place<'_>, failover: &[LocalityFailover]) -> Vec<Group> {
    let takes_over = failover.iter().find(|f| f.from == client.locality.region);
    for group in &mut groups {
        let region = &group.locality.region;
        let distance = if *region == client.locality.region {
            0
        } else if takes_over.is_some_and(|f| f.to == *region) {
            1
        } else {
            2
        };
        group.priority = group.priority * 3 + distance;
    }
    compact(groups)
}

/// Priorities by labels that an endpoint shares with the client: the more of the list, from its beginning, the better. The
/// network, where it comes first, counts more than all others together.
fn by_labels(groups: Vec<Group>, client: &Place<'_>, labels: &[String]) -> Vec<Group> {
    let mut out = Vec::new();
    for group in groups {
        let mut parts: BTreeMap<u32, Group> = BTreeMap::new();
        for one in &group.endpoints {
            let priority = label_priority(client, &one.place(), labels);
            let part = parts.entry(priority).or_insert_with(|| Group {
                endpoints: Vec::new(),
                priority,
                ..group.clone()
            });
            part.endpoints.push(one.clone());
        }
        out.extend(parts.into_values());
    }
    compact(out)
}

fn label_priority(client: &Place<'_>, endpoint: &Place<'_>, labels: &[String]) -> u32 {
    let lowest = u32::try_from(labels.len()).unwrap_or(u32::MAX);
    let mut other_network = 0;
    for (index, entry) in (0u32..).zip(labels) {
        let (label, wanted) = match entry.split_once('=') {
            Some((label, value)) => (label, value),
            None => (entry.as_str(), client.label(entry)),
        };
        if wanted == endpoint.label(label) {
            continue;
        }
        if index == 0 && label == NETWORK_LABEL {
            other_network = lowest;
            continue;
        }
        return lowest - index + other_network;
    }
    other_network
}

/// Priorities without gaps from 0, as Envoy wants them.
fn compact(mut groups: Vec<Group>) -> Vec<Group> {
    let used: BTreeSet<u32> = groups.iter().map(|group| group.priority).collect();
    for group in &mut groups {
        let rank = used
            .iter()
            .take_while(|priority| **priority < group.priority)
            .count();
        group.priority = u32::try_from(rank).unwrap_or(u32::MAX);
    }
    groups
}
