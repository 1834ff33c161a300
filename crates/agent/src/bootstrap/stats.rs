//! Which statistics Envoy keeps, and which tags it takes out of their names: Istio's defaults and its
//! annotations (`sidecar.istio.io/statsInclusionPrefixes`, …).

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What readiness and draining read, and what Argosy's own metrics are called.
const PREFIXES: [&str; 7] = [
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "component",
    "istio",
    "wasm",
];
const SUFFIXES: [&str; 5] = [
    "rbac.allowed",
    "rbac.denied",
    "shadow_allowed",
    "shadow_denied",
    "downstream_cx_active",
];
const REGEXPS: [&str; 1] = [r"vhost\..*\.route\..*"];

/// Most patterns that one kind of option may add; more are left out and named by [`StatsOptions::from_annotations`].
const MAX_PATTERNS: usize = 64;

/// Additions to the default set of statistics and tags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatsOptions {
    /// Names with these prefixes are kept too.
    pub prefixes: Vec<String>,
    /// Names with these suffixes are kept too.
    pub suffixes: Vec<String>,
    /// Names that match these RE2 expressions as a whole are kept too.
    pub regexps: Vec<String>,
    /// Tags of custom metrics, written `NAME=.=VALUE;.;` in a statistic's name.
    pub extra_tags: Vec<String>,
}

impl StatsOptions {
    /// Reads Istio's annotations, each a list with commas.
    ///
    /// # Errors
    /// Names the annotation that holds too many or unusable entries; correct it on the workload.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, AnnotationError> {
        let list = |name: &'static str| entries(annotations, name);
        let options = Self {
            prefixes: list("sidecar.istio.io/statsInclusionPrefixes")?,
            suffixes: list("sidecar.istio.io/statsInclusionSuffixes")?,
            regexps: list("sidecar.istio.io/statsInclusionRegexps")?,
            extra_tags: list(EXTRA_TAGS)?,
        };
        match options.extra_tags.iter().find(|tag| !is_tag_name(tag)) {
            Some(tag) => Err(AnnotationError::TagName(tag.clone())),
            None => Ok(options),
        }
    }
}

impl StatsOptions {
    /// These and the others, in this order.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.prefixes.extend(others.prefixes);
        self.suffixes.extend(others.suffixes);
        self.regexps.extend(others.regexps);
        let tags = others.extra_tags.into_iter().filter(|tag| is_tag_name(tag));
        self.extra_tags.extend(tags);
        self
    }
}

const EXTRA_TAGS: &str = "sidecar.istio.io/extraStatTags";

/// An annotation about statistics that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// The list is longer than [`MAX_PATTERNS`].
    #[error("annotation {0}: more than {MAX_PATTERNS} entries; shorten the list")]
    TooMany(&'static str),
    /// A tag becomes part of an expression and a label's name.
    #[error("annotation {EXTRA_TAGS}: {0:?} is no tag name; use letters, digits and _")]
    TagName(String),
}

fn entries(
    annotations: &BTreeMap<String, String>,
    name: &'static str,
) -> Result<Vec<String>, AnnotationError> {
    let Some(text) = annotations.get(name) else {
        return Ok(Vec::new());
    };
    let list: Vec<String> = text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(str::to_owned)
        .collect();
    if list.len() > MAX_PATTERNS {
        Err(AnnotationError::TooMany(name))
    } else {
        Ok(list)
    }
}

fn is_tag_name(tag: &str) -> bool {
    tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

pub(super) fn config(options: &StatsOptions, domain: &str) -> Value {
    json!({
        "use_all_default_tags": false,
        "stats_tags": tags(options, domain),
        "stats_matcher": { "inclusion_list": { "patterns": patterns(options) } },
    })
}

fn patterns(options: &StatsOptions) -> Vec<Value> {
    let exact = |key: &'static str, own: &[&str], added: &[String]| -> Vec<Value> {
        let own = own.iter().map(|text| (*text).to_owned());
        own.chain(added.iter().cloned())
            .map(|text| json!({ key: text }))
            .collect()
    };
    let regexps = REGEXPS
        .iter()
        .map(|text| (*text).to_owned())
        .chain(options.regexps.iter().cloned());
    let mut patterns = exact("prefix", &PREFIXES, &options.prefixes);
    patterns.extend(exact("suffix", &SUFFIXES, &options.suffixes));
    patterns.extend(regexps.map(|regex| json!({ "safe_regex": { "regex": regex } })));
    patterns
}

/// Tag names are Istio's (dashboards ask for them). The first group of an expression is cut out of the name,
/// the second is the value. Envoy reads them as ECMAScript expressions.
fn tags(options: &StatsOptions, domain: &str) -> Vec<Value> {
    let cluster_name = cluster_name_expression(domain);
    let fixed = [
        ("cluster_name", cluster_name.as_str()),
        (
            "http_conn_manager_listener_prefix",
            r"^listener(?=\.).*?\.http\.(([^;]*?);?\.)(?=downstream_)",
        ),
        (
            "http_conn_manager_prefix",
            r"^http\.(([^;]*?);?\.)(?=downstream_|rq_|no_|rs_|tracing\.|user_agent)",
        ),
        (
            "listener_address",
            r"^listener\.((([_.\[\]a-fA-F0-9]*|[^.]*?);?)\.)",
        ),
        ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
        ("response_code", r"_rq(_(\d{3}))$"),
        ("response_code_class", r"_rq(_(\dxx))$"),
        ("thread_name", r"^server(\.(.+))\.watchdog"),
        ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
        ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
        ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
        ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
        ("component", r"(component\.(.+?)\.)"),
        ("tag", r"(tag\.(.+?);\.)"),
    ];
    let fixed = fixed
        .iter()
        .map(|(name, regex)| json!({ "tag_name": name, "regex": regex }));
    let extra = options
        .extra_tags
        .iter()
        .map(|tag| json!({ "tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)") }));
    fixed.chain(extra).collect()
}

/// A cluster's name holds dots, so where it ends must be told: by the `;` that Istio appends to
/// `alt_stat_name`, else by the domain of a service in the mesh, else at the first dot.
fn cluster_name_expression(domain: &str) -> String {
    let domain = domain.replace('.', r"\.");
    format!(r"^cluster(\.(.+(?=;)|.+?\.svc\.{domain}(?=\.)|[^.]+);?)")
}
