//! Mixers that run a page's sample, and what their backends received.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use envoy_types::pb::google::protobuf::{Duration as ProtoDuration, Timestamp};
use serde_json::Value;

use crate::common;
use crate::common::reports::{CATALOG, inbound_entry, message, send};
use crate::common::server::{SAMPLE, Server};

/// Only a failing test waits that long.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";

pub(crate) fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/adapters")
}

/// The YAML of a page.
pub(crate) fn sample(page: &str) -> String {
    let text = std::fs::read_to_string(pages().join(format!("{page}.md"))).unwrap();
    let blocks = text.split("```yaml\n").skip(1);
    let blocks: Vec<&str> = blocks.map(|block| block.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty(), "{page} has no sample");
    blocks.join("---\n")
}

/// A Mixer with the sample mesh and these objects of Mixer's.
pub(crate) async fn mixer(objects: &str) -> Server {
    mixer_with(objects, mixer::Args::default()).await
}

pub(crate) async fn mixer_with(objects: &str, args: mixer::Args) -> Server {
    // A busy machine is not what these tests are about.
    let args = mixer::Args {
        adapter_deadline: Duration::from_secs(20),
        ..args
    };
    let server = Server::start_with(args).await;
    server
        .mixer
        .configure(common::state([objects, SAMPLE[1], SAMPLE[2]]));
    assert!(
        server.mixer.findings().is_empty(),
        "{:?}",
        server.mixer.findings()
    );
    server
}

/// A request of jason, traced, that took a quarter of a second.
pub(crate) fn entry() -> HttpAccessLogEntry {
    let mut entry = inbound_entry();
    let headers = [
        ("x-user", "jason"),
        ("x-b3-traceid", TRACE),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
    ];
    let headers: HashMap<String, String> = headers.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    entry.request.as_mut().unwrap().request_headers = headers;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let common = entry.common_properties.as_mut().unwrap();
    common.start_time = Some(Timestamp {
        seconds: i64::try_from(now.as_secs()).unwrap(),
        nanos: 0,
    });
    let quarter = ProtoDuration {
        seconds: 0,
        nanos: 250_000_000,
    };
    common.time_to_last_downstream_tx_byte = Some(quarter);
    entry
}

/// Reports `count` requests to the catalog.
pub(crate) async fn report(server: &Server, count: usize) {
    let entries = vec![entry(); count];
    send(
        server.proxy("catalog"),
        vec![message("argosy.inbound", CATALOG, entries)],
    )
    .await;
}

/// Waits until `look` finds something.
pub(crate) async fn found<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let look = || std::future::ready(look().ok_or("nothing yet"));
    testkit::wait::until(what, BOUND, look).await.unwrap().0
}

/// All objects below `json` that have a field `name`.
pub(crate) fn all<'a>(json: &'a Value, name: &str, into: &mut Vec<&'a Value>) {
    match json {
        Value::Object(map) => {
            if map.contains_key(name) {
                into.push(json);
            }
            map.values().for_each(|value| all(value, name, into));
        }
        Value::Array(items) => items.iter().for_each(|value| all(value, name, into)),
        _ => {}
    }
}

/// The first object among `messages` that has a field `name` and that `is` likes.
pub(crate) fn first(messages: &[Value], name: &str, is: impl Fn(&Value) -> bool) -> Option<Value> {
    let mut objects = Vec::new();
    messages
        .iter()
        .for_each(|message| all(message, name, &mut objects));
    objects.into_iter().find(|object| is(object)).cloned()
}

/// The attributes of an object of OTLP, as text.
pub(crate) fn attributes(object: &Value) -> HashMap<String, String> {
    let attributes = object["attributes"].as_array().cloned().unwrap_or_default();
    let one = |pair: &Value| {
        let value = pair["value"].as_object().unwrap().values().next().unwrap();
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (pair["key"].as_str().unwrap().to_owned(), text)
    };
    attributes.iter().map(one).collect()
}
