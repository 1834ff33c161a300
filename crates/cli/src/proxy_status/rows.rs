//! Pilot's page `/debug/syncz` as rows. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::proxy_config::dump::{list, text};
use crate::show::plain;

pub(super) const HEAD: [&str; 9] = [
    "NAME", "TYPE", "CDS", "LDS", "EDS", "RDS", "ECDS", "PILOT", "VERSION",
];

/// The types of resources, in the order of the columns.
const TYPES: [&str; 5] = ["cds", "lds", "eds", "rds", "ecds"];

/// One proxy at one Pilot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proxy {
    /// `NAME.NAMESPACE`.
    pub(super) name: String,
    /// `sidecar`, `router`, as its node id says.
    kind: String,
    pub(super) pilot: String,
    /// What Pilot says of it, and which Pilot.
    pub(crate) page: Value,
}

impl Proxy {
    fn node(&self) -> String {
        text(&self.page, "/proxy").to_owned()
    }

    /// Whether it is the stream of an Envoy, and not that by which its agent asks for names.
    fn is_envoy(&self) -> bool {
        let has = |kind: &str| self.page.pointer(&format!("/types/{kind}")).is_some();
        !text(&self.page, "/version").is_empty() || TYPES.into_iter().any(has)
    }

    pub(super) fn namespace(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(_, namespace)| namespace)
    }
}

/// The proxies of a page.
pub(crate) fn read(pilot: &str, page: &Value) -> Vec<Proxy> {
    let proxy = |one: &Value| {
        let node = text(one, "/proxy");
        let mut parts = node.split('~');
        let kind = parts.next().unwrap_or_default();
        let mut page = one.clone();
        if let Some(fields) = page.as_object_mut() {
            fields.insert("pilot".to_owned(), json!(pilot));
        }
        Proxy {
            name: parts.nth(1).unwrap_or(node).to_owned(),
            kind: kind.to_owned(),
            pilot: pilot.to_owned(),
            page,
        }
    };
    let mut proxies: Vec<Proxy> = list(page, "/proxies").map(proxy).collect();
    // An agent that asks for names of its own has the Envoy's node, and resources of another type.
    let envoys: BTreeSet<String> = proxies
        .iter()
        .filter(|one| one.is_envoy())
        .map(Proxy::node)
        .collect();
    proxies.retain(|one| one.is_envoy() || !envoys.contains(&one.node()));
    proxies
}

/// One row.
pub(super) fn row(proxy: &Proxy) -> Vec<String> {
    let mut cells = vec![proxy.name.clone(), proxy.kind.clone()];
    cells.extend(TYPES.map(|kind| word(proxy, kind).to_owned()));
    cells.push(proxy.pilot.clone());
    cells.push(text(&proxy.page, "/version").to_owned());
    cells
}

/// As Istio's `proxy-status` says it; what Envoy has rejected, by the answer's name in xDS. What Pilot need not send, since
/// the Envoy had it when it came back, is in sync too.
fn word<'a>(proxy: &'a Proxy, kind: &str) -> &'a str {
    match text(&proxy.page, &format!("/types/{kind}/status")) {
        "" if is_resumed(proxy) && kind != "ecds" => "SYNCED",
        "" => "NOT SENT",
        "REJECTED" => "NACK",
        word => word,
    }
}

fn is_resumed(proxy: &Proxy) -> bool {
    proxy.is_envoy() && proxy.page.get("synced").and_then(Value::as_bool) == Some(true)
}

/// What is wrong with them, in words, below the table; nothing where all is well.
pub(super) fn troubles(proxies: &[Proxy]) -> String {
    let mut out = String::new();
    for proxy in proxies {
        for kind in TYPES {
            let upper = kind.to_uppercase();
            for one in list(&proxy.page, &format!("/types/{kind}/rejected")) {
                let objects: Vec<&str> = list(one, "/objects").filter_map(Value::as_str).collect();
                let from = match objects.as_slice() {
                    [] => "the mesh's settings".to_owned(),
                    objects => objects.join(", "),
                };
                let (resource, message) = (text(one, "/resource"), text(one, "/message"));
                let line = format!(
                    "{}: Envoy rejects {upper} {resource}: {message} (from {from})",
                    proxy.name
                );
                let _ = writeln!(out, "{}", plain(&line));
            }
            if word(proxy, kind) == "STALE" {
                let _ = writeln!(
                    out,
                    "{}: Envoy has not answered the newest {upper} yet",
                    plain(&proxy.name)
                );
            }
        }
        for finding in list(&proxy.page, "/findings").filter_map(Value::as_str) {
            let _ = writeln!(out, "{}", plain(&format!("{}: left out: {finding}", proxy.name)));
        }
    }
    match out.as_str() {
        "" => out,
        lines => format!("\n{lines}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::columns;

    #[test]
    fn a_proxy_is_a_row_and_what_it_rejects_is_told_with_the_object() {
        let page = json!({"snapshot": 3, "agents": 1, "proxies": [
            {"proxy": "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local", "version": "0.1.0", "types": {
                "cds": {"status": "SYNCED"}, "lds": {"status": "STALE"},
                "rds": {"status": "REJECTED", "rejected": [{"resource": "8080", "message": "missing )", "objects": ["VirtualService shop/web"]}]},
            }, "findings": ["Warning: no such host"]},
            {"proxy": "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local", "types": {"type.googleapis.com/x": {"status": "SYNCED"}}},
            {"proxy": "sidecar~10.0.0.3~zoo.shop~shop.svc.cluster.local", "synced": true, "types": {"cds": {"status": "SYNCED"}}},
            {"proxy": "router~10.0.0.2~gw.edge~edge.svc.cluster.local", "types": {}},
        ]});
        let proxies = read("pilot-1", &page);
        let table = columns(&HEAD, &proxies.iter().map(row).collect::<Vec<_>>());
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| {
                line.split("   ")
                    .map(str::trim)
                    .filter(|c| !c.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(
            lines[1],
            [
                "web-1.shop",
                "sidecar",
                "SYNCED",
                "STALE",
                "NOT SENT",
                "NACK",
                "NOT SENT",
                "pilot-1",
                "0.1.0"
            ]
        );
        // An agent's stream beside its Envoy's is none of a proxy.
        assert_eq!(proxies.len(), 3);
        let zoo = [
            "zoo.shop", "sidecar", "SYNCED", "SYNCED", "SYNCED", "SYNCED", "NOT SENT", "pilot-1", "-",
        ];
        assert_eq!(lines[2], zoo);
        assert_eq!(
            lines[3],
            [
                "gw.edge", "router", "NOT SENT", "NOT SENT", "NOT SENT", "NOT SENT", "NOT SENT", "pilot-1",
                "-"
            ]
        );
        assert_eq!(
            troubles(&proxies),
            "\nweb-1.shop: Envoy has not answered the newest LDS yet\n\
             web-1.shop: Envoy rejects RDS 8080: missing ) (from VirtualService shop/web)\n\
             web-1.shop: left out: Warning: no such host\n"
        );
        assert_eq!(troubles(&proxies[1..]), "");
        assert_eq!(
            (proxies[0].namespace(), &proxies[0].page["pilot"]),
            ("shop", &json!("pilot-1"))
        );
    }
}
