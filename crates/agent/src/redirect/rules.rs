//! Which rules redirect a pod's traffic: a pure function of the settings and an address family. The order within a chain is
//! what they mean, so it is Istio's.

use ipnet::IpNet;

use super::args::Mode;
use super::rule::{Chain, Family, Match, Rule, Table, Then};
use super::settings::{Dns, Settings, Which};
use crate::dns::PORT as DNS_PORT;

/// Port of DNS.
const DNS: u16 = 53;
/// Mark of the proxy's connections to its own workload, one more than that of connections by TPROXY (Istio's).
const TO_SELF: u32 = 1338;
/// Zones of connection tracking: of the agent's own requests, and of the application's. Both may have the same source port.
const ZONES: (u16, u16) = (1, 2);

/// All rules of a family; none with mode NONE.
#[must_use]
pub fn rules(settings: &Settings, family: Family) -> Vec<Rule> {
    if settings.mode == Mode::None {
        return Vec::new();
    }
    let mut build = Build {
        settings,
        family,
        rules: Vec::new(),
    };
    build.interfaces();
    build.targets();
    build.inbound();
    build.outbound();
    build.dns();
    if settings.mode == Mode::Tproxy {
        build.marks();
    }
    build.rules
}

struct Build<'a> {
    settings: &'a Settings,
    family: Family,
    rules: Vec<Rule>,
}

/// What one proxy is known by: its users, then its groups.
#[derive(Clone, Copy)]
enum Owner {
    User(u32),
    Group(u32),
}

impl Owner {
    fn is(self) -> Match {
        self.matching(false)
    }

    fn is_not(self) -> Match {
        self.matching(true)
    }

    fn matching(self, not: bool) -> Match {
        match self {
            Self::User(uid) => Match::User { uid, not },
            Self::Group(gid) => Match::Group { gid, not },
        }
    }
}

fn to(port: u16) -> Match {
    Match::To {
        ports: vec![port],
        not: false,
    }
}

fn lo(way: fn(String) -> Match) -> Match {
    way("lo".to_owned())
}

impl Build<'_> {
    fn add(&mut self, table: Table, chain: Chain, matches: impl Into<Vec<Match>>, then: Then) {
        self.rules.push(Rule {
            table,
            chain,
            matches: matches.into(),
            then,
        });
    }

    fn nat(&mut self, chain: Chain, matches: impl Into<Vec<Match>>, then: Then) {
        self.add(Table::Nat, chain, matches, then);
    }

    fn mangle(&mut self, chain: Chain, matches: impl Into<Vec<Match>>, then: Then) {
        self.add(Table::Mangle, chain, matches, then);
    }

    fn owners(&self) -> Vec<Owner> {
        let users = self.settings.uids.iter().map(|uid| Owner::User(*uid));
        let groups = self.settings.gids.iter().map(|gid| Owner::Group(*gid));
        users.chain(groups).collect()
    }

    fn to_loopback(&self, not: bool) -> Match {
        Match::Destination {
            range: self.family.loopback(),
            not,
        }
    }

    fn of_family<'a>(&self, ranges: &'a [IpNet]) -> Vec<&'a IpNet> {
        ranges.iter().filter(|range| self.family.has(range)).collect()
    }

    /// Interfaces that are left alone, and those of virtual machines, whose incoming traffic is outgoing.
    fn interfaces(&mut self) {
        let settings = self.settings;
        for name in &settings.excluded_interfaces {
            let tables: &[Table] = match settings.mode {
                Mode::Tproxy => &[Table::Nat, Table::Mangle],
                _ => &[Table::Nat],
            };
            for table in tables {
                self.add(*table, Chain::Prerouting, [Match::In(name.clone())], Then::Return);
                self.add(*table, Chain::Output, [Match::Out(name.clone())], Then::Return);
            }
        }
        for name in &settings.virtual_interfaces {
            match &settings.outbound {
                Which::All => self.nat(
                    Chain::Prerouting,
                    [Match::In(name.clone())],
                    Then::Jump(Chain::Redirect),
                ),
                Which::Listed(ranges) => {
                    for range in self.of_family(ranges) {
                        let matches = [Match::In(name.clone()), destination(*range)];
                        self.nat(Chain::Prerouting, matches, Then::Jump(Chain::Redirect));
                    }
                }
            }
            self.nat(Chain::Prerouting, [Match::In(name.clone())], Then::Return);
        }
        if settings.drop_invalid {
            self.mangle(Chain::Prerouting, [Match::Invalid], Then::Drop);
        }
    }

    /// The chains that lead to the proxy.
    fn targets(&mut self) {
        let settings = self.settings;
        self.nat(
            Chain::Redirect,
            [Match::Tcp],
            Then::Redirect(settings.outbound_port),
        );
        self.nat(
            Chain::InRedirect,
            [Match::Tcp],
            Then::Redirect(settings.inbound_port),
        );
        if settings.mode == Mode::Tproxy {
            self.mangle(Chain::Divert, Vec::new(), Then::SetMark(settings.mark));
            self.mangle(Chain::Divert, Vec::new(), Then::Accept);
            let tproxy = Then::Tproxy {
                port: settings.inbound_port,
                mark: settings.mark,
            };
            let matches = [self.to_loopback(true), Match::Tcp];
            self.mangle(Chain::Tproxy, matches, tproxy);
        }
    }

    fn inbound(&mut self) {
        let settings = self.settings;
        let transparent = settings.mode == Mode::Tproxy;
        if settings.inbound == Which::Listed(Vec::new()) {
            return;
        }
        let table = if transparent { Table::Mangle } else { Table::Nat };
        self.add(table, Chain::Prerouting, [Match::Tcp], Then::Jump(Chain::Inbound));
        if transparent {
            self.own_connections();
        }
        let tunnel = [Match::Tcp, to(settings.tunnel_port)];
        self.add(table, Chain::Inbound, tunnel, Then::Return);
        let ports: Vec<Vec<Match>> = match &settings.inbound {
            Which::All => {
                for port in &settings.inbound_excluded {
                    self.add(table, Chain::Inbound, [Match::Tcp, to(*port)], Then::Return);
                }
                vec![vec![Match::Tcp]]
            }
            Which::Listed(ports) => ports.iter().map(|port| vec![Match::Tcp, to(*port)]).collect(),
        };
        for matches in ports {
            if transparent {
                let established = [matches.clone(), vec![Match::Established]].concat();
                self.mangle(Chain::Inbound, established, Then::Jump(Chain::Divert));
                self.mangle(Chain::Inbound, matches, Then::Jump(Chain::Tproxy));
            } else {
                self.nat(Chain::Inbound, matches, Then::Jump(Chain::InRedirect));
            }
        }
    }

    /// What goes on within the pod is not incoming traffic: the proxy's connections to the application (by mark, or from their
    /// own address), and the application's to itself.
    fn own_connections(&mut self) {
        let mark = |mark, not| Match::Mark { mark, not };
        let marked = [Match::Tcp, mark(self.settings.mark, false)];
        self.mangle(Chain::Inbound, marked, Then::Return);
        let from_proxy = [Match::Tcp, Match::Source(self.family.proxys_own()), lo(Match::In)];
        self.mangle(Chain::Inbound, from_proxy, Then::Return);
        let to_itself = [Match::Tcp, lo(Match::In), mark(TO_SELF, true)];
        self.mangle(Chain::Inbound, to_itself, Then::Return);
    }

    fn outbound(&mut self) {
        let settings = self.settings;
        let chain = Chain::Outgoing;
        self.nat(Chain::Output, Vec::new(), Then::Jump(chain));
        for port in &settings.outbound_ports_excluded {
            self.nat(chain, [Match::Tcp, to(*port)], Then::Return);
            self.nat(chain, [Match::Udp, to(*port)], Then::Return);
        }
        let from_proxy = [lo(Match::Out), Match::Source(self.family.proxys_own())];
        self.nat(chain, from_proxy, Then::Return);
        for owner in self.owners() {
            self.of_owner(owner);
        }
        self.dns_over_tcp();
        self.nat(chain, [self.to_loopback(false)], Then::Return);
        for range in self.of_family(&settings.outbound_excluded) {
            self.nat(chain, [destination(*range)], Then::Return);
        }
        for port in &settings.outbound_ports {
            self.nat(chain, [Match::Tcp, to(*port)], Then::Jump(Chain::Redirect));
        }
        match &settings.outbound {
            Which::All => self.nat(chain, Vec::new(), Then::Jump(Chain::Redirect)),
            Which::Listed(ranges) => {
                for range in self.of_family(ranges) {
                    self.nat(chain, [destination(*range)], Then::Jump(Chain::Redirect));
                }
            }
        }
    }

    /// A proxy that calls its own workload by another address goes through itself once more, as an incoming connection; all else
    /// of the proxy's is left alone, and what the application sends to the machine itself.
    fn of_owner(&mut self, owner: Owner) {
        let dns = self.settings.dns != Dns::Off;
        let mut ports = vec![self.settings.tunnel_port];
        if dns {
            ports.insert(0, DNS);
        }
        let to_self = [
            lo(Match::Out),
            self.to_loopback(true),
            Match::Tcp,
            Match::To { ports, not: true },
            owner.is(),
        ];
        self.nat(Chain::Outgoing, to_self, Then::Jump(Chain::InRedirect));
        if !self.loopback_is_included() {
            let mut local = vec![lo(Match::Out)];
            if dns {
                let ports = vec![DNS];
                local.extend([Match::Tcp, Match::To { ports, not: true }]);
            }
            local.push(owner.is_not());
            self.nat(Chain::Outgoing, local, Then::Return);
        }
        self.nat(Chain::Outgoing, [owner.is()], Then::Return);
    }

    /// Whether the ranges say that traffic to the machine itself is redirected.
    fn loopback_is_included(&self) -> bool {
        match &self.settings.outbound {
            Which::All => false,
            Which::Listed(ranges) => ranges.iter().any(|range| range.addr().is_loopback()),
        }
    }

    /// Servers of DNS as conditions; `None` where requests stay as they are.
    fn servers(&self) -> Option<Vec<Option<IpNet>>> {
        match &self.settings.dns {
            Dns::Off => None,
            Dns::All => Some(vec![None]),
            Dns::Servers(servers) => {
                let all: Vec<IpNet> = servers.iter().copied().map(IpNet::from).collect();
                Some(
                    self.of_family(&all)
                        .into_iter()
                        .map(|range| Some(*range))
                        .collect(),
                )
            }
        }
    }

    fn dns_over_tcp(&mut self) {
        for server in self.servers().unwrap_or_default() {
            let mut matches = vec![Match::Tcp, to(DNS)];
            matches.extend(server.map(destination));
            self.nat(Chain::Outgoing, matches, Then::Redirect(DNS_PORT));
        }
    }

    /// Requests over UDP go to the agent, but for the agent's own: UDP comes back from the chain of outgoing traffic to what
    /// follows here. Both may use one source port towards one server, so their connections are tracked in zones of their own.
    fn dns(&mut self) {
        let Some(servers) = self.servers() else { return };
        let owners = self.owners();
        for owner in &owners {
            let own = [Match::Udp, to(DNS), owner.is()];
            self.nat(Chain::Output, own.clone(), Then::Return);
            self.add(Table::Raw, Chain::Output, own, Then::Zone(ZONES.0));
            let answer = [Match::Udp, Match::From(DNS_PORT), owner.is()];
            self.add(Table::Raw, Chain::Output, answer, Then::Zone(ZONES.1));
        }
        for server in servers {
            let mut asked = vec![Match::Udp, to(DNS)];
            asked.extend(server.map(destination));
            self.nat(Chain::Output, asked.clone(), Then::Redirect(DNS_PORT));
            let others = owners.iter().map(|owner| owner.is_not());
            let foreign: Vec<Match> = asked.into_iter().chain(others).collect();
            self.add(Table::Raw, Chain::Output, foreign, Then::Zone(ZONES.1));
            let mut answered = vec![Match::Udp, Match::From(DNS)];
            answered.extend(server.map(Match::Source));
            self.add(Table::Raw, Chain::Prerouting, answered, Then::Zone(ZONES.0));
        }
    }

    /// Marks by which packets of connections that came by TPROXY find their way back.
    fn marks(&mut self) {
        let settings = self.settings;
        let marked = Match::Mark {
            mark: settings.mark,
            not: false,
        };
        self.mangle(Chain::Prerouting, [Match::Tcp, marked.clone()], Then::SaveMark);
        self.mangle(Chain::Output, [Match::Tcp, lo(Match::Out), marked], Then::Return);
        for owner in self.owners() {
            let to_self = [self.to_loopback(true), Match::Tcp, lo(Match::Out), owner.is()];
            self.mangle(Chain::Output, to_self, Then::SetMark(TO_SELF));
        }
        let connection = [Match::Tcp, Match::ConnectionMark(settings.mark)];
        self.mangle(Chain::Output, connection, Then::RestoreMark);
    }
}

fn destination(range: IpNet) -> Match {
    Match::Destination { range, not: false }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::super::args::Mode;
    use super::super::{iptables, nftables};
    use super::*;

    fn settings(mode: Mode) -> Settings {
        Settings {
            outbound_port: 15001,
            inbound_port: 15006,
            tunnel_port: 15008,
            uids: vec![1337],
            gids: vec![1337],
            mode,
            mark: 1337,
            route_table: 133,
            inbound: Which::All,
            inbound_excluded: vec![15090, 15021, 15020],
            outbound: Which::All,
            outbound_excluded: Vec::new(),
            outbound_ports: Vec::new(),
            outbound_ports_excluded: Vec::new(),
            virtual_interfaces: Vec::new(),
            excluded_interfaces: Vec::new(),
            dns: Dns::Off,
            drop_invalid: false,
        }
    }

    fn everything(mode: Mode) -> Settings {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        Settings {
            inbound: Which::Listed(vec![80, 8080]),
            outbound: Which::Listed(vec![net("10.0.0.0/8"), net("fd00::/8")]),
            outbound_excluded: vec![net("10.1.0.0/16"), net("fd01::/16")],
            outbound_ports: vec![9000],
            outbound_ports_excluded: vec![3306],
            virtual_interfaces: vec!["net1".to_owned()],
            excluded_interfaces: vec!["eth1".to_owned()],
            dns: Dns::Servers(vec!["10.96.0.10".parse().unwrap(), "fd96::a".parse().unwrap()]),
            drop_invalid: true,
            ..settings(mode)
        }
    }

    /// The rules as both tools get them, against `tests/golden/redirect/NAME`.
    fn golden(name: &str, settings: &Settings) {
        let mut text = String::new();
        for family in [Family::V4, Family::V6] {
            let rules = rules(settings, family);
            text += &format!("# {family:?}, iptables-restore\n{}", iptables::render(&rules));
            text += &format!("# {family:?}, nft\n{}", nftables::render(family, &rules));
        }
        let path = format!("{}/tests/golden/redirect/{name}", env!("CARGO_MANIFEST_DIR"));
        expect_file![path].assert_eq(&text);
    }

    #[test]
    fn rules_as_the_tools_get_them() {
        golden("redirect.txt", &settings(Mode::Redirect));
        golden("tproxy.txt", &settings(Mode::Tproxy));
        golden("redirect-everything.txt", &everything(Mode::Redirect));
        golden("tproxy-everything.txt", &everything(Mode::Tproxy));
        let dns = Settings {
            dns: Dns::All,
            ..settings(Mode::Redirect)
        };
        golden("redirect-dns.txt", &dns);
    }

    #[test]
    fn without_interception_nothing_is_redirected() {
        assert!(rules(&settings(Mode::None), Family::V4).is_empty());
    }

    #[test]
    fn no_incoming_port_means_no_rule_for_incoming_traffic() {
        let settings = Settings {
            inbound: Which::Listed(Vec::new()),
            ..settings(Mode::Redirect)
        };
        let rules = rules(&settings, Family::V4);
        assert!(!rules.iter().any(|rule| rule.chain == Chain::Inbound));
    }

    #[test]
    fn the_proxys_own_traffic_is_never_redirected_to_its_port_for_outgoing_traffic() {
        for mode in [Mode::Redirect, Mode::Tproxy] {
            for settings in [settings(mode), everything(mode)] {
                for family in [Family::V4, Family::V6] {
                    let rules = rules(&settings, family);
                    let at = |wanted: &dyn Fn(&Rule) -> bool| rules.iter().position(wanted);
                    let spared = at(&|rule| {
                        rule.chain == Chain::Outgoing
                            && rule.matches == [Owner::User(1337).is()]
                            && rule.then == Then::Return
                    });
                    let taken =
                        at(&|rule| rule.chain == Chain::Outgoing && rule.then == Then::Jump(Chain::Redirect));
                    assert!(spared.unwrap() < taken.unwrap(), "{mode:?} {family:?}");
                }
            }
        }
    }
}
