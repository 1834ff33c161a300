//! Objects drawn from bytes: each choice takes the next byte, and once there are none left every choice is the first. So a
//! fuzzer that changes a byte changes one choice, and any bytes give an object.

use config::{Kind, Spec};
use serde_json::{Map, Value, json};

/// Deepest nesting drawn.
const MAX_DEPTH: usize = 24;

/// Texts that some field of the API gives a meaning to.
const TEXTS: &[&str] = &[
    "",
    "a",
    "*",
    "*.example.com",
    "./*",
    "~/*",
    "reviews.shop.svc.cluster.local",
    "10.0.0.0/8",
    "10.0.0.1",
    "2001:db8::/32",
    "::1",
    "unix:///var/run/x.sock",
    "unix://@x",
    "5s",
    "0s",
    "-1h",
    "1.5h",
    "9999999h",
    "1970-01-01T00:00:00Z",
    "HTTP",
    "http",
    "TLS",
    "GET",
    "/a/{*}/b",
    "/a/**",
    "a.*(b|c)+",
    "((a{1,1000}){1,1000})",
    "(?i)[[:alpha:]]",
    "(",
    "mesh",
    "istio-system/gateway",
    "cluster.local/ns/a/sa/b",
    "spiffe://cluster.local/ns/a/sa/b",
    "https://issuer.example/.well-known/jwks.json",
    "oci://example.com/x:1@sha256:00",
    "{\"keys\":[]}",
    "request.headers[x-a]",
    "source.ip",
    "request.size | 0",
    "match(a, \"*\") && (b == 1",
    "%REQ(:PATH)%",
    "${x}",
    "outbound|80||a.b",
    "kubernetes.io/tls",
    "true",
    "1",
    "65536",
    "\u{0}",
    "\u{202e}é",
];

/// A kind, and an object of it.
pub(super) fn object(bytes: &[u8]) -> (Kind, Value) {
    let mut draw = Draw { bytes };
    let kind = Kind::ALL[draw.index(Kind::ALL.len())];
    let schema = Spec::schema(kind);
    let schema = schema.as_value();
    let empty = Map::new();
    let types = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    let mut value = json!({
        "apiVersion": kind.api_version(), "kind": kind.as_str(),
        "metadata": {"name": "x", "namespace": "shop"},
    });
    if draw.byte() % 8 == 7 {
        let key = draw.text();
        let text = draw.text();
        value["metadata"]["annotations"] = json!({key: text, "istio.io/dry-run": "true"});
    }
    let body = draw.value(schema, types, 0);
    let beside = kind.is_kubernetes();
    match body {
        Value::Object(body) if beside => value.as_object_mut().unwrap().extend(body),
        body => value["spec"] = body,
    }
    (kind, value)
}

struct Draw<'a> {
    bytes: &'a [u8],
}

impl Draw<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *first
    }

    /// A number below `count`, which is not 0.
    fn index(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    fn text(&mut self) -> String {
        match self.byte() {
            byte if byte >= 250 => {
                let length = self.index(24);
                let raw: Vec<u8> = (0..length).map(|_| self.byte()).collect();
                String::from_utf8_lossy(&raw).into_owned()
            }
            249 => "a".repeat(usize::from(self.byte()) * 16),
            byte => TEXTS[usize::from(byte) % TEXTS.len()].to_owned(),
        }
    }

    fn number(&mut self) -> Value {
        match self.index(12) {
            0 => json!(1),
            1 => json!(0),
            2 => json!(80),
            3 => json!(65_535),
            4 => json!(65_536),
            5 => json!(-1),
            6 => json!(100),
            7 => json!(0.5),
            8 => json!(i64::MAX),
            9 => json!(u64::MAX),
            10 => json!(1e300),
            _ => json!(self.byte()),
        }
    }

    /// A value that need not be what the field takes.
    fn odd(&mut self) -> Value {
        match self.index(6) {
            0 => Value::Null,
            1 => json!(self.text()),
            2 => self.number(),
            3 => json!([self.text()]),
            4 => json!({self.text(): self.text()}),
            _ => json!(self.byte().is_multiple_of(2)),
        }
    }

    fn value(&mut self, schema: &Value, types: &Map<String, Value>, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        if self.bytes.first() == Some(&255) {
            self.byte();
            return self.odd();
        }
        let name = schema.get("$ref").and_then(Value::as_str);
        if let Some(target) = name.and_then(|name| types.get(name.trim_start_matches("#/$defs/"))) {
            return self.value(target, types, depth + 1);
        }
        for choice in ["oneOf", "anyOf", "enum"] {
            if let Some(options) = schema
                .get(choice)
                .and_then(Value::as_array)
                .filter(|all| !all.is_empty())
            {
                let option = &options[self.index(options.len())];
                return match choice {
                    "enum" => option.clone(),
                    _ => self.value(option, types, depth + 1),
                };
            }
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        let own = match schema.get("type") {
            Some(Value::Array(names)) => names.first().and_then(Value::as_str),
            own => own.and_then(Value::as_str),
        };
        match own {
            Some("boolean") => json!(self.byte() % 2 == 1),
            Some("string") => json!(self.text()),
            Some("integer" | "number") => self.number(),
            Some("array") => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                let length = self.index(4);
                (0..length).map(|_| self.value(items, types, depth + 1)).collect()
            }
            Some("object") => self.fields(schema, types, depth),
            _ => self.odd(),
        }
    }

    fn fields(&mut self, schema: &Value, types: &Map<String, Value>, depth: usize) -> Value {
        let mut map = Map::new();
        let known = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        for (name, field) in known.into_iter().flatten() {
            let needed = required.is_some_and(|names| names.iter().any(|one| one == name));
            if self.byte() % 5 == 1 || needed {
                map.insert(name.clone(), self.value(field, types, depth + 1));
            }
        }
        if let Some(values) = schema.get("additionalProperties").filter(|more| more.is_object()) {
            for _ in 0..self.index(3) {
                let key = self.text();
                map.insert(key, self.value(values, types, depth + 1));
            }
        }
        Value::Object(map)
    }
}
