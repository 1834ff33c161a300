//! Addresses for ServiceEntries that have none: from Istio's reserved ranges 240.240.0.0/16 and 2001:2::/48, by a hash of
//! namespace and host, so that they are the same after every restart and in every replica.
//!
//! Each service has one home in the range. Of several with one home the oldest keeps it; the others move on to the next free
//! place. A home is never given to one that has moved while its own claimant is there, so that a service is moved only by an
//! older one with the same home.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use config::networking::ServiceEntry;
use config::{Object, Spec};
use imbl::{OrdMap, OrdSet};
use xxhash_rust::xxh3::xxh3_64;

use crate::host;
use crate::service::ServiceId;
use crate::service_build::{allocates, entry_hosts, given};

/// First address of the IPv4 range, 240.240.0.0/16.
const V4: u32 = 0xF0F0_0000;
/// First address of the IPv6 range, 2001:2::/48.
const V6: u128 = 0x2001_0002 << 96;
/// Addresses that can be given: all of the /16 but its first and last.
const PLACES: u16 = u16::MAX - 1;

/// Who claims a place, the oldest first: whether its age is unknown, when it was made, the service. Without a service it is an
/// address that a ServiceEntry asks for itself, which comes before all others.
type Claim = (Option<(bool, Option<i64>, ServiceId)>, String);

/// Places given to services.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allocation {
    /// Claims by home.
    homes: OrdSet<(u16, Claim)>,
    /// Claims of each service: several ServiceEntries may have one host.
    claims: OrdSet<(ServiceId, u16, Claim)>,
    /// How many claims a home has.
    counts: OrdMap<u16, usize>,
    /// Homes with several claims.
    contested: OrdSet<u16>,
    /// Services that are not at home.
    moved: Arc<BTreeMap<ServiceId, u16>>,
}

impl Allocation {
    /// Takes a ServiceEntry, or that it is gone. Gives the services whose addresses may be others now.
    pub(crate) fn set(&mut self, before: Option<&Object>, now: Option<&Object>) -> BTreeSet<ServiceId> {
        let old: BTreeSet<(u16, Claim)> = before.map(claims).unwrap_or_default();
        let new: BTreeSet<(u16, Claim)> = now.map(claims).unwrap_or_default();
        if old == new {
            return BTreeSet::new();
        }
        let mut touched = BTreeSet::new();
        for (home, claim) in old.difference(&new) {
            self.remove(*home, claim);
            touched.extend(claim.0.iter().map(|(_, _, id)| id.clone()));
        }
        for (home, claim) in new.difference(&old) {
            self.add(*home, claim);
            touched.extend(claim.0.iter().map(|(_, _, id)| id.clone()));
        }
        touched.extend(self.settle());
        touched
    }

    fn add(&mut self, home: u16, claim: &Claim) {
        if self.homes.insert((home, claim.clone())).is_some() {
            return;
        }
        if let Some((_, _, id)) = &claim.0 {
            self.claims.insert((id.clone(), home, claim.clone()));
        }
        let count = self.counts.get(&home).copied().unwrap_or_default() + 1;
        self.counts.insert(home, count);
        if count > 1 {
            self.contested.insert(home);
        }
    }

    fn remove(&mut self, home: u16, claim: &Claim) {
        if self.homes.remove(&(home, claim.clone())).is_none() {
            return;
        }
        if let Some((_, _, id)) = &claim.0 {
            self.claims.remove(&(id.clone(), home, claim.clone()));
        }
        let count = self
            .counts
            .get(&home)
            .copied()
            .unwrap_or_default()
            .saturating_sub(1);
        if count == 0 {
            self.counts.remove(&home);
        } else {
            self.counts.insert(home, count);
        }
        if count <= 1 {
            self.contested.remove(&home);
        }
    }

    /// Finds places for those that share a home; gives those whose place is another now.
    fn settle(&mut self) -> BTreeSet<ServiceId> {
        let mut late: BTreeSet<(Claim, u16)> = BTreeSet::new();
        for home in &self.contested {
            let mut served: BTreeSet<Option<&ServiceId>> = BTreeSet::new();
            for claim in self.claims_of(*home) {
                let id = claim.0.as_ref().map(|(_, _, id)| id);
                if served.is_empty() || (id.is_some() && !served.contains(&id)) {
                    if !served.is_empty() {
                        late.insert((claim.clone(), *home));
                    }
                    served.insert(id);
                }
            }
        }
        let mut moved = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (claim, home) in late {
            let places = (1..PLACES).map(|step| next(home, step));
            let free = |place: &u16| !self.counts.contains_key(place) && !taken.contains(place);
            if let (Some(place), Some((_, _, id))) = (places.into_iter().find(free), claim.0) {
                taken.insert(place);
                moved.insert(id, place);
            }
        }
        let before = std::mem::replace(&mut self.moved, Arc::new(moved));
        let differs = |a: &BTreeMap<ServiceId, u16>, b: &BTreeMap<ServiceId, u16>| {
            let changed = a.iter().filter(|(id, place)| b.get(*id) != Some(*place));
            changed.map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        let mut touched: BTreeSet<ServiceId> = differs(&before, &self.moved).into_iter().collect();
        touched.extend(differs(&self.moved, &before));
        touched
    }

    fn claims_of(&self, home: u16) -> impl Iterator<Item = &Claim> {
        let first = (home, (None, String::new()));
        let here = self.homes.range(first..).take_while(move |(at, _)| *at == home);
        here.map(|(_, claim)| claim)
    }

    /// The addresses of a service, IPv4 first; none if it claims none or all are taken.
    pub(crate) fn of(&self, id: &ServiceId) -> Vec<IpAddr> {
        let first = (id.clone(), 0, (None, String::new()));
        let own = self.claims.range(first..).next().filter(|(of, _, _)| of == id);
        let Some((_, home, _)) = own else {
            return Vec::new();
        };
        let place = match self.moved.get(id) {
            Some(place) => *place,
            None if self.keeps(*home, id) => *home,
            None => return Vec::new(),
        };
        vec![
            IpAddr::V4(Ipv4Addr::from(V4 + u32::from(place))),
            IpAddr::V6(Ipv6Addr::from(V6 + u128::from(place))),
        ]
    }

    fn keeps(&self, home: u16, id: &ServiceId) -> bool {
        let first = self.claims_of(home).next();
        first.is_some_and(|(who, _)| who.as_ref().is_some_and(|(_, _, first)| first == id))
    }
}

/// The place that is `step` after `home`, in a circle; places count from 1.
fn next(home: u16, step: u16) -> u16 {
    let sum = (u32::from(home) - 1 + u32::from(step)) % u32::from(PLACES);
    u16::try_from(sum).unwrap_or_default() + 1
}

/// The home of a service.
fn home(id: &ServiceId) -> u16 {
    let hash = xxh3_64(format!("{}/{}", id.namespace, id.host).as_bytes());
    u16::try_from(hash % u64::from(PLACES)).unwrap_or_default() + 1
}

/// What a ServiceEntry claims: a place for each host that wants one, and the addresses of the range that it names itself or
/// that its status has.
fn claims(object: &Object) -> BTreeSet<(u16, Claim)> {
    let Spec::ServiceEntry(entry) = &object.spec else {
        return BTreeSet::new();
    };
    let named = entry
        .addresses
        .iter()
        .filter_map(|address| place(address.parse().ok()?));
    let fixed = |place| (place, (None, object.key().resource_name()));
    if !allocates(object, entry) {
        return named.map(fixed).collect();
    }
    let created = object.meta.created;
    let hosts: Vec<String> = wanting(entry).collect();
    let given = hosts
        .iter()
        .flat_map(|host| given(object, host))
        .filter_map(place);
    let ids = hosts
        .iter()
        .filter(|host| given_none(object, host))
        .map(|host| ServiceId::new(host.clone(), object.meta.namespace.clone()));
    let wanted = ids.map(|id| {
        (
            home(&id),
            (
                Some((created.is_none(), created, id)),
                object.key().resource_name(),
            ),
        )
    });
    given.map(fixed).chain(wanted).collect()
}

/// Whether no controller has given the host addresses.
fn given_none(object: &Object, host: &str) -> bool {
    given(object, host).is_empty()
}

fn wanting(entry: &ServiceEntry) -> impl Iterator<Item = String> {
    entry_hosts(entry)
        .into_iter()
        .filter(|host| !host::is_wildcard(host))
}

/// The place that an address of one of the ranges has.
fn place(address: IpAddr) -> Option<u16> {
    let offset = match address {
        IpAddr::V4(ip) => u128::from(u32::from(ip).checked_sub(V4)?),
        IpAddr::V6(ip) => u128::from(ip).checked_sub(V6)?,
    };
    u16::try_from(offset)
        .ok()
        .filter(|place| (1..=PLACES).contains(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host: &str, created: i64, addresses: &str) -> Object {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e-{}, namespace: shop, creationTimestamp: '20{:02}-01-01T00:00:00Z'}}\nspec: {{hosts: [{host}], addresses: [{addresses}], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}]}}\n",
            host.replace('.', "-"),
            created
        );
        config::parse("x.yaml", text.as_bytes(), "default")
            .objects
            .remove(0)
    }

    fn id(host: &str) -> ServiceId {
        ServiceId::new(host, "shop")
    }

    /// Two hosts with one home.
    fn colliding() -> (String, String) {
        let mut homes = BTreeMap::new();
        for n in 0.. {
            let host = format!("h{n}.example.com");
            if let Some(other) = homes.insert(home(&id(&host)), host.clone()) {
                return (other, host);
            }
        }
        unreachable!()
    }

    #[test]
    fn addresses_do_not_depend_on_who_else_is_there() {
        let mut all = Allocation::default();
        all.set(None, Some(&entry("a.example.com", 20, "")));
        let alone = all.of(&id("a.example.com"));
        for n in 0..50 {
            all.set(None, Some(&entry(&format!("b{n}.example.com"), 21, "")));
        }
        assert_eq!(all.of(&id("a.example.com")), alone);
        let shown: Vec<String> = alone.iter().map(ToString::to_string).collect();
        assert!(
            shown[0].starts_with("240.240.") && shown[1].starts_with("2001:2::"),
            "{shown:?}"
        );
        assert!(all.of(&id("other.example.com")).is_empty());
    }

    #[test]
    fn the_oldest_stays_at_home() {
        let (first, second) = colliding();
        let (old, young) = (entry(&first, 10, ""), entry(&second, 20, ""));
        let mut forwards = Allocation::default();
        forwards.set(None, Some(&old));
        let at_home = forwards.of(&id(&first));
        assert_eq!(forwards.set(None, Some(&young)), BTreeSet::from([id(&second)]));
        let mut backwards = Allocation::default();
        backwards.set(None, Some(&young));
        let touched = backwards.set(None, Some(&old));
        assert!(touched.contains(&id(&second)), "the younger has to move");
        for all in [&forwards, &backwards] {
            assert_eq!(all.of(&id(&first)), at_home);
            assert_ne!(all.of(&id(&second)), at_home);
            assert_eq!(all.of(&id(&second)).len(), 2);
        }
        assert_eq!(forwards.of(&id(&second)), backwards.of(&id(&second)));
        backwards.set(Some(&old), None);
        assert_eq!(backwards.of(&id(&second)), at_home, "home is free again");
    }

    #[test]
    fn addresses_of_a_status_are_kept_from_others() {
        let mut all = Allocation::default();
        all.set(None, Some(&entry("a.example.com", 20, "")));
        let home = all.of(&id("a.example.com"));
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: b, namespace: shop}}\nspec: {{hosts: [b.example.com], resolution: DNS, ports: [{{number: 80, name: http, protocol: HTTP}}]}}\nstatus: {{addresses: [{{host: b.example.com, value: {}}}]}}\n",
            home[0]
        );
        let given = config::parse("x.yaml", text.as_bytes(), "default")
            .objects
            .remove(0);
        assert_eq!(super::given(&given, "b.example.com"), [home[0]]);
        all.set(None, Some(&given));
        assert_ne!(all.of(&id("a.example.com")), home, "even an older one moves");
        all.set(Some(&given), None);
        assert_eq!(all.of(&id("a.example.com")), home);
    }

    #[test]
    fn addresses_that_somebody_asks_for_are_not_given() {
        let mut all = Allocation::default();
        all.set(None, Some(&entry("a.example.com", 10, "")));
        let home = all.of(&id("a.example.com"));
        all.set(None, Some(&entry("b.example.com", 20, &home[0].to_string())));
        assert_ne!(all.of(&id("a.example.com")), home);
        assert!(all.of(&id("b.example.com")).is_empty(), "it has its own");
    }
}
