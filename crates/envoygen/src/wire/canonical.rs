//! Sorts the entries of protobuf maps in encoded messages. prost keeps maps in hash maps, whose order differs from one run to
//! the next, and versions are hashes of bytes. Only the messages that are generated are described.

use envoy_types::pb::envoy::config::{
    cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
    route::v3::RouteConfiguration,
};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::filters::http::{
    jwt_authn::v3::JwtAuthentication, rbac::v3::Rbac as HttpRbac, rbac::v3::RbacPerRoute,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;

/// Where a message's maps are: its own map fields, and the fields whose messages hold maps.
pub(crate) struct Shape {
    /// Fields that are maps.
    maps: &'static [(u32, Option<&'static Shape>)],
    /// Fields whose messages hold maps.
    children: &'static [(u32, &'static Shape)],
}

/// A message whose maps are known.
pub(crate) trait Canonical {
    /// Where they are.
    const SHAPE: &'static Shape;
}

/// google.protobuf.Struct: `fields`, whose values hold structs and lists again.
static STRUCT: Shape = Shape {
    maps: &[(1, Some(&VALUE))],
    children: &[],
};
static VALUE: Shape = Shape {
    maps: &[],
    children: &[(5, &STRUCT), (6, &LIST)],
};
static LIST: Shape = Shape {
    maps: &[],
    children: &[(1, &VALUE)],
};
/// core.v3.Metadata: `filter_metadata`, `typed_filter_metadata`.
static METADATA: Shape = Shape {
    maps: &[(1, Some(&STRUCT)), (2, None)],
    children: &[],
};

static CLUSTER_WEIGHT: Shape = Shape {
    maps: &[(10, None)],
    children: &[(3, &METADATA)],
};
static WEIGHTED: Shape = Shape {
    maps: &[],
    children: &[(1, &CLUSTER_WEIGHT)],
};
static ROUTE_ACTION: Shape = Shape {
    maps: &[],
    children: &[(3, &WEIGHTED), (4, &METADATA)],
};
static ROUTE: Shape = Shape {
    maps: &[(13, None)],
    children: &[(2, &ROUTE_ACTION), (4, &METADATA)],
};
static VIRTUAL_HOST: Shape = Shape {
    maps: &[(15, None)],
    children: &[(3, &ROUTE)],
};
static ROUTE_CONFIGURATION: Shape = Shape {
    maps: &[(16, None)],
    children: &[(2, &VIRTUAL_HOST)],
};

static LB_ENDPOINT: Shape = Shape {
    maps: &[],
    children: &[(3, &METADATA)],
};
static LOCALITY: Shape = Shape {
    maps: &[],
    children: &[(2, &LB_ENDPOINT), (9, &METADATA)],
};
static ASSIGNMENT: Shape = Shape {
    maps: &[(5, None)],
    children: &[(2, &LOCALITY)],
};

static SOCKET_MATCH: Shape = Shape {
    maps: &[],
    children: &[(2, &STRUCT)],
};
static CLUSTER: Shape = Shape {
    maps: &[(36, None)],
    children: &[(25, &METADATA), (33, &ASSIGNMENT), (43, &SOCKET_MATCH)],
};

static FILTER_CHAIN: Shape = Shape {
    maps: &[],
    children: &[(5, &METADATA)],
};
static LISTENER: Shape = Shape {
    maps: &[],
    children: &[(3, &FILTER_CHAIN), (6, &METADATA), (25, &FILTER_CHAIN)],
};

static HCM: Shape = Shape {
    maps: &[],
    children: &[(4, &ROUTE_CONFIGURATION)],
};

/// config.rbac.v3.RBAC: `policies`.
static RBAC: Shape = Shape {
    maps: &[(2, None)],
    children: &[],
};
static HTTP_RBAC: Shape = Shape {
    maps: &[],
    children: &[(1, &RBAC), (2, &RBAC)],
};
static HTTP_RBAC_PER_ROUTE: Shape = Shape {
    maps: &[],
    children: &[(2, &HTTP_RBAC)],
};
static NETWORK_RBAC: Shape = Shape {
    maps: &[],
    children: &[(1, &RBAC), (2, &RBAC)],
};

/// Access log formats: SubstitutionFormatString's `json_format`.
static LOG_FORMAT: Shape = Shape {
    maps: &[],
    children: &[(2, &STRUCT)],
};
static FILE_LOG: Shape = Shape {
    maps: &[],
    children: &[(5, &LOG_FORMAT)],
};

/// jwt_authn: `providers`, `requirement_map`.
static JWT: Shape = Shape {
    maps: &[(1, None), (5, None)],
    children: &[],
};

macro_rules! canonical {
    ($($message:ty => $shape:ident),* $(,)?) => {
        $(impl Canonical for $message {
            const SHAPE: &'static Shape = &$shape;
        })*
    };
}

canonical! {
    Cluster => CLUSTER,
    ClusterLoadAssignment => ASSIGNMENT,
    Listener => LISTENER,
    RouteConfiguration => ROUTE_CONFIGURATION,
    HttpConnectionManager => HCM,
    HttpRbac => HTTP_RBAC,
    RbacPerRoute => HTTP_RBAC_PER_ROUTE,
    NetworkRbac => NETWORK_RBAC,
    JwtAuthentication => JWT,
    FileAccessLog => FILE_LOG,
}

/// The message with the entries of each map in the order of their bytes (so of keys of one length, by key).
pub(super) fn sorted(message: Vec<u8>, shape: &'static Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    if write(&message, shape, &mut out).is_some() {
        out
    } else {
        message
    }
}

/// Writes `message` to `out`, maps sorted; `None` if it is no protobuf message (which prost does not write).
fn write(message: &[u8], shape: &Shape, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = message;
    // prost writes a map's entries one after the other; they are held back until the field ends.
    let mut held: (u32, Vec<Vec<u8>>) = (0, Vec::new());
    while !rest.is_empty() {
        let field = Field::read(&mut rest)?;
        if held.0 != field.number {
            flush(&mut held, out);
        }
        if let Some((_, child)) = shape.maps.iter().find(|(number, _)| *number == field.number) {
            held.0 = field.number;
            held.1.push(entry(field.content?, *child)?);
        } else if let Some((_, child)) = shape.children.iter().find(|(number, _)| *number == field.number) {
            let mut inner = Vec::new();
            write(field.content?, child, &mut inner)?;
            delimited(field.number, &inner, out);
        } else {
            out.extend_from_slice(field.raw);
        }
    }
    flush(&mut held, out);
    Some(())
}

/// A map entry (key 1, value 2), its value sorted if it holds maps.
fn entry(content: &[u8], value: Option<&Shape>) -> Option<Vec<u8>> {
    let Some(value) = value else {
        return Some(content.to_vec());
    };
    let (mut rest, mut out) = (content, Vec::with_capacity(content.len()));
    while !rest.is_empty() {
        let field = Field::read(&mut rest)?;
        if field.number == 2 {
            let mut inner = Vec::new();
            write(field.content?, value, &mut inner)?;
            delimited(2, &inner, &mut out);
        } else {
            out.extend_from_slice(field.raw);
        }
    }
    Some(out)
}

fn flush(held: &mut (u32, Vec<Vec<u8>>), out: &mut Vec<u8>) {
    held.1.sort();
    for entry in held.1.drain(..) {
        delimited(held.0, &entry, out);
    }
    held.0 = 0;
}

pub(crate) fn delimited(number: u32, content: &[u8], out: &mut Vec<u8>) {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// One field of an encoded message.
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    /// The whole field.
    pub(crate) raw: &'a [u8],
    /// What a length-delimited field holds.
    pub(crate) content: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    /// Reads the first field and moves `rest` behind it.
    pub(crate) fn read(rest: &mut &'a [u8]) -> Option<Field<'a>> {
        use prost::encoding::WireType;
        let whole = *rest;
        let mut cursor = whole;
        let (number, wire) = prost::encoding::decode_key(&mut cursor).ok()?;
        let mut content = None;
        match wire {
            WireType::Varint => drop(prost::encoding::decode_varint(&mut cursor).ok()?),
            WireType::ThirtyTwoBit => cursor = cursor.get(4..)?,
            WireType::SixtyFourBit => cursor = cursor.get(8..)?,
            WireType::LengthDelimited => {
                let length = usize::try_from(prost::encoding::decode_varint(&mut cursor).ok()?).ok()?;
                content = Some(cursor.get(..length)?);
                cursor = cursor.get(length..)?;
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        }
        let raw = whole.get(..whole.len() - cursor.len())?;
        *rest = cursor;
        Some(Field { number, raw, content })
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Metadata;
    use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
    use envoy_types::pb::google::protobuf::{Any, Struct, Value, value::Kind};
    use prost::Message;

    fn value(depth: u32) -> Value {
        let kind = match depth {
            0 => Kind::StringValue("x".into()),
            n => Kind::StructValue(Struct {
                fields: (0..8).map(|i| (format!("key-{i}"), value(n - 1))).collect(),
            }),
        };
        Value { kind: Some(kind) }
    }

    fn routes() -> RouteConfiguration {
        let metadata = Metadata {
            filter_metadata: (0..8)
                .map(|i| {
                    (
                        format!("filter-{i}"),
                        Struct {
                            fields: [("a".to_owned(), value(2))].into(),
                        },
                    )
                })
                .collect(),
            ..Default::default()
        };
        let per_filter = || {
            (0..20)
                .map(|i| {
                    (
                        format!("filter-{i}"),
                        Any {
                            value: vec![i],
                            ..Default::default()
                        },
                    )
                })
                .collect()
        };
        let route = Route {
            metadata: Some(metadata),
            typed_per_filter_config: per_filter(),
            ..Default::default()
        };
        RouteConfiguration {
            name: "80".into(),
            virtual_hosts: vec![VirtualHost {
                routes: vec![route],
                ..Default::default()
            }],
            typed_per_filter_config: per_filter(),
            ..Default::default()
        }
    }

    #[test]
    fn same_meaning_same_bytes() {
        let first = super::super::encode(&routes());
        for _ in 0..20 {
            assert_eq!(super::super::encode(&routes()), first);
        }
        assert_eq!(
            RouteConfiguration::decode(first).unwrap(),
            routes(),
            "nothing is lost"
        );
    }
}
