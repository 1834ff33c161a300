//! The mesh's names and their addresses, as Pilot told them (`envoy.data.dns.v3.DnsTable`), and what a question means. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use envoy_types::pb::envoy::data::dns::v3::DnsTable;
use envoy_types::pb::envoy::data::dns::v3::dns_table::dns_endpoint::EndpointConfig;

/// Most names of one table; more are left out.
const MAX_NAMES: usize = 200_000;
/// Most addresses of one name.
const MAX_ADDRESSES: usize = 1024;

/// What a question is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The name's own addresses, of all families.
    Here(Vec<IpAddr>),
    /// It is another name's: the client's search list made it of that one.
    Alias(String, Vec<IpAddr>),
    /// No name of the mesh.
    Elsewhere,
}

/// Names of the mesh. Case does not count; names come without the dot at their end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    table: HashMap<String, Vec<IpAddr>>,
    search: Vec<String>,
}

impl Names {
    /// The names of a table; `search` is the machine's search list.
    #[must_use]
    pub fn new(table: &DnsTable, search: &[String]) -> Self {
        let domains = table.virtual_domains.iter().take(MAX_NAMES);
        let named = domains.filter_map(|domain| {
            let endpoint = domain.endpoint.as_ref()?.endpoint_config.as_ref()?;
            let EndpointConfig::AddressList(list) = endpoint else {
                return None;
            };
            let addresses = list.address.iter().take(MAX_ADDRESSES);
            let addresses = addresses.filter_map(|address| address.parse().ok()).collect();
            Some((canonical(&domain.name), addresses))
        });
        Self {
            table: named.collect(),
            search: search.iter().map(|domain| canonical(domain)).collect(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// What a name means. A client appends each domain of its search list before it asks for a name of few dots as it is: an
    /// answer to the first of these spares it, and the servers of the cluster, the others.
    #[must_use]
    pub fn find(&self, name: &str) -> Found {
        let name = canonical(name);
        if let Some(addresses) = self.get(&name) {
            return Found::Here(addresses.clone());
        }
        let stripped = self.search.iter().find_map(|domain| {
            let host = name.strip_suffix(domain)?.strip_suffix('.')?;
            // A single label is for the cluster's own names, which are in the table with all their forms.
            let addresses = self.get(host).filter(|_| host.contains('.'))?;
            Some((host.to_owned(), addresses.clone()))
        });
        stripped.map_or(Found::Elsewhere, |(host, addresses)| {
            Found::Alias(host, addresses)
        })
    }

    /// The addresses of a name, or of the wildcard that has it: `*.example.com` has `a.example.com` and `a.b.example.com`.
    fn get(&self, name: &str) -> Option<&Vec<IpAddr>> {
        self.table.get(name).or_else(|| {
            let dots = name.match_indices('.').map(|(at, _)| at);
            let mut parents = dots.filter_map(|at| name.get(at..));
            parents.find_map(|parent| self.table.get(&format!("*{parent}")))
        })
    }
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The search list in the text of /etc/resolv.conf; of several lines the last counts.
#[must_use]
pub fn search_list(text: &str) -> Vec<String> {
    let mut lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("search" | "domain")).then(|| words.map(str::to_owned).collect())
    });
    lines.next_back().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use envoy_types::pb::envoy::data::dns::v3::dns_table::{AddressList, DnsEndpoint, DnsVirtualDomain};

    use super::*;

    pub(in super::super) fn table(names: &[(&str, &[&str])]) -> DnsTable {
        let domain = |(name, addresses): &(&str, &[&str])| DnsVirtualDomain {
            name: (*name).to_owned(),
            endpoint: Some(DnsEndpoint {
                endpoint_config: Some(EndpointConfig::AddressList(AddressList {
                    address: addresses.iter().map(|address| (*address).to_owned()).collect(),
                })),
            }),
            answer_ttl: None,
        };
        DnsTable {
            virtual_domains: names.iter().map(domain).collect(),
            ..DnsTable::default()
        }
    }

    pub(in super::super) fn names() -> Names {
        let table = table(&[
            ("web", &["10.0.0.1"]),
            ("web.shop.svc.cluster.local", &["10.0.0.1"]),
            ("api.example", &["240.240.0.1", "2001:2::1"]),
            ("*.wild.example", &["240.240.0.2"]),
        ]);
        let search =
            search_list("search old\nsearch shop.svc.cluster.local svc.cluster.local\nnameserver 1.1.1.1\n");
        Names::new(&table, &search)
    }

    #[test]
    fn names_are_found_as_they_are_by_wildcards_and_behind_search_domains() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let check = |name: &str, expected: Found| assert_eq!(names().find(name), expected, "{name}");
        check("WEB.shop.svc.cluster.local.", Found::Here(ips(&["10.0.0.1"])));
        check("web", Found::Here(ips(&["10.0.0.1"])));
        check("a.b.wild.example", Found::Here(ips(&["240.240.0.2"])));
        check("wild.example", Found::Elsewhere);
        let both = ips(&["240.240.0.1", "2001:2::1"]);
        check(
            "api.example.svc.cluster.local",
            Found::Alias("api.example".to_owned(), both),
        );
        check("web.svc.cluster.local", Found::Elsewhere);
        check("other.example", Found::Elsewhere);
        check("", Found::Elsewhere);
    }
}
