//! QuotaSpecs and their bindings: which quotas a request to a service is charged, and how much.

use std::collections::BTreeMap;

use config::mixer::{QuotaSpec, QuotaSpecBinding};
use config::networking::StringMatch;
use expr::{Attributes, Manifest, Value, Vocabulary};
use regex::Regex;

use crate::services::Services;
use crate::workload::ServiceView;
use config::adapters::Problem;

/// The charges of all bindings.
#[derive(Clone, Debug, Default)]
pub(crate) struct QuotaSpecs {
    bound: Vec<Bound>,
}

#[derive(Clone, Debug)]
struct Bound {
    services: Vec<Services>,
    charges: Vec<Charge>,
}

/// What a matching request is charged.
#[derive(Clone, Debug)]
struct Charge {
    /// One of these must hold; none given always holds.
    matches: Vec<Vec<(String, Comparison)>>,
    /// (quota, amount).
    quotas: Vec<(String, u64)>,
}

#[derive(Clone, Debug)]
enum Comparison {
    Any,
    Exact(String),
    Prefix(String),
    Regex(Regex),
}

impl Comparison {
    fn new(given: &StringMatch) -> Result<Self, String> {
        Ok(match given {
            StringMatch::Any => Self::Any,
            StringMatch::Exact(text) => Self::Exact(text.clone()),
            StringMatch::Prefix(text) => Self::Prefix(text.clone()),
            StringMatch::Regex(text) => Self::Regex(expr::compile_whole(text)?),
        })
    }

    fn holds(&self, value: &Value<'_>) -> bool {
        let text = value.to_string();
        match self {
            Self::Any => true,
            Self::Exact(expected) => text == *expected,
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Regex(regex) => regex.is_match(&text),
        }
    }
}

/// Reads a specification's charges.
fn charges(spec: &QuotaSpec, known: &Manifest) -> Result<Vec<Charge>, Problem> {
    let mut charges = Vec::new();
    for (i, rule) in spec.rules.iter().enumerate() {
        let mut matches = Vec::new();
        for (j, given) in rule.r#match.iter().enumerate() {
            let mut clause = Vec::new();
            for (attribute, comparison) in &given.clause {
                let path = || format!("rules[{i}].match[{j}].clause[{attribute}]");
                if known.attribute(attribute).is_none() {
                    return Err(Problem::new(
                        path(),
                        format!("unknown attribute {attribute}; declare it in an attributemanifest"),
                    ));
                }
                let comparison =
                    Comparison::new(comparison).map_err(|message| Problem::new(path(), message))?;
                clause.push((attribute.clone(), comparison));
            }
            matches.push(clause);
        }
        let mut quotas = Vec::new();
        for (j, quota) in rule.quotas.iter().enumerate() {
            // The API's default charge is one unit.
            let charge = if quota.charge == 0 { 1 } else { quota.charge };
            let amount = u64::try_from(charge).map_err(|_| {
                Problem::new(
                    format!("rules[{i}].quotas[{j}].charge"),
                    format!("{charge} is negative"),
                )
            })?;
            quotas.push((quota.quota.clone(), amount));
        }
        charges.push(Charge { matches, quotas });
    }
    Ok(charges)
}

impl QuotaSpecs {
    /// Adds a binding; `specs` are all specifications by namespace and name. What cannot be used is named.
    pub(crate) fn bind(
        &mut self,
        namespace: &str,
        binding: &QuotaSpecBinding,
        specs: &BTreeMap<(String, String), &QuotaSpec>,
        known: &Manifest,
        problems: &mut Vec<Problem>,
    ) {
        let services = Services::of_binding(&binding.services, namespace, problems);
        let mut all = Vec::new();
        for (i, reference) in binding.quota_specs.iter().enumerate() {
            let own = if reference.namespace.is_empty() {
                namespace
            } else {
                &reference.namespace
            };
            match specs.get(&(own.to_owned(), reference.name.clone())) {
                // A bad specification is reported where it stands.
                Some(spec) => all.extend(charges(spec, known).unwrap_or_default()),
                None => {
                    let message = format!("there is no QuotaSpec {own}/{}", reference.name);
                    problems.push(Problem::new(format!("quotaSpecs[{i}]"), message));
                }
            }
        }
        self.bound.push(Bound {
            services,
            charges: all,
        });
    }

    /// Checks a specification by itself.
    pub(crate) fn check(spec: &QuotaSpec, known: &Manifest) -> Result<(), Problem> {
        charges(spec, known).map(|_| ())
    }

    fn charges(&self, service: &ServiceView) -> impl Iterator<Item = &Charge> {
        let bound = self
            .bound
            .iter()
            .filter(|bound| bound.services.iter().any(|s| s.holds(service)));
        bound.flat_map(|bound| &bound.charges)
    }

    /// How much of `quota` the request is charged: the most that any binding says; 0 when none does.
    pub(crate) fn amount(&self, service: &ServiceView, quota: &str, bag: &dyn Attributes) -> u64 {
        let holds = |charge: &&Charge| {
            let clause_holds = |clause: &Vec<(String, Comparison)>| {
                clause
                    .iter()
                    .all(|(name, comparison)| bag.get(name).is_some_and(|value| comparison.holds(&value)))
            };
            charge.matches.is_empty() || charge.matches.iter().any(clause_holds)
        };
        let named = |(name, amount): &(String, u64)| name.eq_ignore_ascii_case(quota).then_some(*amount);
        self.charges(service)
            .filter(holds)
            .flat_map(|charge| charge.quotas.iter().filter_map(named))
            .max()
            .unwrap_or(0)
    }

    /// How much of `quota` every request to the service is charged; `None` where that depends on the request.
    pub(crate) fn charge_of_all(&self, service: &ServiceView, quota: &str) -> Option<u64> {
        let mut most = 0;
        for charge in self.charges(service) {
            let own = charge.quotas.iter();
            let own = own.filter(|(name, _)| name.eq_ignore_ascii_case(quota));
            let Some(amount) = own.map(|(_, amount)| *amount).max() else {
                continue;
            };
            if !charge.matches.is_empty() {
                return None;
            }
            most = most.max(amount);
        }
        Some(most)
    }

    /// Whether requests to the service may be charged this quota.
    pub(crate) fn may_charge(&self, service: &ServiceView, quota: &str) -> bool {
        self.charges(service).any(|charge| {
            charge
                .quotas
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(quota))
        })
    }

    /// Whether any binding names the quota.
    pub(crate) fn names(&self, quota: &str) -> bool {
        let mut quotas = self.bound.iter().flat_map(|b| &b.charges).flat_map(|c| &c.quotas);
        quotas.any(|(name, _)| name.eq_ignore_ascii_case(quota))
    }

    /// The attributes that matches of charges for the service read.
    pub(crate) fn attributes<'a>(&'a self, service: &'a ServiceView) -> impl Iterator<Item = &'a str> {
        self.charges(service)
            .flat_map(|charge| charge.matches.iter().flatten())
            .map(|(name, _)| name.as_str())
    }

    /// The attributes that matches of charges of the quota read.
    pub(crate) fn attributes_of(&self, quota: &str) -> Vec<&str> {
        let charges = self.bound.iter().flat_map(|bound| &bound.charges);
        let naming = charges.filter(|charge| {
            charge
                .quotas
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(quota))
        });
        naming
            .flat_map(|charge| charge.matches.iter().flatten())
            .map(|(name, _)| name.as_str())
            .collect()
    }
}
