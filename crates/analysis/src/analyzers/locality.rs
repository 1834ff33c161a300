//! The labels by which a subset sees a pod: its own, and where its node is.

use std::borrow::Cow;

use config::{Kind, Object};
use model::selects;

use crate::Set;
use crate::selector::Labels;
use crate::set::Pod;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Whether some pod has all of these labels, those of its node's place among them (Istio, "Locality").
pub(crate) fn some_pod_has(set: &Set<'_>, wanted: &Labels) -> bool {
    let is_place = |key: &String| [REGION, ZONE, SUBZONE, HOSTNAME].contains(&key.as_str());
    let (places, own): (Labels, Labels) = wanted.clone().into_iter().partition(|(key, _)| is_place(key));
    match places.is_empty() {
        true => set.pods(&own, None).next().is_some(),
        false => {
            let mut candidates = set.pods(&own, None);
            candidates.any(|pod| selects(&places, &labels(set, &pod)))
        }
    }
}

/// A pod's labels, with region, zone, subzone and host name of its node.
fn labels<'a>(set: &Set<'a>, (object, pod): &Pod<'a>) -> Cow<'a, Labels> {
    let name = pod.spec.node_name.as_str();
    if name.is_empty() {
        return Cow::Borrowed(&object.meta.labels);
    }
    let mut labels = object.meta.labels.clone();
    labels.insert(HOSTNAME.to_owned(), name.to_owned());
    if let Some(node) = set.get(Kind::Node, "", name) {
        add_place(&mut labels, node);
    }
    Cow::Owned(labels)
}

/// A zone counts only with its region's place before it, a subzone only with a zone.
fn add_place(labels: &mut Labels, node: &Object) {
    let places = [REGION, ZONE, SUBZONE].map(|key| (key, node.meta.labels.get(key)));
    for (index, (key, value)) in places.into_iter().enumerate() {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => {
                labels.insert(key.to_owned(), value.clone());
            }
            None if index > 0 => return,
            None => {}
        }
    }
}
