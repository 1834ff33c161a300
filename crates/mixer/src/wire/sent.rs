//! The attributes that a caller of the Mixer API sent, decoded within bounds, and the request that they describe.
//!
//! The caller is a proxy with a certificate of the mesh. It speaks for its own workload alone, which is found by that
//! certificate; of the other end it says the address and the identity that it authenticated, and a workload is believed to be
//! there only where both agree. Whatever else a message says of the source, the destination or the reporter is not believed
//! (ISTIO-SECURITY-2020-002: clients forged attributes of their own).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use expr::{Attributes, STANDARD, StringLookup, Timestamp, Value, ValueType, Vocabulary};
use policy::{Connection, Extra, HeaderMap, Party, Protocol, ReporterKind, Request, Response, WorkloadView};
use proto::mixer::CompressedAttributes;

use super::dictionary;
use crate::attributes::address::Endpoint;
use crate::attributes::{parties, time};
use crate::mesh::Mesh;

/// Most attributes of one set.
const MAX_ATTRIBUTES: usize = 1_000;
/// Most entries of one map.
const MAX_ENTRIES: usize = 1_000;
/// Most words of one message.
const MAX_WORDS: usize = 20_000;

/// Why a set of attributes cannot be read. The caller's library is at fault, or of another release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAttributes {
    /// There is no such word.
    #[error(
        "word {0} is in no dictionary: the global one has {count}, the message has {1}; send words that it lacks in `words`",
        count = dictionary::len()
    )]
    NoWord(i32, usize),
    /// There is more of something than Mixer takes.
    #[error("a set of attributes has more than {limit} {what}; send fewer")]
    TooMany { what: &'static str, limit: usize },
    /// A value of another type than the vocabulary says.
    #[error("attribute {name} is {expected} in Istio's vocabulary, but was sent as {found}")]
    WrongType {
        name: String,
        expected: ValueType,
        found: &'static str,
    },
    /// One name twice in one set.
    #[error("attribute {0} was sent twice, as values of different types")]
    Twice(String),
}

/// A map as it was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries<'m>(BTreeMap<&'m str, &'m str>);

impl StringLookup for Entries<'_> {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.0.get(key).copied()
    }

    fn entries(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(key, value)| (*key, *value)).collect()
    }
}

/// Attributes as they were sent, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent<'m> {
    scalars: BTreeMap<&'m str, Value<'m>>,
    maps: BTreeMap<&'m str, Entries<'m>>,
}

/// Both dictionaries of a message.
struct Words<'m>(&'m [String]);

impl<'m> Words<'m> {
    fn word(&self, index: i32) -> Result<&'m str, BadAttributes> {
        let found = match usize::try_from(index) {
            Ok(index) => dictionary::word(index),
            // -1 is the first of the message's own.
            Err(_) => usize::try_from(-(i64::from(index) + 1))
                .ok()
                .and_then(|slot| self.0.get(slot))
                .map(String::as_str),
        };
        found.ok_or(BadAttributes::NoWord(index, self.0.len()))
    }
}

impl<'m> Sent<'m> {
    /// The attributes of one message.
    pub(crate) fn new(message: &'m CompressedAttributes) -> Result<Self, BadAttributes> {
        let mut sent = Self::default();
        sent.change(message, &[])?;
        Ok(sent)
    }

    /// Adds a message's attributes, which take the place of those of the same names. Without words of its own it uses
    /// `default_words`.
    pub(crate) fn change(
        &mut self,
        message: &'m CompressedAttributes,
        default_words: &'m [String],
    ) -> Result<(), BadAttributes> {
        bounds(message, default_words)?;
        let words = match message.words.as_slice() {
            [] => Words(default_words),
            own => Words(own),
        };
        let mut seen = BTreeMap::new();
        for (name, value) in scalars(message) {
            let name = words.word(name)?;
            let value = value.decoded(name, &words)?;
            if seen.insert(name, ()).is_some() {
                return Err(BadAttributes::Twice(name.to_owned()));
            }
            self.maps.remove(name);
            self.scalars.insert(name, value);
        }
        for (name, map) in &message.string_maps {
            let name = words.word(*name)?;
            expect(name, ValueType::StringMap, "STRING_MAP")?;
            let entry = |(key, value): (&i32, &i32)| Ok((words.word(*key)?, words.word(*value)?));
            let entries = map.entries.iter().map(entry).collect::<Result<_, _>>()?;
            if seen.insert(name, ()).is_some() {
                return Err(BadAttributes::Twice(name.to_owned()));
            }
            self.scalars.remove(name);
            self.maps.insert(name, Entries(entries));
        }
        let all = self.scalars.len() + self.maps.len();
        at_most("attributes", all, MAX_ATTRIBUTES)
    }

    /// Whether an attribute was sent, or an entry of it.
    pub(crate) fn has(&self, name: &str, key: Option<&str>) -> bool {
        match key {
            Some(key) => self.map(name).is_some_and(|map| map.lookup(key).is_some()),
            None => self.scalars.contains_key(name) || self.maps.contains_key(name),
        }
    }

    /// The value of an attribute that is no map.
    #[cfg(test)]
    pub(crate) fn value(&self, name: &str) -> Option<&Value<'m>> {
        self.scalars.get(name)
    }

    fn map(&self, name: &str) -> Option<&Entries<'m>> {
        self.maps.get(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.scalars.get(name).and_then(Value::as_text)
    }

    fn int(&self, name: &str) -> Option<i64> {
        match self.scalars.get(name)? {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    fn bool(&self, name: &str) -> Option<bool> {
        match self.scalars.get(name)? {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        match self.scalars.get(name)? {
            Value::Timestamp(at) => Some(*at),
            _ => None,
        }
    }

    fn duration(&self, name: &str) -> Option<i64> {
        match self.scalars.get(name)? {
            Value::Duration(length) => Some(*length),
            _ => None,
        }
    }

    fn ip(&self, name: &str) -> Option<IpAddr> {
        match self.scalars.get(name)? {
            Value::Ip(ip) => Some(*ip),
            _ => None,
        }
    }

    fn endpoint(&self, end: &str) -> Endpoint {
        Endpoint {
            ip: self.ip(&format!("{end}.ip")),
            port: self
                .int(&format!("{end}.port"))
                .and_then(|port| port.try_into().ok()),
        }
    }

    /// Which end's proxy speaks.
    pub(crate) fn reporter(&self) -> ReporterKind {
        let outbound = match self.text("context.reporter.kind") {
            Some(kind) => kind == "outbound",
            None => self.bool("context.reporter.local") == Some(false),
        };
        if outbound {
            ReporterKind::Outbound
        } else {
            ReporterKind::Inbound
        }
    }

    /// The workload whose proxy speaks, if the authenticated `caller` has one that the message may mean.
    /// `node` is a node id that came with it.
    pub(crate) fn own<'b>(
        &self,
        mesh: &'b Mesh,
        caller: &str,
        node: Option<&str>,
    ) -> Option<&'b WorkloadView> {
        let end = match self.reporter() {
            ReporterKind::Inbound => "destination",
            ReporterKind::Outbound => "source",
        };
        let uid = self.text(&format!("{end}.uid"));
        let uid = uid.or_else(|| self.text("context.reporter.uid"));
        let named = uid
            .and_then(|uid| uid.strip_prefix("kubernetes://")?.rsplit_once('.'))
            .and_then(|(name, namespace)| mesh.named(namespace, name, caller));
        named.or_else(|| parties::caller(mesh, caller, node, &[self.endpoint(end).ip]))
    }

    /// What had to be computed beside the message.
    pub(crate) fn derived(&self) -> Derived {
        let query = match self.map("request.query_params") {
            Some(sent) => sent
                .0
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            None => policy::query_of(self.text("request.path").unwrap_or_default()),
        };
        let claims = self.map("request.auth.claims").map(|claims| {
            let own = claims.0.iter();
            own.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        });
        Derived { query, claims }
    }

    /// Calls `then` with the request that the attributes describe, to or from the workload `own` of `caller`.
    pub(crate) fn with_request<T>(
        &self,
        derived: &Derived,
        mesh: &Mesh,
        caller: &str,
        own: Option<&WorkloadView>,
        then: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let headers = self.map("request.headers").map(|map| HeaderMap(map));
        let response_headers = self.map("response.headers").map(|map| HeaderMap(map));
        let extra = Unforged(self);
        let mut request = Request {
            reporter: self.reporter(),
            reporter_uid: own.map(WorkloadView::uid),
            protocol: self.protocol(),
            mtls: self.bool("connection.mtls"),
            server_name: self.text("connection.requested_server_name"),
            headers: headers.as_ref().map(|map| map as &dyn StringLookup),
            path: self.text("request.path"),
            query: Some(&derived.query),
            method: self.text("request.method"),
            host: self.text("request.host"),
            scheme: self.text("request.scheme"),
            id: self.text("request.id"),
            size: self.int("request.size"),
            total_size: self.int("request.total_size"),
            time: self
                .time("request.time")
                .or_else(|| self.time("context.time"))
                .or_else(|| self.time("context.timestamp")),
            claims: derived.claims.as_ref(),
            raw_claims: self.text("request.auth.raw_claims"),
            response: Response {
                headers: response_headers.as_ref().map(|map| map as &dyn StringLookup),
                ..self.response()
            },
            connection: self.connection(),
            extra: Extra(Some(&extra)),
            ..Request::default()
        };
        self.parties(&mut request, mesh, caller, own);
        then(&request)
    }

    fn parties<'b>(
        &'b self,
        request: &mut Request<'b>,
        mesh: &'b Mesh,
        caller: &'b str,
        own: Option<&'b WorkloadView>,
    ) {
        let near = |end: &str| {
            let address = self.endpoint(end);
            Party {
                workload: own,
                ip: address.ip.or_else(|| own.and_then(|own| own.ip)),
                port: address.port,
                principal: Some(caller),
            }
        };
        match request.reporter {
            ReporterKind::Inbound => {
                let peer = self.text("source.principal").or_else(|| self.text("source.user"));
                request.source = parties::far(mesh, self.endpoint("source"), peer.map(bare));
                request.destination = near("destination");
                let (port, host) = (request.destination.port, request.host);
                let asked = self.text("destination.service.host").or(host);
                request.service = own.and_then(|own| own.service(port, asked));
            }
            ReporterKind::Outbound => {
                request.source = near("source");
                let peer = self.text("destination.principal").map(bare);
                request.destination = parties::upstream(mesh, self.endpoint("destination"), peer);
                let host = self
                    .text("destination.service.host")
                    .or_else(|| self.text("destination.service"));
                let namespace = own.map(|own| own.namespace.as_str());
                request.service = host.and_then(|host| mesh.service(host, namespace));
            }
        }
    }

    fn protocol(&self) -> Protocol {
        match self.text("context.protocol") {
            Some("tcp" | "mongo" | "mysql" | "redis") => Protocol::Tcp,
            Some("grpc") => Protocol::Grpc,
            Some(_) => Protocol::Http,
            None if self.has("request.method", None) || self.has("request.path", None) => Protocol::Http,
            None => Protocol::Tcp,
        }
    }

    fn response(&self) -> Response<'_> {
        Response {
            code: self.int("response.code"),
            duration: self.duration("response.duration"),
            size: self.int("response.size"),
            total_size: self.int("response.total_size"),
            time: self.time("response.time"),
            headers: None,
            grpc_status: self.text("response.grpc_status"),
            grpc_message: self.text("response.grpc_message"),
            flags: self.text("context.proxy_error_code"),
        }
    }

    fn connection(&self) -> Connection<'_> {
        Connection {
            id: self.text("connection.id"),
            event: self.text("connection.event"),
            received: self.int("connection.received.bytes"),
            received_total: self.int("connection.received.bytes_total"),
            sent: self.int("connection.sent.bytes"),
            sent_total: self.int("connection.sent.bytes_total"),
            duration: self.duration("connection.duration"),
        }
    }

    /// Puts an attribute in, as a front-end of another form read it.
    pub(crate) fn set(&mut self, name: &'m str, value: Value<'m>) {
        self.scalars.insert(name, value);
    }

    /// Puts an entry of a map in.
    pub(crate) fn set_entry(&mut self, name: &'m str, key: &'m str, value: &'m str) {
        self.maps.entry(name).or_default().0.insert(key, value);
    }
}

/// An identity without its scheme: proxies write it with and without.
fn bare(principal: &str) -> &str {
    principal.strip_prefix("spiffe://").unwrap_or(principal)
}

/// What is computed from attributes.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    query: BTreeMap<String, String>,
    claims: Option<BTreeMap<String, String>>,
}

/// The attributes that a caller may say freely: those that describe no end.
struct Unforged<'a, 'm>(&'a Sent<'m>);

impl Attributes for Unforged<'_, '_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        if decided(name) {
            return None;
        }
        match self.0.scalars.get(name) {
            Some(value) => Some(value.clone()),
            None => self.0.map(name).map(|map| Value::Map(map)),
        }
    }
}

/// Whether Mixer itself says what the attribute is, by certificate, address and feed.
pub(crate) fn decided(name: &str) -> bool {
    ["source.", "destination.", "context.reporter.", "api.service"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// A value as it stands in the message.
enum Raw<'m> {
    Word(i32),
    Int(i64),
    Double(f64),
    Bool(bool),
    Time(Timestamp),
    Duration(i64),
    Bytes(&'m [u8]),
}

impl<'m> Raw<'m> {
    fn decoded(self, name: &str, words: &Words<'m>) -> Result<Value<'m>, BadAttributes> {
        Ok(match self {
            Raw::Word(index) => {
                match STANDARD.attribute(name) {
                    None
                    | Some(
                        ValueType::String | ValueType::DnsName | ValueType::EmailAddress | ValueType::Uri,
                    ) => {}
                    Some(expected) => return Err(wrong(name, expected, "STRING")),
                }
                Value::Text(Cow::Borrowed(words.word(index)?))
            }
            Raw::Int(number) => {
                expect(name, ValueType::Int64, "INT64")?;
                Value::Int(number)
            }
            Raw::Double(number) => {
                expect(name, ValueType::Double, "DOUBLE")?;
                Value::Double(number)
            }
            Raw::Bool(truth) => {
                expect(name, ValueType::Bool, "BOOL")?;
                Value::Bool(truth)
            }
            Raw::Time(at) => {
                expect(name, ValueType::Timestamp, "TIMESTAMP")?;
                Value::Timestamp(at)
            }
            Raw::Duration(length) => {
                expect(name, ValueType::Duration, "DURATION")?;
                Value::Duration(length)
            }
            Raw::Bytes(bytes) => {
                expect(name, ValueType::IpAddress, "bytes")?;
                let ip = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                let ip = ip.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
                Value::Ip(
                    ip.map_err(|_| wrong(name, ValueType::IpAddress, "bytes that are neither 4 nor 16"))?,
                )
            }
        })
    }
}

fn scalars(message: &CompressedAttributes) -> impl Iterator<Item = (i32, Raw<'_>)> {
    let strings = message
        .strings
        .iter()
        .map(|(name, word)| (*name, Raw::Word(*word)));
    let ints = message
        .int64s
        .iter()
        .map(|(name, number)| (*name, Raw::Int(*number)));
    let doubles = message
        .doubles
        .iter()
        .map(|(name, number)| (*name, Raw::Double(*number)));
    let bools = message
        .bools
        .iter()
        .map(|(name, truth)| (*name, Raw::Bool(*truth)));
    let times = message
        .timestamps
        .iter()
        .map(|(name, at)| (*name, Raw::Time(Timestamp(time::nanos(at.seconds, at.nanos)))));
    let durations = message
        .durations
        .iter()
        .map(|(name, length)| (*name, Raw::Duration(time::nanos(length.seconds, length.nanos))));
    let bytes = message
        .bytes
        .iter()
        .map(|(name, bytes)| (*name, Raw::Bytes(bytes)));
    strings
        .chain(ints)
        .chain(doubles)
        .chain(bools)
        .chain(times)
        .chain(durations)
        .chain(bytes)
}

fn bounds(message: &CompressedAttributes, default_words: &[String]) -> Result<(), BadAttributes> {
    at_most("words", message.words.len().max(default_words.len()), MAX_WORDS)?;
    let scalars = message.strings.len()
        + message.int64s.len()
        + message.doubles.len()
        + message.bools.len()
        + message.timestamps.len()
        + message.durations.len()
        + message.bytes.len();
    at_most("attributes", scalars + message.string_maps.len(), MAX_ATTRIBUTES)?;
    let largest = message.string_maps.values().map(|map| map.entries.len()).max();
    at_most("entries in a map", largest.unwrap_or_default(), MAX_ENTRIES)
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), BadAttributes> {
    match count <= limit {
        true => Ok(()),
        false => Err(BadAttributes::TooMany { what, limit }),
    }
}

fn expect(name: &str, ty: ValueType, found: &'static str) -> Result<(), BadAttributes> {
    match STANDARD.attribute(name) {
        Some(expected) if expected != ty => Err(wrong(name, expected, found)),
        _ => Ok(()),
    }
}

fn wrong(name: &str, expected: ValueType, found: &'static str) -> BadAttributes {
    BadAttributes::WrongType {
        name: name.to_owned(),
        expected,
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(words: &[&str]) -> CompressedAttributes {
        CompressedAttributes {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            ..CompressedAttributes::default()
        }
    }

    #[test]
    fn words_come_from_both_dictionaries() {
        let mut sent = message(&["shop.tier", "gold"]);
        // request.method, GET; shop.tier, gold
        sent.strings = [(19, 90), (-1, -2)].into();
        sent.bytes = [(0, vec![10, 0, 0, 1])].into();
        let sent = Sent::new(&sent).unwrap();
        assert_eq!(sent.text("request.method"), Some("GET"));
        assert_eq!(sent.text("shop.tier"), Some("gold"));
        assert_eq!(sent.ip("source.ip"), Some([10, 0, 0, 1].into()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let check = |change: fn(&mut CompressedAttributes), expected: &str| {
            let mut sent = message(&["a", "b"]);
            change(&mut sent);
            let error = Sent::new(&sent).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|sent| sent.strings = [(19, -3)].into(), "word -3");
        check(|sent| sent.strings = [(i32::MIN, 0)].into(), "word -2147483648");
        check(|sent| sent.strings = [(i32::MAX, 0)].into(), "word 2147483647");
        check(|sent| sent.int64s = [(19, 1)].into(), "request.method is STRING");
        check(
            |sent| sent.bytes = [(0, vec![1, 2, 3])].into(),
            "neither 4 nor 16",
        );
        check(
            |sent| {
                sent.bools = [(-1, true)].into();
                sent.int64s = [(-1, 1)].into();
            },
            "attribute a was sent twice",
        );
        check(
            |sent| sent.int64s = (0..=1_000).map(|n| (-n, 1)).collect(),
            "more than 1000 attributes",
        );
    }

    #[test]
    fn a_delta_changes_what_it_names() {
        let mut first = message(&["x"]);
        first.strings = [(19, 90), (-1, 0)].into();
        let mut second = message(&[]);
        second.strings = [(19, 91)].into();
        let mut sent = Sent::new(&first).unwrap();
        let defaults = ["unused".to_owned()];
        sent.change(&second, &defaults).unwrap();
        assert_eq!(sent.text("request.method"), Some("POST"));
        assert_eq!(sent.text("x"), Some("source.ip"));
    }
}
