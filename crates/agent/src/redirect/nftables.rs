//! Rules as `nft -f` reads them: one table of our own for a family, put in and taken away as a whole. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::rule::{Chain, Family, Match, Rule, Table, Then};

/// Our table's name.
const TABLE: &str = "istio-proxy";

/// The text that puts the table in, in place of one that is there. Empty for no rules.
#[must_use]
pub fn render(family: Family, rules: &[Rule]) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let mut chains: BTreeMap<(Table, Chain), Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        chains.entry((rule.table, rule.chain)).or_default().push(rule);
        if let Then::Jump(chain) = rule.then {
            chains.entry((rule.table, chain)).or_default();
        }
    }
    let mut text = removal(family);
    _ = writeln!(text, "table {} {TABLE} {{", word(family));
    // A chain must be there before rules lead to it.
    for key in chains.keys() {
        _ = writeln!(text, "  chain {} {{{}}}", name(*key), hook(*key));
    }
    text.push_str("}\n");
    for (key, rules) in &chains {
        for rule in rules {
            for line in lines(family, rule) {
                _ = writeln!(text, "add rule {} {TABLE} {} {line}", word(family), name(*key));
            }
        }
    }
    text
}

/// The text that takes the table away, whether it is there or not.
#[must_use]
pub fn removal(family: Family) -> String {
    let table = format!("table {} {TABLE}\n", word(family));
    format!("{table}delete {table}")
}

fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// Chains of all of iptables' tables are in one table here.
fn name((table, chain): (Table, Chain)) -> String {
    format!("{}-{}", table.name(), chain.name())
}

/// Where a chain is hung up: at the priorities of iptables' tables. What changes marks of outgoing packets has them routed anew.
fn hook((table, chain): (Table, Chain)) -> String {
    let (kind, priority) = match (table, chain) {
        (Table::Raw, _) => ("filter", -300),
        (Table::Mangle, Chain::Output) => ("route", -150),
        (Table::Mangle, _) => ("filter", -150),
        (Table::Nat, _) => ("nat", -100),
    };
    let place = match chain {
        Chain::Prerouting => "prerouting",
        Chain::Output => "output",
        _ => return String::new(),
    };
    format!(" type {kind} hook {place} priority {priority}; ")
}

/// A rule, and what stands behind it: where nobody listens, nft's tproxy does nothing, and the packet would go past the proxy.
/// iptables' drops it.
fn lines(family: Family, rule: &Rule) -> Vec<String> {
    let mut lines = vec![line(family, rule)];
    if matches!(rule.then, Then::Tproxy { .. }) {
        let drop = Rule {
            then: Then::Drop,
            ..rule.clone()
        };
        lines.push(line(family, &drop));
    }
    lines
}

fn line(family: Family, rule: &Rule) -> String {
    let mut parts = Vec::new();
    let mut protocol = "tcp";
    for condition in &rule.matches {
        if *condition == Match::Udp {
            protocol = "udp";
        }
        parts.push(matching(family, protocol, condition));
    }
    parts.push(target(rule.table, rule.then));
    parts.join(" ")
}

fn matching(family: Family, protocol: &str, condition: &Match) -> String {
    let word = word(family);
    let not = |not: &bool| if *not { "!= " } else { "" };
    match condition {
        Match::Tcp => "meta l4proto tcp".to_owned(),
        Match::Udp => "meta l4proto udp".to_owned(),
        Match::To { ports, not: n } => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            format!("{protocol} dport {}{{ {} }}", not(n), ports.join(", "))
        }
        Match::From(port) => format!("{protocol} sport {port}"),
        Match::In(name) => format!("iifname {}", interface(name)),
        Match::Out(name) => format!("oifname {}", interface(name)),
        Match::Source(range) => format!("{word} saddr {range}"),
        Match::Destination { range, not: n } => format!("{word} daddr {}{range}", not(n)),
        Match::User { uid, not: n } => format!("meta skuid {}{uid}", not(n)),
        Match::Group { gid, not: n } => format!("meta skgid {}{gid}", not(n)),
        Match::Mark { mark, not: n } => format!("meta mark {}{mark}", not(n)),
        Match::ConnectionMark(mark) => format!("ct mark {mark}"),
        Match::Established => "ct state related,established".to_owned(),
        Match::Invalid => "ct state invalid".to_owned(),
    }
}

/// iptables' `+` is nft's `*`.
fn interface(name: &str) -> String {
    match name.strip_suffix('+') {
        Some(start) => format!("\"{start}*\""),
        None => format!("\"{name}\""),
    }
}

fn target(table: Table, then: Then) -> String {
    match then {
        Then::Return => "return".to_owned(),
        Then::Accept => "accept".to_owned(),
        Then::Drop => "drop".to_owned(),
        Then::Jump(chain) => format!("jump {}", name((table, chain))),
        Then::Redirect(port) => format!("redirect to :{port}"),
        Then::Tproxy { port, mark } => format!("tproxy to :{port} meta mark set {mark} accept"),
        Then::SetMark(mark) => format!("meta mark set {mark}"),
        Then::SaveMark => "ct mark set meta mark".to_owned(),
        Then::RestoreMark => "meta mark set ct mark".to_owned(),
        Then::Zone(zone) => format!("ct zone set {zone}"),
    }
}
