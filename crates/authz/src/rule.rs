//! Whether a rule of an AuthorizationPolicy matches a request.
//!
//! What a rule asks for may not be known: HTTP fields of a connection, the identity behind plaintext. Then it depends on what a
//! match leads to. Where it lets in (ALLOW) the condition does not hold, neither itself nor its `not…`; where it refuses, a
//! condition on HTTP is passed over on connections, and an identity that is missing is none of those that are excepted.

use config::security::{Condition, Operation, Rule, Source};
use serde_json::{Map, Value};

use crate::compare;
use crate::request::Request;

/// The start of every SPIFFE ID.
const SPIFFE: &str = "spiffe://";

/// What rules are held against.
pub(crate) struct Matcher<'a> {
    pub(crate) request: &'a Request,
    /// The path in its one spelling.
    pub(crate) path: &'a str,
    /// The claims of the request's verified token.
    pub(crate) claims: Option<&'a Map<String, Value>>,
    /// The mesh's trust domain and aliases.
    pub(crate) domains: &'a [String],
    /// Whether a match lets in.
    pub(crate) allows: bool,
    /// The policy's namespace.
    pub(crate) namespace: &'a str,
}

impl Matcher<'_> {
    /// Whether the rule matches.
    pub(crate) fn rule(&self, rule: &Rule) -> bool {
        let from = |source: &Option<Source>| source.as_ref().is_none_or(|source| self.source(source));
        let to = |operation: &Option<Operation>| operation.as_ref().is_none_or(|o| self.operation(o));
        (rule.from.is_empty() || rule.from.iter().any(|entry| from(&entry.source)))
            && (rule.to.is_empty() || rule.to.iter().any(|entry| to(&entry.operation)))
            && rule.when.iter().all(|condition| self.condition(condition))
            && !(self.allows && self.request.http.is_none() && reads_http(rule))
    }

    fn source(&self, source: &Source) -> bool {
        let account = |value: &str, id: &str| self.account(value, id);
        self.identity(&source.principals, &source.not_principals, |v, id| {
            self.principal(v, id)
        }) && self.identity(&source.namespaces, &source.not_namespaces, in_namespace)
            && self.identity(&source.service_accounts, &source.not_service_accounts, account)
            && self.identity(&source.trust_domains, &source.not_trust_domains, in_domain)
            && self.token_principal(&source.request_principals, &source.not_request_principals)
            && plain(&source.ip_blocks, &source.not_ip_blocks, |v| {
                compare::network(v, self.request.source_ip)
            })
            && plain(&source.remote_ip_blocks, &source.not_remote_ip_blocks, |v| {
                compare::network(v, self.request.remote_ip)
            })
    }

    fn operation(&self, operation: &Operation) -> bool {
        let http = self.request.http.as_ref().is_none_or(|http| {
            self.sensed(&operation.hosts, &operation.not_hosts, |v, refuses| {
                compare::host(v, &http.authority, refuses)
            }) && plain(&operation.methods, &operation.not_methods, |v| {
                compare::text(v, &http.method)
            }) && self.sensed(&operation.paths, &operation.not_paths, |v, refuses| {
                compare::path(v, self.path, refuses)
            })
        });
        http && plain(&operation.ports, &operation.not_ports, |v| {
            v.parse() == Ok(self.request.port)
        })
    }

    fn condition(&self, condition: &Condition) -> bool {
        let (values, nots) = (&condition.values, &condition.not_values);
        match condition.key.as_str() {
            "source.ip" => plain(values, nots, |v| compare::network(v, self.request.source_ip)),
            "remote.ip" => plain(values, nots, |v| compare::network(v, self.request.remote_ip)),
            "destination.ip" => plain(values, nots, |v| compare::network(v, self.request.destination_ip)),
            "destination.port" => plain(values, nots, |v| v.parse() == Ok(self.request.port)),
            "connection.sni" => plain(values, nots, |v| compare::text(v, &self.request.sni)),
            "source.principal" => self.identity(values, nots, |v, id| self.principal(v, id)),
            "source.namespace" => self.identity(values, nots, in_namespace),
            "source.serviceAccount" => self.identity(values, nots, |v, id| self.account(v, id)),
            "source.trustDomain" => self.identity(values, nots, in_domain),
            "request.auth.principal" => self.token_principal(values, nots),
            "request.auth.audiences" => self.claim(&["aud"], values, nots),
            "request.auth.presenter" => self.claim(&["azp"], values, nots),
            key => match (
                bracketed(key, "request.headers"),
                bracketed(key, "request.auth.claims"),
            ) {
                (Some(name), _) => self.header(name, values, nots),
                (_, Some(names)) => self.claim(&names.split("][").collect::<Vec<_>>(), values, nots),
                // Metadata of filters is not known here.
                _ => !self.allows,
            },
        }
    }

    /// Conditions on the peer's identity. Nobody without one is let in by what they are not.
    fn identity(&self, values: &[String], nots: &[String], is: impl Fn(&str, &str) -> bool) -> bool {
        if values.is_empty() && nots.is_empty() {
            return true;
        }
        match self.request.peer.as_deref() {
            Some(id) => plain(values, nots, |value| is(value, id)),
            None => values.is_empty() && !self.allows,
        }
    }

    /// An identity without scheme; one of the mesh's trust domains stands for all of them, and so does `cluster.local`.
    fn principal(&self, value: &str, id: &str) -> bool {
        if value.starts_with('*') {
            return compare::text(value, id);
        }
        let (domain, rest) = value.split_once('/').unwrap_or((value, ""));
        let own = domain == "cluster.local" || self.domains.iter().any(|own| own == domain);
        if !own || !value.contains('/') {
            return compare::text(&format!("{SPIFFE}{value}"), id);
        }
        let mut all = self.domains.iter();
        all.any(|domain| compare::text(&format!("{SPIFFE}{domain}/{rest}"), id))
    }

    fn account(&self, value: &str, id: &str) -> bool {
        let (namespace, account) = value.split_once('/').unwrap_or((self.namespace, value));
        let mut all = self.domains.iter();
        all.any(|domain| format!("{SPIFFE}{domain}/ns/{namespace}/sa/{account}") == id)
    }

    fn token_principal(&self, values: &[String], nots: &[String]) -> bool {
        if values.is_empty() && nots.is_empty() {
            return true;
        }
        if self.request.http.is_none() {
            return !self.allows;
        }
        let claim = |name: &str| {
            self.claims
                .and_then(|claims| claims.get(name))
                .and_then(Value::as_str)
        };
        match claim("iss").zip(claim("sub")) {
            Some((issuer, subject)) if !issuer.is_empty() && !subject.is_empty() => {
                plain(values, nots, |value| token_subject(value, issuer, subject))
            }
            _ => values.is_empty() && !self.allows,
        }
    }

    /// A claim: a text, or a list of which one is meant. Without a token nothing is let in by what it does not claim.
    fn claim(&self, path: &[&str], values: &[String], nots: &[String]) -> bool {
        if self.request.http.is_none() {
            return !self.allows;
        }
        let is = |value: &String| match self.claims.and_then(|claims| find(claims, path)) {
            Some(Value::String(text)) => compare::text(value, text),
            Some(Value::Array(several)) => {
                let mut texts = several.iter().filter_map(Value::as_str);
                texts.any(|text| compare::text(value, text))
            }
            _ => false,
        };
        let named = || self.token_principal(&["*".to_owned()], &[]);
        (values.is_empty() || values.iter().any(is))
            && (nots.is_empty() || (!nots.iter().any(is) && (!self.allows || named())))
    }

    fn header(&self, name: &str, values: &[String], nots: &[String]) -> bool {
        let Some(http) = &self.request.http else {
            return !self.allows;
        };
        let sent = match name.to_ascii_lowercase().as_str() {
            ":authority" => Some(std::slice::from_ref(&http.authority)),
            ":method" => Some(std::slice::from_ref(&http.method)),
            name => http.headers.get(name).map(Vec::as_slice),
        };
        self.sensed(values, nots, |value, refuses| {
            sent.is_some_and(|all| compare::header(value, all, refuses))
        })
    }

    /// As [`plain`], where it makes a difference whether a match refuses.
    fn sensed(&self, values: &[String], nots: &[String], is: impl Fn(&str, bool) -> bool) -> bool {
        (values.is_empty() || values.iter().any(|value| is(value, !self.allows)))
            && !nots.iter().any(|value| is(value, self.allows))
    }
}

/// One of `values`, if there are any, and none of `nots`.
fn plain(values: &[String], nots: &[String], is: impl Fn(&str) -> bool) -> bool {
    (values.is_empty() || values.iter().any(|value| is(value))) && !nots.iter().any(|value| is(value))
}

/// A namespace, perhaps with `*` in it, of an identity in Istio's form.
fn in_namespace(value: &str, id: &str) -> bool {
    let mut parts = id.strip_prefix(SPIFFE).unwrap_or_default().split('/');
    let (_, ns, namespace, more) = (parts.next(), parts.next(), parts.next(), parts.next());
    ns == Some("ns") && more.is_some() && namespace.is_some_and(|namespace| wild(value, namespace))
}

/// A trust domain, perhaps with `*` at one end.
fn in_domain(value: &str, id: &str) -> bool {
    let rest = id.strip_prefix(SPIFFE).unwrap_or_default();
    rest.split_once('/')
        .is_some_and(|(domain, _)| wild(value, domain))
}

/// Whether a text is a value in which each `*` stands for any text.
fn wild(value: &str, text: &str) -> bool {
    let Some((start, rest)) = value.split_once('*') else {
        return value == text;
    };
    let Some(mut left) = text.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.split_once(part) {
            Some((_, behind)) => left = behind,
            None => return false,
        }
    }
    left.ends_with(last)
}

/// `ISSUER/SUBJECT`; a `*` at the start opens the issuer, one at the end the subject, or, without a slash, both.
fn token_subject(value: &str, issuer: &str, subject: &str) -> bool {
    match value.rsplit_once('/') {
        _ if value == "*" => true,
        Some((iss, sub)) if value.starts_with('*') => compare::text(iss, issuer) && sub == subject,
        None if value.starts_with('*') => compare::text(value, subject),
        Some((iss, sub)) => iss == issuer && compare::text(sub, subject),
        None if value.ends_with('*') => compare::text(value, issuer),
        None => value == issuer && subject.is_empty(),
    }
}

fn find<'v>(claims: &'v Map<String, Value>, path: &[&str]) -> Option<&'v Value> {
    let (first, rest) = path.split_first()?;
    let first = claims.get(*first)?;
    rest.iter().try_fold(first, |value, name| value.get(*name))
}

/// What stands in the brackets after a key's name.
fn bracketed<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')
}

/// Whether a rule asks for what only requests have.
pub(crate) fn reads_http(rule: &Rule) -> bool {
    let operations = rule.to.iter().filter_map(|to| to.operation.as_ref());
    let mut lists = operations.flat_map(|o| {
        [
            &o.hosts,
            &o.not_hosts,
            &o.methods,
            &o.not_methods,
            &o.paths,
            &o.not_paths,
        ]
    });
    let sources = rule.from.iter().filter_map(|from| from.source.as_ref());
    let mut tokens = sources.flat_map(|s| [&s.request_principals, &s.not_request_principals]);
    lists.any(|list| !list.is_empty())
        || tokens.any(|list| !list.is_empty())
        || rule
            .when
            .iter()
            .any(|condition| condition.key.starts_with("request."))
}
