//! A stream told what to do and asked what it sends, both as text.

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use xds::stream::{Response, Settings, Stream, Variant, nonce_text};
use xds::types::{CLUSTER, ENDPOINTS, LISTENER, ROUTE};
use xds::{Event, Table, TypeUrl};

pub(crate) const FEED: TypeUrl = TypeUrl::fixed("core/v1/Service");
pub(crate) const KINDS: [(&str, TypeUrl); 5] = [
    ("C", CLUSTER),
    ("E", ENDPOINTS),
    ("L", LISTENER),
    ("R", ROUTE),
    ("F", FEED),
];

/// `C:a=1 E:a=1 R:r=2`: type, name, content. Clusters whose content starts with `e` are EDS clusters.
pub(crate) fn table(text: &str) -> Arc<Table> {
    let mut table = Table::builder();
    for word in text.split_whitespace() {
        let (kind, rest) = word.split_once(':').unwrap();
        let (name, content) = rest.split_once('=').unwrap();
        table.insert(url(kind), name.into(), content_bytes(kind, name, content));
    }
    Arc::new(table.build(None))
}

pub(crate) fn content_bytes(kind: &str, name: &str, content: &str) -> Bytes {
    if kind != "C" {
        return content.to_owned().into();
    }
    let discovery = if content.starts_with('e') {
        DiscoveryType::Eds
    } else {
        DiscoveryType::Static
    };
    let cluster = Cluster {
        name: name.into(),
        alt_stat_name: content.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        ..Default::default()
    };
    cluster.encode_to_vec().into()
}

pub(crate) fn url(kind: &str) -> TypeUrl {
    KINDS.iter().find(|(short, _)| *short == kind).unwrap().1.clone()
}

pub(crate) struct Test {
    pub(crate) stream: Stream,
    pub(crate) variant: Variant,
    pub(crate) now: Duration,
    /// Newest nonce by type.
    pub(crate) nonces: BTreeMap<TypeUrl, u64>,
    pub(crate) names: BTreeMap<TypeUrl, Vec<String>>,
}

impl Test {
    pub(crate) fn with(variant: Variant, settings: Settings, first: &str) -> Self {
        Self {
            stream: Stream::new(variant, settings, table(first)),
            variant,
            now: Duration::ZERO,
            nonces: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    pub(crate) fn delta(first: &str) -> Self {
        Self::with(Variant::Delta, Settings::default(), first)
    }

    pub(crate) fn sotw(first: &str) -> Self {
        Self::with(Variant::Sotw, Settings::default(), first)
    }

    pub(crate) fn table(&mut self, text: &str) -> &mut Self {
        self.stream.on_table(table(text));
        self
    }

    pub(crate) fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    /// Everything that is sent now: `C+a+b-c`, with `…` where more of it follows.
    pub(crate) fn sends(&mut self, expected: &[&str]) -> &mut Self {
        let mut seen = Vec::new();
        while let Some(response) = self.stream.poll(self.now) {
            self.nonces.insert(response.type_url.clone(), response.nonce);
            seen.push(shown(&response));
        }
        assert_eq!(seen, expected);
        self
    }

    pub(crate) fn subscribe(&mut self, kind: &str, names: &str) -> &mut Self {
        let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
        match self.variant {
            Variant::Delta => self.give(DeltaDiscoveryRequest {
                type_url: url(kind).to_string(),
                resource_names_subscribe: names,
                ..Default::default()
            }),
            Variant::Sotw => {
                self.names.insert(url(kind), names);
                self.answer(kind, None)
            }
        }
    }

    pub(crate) fn give(&mut self, request: DeltaDiscoveryRequest) -> &mut Self {
        self.stream.on_delta(self.now, request).unwrap();
        self
    }

    pub(crate) fn ack(&mut self, kind: &str) -> &mut Self {
        self.answer(kind, None)
    }

    pub(crate) fn nack(&mut self, kind: &str, message: &str) -> &mut Self {
        self.answer(kind, Some(message))
    }

    pub(crate) fn answer(&mut self, kind: &str, error: Option<&str>) -> &mut Self {
        let error_detail = error.map(|message| Status {
            code: 3,
            message: message.into(),
            details: Vec::new(),
        });
        let type_url = url(kind);
        let response_nonce = self
            .nonces
            .get(&type_url)
            .map(|nonce| nonce_text(*nonce))
            .unwrap_or_default();
        let given = match self.variant {
            Variant::Delta => self.stream.on_delta(
                self.now,
                DeltaDiscoveryRequest {
                    type_url: type_url.to_string(),
                    response_nonce,
                    error_detail,
                    ..Default::default()
                },
            ),
            Variant::Sotw => self.stream.on_sotw(
                self.now,
                DiscoveryRequest {
                    type_url: type_url.to_string(),
                    resource_names: self.names.get(&type_url).cloned().unwrap_or_default(),
                    response_nonce,
                    error_detail,
                    ..Default::default()
                },
            ),
        };
        given.unwrap();
        self
    }

    /// Resources that are rejected now, by the last event that says so.
    pub(crate) fn rejected(&mut self) -> Option<Vec<String>> {
        let events = self.stream.events();
        let lists = events.into_iter().filter_map(|event| match event {
            Event::Rejected { resources, .. } => Some(resources),
            _ => None,
        });
        lists.last().map(|list| {
            list.iter()
                .map(|each| format!("{}: {}", each.name, each.message))
                .collect()
        })
    }

    pub(crate) fn due_in(&self) -> Option<u64> {
        self.stream
            .deadline(self.now)
            .map(|due| (due - self.now).as_secs())
    }
}

pub(crate) fn shown(response: &Response) -> String {
    let kind = KINDS.iter().find(|(_, url)| *url == response.type_url).unwrap().0;
    let added = response.resources.iter().map(|each| format!("+{}", each.name));
    let removed = response.removed.iter().map(|name| format!("-{name}"));
    let more = if response.complete { "" } else { "…" };
    format!("{kind}{}{more}", added.chain(removed).collect::<String>())
}

/// A proxy that has the whole of a table and has said so.
pub(crate) fn settled(first: &str, endpoints: &str, routes: &str) -> Test {
    let mut test = Test::delta(first);
    for (kind, names) in [("C", ""), ("E", endpoints), ("L", ""), ("R", routes)] {
        if kind == "C" || kind == "L" || !names.is_empty() {
            test.subscribe(kind, names);
        }
        while let Some(response) = test.stream.poll(test.now) {
            test.nonces.insert(response.type_url.clone(), response.nonce);
        }
        for kind in ["C", "E", "L", "R"] {
            if test.nonces.contains_key(&url(kind)) {
                test.ack(kind);
            }
        }
        while let Some(response) = test.stream.poll(test.now) {
            test.nonces.insert(response.type_url.clone(), response.nonce);
        }
    }
    for kind in ["C", "E", "L", "R"] {
        if test.nonces.contains_key(&url(kind)) {
            test.ack(kind);
        }
    }
    test.sends(&[]);
    test
}
