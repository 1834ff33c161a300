//! Templates of a user's own, for adapters outside of the process: their fields are those of the message that the descriptor of
//! the `template` object has for instances (Istio 1.4, "Mixer Out of Process Adapter": the generated `…_handler_service.proto`).

use std::borrow::Cow;

use expr::{ValueType, Vocabulary};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value as Json};

use super::{Field, FieldType, Fields, Record};
use crate::adapters::{Problem, camel};
use crate::descriptor::{self, DescriptorError};

/// Most messages within each other.
const MAX_DEPTH: usize = 8;
/// Most fields of one message.
const MAX_FIELDS: usize = 1000;
/// Package of the answers that adapters give.
const MODEL: &str = "istio.mixer.adapter.model.v1beta1";
/// Package of the types of values.
const TYPES: &str = "istio.policy.v1beta1";

/// Why a descriptor is none of a template that is served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnError {
    /// It cannot be read.
    #[error("the descriptor {0}")]
    Descriptor(#[from] DescriptorError),
    /// It has no service to hand instances to, or several.
    #[error(
        "the descriptor has {0} services Handle…Service, but a template has one; use that of the template's _handler_service.proto"
    )]
    Services(usize),
    /// The service has no method, or several.
    #[error("{0} has {1} methods, but a template has one")]
    Methods(String, usize),
    /// The method's request holds no instances.
    #[error("{0} has no message in a field instance or instances")]
    NoInstance(String),
    /// A variety that is not served.
    #[error(
        "{0} answers with {1}: only checks, reports and quotas are served, and no template whose answers make attributes"
    )]
    Variety(String, String),
    /// A field of a type that templates do not have, or that is not served.
    #[error(
        "the field {0} is {1}, which is not served; fields are numbers, truths, texts, the types of istio.policy.v1beta1, maps of these by text, and messages of such fields"
    )]
    Field(String, String),
    /// More fields or messages within each other than are read.
    #[error(
        "{0} has more than {MAX_FIELDS} fields, or messages within each other more than {MAX_DEPTH} deep"
    )]
    Large(String),
}

/// When adapters are told of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variety {
    /// Before a request passes.
    Check,
    /// After it has ended.
    Report,
    /// For units, before it passes.
    Quota,
}

/// A template that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnTemplate {
    /// When adapters are told of its instances.
    pub variety: Variety,
    fields: Vec<Field>,
}

/// The one method by which adapters take a template's instances, and the field of its request for them.
///
/// # Errors
/// What a template's descriptor would have to have.
pub fn method(pool: &DescriptorPool) -> Result<(MethodDescriptor, FieldDescriptor), OwnError> {
    let services: Vec<_> = pool
        .services()
        .filter(|service| service.name().starts_with("Handle") && service.name().ends_with("Service"))
        .collect();
    let [service] = services.as_slice() else {
        return Err(OwnError::Services(services.len()));
    };
    let methods: Vec<_> = service.methods().collect();
    let [method] = methods.as_slice() else {
        return Err(OwnError::Methods(service.full_name().to_owned(), methods.len()));
    };
    let request = method.input();
    let instances = ["instance", "instances"]
        .into_iter()
        .find_map(|name| request.get_field_by_name(name))
        .filter(|field| matches!(field.kind(), Kind::Message(_)));
    let instances = instances.ok_or_else(|| OwnError::NoInstance(request.full_name().to_owned()))?;
    Ok((method.clone(), instances))
}

impl OwnTemplate {
    /// Reads a template's descriptor, a `FileDescriptorSet` in base64.
    ///
    /// # Errors
    /// Why it cannot be served, by what is in the descriptor.
    pub fn read(text: &str) -> Result<Self, OwnError> {
        let pool = descriptor::read(text)?;
        let (method, instances) = method(&pool)?;
        let Kind::Message(instance) = instances.kind() else {
            return Err(OwnError::NoInstance(method.input().full_name().to_owned()));
        };
        let mut fields = fields(&instance, 0)?;
        // Mixer's own: which instance it is.
        fields.retain(|field| field.name != "name");
        Ok(Self {
            variety: variety(&method)?,
            fields,
        })
    }

    /// Reads an instance's parameters: the expressions that fill the fields.
    ///
    /// # Errors
    /// All that is wrong, each at its parameter.
    pub fn record(
        &self,
        params: &Map<String, Json>,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Record, Vec<Problem>> {
        let mut problems = Vec::new();
        let record = Record::read(&self.fields, params, vocabulary, &mut problems);
        match problems.is_empty() {
            true => Ok(record),
            false => Err(problems),
        }
    }
}

fn variety(method: &MethodDescriptor) -> Result<Variety, OwnError> {
    let answer = method.output();
    match answer.full_name().strip_prefix(MODEL) {
        Some(".CheckResult") => Ok(Variety::Check),
        Some(".ReportResult") => Ok(Variety::Report),
        Some(".QuotaResult") => Ok(Variety::Quota),
        _ => Err(OwnError::Variety(
            method.full_name().to_owned(),
            answer.full_name().to_owned(),
        )),
    }
}

fn fields(message: &MessageDescriptor, depth: usize) -> Result<Vec<Field>, OwnError> {
    if depth > MAX_DEPTH || message.fields().len() > MAX_FIELDS {
        return Err(OwnError::Large(message.full_name().to_owned()));
    }
    let field = |field: FieldDescriptor| {
        Ok(Field {
            // As parameters are read: in camelCase.
            name: Cow::Owned(camel(field.name())),
            ty: field_type(&field, depth)?,
            required: false,
        })
    };
    message.fields().map(field).collect()
}

fn field_type(field: &FieldDescriptor, depth: usize) -> Result<FieldType, OwnError> {
    let unserved = |what: &str| OwnError::Field(field.full_name().to_owned(), what.to_owned());
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            if entry.map_entry_key_field().kind() != Kind::String {
                return Err(unserved("a map whose keys are no texts"));
            }
            match one(&entry.map_entry_value_field().kind()) {
                Some(FieldType::Value) => Ok(FieldType::Values),
                Some(FieldType::Text) => Ok(FieldType::Each(ValueType::String)),
                Some(FieldType::Exactly(ty)) => Ok(FieldType::Each(ty)),
                _ => Err(unserved("a map of other messages")),
            }
        }
        _ if field.is_list() => Err(unserved("repeated")),
        kind => match (one(&kind), kind) {
            (Some(ty), _) => Ok(ty),
            (None, Kind::Message(message)) if message.package_name() != TYPES => {
                fields(&message, depth + 1).map(|fields| FieldType::Message(Fields::Own(fields)))
            }
            (None, kind) => Err(unserved(&format!("{kind:?}"))),
        },
    }
}

/// A type of one value.
fn one(kind: &Kind) -> Option<FieldType> {
    use ValueType::{Bool, DnsName, Double, Duration, EmailAddress, Int64, IpAddress, Timestamp, Uri};
    let exactly = match kind {
        Kind::String => return Some(FieldType::Text),
        Kind::Int64 => Int64,
        Kind::Double => Double,
        Kind::Bool => Bool,
        Kind::Message(message) if message.package_name() == TYPES => match message.name() {
            "Value" => return Some(FieldType::Value),
            "TimeStamp" => Timestamp,
            "Duration" => Duration,
            "IPAddress" => IpAddress,
            "DNSName" => DnsName,
            "EmailAddress" => EmailAddress,
            "Uri" => Uri,
            _ => return None,
        },
        _ => return None,
    };
    Some(FieldType::Exactly(exactly))
}
