//! `zipkin`: spans as Zipkin's API v2 has them (zipkin.io, "Zipkin API": POST /spans).

use std::time::Duration;

use policy::{Datum, Fields, InstanceValue, Zipkin};
use reqwest::{Client, Url};
use serde_json::{Map, Value, json};

use super::span::{Span, sampled};
use super::{Batching, Fault, http};

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The adapter.
pub(super) struct Adapter {
    sampling: f64,
    url: Url,
    client: Client,
}

impl Adapter {
    /// Makes its client.
    pub(super) fn new(zipkin: &Zipkin) -> Result<Self, String> {
        Ok(Self {
            sampling: zipkin.sampling,
            url: http::url(&zipkin.url)?,
            client: http::client(TIMEOUT)?,
        })
    }
}

#[tonic::async_trait]
impl super::Adapter for Adapter {
    fn batching(&self) -> Batching {
        Batching {
            linger: Duration::from_secs(1),
            ..Batching::default()
        }
    }

    async fn report(&self, batch: &[InstanceValue]) -> Result<(), Fault> {
        let spans = batch.iter().map(|instance| &instance.fields);
        let spans = spans.filter(|fields| sampled(fields, self.sampling));
        let spans: Vec<Value> = spans.filter_map(span).collect();
        if spans.is_empty() {
            return Ok(());
        }
        let call = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .body(Value::Array(spans).to_string());
        let answer = call.send().await.map_err(|error| http::away(&error))?;
        http::accepted(answer).map(drop)
    }
}

/// A span in Zipkin's form; `None` when its identifiers are none.
fn span(fields: &Fields) -> Option<Value> {
    let span = Span::new(fields)?;
    let mut tags: Map<String, Value> = fields
        .many("spanTags")
        .iter()
        .map(|(name, value)| (name.clone(), value.to_string().into()))
        .collect();
    if span.status >= 500 {
        tags.entry("error")
            .or_insert_with(|| span.status.to_string().into());
    }
    if span.status > 0 {
        tags.entry("http.status_code")
            .or_insert_with(|| span.status.to_string().into());
    }
    let source = endpoint(fields, "sourceName", "sourceIp");
    let destination = endpoint(fields, "destinationName", "destinationIp");
    let (local, remote, kind) = match span.client {
        true => (source, destination, "CLIENT"),
        false => (destination, source, "SERVER"),
    };
    let mut json = json!({
        "traceId": span.trace_id,
        "id": span.id,
        "name": span.name,
        "kind": kind,
        "timestamp": span.start / 1000,
        // Zipkin takes no duration of zero.
        "duration": ((span.end - span.start) / 1000).max(1),
        "tags": tags,
    });
    let object = json.as_object_mut()?;
    let more = [
        ("parentId", span.parent.map(Value::from)),
        ("localEndpoint", local),
        ("remoteEndpoint", remote),
    ];
    object.extend(
        more.into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?))),
    );
    Some(json)
}

fn endpoint(fields: &Fields, name: &str, address: &str) -> Option<Value> {
    let mut endpoint = Map::new();
    let service = fields.text(name);
    if !service.is_empty() {
        endpoint.insert("serviceName".to_owned(), service.into());
    }
    if let Some(Datum::Ip(ip)) = fields.one(address) {
        let ip = ip.to_canonical();
        let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
        if !ip.is_unspecified() {
            endpoint.insert(family.to_owned(), ip.to_string().into());
        }
    }
    (!endpoint.is_empty()).then_some(Value::Object(endpoint))
}
