//! Instances as the messages of a template's descriptor. Pure.
//!
//! Fields are found by their JSON names, and values written in protobuf's JSON form, which `prost-reflect` reads by the
//! descriptor.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use config::{descriptor, templates};
use policy::{Datum, FieldValue, Fields, InstanceValue, Taken};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    Value as Dynamic,
};
use serde_json::{Map, Value, json};

/// Istio's type for values of any type.
const VALUE: &str = "istio.policy.v1beta1.Value";

/// How instances of a template are handed over.
#[derive(Debug, Clone)]
pub(super) struct Method {
    /// `/PACKAGE.SERVICE/METHOD`.
    pub(super) path: String,
    request: MessageDescriptor,
    /// `instance` of checks, `instances` of reports.
    instances: FieldDescriptor,
    instance: MessageDescriptor,
}

/// Units that are wanted of a quota (`istio.mixer.adapter.model.v1beta1.QuotaRequest.QuotaParams`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) amount: i64,
    pub(super) best_effort: bool,
}

/// The adapter's parameters, or the session that stands for them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Configured {
    pub(super) type_url: String,
    pub(super) value: Vec<u8>,
}

fn pool(text: &str) -> Result<DescriptorPool, String> {
    descriptor::read(text).map_err(|error| error.to_string())
}

impl Method {
    /// The method that a template's descriptor has for its instances.
    pub(super) fn new(template: &str, taken: &Taken) -> Result<Self, String> {
        let problem = |why: String| format!("the descriptor of the template {template} {why}");
        let pool = pool(&taken.descriptor).map_err(problem)?;
        if taken.is_own() {
            let found = templates::method(&pool).map_err(|why| format!("the template {template}: {why}"))?;
            return Self::of(&found.0, found.1).map_err(problem);
        }
        let mut services = pool.services();
        let service = services
            .find(|service| service.package_name() == template && service.name().starts_with("Handle"))
            .ok_or_else(|| problem(format!("has no service {template}.Handle…Service")))?;
        let method = service
            .methods()
            .next()
            .ok_or_else(|| problem(format!("has no method in {}", service.full_name())))?;
        let request = method.input();
        let instances = ["instance", "instances"]
            .into_iter()
            .find_map(|name| request.get_field_by_name(name))
            .ok_or_else(|| problem(format!("has no field instance in {}", request.full_name())))?;
        Self::of(&method, instances).map_err(problem)
    }

    fn of(method: &MethodDescriptor, instances: FieldDescriptor) -> Result<Self, String> {
        let Kind::Message(instance) = instances.kind() else {
            return Err(format!("has no message in {}", instances.full_name()));
        };
        Ok(Self {
            path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            request: method.input(),
            instances,
            instance,
        })
    }

    /// A request for instances, encoded.
    pub(super) fn request(
        &self,
        instances: &[&InstanceValue],
        configured: Option<&Configured>,
        id: &str,
        wanted: Option<(&str, Wanted)>,
    ) -> Result<Vec<u8>, String> {
        let mut encoded = Vec::with_capacity(instances.len());
        for instance in instances {
            encoded.push(Dynamic::Message(self.message(instance)?));
        }
        let mut request = DynamicMessage::new(self.request.clone());
        if self.instances.is_list() {
            request.set_field(&self.instances, Dynamic::List(encoded));
        } else if let Some(one) = encoded.pop() {
            request.set_field(&self.instances, one);
        }
        if self.request.get_field_by_name("dedup_id").is_some() {
            request.set_field_by_name("dedup_id", Dynamic::String(id.to_owned()));
        }
        if let Some((quota, wanted)) = wanted {
            self.want(&mut request, quota, wanted)?;
        }
        if let Some(configured) = configured
            && let Some(field) = self.request.get_field_by_name("adapter_config")
            && let Kind::Message(any) = field.kind()
        {
            let mut message = DynamicMessage::new(any);
            message.set_field_by_name("type_url", Dynamic::String(configured.type_url.clone()));
            message.set_field_by_name("value", Dynamic::Bytes(configured.value.clone().into()));
            request.set_field(&field, Dynamic::Message(message));
        }
        Ok(request.encode_to_vec())
    }

    /// Says how many units are wanted.
    fn want(&self, request: &mut DynamicMessage, quota: &str, wanted: Wanted) -> Result<(), String> {
        let missing = || format!("{} has no message quota_request", self.request.full_name());
        let field = self
            .request
            .get_field_by_name("quota_request")
            .ok_or_else(missing)?;
        let Kind::Message(message) = field.kind() else {
            return Err(missing());
        };
        let json = json!({"quotas": {quota: {"amount": wanted.amount.to_string(), "bestEffort": wanted.best_effort}}});
        let value = DynamicMessage::deserialize(message, json)
            .map_err(|error| format!("{}: {error}", field.full_name()))?;
        request.set_field(&field, Dynamic::Message(value));
        Ok(())
    }

    fn message(&self, instance: &InstanceValue) -> Result<DynamicMessage, String> {
        let mut json = object(&self.instance, &instance.fields)?;
        json.insert("name".to_owned(), json!(&*instance.name));
        DynamicMessage::deserialize(self.instance.clone(), Value::Object(json)).map_err(|error| {
            format!(
                "{} does not fit {}: {error}",
                instance.name,
                self.instance.full_name()
            )
        })
    }
}

/// The parameters of an adapter by its descriptor (base64): the message `Params` in it.
pub(super) fn params(
    adapter: &str,
    descriptor: &str,
    params: &Map<String, Value>,
) -> Result<Configured, String> {
    let problem = |why: String| format!("the configuration descriptor of the adapter {adapter} {why}");
    let pool = pool(descriptor).map_err(problem)?;
    let message = pool
        .all_messages()
        .find(|message| message.name() == "Params" && message.parent_message().is_none())
        .ok_or_else(|| problem("has no message Params".to_owned()))?;
    let type_url = format!("type.googleapis.com/{}", message.full_name());
    let read = DynamicMessage::deserialize(message, Value::Object(params.clone()))
        .map_err(|error| format!("the parameters do not fit the adapter {adapter}: {error}"))?;
    Ok(Configured {
        type_url,
        value: read.encode_to_vec(),
    })
}

fn object(message: &MessageDescriptor, fields: &Fields) -> Result<Map<String, Value>, String> {
    let mut json = Map::new();
    for (name, value) in fields.iter() {
        let field = message
            .get_field_by_json_name(name)
            .ok_or_else(|| format!("{} has no field {name}", message.full_name()))?;
        json.insert(name.to_owned(), field_json(&field, value)?);
    }
    Ok(json)
}

fn field_json(field: &FieldDescriptor, value: &FieldValue) -> Result<Value, String> {
    match value {
        FieldValue::One(datum) => Ok(one(&field.kind(), datum)),
        FieldValue::Many(values) => Ok(many(field, values)),
        FieldValue::Message(fields) => match field.kind() {
            Kind::Message(message) => object(&message, fields).map(Value::Object),
            _ => Err(format!("{} is no message", field.full_name())),
        },
    }
}

fn many(field: &FieldDescriptor, values: &BTreeMap<String, Datum>) -> Value {
    let of = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    let entries = values.iter().map(|(name, datum)| (name.clone(), one(&of, datum)));
    Value::Object(entries.collect())
}

fn one(kind: &Kind, datum: &Datum) -> Value {
    match kind {
        Kind::Message(message) if message.full_name() == VALUE => tagged(datum),
        // Istio's types of one field each: IPAddress, TimeStamp, Duration, DNSName, ….
        Kind::Message(_) => json!({"value": plain(datum)}),
        Kind::String => json!(datum.to_string()),
        _ => plain(datum),
    }
}

/// A value of any type.
fn tagged(datum: &Datum) -> Value {
    let wrapped = || json!({"value": plain(datum)});
    match datum {
        Datum::Text(text) => json!({"stringValue": text}),
        Datum::Int(number) => json!({"int64Value": number.to_string()}),
        Datum::Double(number) => json!({"doubleValue": double(*number)}),
        Datum::Bool(truth) => json!({"boolValue": truth}),
        Datum::Ip(_) => json!({"ipAddressValue": wrapped()}),
        Datum::Timestamp(_) => json!({"timestampValue": wrapped()}),
        Datum::Duration(_) => json!({"durationValue": wrapped()}),
        Datum::Email(_) => json!({"emailAddressValue": wrapped()}),
        Datum::DnsName(_) => json!({"dnsNameValue": wrapped()}),
        Datum::Uri(_) => json!({"uriValue": wrapped()}),
        Datum::Map(_) => json!({"stringMapValue": wrapped()}),
    }
}

fn plain(datum: &Datum) -> Value {
    match datum {
        Datum::Int(number) => json!(number.to_string()),
        Datum::Double(number) => double(*number),
        Datum::Bool(truth) => json!(truth),
        Datum::Ip(ip) => json!(BASE64.encode(match ip {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        })),
        Datum::Duration(nanos) => {
            let sign = if *nanos < 0 { "-" } else { "" };
            let n = nanos.unsigned_abs();
            json!(format!("{sign}{}.{:09}s", n / 1_000_000_000, n % 1_000_000_000))
        }
        Datum::Map(entries) => json!(entries),
        other => json!(other.to_string()),
    }
}

/// JSON has no numbers for these; protobuf's has text.
fn double(number: f64) -> Value {
    if number.is_nan() {
        return json!("NaN");
    }
    match (number.is_infinite(), number > 0.0) {
        (true, true) => json!("Infinity"),
        (true, false) => json!("-Infinity"),
        _ => json!(number),
    }
}
