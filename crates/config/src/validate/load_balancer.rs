//! Load balancing: hash policies, warm-up, and distribution and failover by locality.

use super::common::some_duration;
use crate::networking::{
    ConsistentHashLb, LoadBalancerSettings, LocalityFailover, LocalityLoadBalancerSetting,
    ZoneAwareLoadBalancerSetting,
};
use crate::path::At;

/// Smallest size that Envoy refuses for a Maglev table.
const MAGLEV_LIMIT: u64 = 5_000_011;

/// Labels of a node's place.
const TOPOLOGY: &[&str] = &[
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
];

/// Checks load balancing settings; `outlier` says whether outlier detection is given beside them.
pub(super) fn check(balancer: &LoadBalancerSettings, outlier: bool, at: &At<'_>) {
    at.some(
        "consistentHash",
        balancer.consistent_hash.as_ref(),
        consistent_hash,
    );
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        at.error("localityLbSetting and zoneAwareLbSetting exclude one another; keep one of them");
    }
    at.some(
        "localityLbSetting",
        balancer.locality_lb_setting.as_ref(),
        |value, at| locality(value, outlier, at),
    );
    at.some(
        "zoneAwareLbSetting",
        balancer.zone_aware_lb_setting.as_ref(),
        |value, at| zone_aware(value, outlier, at),
    );
    some_duration("warmupDurationSecs", balancer.warmup_duration_secs, at);
    at.some("warmup", balancer.warmup.as_ref(), |warmup, at| {
        some_duration("duration", warmup.duration, at);
        at.some("aggression", warmup.aggression.as_ref(), |value, at| {
            if *value <= 0.0 {
                at.error(format!("{value} is not more than 0"));
            }
        });
    });
    at.some(
        "backendUtilization",
        balancer.backend_utilization.as_ref(),
        |value, at| {
            some_duration("weightStabilizationPeriod", value.weight_stabilization_period, at);
            some_duration("weightExpirationPeriod", value.weight_expiration_period, at);
            some_duration("weightUpdatePeriod", value.weight_update_period, at);
        },
    );
}

fn consistent_hash(hash: &ConsistentHashLb, at: &At<'_>) {
    at.some("httpCookie", hash.http_cookie.as_ref(), |cookie, at| {
        at.key("name")
            .require(!cookie.name.is_empty(), "must not be empty");
        at.each("attributes", &cookie.attributes, |attribute, at| {
            at.key("name")
                .require(!attribute.name.is_empty(), "must not be empty");
        });
        super::common::unique(
            "attributes",
            cookie.attributes.iter().map(|a| a.name.as_str()),
            "the attribute",
            at,
        );
    });
    if hash.minimum_ring_size != 0 {
        at.key("minimumRingSize")
            .warning("deprecated; use ringHash.minimumRingSize");
        if hash.ring_hash.is_some() || hash.maglev.is_some() {
            at.key("minimumRingSize")
                .error("excluded by ringHash and maglev; remove it");
        }
    }
    at.some("maglev", hash.maglev.as_ref(), |maglev, at| {
        let size = maglev.table_size;
        if size == 0 || size >= MAGLEV_LIMIT || !is_prime(size) {
            at.key("tableSize")
                .error(format!("{size} is not a prime number below {MAGLEV_LIMIT}"));
        }
    });
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|factor| factor * factor <= number)
            .all(|factor| !number.is_multiple_of(factor))
}

/// Distribution and failover by locality, of a destination or of the mesh.
pub(super) fn locality(value: &LocalityLoadBalancerSetting, outlier: bool, at: &At<'_>) {
    if !value.distribute.is_empty() && !value.failover.is_empty() {
        at.error("distribute and failover exclude one another; keep one of them");
    }
    if !value.failover.is_empty() {
        at.each("failoverPriority", &value.failover_priority, |label, at| {
            if TOPOLOGY.contains(&label.as_str()) {
                at.error("failover decides by topology already; remove the label or failover");
            }
        });
    }
    localities(
        value.distribute.iter().map(|distribute| distribute.from.as_str()),
        "from",
        &at.key("distribute"),
    );
    at.each("distribute", &value.distribute, |distribute, at| {
        localities(distribute.to.keys().map(String::as_str), "to", &at.key("to"));
        for (locality, weight) in &distribute.to {
            if !(1..=100).contains(weight) {
                at.key("to")
                    .key(locality)
                    .error(format!("{weight} is not from 1 to 100"));
            }
        }
        let total: u64 = distribute.to.values().map(|weight| u64::from(*weight)).sum();
        if total != 100 {
            at.key("to")
                .error(format!("the shares add up to {total}, not to 100"));
        }
    });
    failover(&value.failover, &value.failover_priority, outlier, at);
}

fn zone_aware(value: &ZoneAwareLoadBalancerSetting, outlier: bool, at: &At<'_>) {
    at.each("failoverPriority", &value.failover_priority, |label, at| {
        if TOPOLOGY.contains(&label.as_str()) {
            at.error("zones are considered already; remove the label");
        }
    });
    failover(&value.failover, &value.failover_priority, outlier, at);
}

fn failover(failover: &[LocalityFailover], priority: &[String], outlier: bool, at: &At<'_>) {
    let fails_over = !failover.is_empty() || !priority.is_empty();
    if fails_over && !outlier {
        at.warning("without outlierDetection no endpoint is ever taken for failed, so nothing fails over");
    }
    at.each("failover", failover, |failover, at| {
        if failover.from == failover.to {
            at.error("from and to must be different regions");
        }
        for (key, region) in [("from", &failover.from), ("to", &failover.to)] {
            if region.contains(['/', '*']) {
                at.key(key)
                    .error(format!("{region:?} must be a region, without zone and wildcard"));
            }
        }
    });
}

/// Localities `REGION/ZONE/SUBZONE`, a wildcard at the end only, none of which contains another.
fn localities<'a>(names: impl Iterator<Item = &'a str>, what: &str, at: &At<'_>) {
    let mut seen: Vec<Vec<&str>> = Vec::new();
    for name in names {
        let parts: Vec<&str> = name.splitn(3, '/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            at.error(format!(
                "{what} {name:?}: no part of REGION/ZONE/SUBZONE may be empty"
            ));
            continue;
        }
        if name.matches('*').count() > usize::from(name.ends_with('*')) {
            at.error(format!(
                "{what} {name:?}: a wildcard may stand at the end only, once"
            ));
        }
        let parts: Vec<&str> = parts.into_iter().take_while(|part| *part != "*").collect();
        if seen
            .iter()
            .any(|other| other.starts_with(&parts) || parts.starts_with(other))
        {
            at.error(format!(
                "{what} {name:?} overlaps with another locality of the list"
            ));
        }
        seen.push(parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes() {
        let primes: Vec<u64> = (0..30).filter(|n| is_prime(*n)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65537) && !is_prime(65536));
    }
}
