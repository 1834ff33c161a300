//! Discovery messages as far as a simulated proxy reads them. What it skips costs nothing, so that the load takes little
//! of the machine that the server runs on. Field numbers are those of Envoy's API.

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// `DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(message, repeated, tag = "2")]
    pub(crate) resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub(crate) type_url: String,
    #[prost(string, tag = "5")]
    pub(crate) nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub(crate) removed: Vec<String>,
}

/// `Resource`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resource {
    #[prost(message, optional, tag = "2")]
    pub(crate) any: Option<Any>,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// `Cluster`: whether its endpoints come from EDS, and under which name.
#[derive(Clone, PartialEq, Message)]
struct Cluster {
    #[prost(int32, tag = "2")]
    discovery_type: i32,
    #[prost(message, optional, tag = "3")]
    eds: Option<Eds>,
}

#[derive(Clone, PartialEq, Message)]
struct Eds {
    #[prost(string, tag = "2")]
    service_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Listener {
    #[prost(message, repeated, tag = "3")]
    chains: Vec<FilterChain>,
    #[prost(message, optional, tag = "25")]
    default_chain: Option<FilterChain>,
}

#[derive(Clone, PartialEq, Message)]
struct FilterChain {
    #[prost(message, repeated, tag = "3")]
    filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, Message)]
struct Filter {
    #[prost(message, optional, tag = "4")]
    config: Option<TypedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct TypedAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `HttpConnectionManager`.
#[derive(Clone, PartialEq, Message)]
struct Manager {
    #[prost(message, optional, tag = "3")]
    rds: Option<Rds>,
}

#[derive(Clone, PartialEq, Message)]
struct Rds {
    #[prost(string, tag = "2")]
    name: String,
}

/// `Cluster.DiscoveryType.EDS`.
const EDS: i32 = 3;

/// The name of a cluster's endpoints; none for a cluster of another type.
pub(crate) fn endpoints_name(resource: &Resource) -> Option<String> {
    let cluster = Cluster::decode(resource.any.as_ref()?.value.clone()).ok()?;
    let eds = cluster.eds.filter(|_| cluster.discovery_type == EDS)?;
    Some(if eds.service_name.is_empty() {
        resource.name.clone()
    } else {
        eds.service_name
    })
}

/// The route configurations that a listener asks for.
pub(crate) fn route_names(resource: &Resource) -> Vec<String> {
    let value = resource.any.as_ref().map(|any| any.value.clone());
    let listener = Listener::decode(value.unwrap_or_default()).unwrap_or_default();
    let chains = listener.chains.into_iter().chain(listener.default_chain);
    let filters = chains.flat_map(|chain| chain.filters);
    let managers = filters
        .filter_map(|filter| filter.config)
        .filter(|config| config.type_url.ends_with(".HttpConnectionManager"));
    managers
        .filter_map(|config| Manager::decode(config.value).ok()?.rds)
        .map(|rds| rds.name)
        .collect()
}

/// Requests as prost writes them; responses as bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = DeltaDiscoveryRequest;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use bytes::Buf;
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }
}
