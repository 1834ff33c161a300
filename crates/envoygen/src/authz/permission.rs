//! What is done: the `operation` of a rule.

use config::security::Operation;
use envoy_types::pb::envoy::config::rbac::v3::{Permission, permission::Rule};

use super::matching::{self, Pattern};
use super::path::path;
use super::{Compiler, either, not_permission, permission_of};

/// Values, values that must not be, and how one is compared: whether a match refuses makes a difference.
type Field<'a> = (&'a [String], &'a [String], fn(&str, bool) -> Permission);

impl Compiler<'_> {
    /// The conditions of an operation, all of which must hold; `None` if they cannot be expressed.
    pub(super) fn operation(&self, operation: &Operation) -> Option<Vec<Permission>> {
        let mut out = Vec::new();
        let http: [Field<'_>; 3] = [
            (&operation.hosts, &operation.not_hosts, |host, refuses| {
                permission_of(Rule::Header(matching::host(host, refuses)))
            }),
            (&operation.methods, &operation.not_methods, |method, _| {
                permission_of(Rule::Header(matching::header(":method", Pattern::parse(method))))
            }),
            (&operation.paths, &operation.not_paths, path),
        ];
        for (values, not_values, make) in http {
            if values.is_empty() && not_values.is_empty() {
                continue;
            }
            if self.tcp {
                if self.strict() {
                    return None;
                }
                continue;
            }
            let (lets_in, none) = (self.strict(), [].as_slice());
            push(values, none, |value| Some(make(value, !lets_in)), &mut out)?;
            push(none, not_values, |value| Some(make(value, lets_in)), &mut out)?;
        }
        push(&operation.ports, &operation.not_ports, port, &mut out)?;
        Some(out)
    }
}

/// One of `values` and none of `not_values`; `None` if one cannot be expressed.
pub(super) fn push(
    values: &[String],
    not_values: &[String],
    make: impl Fn(&str) -> Option<Permission>,
    out: &mut Vec<Permission>,
) -> Option<()> {
    let all = |values: &[String]| {
        values
            .iter()
            .map(|value| make(value))
            .collect::<Option<Vec<_>>>()
            .map(either)
    };
    if !values.is_empty() {
        out.push(all(values)?);
    }
    if !not_values.is_empty() {
        out.push(not_permission(all(not_values)?));
    }
    Some(())
}

/// The workload's port.
pub(super) fn port(value: &str) -> Option<Permission> {
    let number: u16 = value.parse().ok()?;
    Some(permission_of(Rule::DestinationPort(u32::from(number))))
}
