//! HTTPAPISpecs and their bindings: what they say of a request to a service by its method and path (`api.operation`,
//! `api.version`, …), and where its API key stands (`request.api_key`).
//!
//! As Istio's proxies did it: the attributes of the specification, then those of the most exact template, then those of each
//! regular expression that matches the path with its query.

mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use config::mixer::{
    ApiKey, AttributeValue, Attributes, HttpApiSpec, HttpApiSpecBinding, HttpApiSpecPattern,
};
use expr::{Attributes as _, Bag, Timestamp, Use, Value, Vocabulary};
use regex::Regex;

use self::template::{Parts, Template};
use crate::request::Request;
use crate::services::Services;
use crate::workload::ServiceView;
use config::adapters::Problem;

/// The specifications of all bindings.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiSpecs {
    bound: Vec<Bound>,
}

#[derive(Clone, Debug)]
struct Bound {
    services: Vec<Services>,
    specs: Vec<Arc<ApiSpec>>,
}

/// A specification, compiled.
#[derive(Clone, Debug)]
pub(crate) struct ApiSpec {
    attributes: Bag,
    /// By how exact they are.
    templates: Vec<(Template, Operation)>,
    regexes: Vec<(Regex, Operation)>,
    keys: Vec<KeyPlace>,
    /// The verbs of templates.
    verbs: BTreeSet<String>,
    /// All attributes that it may give.
    names: BTreeSet<String>,
}

/// A method with the attributes of its requests.
#[derive(Clone, Debug)]
struct Operation {
    method: String,
    attributes: Bag,
}

/// Where an API key stands.
#[derive(Clone, Debug)]
enum KeyPlace {
    Query(String),
    Header(String),
    Cookie(String),
}

/// What specifications say of one request.
#[derive(Debug)]
pub(crate) struct ApiFacts<'a> {
    /// The last that has an attribute gives it.
    given: Vec<&'a Bag>,
    /// None where no specification says where keys stand.
    key: Option<Option<String>>,
}

impl ApiFacts<'_> {
    /// The value of an attribute, when a specification has one.
    pub(crate) fn get(&self, name: &str) -> Option<Value<'_>> {
        self.given.iter().rev().find_map(|bag| bag.get(name))
    }

    /// The API key, if a specification says where it stands: `Some(None)` if it is not there.
    pub(crate) fn key(&self) -> Option<Option<&str>> {
        self.key.as_ref().map(Option::as_deref)
    }
}

impl ApiSpec {
    /// Compiles a specification; `vocabulary` has the types of attributes.
    pub(crate) fn new(spec: &HttpApiSpec, vocabulary: &dyn Vocabulary) -> Result<Self, Problem> {
        let mut names = BTreeSet::new();
        let mut read = |given: &Option<Attributes>, at: &str| {
            let bag = bag(given.as_ref(), vocabulary, &mut names);
            bag.map_err(|problem| problem.below("attributes.attributes").below(at))
        };
        let attributes = read(&spec.attributes, "")?;
        let (mut templates, mut regexes) = (Vec::new(), Vec::new());
        for (i, pattern) in spec.patterns.iter().enumerate() {
            let at = format!("patterns[{i}]");
            let operation = Operation {
                method: pattern.http_method.clone(),
                attributes: read(&pattern.attributes, &at)?,
            };
            match matching(pattern).map_err(|problem| problem.below(&at))? {
                Matching::Template(template) => templates.push((template, operation)),
                Matching::Regex(regex) => regexes.push((regex, operation)),
            }
        }
        templates.sort_by(|(a, _), (b, _)| a.cmp(b));
        let verbs = templates.iter().filter_map(|(template, _)| template.verb());
        let keys = spec.api_keys.iter().filter_map(KeyPlace::new);
        Ok(Self {
            attributes,
            verbs: verbs.map(str::to_owned).collect(),
            keys: keys.collect(),
            templates,
            regexes,
            names,
        })
    }

    fn given<'a>(&'a self, request: &Request<'_>, out: &mut Vec<&'a Bag>) {
        out.push(&self.attributes);
        let (Some(path), method) = (request.path, request.method.unwrap_or_default()) else {
            return;
        };
        let parts = Parts::new(path.split(['?', '#']).next().unwrap_or_default(), &self.verbs);
        let template = self
            .templates
            .iter()
            .find(|(template, operation)| operation.is(method) && template.matches(&parts));
        out.extend(template.map(|(_, operation)| &operation.attributes));
        let regexes = self.regexes.iter();
        let matching = regexes.filter(|(regex, operation)| operation.is(method) && regex.is_match(path));
        out.extend(matching.map(|(_, operation)| &operation.attributes));
    }
}

impl Operation {
    fn is(&self, method: &str) -> bool {
        self.method == "*" || self.method.eq_ignore_ascii_case(method)
    }
}

enum Matching {
    Template(Template),
    Regex(Regex),
}

fn matching(pattern: &HttpApiSpecPattern) -> Result<Matching, Problem> {
    match (&pattern.uri_template, &pattern.regex) {
        (Some(text), None) => {
            let template = Template::parse(text).map_err(|why| Problem::new("uriTemplate", why))?;
            Ok(Matching::Template(template))
        }
        (None, Some(text)) => {
            let built = expr::compile_whole(text);
            built
                .map(Matching::Regex)
                .map_err(|why| Problem::new("regex", why))
        }
        _ => Err(Problem::new("", "needs either uriTemplate or regex")),
    }
}

/// The attributes of a specification. Those by which Mixer knows who calls whom are not for it to give.
fn bag(
    given: Option<&Attributes>,
    vocabulary: &dyn Vocabulary,
    names: &mut BTreeSet<String>,
) -> Result<Bag, Problem> {
    let mut bag = Bag::default();
    for (name, value) in given.into_iter().flat_map(|given| &given.attributes) {
        let at = format!("[{name}]");
        let problem = |message: String| Problem::new(&at, message);
        let standard = Vocabulary::attribute(&expr::STANDARD, name).is_some();
        if standard && !name.starts_with("api.") {
            return Err(problem(format!(
                "{name} is what the request itself says; give attributes of api.* or of an attributemanifest of your own"
            )));
        }
        let ty = vocabulary.attribute(name).ok_or_else(|| {
            problem(format!(
                "unknown attribute {name}; declare it in an attributemanifest"
            ))
        })?;
        names.insert(name.clone());
        if let Some(map) = &value.string_map_value {
            if ty != expr::ValueType::StringMap {
                return Err(problem(format!("is a map, but {name} is {ty}")));
            }
            bag.set_map(name, map.entries.clone());
            continue;
        }
        match scalar(value) {
            Some(value) if value.is(ty) => bag.set(name, value),
            _ => return Err(problem(format!("has no value of type {ty}"))),
        };
    }
    Ok(bag)
}

fn scalar(value: &AttributeValue) -> Option<Value<'static>> {
    let text = value.string_value.clone().map(Value::from);
    let bytes = || {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(value.bytes_value.as_ref()?)
            .ok()?;
        // Addresses are the only bytes that attributes have.
        let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(Into::into);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(Into::into))
            .ok()
            .map(Value::Ip)
    };
    let time = || Timestamp::parse(value.timestamp_value.as_ref()?).map(Value::Timestamp);
    let duration = || {
        let nanos = value.duration_value?.0.as_nanos();
        i64::try_from(nanos).ok().map(Value::Duration)
    };
    text.or_else(|| value.int64_value.map(Value::Int))
        .or_else(|| value.double_value.map(Value::Double))
        .or_else(|| value.bool_value.map(Value::Bool))
        .or_else(bytes)
        .or_else(time)
        .or_else(duration)
}

impl KeyPlace {
    fn new(key: &ApiKey) -> Option<Self> {
        let query = key.query.clone().map(Self::Query);
        query
            .or_else(|| {
                key.header
                    .as_ref()
                    .map(|name| Self::Header(name.to_ascii_lowercase()))
            })
            .or_else(|| key.cookie.clone().map(Self::Cookie))
    }

    /// The header in which it stands.
    fn header(&self) -> Option<&str> {
        match self {
            Self::Query(_) => None,
            Self::Header(name) => Some(name),
            Self::Cookie(_) => Some("cookie"),
        }
    }

    fn find(&self, request: &Request<'_>) -> Option<String> {
        let header = |name: &str| request.headers.and_then(|headers| headers.lookup(name));
        let found = match self {
            Self::Query(name) => request
                .query
                .and_then(|query| query.get(name))
                .map(String::as_str),
            Self::Header(name) => header(name),
            Self::Cookie(name) => header("cookie").and_then(|cookies| cookie(cookies, name)),
        };
        found.filter(|key| !key.is_empty()).map(str::to_owned)
    }
}

/// A cookie's value (RFC 6265 5.4; proxies join several headers by commas or semicolons).
fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    let pairs = cookies
        .split([';', ','])
        .filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    found.next().map(|value| value.trim_matches('"'))
}

impl ApiSpecs {
    /// Adds a binding; `specs` are all specifications by namespace and name, `None` those that cannot be used.
    pub(crate) fn bind(
        &mut self,
        namespace: &str,
        binding: &HttpApiSpecBinding,
        specs: &BTreeMap<(String, String), Option<Arc<ApiSpec>>>,
        problems: &mut Vec<Problem>,
    ) {
        let services = Services::of_binding(&binding.services, namespace, problems);
        let mut all = Vec::new();
        for (i, reference) in binding.api_specs.iter().enumerate() {
            let own = match reference.namespace.as_str() {
                "" => namespace,
                own => own,
            };
            match specs.get(&(own.to_owned(), reference.name.clone())) {
                // A bad specification is reported where it stands.
                Some(spec) => all.extend(spec.clone()),
                None => {
                    let message = format!("there is no HTTPAPISpec {own}/{}", reference.name);
                    problems.push(Problem::new(format!("apiSpecs[{i}]"), message));
                }
            }
        }
        self.bound.push(Bound { services, specs: all });
    }

    fn of<'a>(&'a self, service: &ServiceView) -> impl Iterator<Item = &'a ApiSpec> {
        let bound = self.bound.iter();
        let bound = bound.filter(move |bound| bound.services.iter().any(|s| s.holds(service)));
        bound.flat_map(|bound| &bound.specs).map(|spec| &**spec)
    }

    /// What is said of a request; none where no specification is bound to its service.
    pub(crate) fn facts<'a>(&'a self, request: &Request<'_>) -> Option<ApiFacts<'a>> {
        if self.bound.is_empty() || request.method.is_none() {
            return None;
        }
        let service = request.service?;
        let (mut given, mut keys, mut bound) = (Vec::new(), Vec::new(), false);
        for spec in self.of(service) {
            bound = true;
            spec.given(request, &mut given);
            keys.extend(&spec.keys);
        }
        let key = (!keys.is_empty()).then(|| keys.iter().find_map(|place| place.find(request)));
        bound.then_some(ApiFacts { given, key })
    }

    /// The attributes that specifications of these services may give.
    pub(crate) fn names<'a>(&self, services: impl Iterator<Item = &'a ServiceView>) -> BTreeSet<String> {
        let specs = services.flat_map(|service| self.of(service));
        specs.flat_map(|spec| spec.names.iter().cloned()).collect()
    }

    /// Adds what must be known of requests to these services (all, if `None`), for what specifications say to be found.
    pub(crate) fn expand(&self, uses: &mut BTreeSet<Use>, services: Option<&[ServiceView]>) {
        let specs: Vec<&ApiSpec> = match services {
            Some(services) => services.iter().flat_map(|service| self.of(service)).collect(),
            None => self
                .bound
                .iter()
                .flat_map(|bound| &bound.specs)
                .map(|spec| &**spec)
                .collect(),
        };
        let read = |name: &str| uses.iter().any(|used| used.name() == name);
        let mut more = BTreeSet::new();
        if specs.iter().flat_map(|spec| &spec.names).any(|name| read(name)) {
            more.extend(["request.path", "request.method"].map(|name| Use::Attribute(name.to_owned())));
        }
        if read("request.api_key") {
            let headers = specs
                .iter()
                .flat_map(|spec| &spec.keys)
                .filter_map(KeyPlace::header);
            more.extend(headers.map(|name| Use::Entry("request.headers".to_owned(), name.to_owned())));
        }
        uses.extend(more);
    }
}

#[cfg(test)]
mod tests;
