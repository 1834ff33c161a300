//! One rule of an AuthorizationPolicy, from a role's rule and a binding's subject. What cannot be said today leaves the rule
//! out, since without it the rule would allow more.

use super::Out;
use super::set::{Labels, Set};
use crate::Object;
use crate::legacy::{AccessRule, Constraint, Subject};
use crate::security::{Condition, Operation, Rule, RuleFrom, RuleTo, Source};

/// The service that access is asked for.
pub(super) struct Asked<'s, 'a> {
    pub(super) set: &'s Set<'a>,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) labels: &'a Labels,
}

/// Where something stands that may have no translation.
pub(super) struct Place<'a> {
    pub(super) object: &'a Object,
    pub(super) path: String,
}

impl Asked<'_, '_> {
    /// Whether a rule is for the service: by its full or short name, or a beginning or an end of it; all without names.
    pub(super) fn is_meant(&self, rule: &AccessRule) -> bool {
        let host = self.set.host(self.namespace, self.name);
        let names = [host.as_str(), self.name];
        rule.services.is_empty()
            || rule
                .services
                .iter()
                .any(|pattern| names.iter().any(|name| matches(pattern, name)))
    }
}

/// `*`, `BEGINNING*`, `*END` or the whole text.
fn matches(pattern: &str, text: &str) -> bool {
    if let Some(end) = pattern.strip_prefix('*') {
        return text.ends_with(end);
    }
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}

/// The rule; none when nobody can meet it, or a part has no translation.
pub(super) fn of(
    asked: &Asked<'_, '_>,
    access: &AccessRule,
    place: &Place<'_>,
    subject: &Subject,
    who: &Place<'_>,
    out: &mut Out,
) -> Option<Rule> {
    let mut when = Vec::new();
    for (index, constraint) in access.constraints.iter().enumerate() {
        match condition(asked, constraint) {
            Ok(condition) => when.extend(condition),
            Err(Never::Holds) => return None,
            Err(Never::Said) => {
                let path = format!("{}.constraints[{index}]", place.path);
                let message = format!(
                    "{:?} has no translation, so the rule allows nothing",
                    constraint.key
                );
                out.refused(
                    place.object,
                    &path,
                    message,
                    "select the workloads in an AuthorizationPolicy",
                );
                return None;
            }
        }
    }
    let mut source = Source::default();
    if let Err(path) = subject_of(subject, &mut source, &mut when) {
        let path = format!("{}.{path}", who.path);
        out.refused(
            who.object,
            &path,
            "has no translation, so the subject is allowed nothing",
            "use fields of AuthorizationPolicy",
        );
        return None;
    }
    let operation = operation(access);
    Some(Rule {
        from: (source != Source::default())
            .then_some(RuleFrom { source: Some(source) })
            .into_iter()
            .collect(),
        to: (operation != Operation::default())
            .then_some(RuleTo {
                operation: Some(operation),
            })
            .into_iter()
            .collect(),
        when,
    })
}

fn operation(access: &AccessRule) -> Operation {
    let ports = |list: &[i32]| list.iter().map(ToString::to_string).collect();
    Operation {
        hosts: access.hosts.clone(),
        not_hosts: access.not_hosts.clone(),
        paths: access.paths.clone(),
        not_paths: access.not_paths.clone(),
        methods: access.methods.clone(),
        not_methods: access.not_methods.clone(),
        ports: ports(&access.ports),
        not_ports: ports(&access.not_ports),
    }
}

/// Why a constraint becomes no condition.
enum Never {
    /// The service's workloads do not meet it.
    Holds,
    /// It cannot be said.
    Said,
}

/// A constraint as a condition; none when the service's workloads meet it anyway.
fn condition(asked: &Asked<'_, '_>, constraint: &Constraint) -> Result<Option<Condition>, Never> {
    let key = constraint.key.as_str();
    let met = |text: &str| match constraint.values.iter().any(|value| matches(value, text)) {
        true => Ok(None),
        false => Err(Never::Holds),
    };
    if key == "destination.namespace" {
        return met(asked.namespace);
    }
    if let Some(label) = key
        .strip_prefix("destination.labels[")
        .and_then(|rest| rest.strip_suffix(']'))
    {
        // Labels beyond the selector differ from workload to workload.
        return asked
            .labels
            .get(label)
            .map_or(Err(Never::Said), |value| met(value));
    }
    let known = matches!(key, "destination.ip" | "destination.port")
        || key.starts_with("request.headers[")
        || key.starts_with("experimental.envoy.filters.");
    match known {
        true => Ok(Some(Condition {
            key: key.to_owned(),
            values: constraint.values.clone(),
            not_values: Vec::new(),
        })),
        false => Err(Never::Said),
    }
}

/// Puts a subject's conditions where they belong; the field that has no translation otherwise.
fn subject_of(subject: &Subject, source: &mut Source, when: &mut Vec<Condition>) -> Result<(), String> {
    let all = |name: &str| matches!(name, "*" | "allUsers");
    let named = |names: &[String]| !names.is_empty() && !names.iter().any(|name| all(name));
    let user = std::slice::from_ref(&subject.user);
    let user = if subject.user.is_empty() { &[] } else { user };
    // Both had to hold; two lists of principals in one source are alternatives.
    if named(user) && named(&subject.names) {
        return Err("names".to_owned());
    }
    for names in [user, &subject.names].into_iter().filter(|names| named(names)) {
        source.principals.extend(names.iter().map(|name| principal(name)));
    }
    source
        .not_principals
        .extend(subject.not_names.iter().map(|name| principal(name)));
    source.namespaces.clone_from(&subject.namespaces);
    source.not_namespaces.clone_from(&subject.not_namespaces);
    source.ip_blocks.clone_from(&subject.ips);
    source.not_ip_blocks.clone_from(&subject.not_ips);
    let mut groups = subject.groups.clone();
    groups.extend((!subject.group.is_empty()).then(|| subject.group.clone()));
    if !groups.is_empty() || !subject.not_groups.is_empty() {
        when.push(Condition {
            key: "request.auth.claims[groups]".to_owned(),
            values: groups,
            not_values: subject.not_groups.clone(),
        });
    }
    for (key, value) in &subject.properties {
        match key.as_str() {
            "source.ip" => source.ip_blocks.push(value.clone()),
            "source.namespace" => source.namespaces.push(value.clone()),
            "source.principal" if all(value) => {}
            "source.principal" if !source.principals.is_empty() => return Err("properties".to_owned()),
            "source.principal" => source.principals.push(principal(value)),
            "request.auth.principal" => source.request_principals.push(value.clone()),
            key if key.starts_with("request.auth.") || key.starts_with("request.headers[") => {
                when.push(Condition {
                    key: key.to_owned(),
                    values: vec![value.clone()],
                    not_values: Vec::new(),
                });
            }
            key => return Err(format!("properties[{key:?}]")),
        }
    }
    Ok(())
}

/// Any caller with a certificate, or the one of that name.
fn principal(name: &str) -> String {
    match name {
        "allAuthenticatedUsers" => "*".to_owned(),
        name => name.to_owned(),
    }
}
