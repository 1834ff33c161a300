//! What must hold for any bytes as a set of attributes of Istio's Mixer API. Run by this crate's tests with random bytes, and by
//! cargo-fuzz.

use std::sync::{Arc, OnceLock};

use mixer::inside::Core;

const CALLER: &str = "cluster.local/ns/shop/sa/catalog";
const NODE: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";

/// Rules of each kind, workloads and a gateway.
const CONFIGURATION: [&str; 4] = [
    include_str!("../../../cli/src/sample/mixer.yaml"),
    include_str!("../../../cli/src/sample/services.yaml"),
    include_str!("../../../cli/src/sample/workloads.yaml"),
    include_str!("../data/rich.yaml"),
];

fn core() -> &'static Core {
    static CORE: OnceLock<Core> = OnceLock::new();
    CORE.get_or_init(|| {
        let texts = CONFIGURATION.into_iter();
        let objects = texts.flat_map(|text| config::parse("fuzz.yaml", text.as_bytes(), "shop").objects);
        let state = feed::State {
            objects: objects.map(|object| (object.key(), Arc::new(object))).collect(),
        };
        Core::new(Arc::new(state), CALLER, NODE)
    })
}

/// They are refused, or decided on and reported; says which.
pub(crate) fn attributes(bytes: &[u8]) -> bool {
    core().attributes(bytes)
}
