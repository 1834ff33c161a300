//! Conditions that CEL and descriptors go by: an RBAC filter for each evaluates it and marks the requests for which it holds.

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use policy::Matcher;

use super::native;

/// The conditions of one purpose, each once.
pub(super) struct Marks<'a> {
    role: &'static str,
    conditions: Vec<&'a Matcher>,
}

impl<'a> Marks<'a> {
    /// Those of `conditions` that do not always hold; `role` is the purpose.
    pub(super) fn new(role: &'static str, conditions: impl Iterator<Item = &'a Matcher>) -> Self {
        let mut own: Vec<&Matcher> = Vec::new();
        for condition in conditions {
            if *condition != Matcher::Always && !own.contains(&condition) {
                own.push(condition);
            }
        }
        Self {
            role,
            conditions: own,
        }
    }

    /// The filters that mark.
    pub(super) fn filters(&self) -> impl Iterator<Item = HttpFilter> {
        let all = self.conditions.iter().enumerate();
        all.map(|(index, when)| native::marking(&format!("{}-{index}", self.role), self.at(index), when))
    }

    /// Under which prefix the requests are marked for which one of the conditions holds.
    pub(super) fn prefix(&self, when: &Matcher) -> String {
        let place = self.conditions.iter().position(|known| *known == when);
        self.at(place.unwrap_or_default())
    }

    fn at(&self, index: usize) -> String {
        format!("mixer_{}_{index}_", self.role)
    }
}
