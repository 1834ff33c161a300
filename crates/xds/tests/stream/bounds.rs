//! Bounds of a stream.

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use std::time::Duration;
use xds::stream::{Refused, Settings, Stream, Variant};

use crate::script::table;

#[test]
fn bounds_hold() {
    let settings = Settings {
        names: 2,
        types: 2,
        ..Settings::default()
    };
    let mut stream = Stream::new(Variant::Delta, settings, table(""));
    let mut ask = |type_url: &str, names: &[&str]| {
        stream.on_delta(
            Duration::ZERO,
            DeltaDiscoveryRequest {
                type_url: type_url.into(),
                resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
                ..Default::default()
            },
        )
    };
    assert_eq!(ask("", &[]), Err(Refused::NoType));
    assert_eq!(ask("t", &["a", "b"]), Ok(()));
    assert_eq!(
        ask("t", &["c"]),
        Err(Refused::TooManyNames {
            type_url: "t".into(),
            limit: 2
        })
    );
    assert_eq!(ask("u", &[]), Ok(()));
    assert_eq!(ask("v", &[]), Err(Refused::TooManyTypes { limit: 2 }));
}
