//! Where something is: region, zone and part of the zone, and how rules name such places.

/// Label of a workload that says where it is, in place of its node's labels.
pub(crate) const LOCALITY_LABEL: &str = "istio-locality";

/// Where an endpoint is, from `region/zone/subzone`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone in the region.
    pub zone: String,
    /// Part of the zone.
    pub sub_zone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`; missing parts are empty.
    pub fn parse(text: &str) -> Locality {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Locality {
            region: next(),
            zone: next(),
            sub_zone: next(),
        }
    }

    /// Reads the label `istio-locality`: label values have no slashes, so dots stand for them.
    pub(crate) fn of_label(label: &str) -> Locality {
        Locality::parse(&label.replace('.', "/"))
    }

    /// Whether a rule's place (`region/zone/*`, `*`, `region`) has this one in it; missing parts and `*` stand for any.
    pub fn is_in(&self, place: &str) -> bool {
        let place = Locality::parse(place);
        let any = |part: &str| part == "*" || part.is_empty();
        (place.region == "*" || place.region == self.region)
            && (any(&place.zone) || place.zone == self.zone)
            && (any(&place.sub_zone) || place.sub_zone == self.sub_zone)
    }

    /// How far away another place is: 0 in the same part of the zone, 1 in the zone, 2 in the region, 3 beyond.
    pub fn distance(&self, other: &Locality) -> u32 {
        match other {
            other if self == other => 0,
            other if self.region == other.region && self.zone == other.zone => 1,
            other if self.region == other.region => 2,
            _ => 3,
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.sub_zone.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_contain_places() {
        for (at, place, inside) in [
            ("r/z/s", "r/z/s", true),
            ("r/z/s", "r/z/*", true),
            ("r/z/s", "r/*", true),
            ("r/z/s", "r", true),
            ("r/z/s", "*", true),
            ("r/z/s", "r/z2/*", false),
            ("r/z/s", "r2", false),
            ("", "*", true),
            ("", "r", false),
        ] {
            assert_eq!(Locality::parse(at).is_in(place), inside, "{at} in {place}");
        }
    }

    #[test]
    fn distances() {
        let here = Locality::parse("r/z/s");
        for (there, distance) in [("r/z/s", 0), ("r/z/t", 1), ("r/y/s", 2), ("q/z/s", 3), ("", 3)] {
            assert_eq!(here.distance(&Locality::parse(there)), distance, "{there}");
        }
        assert_eq!(Locality::of_label("r.z.s"), here);
    }
}
