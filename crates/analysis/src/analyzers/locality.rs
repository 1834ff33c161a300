//! The labels by which a subset sees a pod: its own, and where its node is.

use std::borrow::Cow;

use config::{Kind, Object};

use crate::Set;
use crate::selector::Labels;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The labels of all pods, with region, zone, subzone and host name of their nodes (Istio, "Locality").
pub(crate) fn labelled_pods<'a>(set: &Set<'a>) -> Vec<Cow<'a, Labels>> {
    let pods = set.all_pods();
    pods.map(|(object, pod)| match pod.spec.node_name.as_str() {
        "" => Cow::Borrowed(&object.meta.labels),
        name => {
            let mut labels = object.meta.labels.clone();
            labels.insert(HOSTNAME.to_owned(), name.to_owned());
            if let Some(node) = set.get(Kind::Node, "", name) {
                add_place(&mut labels, node);
            }
            Cow::Owned(labels)
        }
    })
    .collect()
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
