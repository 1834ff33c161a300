//! Quota and HTTP API specifications of config.istio.io (istio.mixer.v1.config.client).

use std::collections::BTreeMap;

use crate::api::api;
use crate::networking::StringMatch;

api! {
    /// Which quotas a request is charged.
    pub struct QuotaSpec {
        rules: Vec<QuotaRule>,
    }

    /// Quotas charged when any of `match` holds, or always when there is none.
    pub struct QuotaRule {
        r#match: Vec<AttributeMatch>,
        quotas: Vec<Quota>,
    }

    /// Conditions on attributes, all of which must hold.
    pub struct AttributeMatch {
        clause: BTreeMap<String, StringMatch>,
    }

    /// A quota and how much of it a request takes.
    pub struct Quota {
        quota: String,
        charge: i32,
    }

    /// Binds quota specifications to services.
    pub struct QuotaSpecBinding {
        services: Vec<IstioService>,
        quota_specs: Vec<SpecReference>,
    }

    /// Names a specification of any of these kinds.
    pub struct SpecReference {
        name: String,
        namespace: String,
    }

    /// A service by name or by labels.
    pub struct IstioService {
        name: String,
        namespace: String,
        domain: String,
        service: String,
        labels: BTreeMap<String, String>,
    }

    /// Attributes given to requests by method and path.
    pub struct HttpApiSpec {
        attributes: Option<Attributes>,
        patterns: Vec<HttpApiSpecPattern>,
        api_keys: Vec<ApiKey>,
    }

    /// Named attribute values.
    pub struct Attributes {
        attributes: BTreeMap<String, AttributeValue>,
    }

    /// One attribute value.
    #[schemars(extend("x-oneof" = [[
        "stringValue", "int64Value", "doubleValue", "boolValue", "bytesValue", "timestampValue", "durationValue",
        "stringMapValue"
    ]]))]
    pub struct AttributeValue {
        string_value: Option<String>,
        int64_value: Option<i64>,
        double_value: Option<f64>,
        bool_value: Option<bool>,
        bytes_value: Option<String>,
        timestamp_value: Option<String>,
        duration_value: Option<crate::Duration>,
        string_map_value: Option<StringMap>,
    }

    /// A map value.
    pub struct StringMap {
        entries: BTreeMap<String, String>,
    }

    /// A method and path with their attributes.
    #[schemars(extend("x-oneof" = [["uriTemplate", "regex"]]))]
    pub struct HttpApiSpecPattern {
        attributes: Option<Attributes>,
        http_method: String,
        uri_template: Option<String>,
        regex: Option<String>,
    }

    /// Where an API key is found.
    #[schemars(extend("x-oneof" = [["query", "header", "cookie"]]))]
    pub struct ApiKey {
        query: Option<String>,
        header: Option<String>,
        cookie: Option<String>,
    }

    /// Binds HTTP API specifications to services.
    pub struct HttpApiSpecBinding {
        services: Vec<IstioService>,
        api_specs: Vec<SpecReference>,
    }
}
