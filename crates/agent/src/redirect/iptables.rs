//! Rules as `iptables-restore` and `ip6tables-restore` read them. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::rule::{Chain, Match, Rule, Table, Then};

/// The text that sets rules up, for `--noflush`: rules of others stay. Empty for no rules.
#[must_use]
pub fn render(rules: &[Rule]) -> String {
    let mut text = String::new();
    for table in Table::ALL {
        let own: Vec<&Rule> = rules.iter().filter(|rule| rule.table == table).collect();
        if own.is_empty() {
            continue;
        }
        _ = writeln!(text, "*{}", table.name());
        for chain in chains(&own) {
            _ = writeln!(text, ":{} - [0:0]", chain.name());
        }
        for rule in own {
            _ = writeln!(text, "-A {}", line(rule));
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// Texts that take rules away again, each to be tried by itself: one fails where there is nothing to take away. Chains of our own
/// go last, when nothing leads to them.
#[must_use]
pub fn removal(rules: &[Rule]) -> Vec<String> {
    let one = |table: Table, command: String| format!("*{}\n{command}\nCOMMIT\n", table.name());
    let built_in = rules.iter().filter(|rule| rule.chain.is_built_in());
    let mut texts: Vec<String> = built_in
        .map(|rule| one(rule.table, format!("-D {}", line(rule))))
        .collect();
    for table in Table::ALL {
        let own: Vec<&Rule> = rules.iter().filter(|rule| rule.table == table).collect();
        let chains = chains(&own);
        texts.extend(
            chains
                .iter()
                .map(|chain| one(table, format!("-F {}", chain.name()))),
        );
        texts.extend(
            chains
                .iter()
                .map(|chain| one(table, format!("-X {}", chain.name()))),
        );
    }
    texts
}

/// Chains of our own that rules are in or lead to.
fn chains(rules: &[&Rule]) -> BTreeSet<Chain> {
    let leads = rules.iter().filter_map(|rule| match rule.then {
        Then::Jump(chain) => Some(chain),
        _ => None,
    });
    let all = rules.iter().map(|rule| rule.chain).chain(leads);
    all.filter(|chain| !chain.is_built_in()).collect()
}

fn line(rule: &Rule) -> String {
    let mut parts = vec![rule.chain.name().to_owned()];
    parts.extend(rule.matches.iter().map(condition));
    parts.push(format!("-j {}", target(rule.then)));
    parts.join(" ")
}

fn condition(condition: &Match) -> String {
    let not = |not: &bool| if *not { "! " } else { "" };
    match condition {
        Match::Tcp => "-p tcp".to_owned(),
        Match::Udp => "-p udp".to_owned(),
        Match::To { ports, not: n } => match ports.as_slice() {
            [port] => format!("{}--dport {port}", not(n)),
            ports => format!("-m multiport {}--dports {}", not(n), list(ports)),
        },
        Match::From(port) => format!("--sport {port}"),
        Match::In(name) => format!("-i {name}"),
        Match::Out(name) => format!("-o {name}"),
        Match::Source(range) => format!("-s {range}"),
        Match::Destination { range, not: n } => format!("{}-d {range}", not(n)),
        Match::User { uid, not: n } => format!("-m owner {}--uid-owner {uid}", not(n)),
        Match::Group { gid, not: n } => format!("-m owner {}--gid-owner {gid}", not(n)),
        Match::Mark { mark, not: n } => format!("-m mark {}--mark {mark}", not(n)),
        Match::ConnectionMark(mark) => format!("-m connmark --mark {mark}"),
        Match::Established => "-m conntrack --ctstate RELATED,ESTABLISHED".to_owned(),
        Match::Invalid => "-m conntrack --ctstate INVALID".to_owned(),
    }
}

fn list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

fn target(then: Then) -> String {
    match then {
        Then::Return => "RETURN".to_owned(),
        Then::Accept => "ACCEPT".to_owned(),
        Then::Drop => "DROP".to_owned(),
        Then::Jump(chain) => chain.name().to_owned(),
        Then::Redirect(port) => format!("REDIRECT --to-ports {port}"),
        Then::Tproxy { port, mark } => {
            format!("TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}")
        }
        Then::SetMark(mark) => format!("MARK --set-mark {mark}"),
        Then::SaveMark => "CONNMARK --save-mark".to_owned(),
        Then::RestoreMark => "CONNMARK --restore-mark".to_owned(),
        Then::Zone(zone) => format!("CT --zone {zone}"),
    }
}
