//! What is redirected, read and checked once. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::args::{Args, Mode};

/// The longest name of an interface (Linux's IFNAMSIZ without its end).
const MAX_INTERFACE: usize = 15;
/// Most entries of one list.
const MAX_ENTRIES: usize = 1024;

/// Which of a kind: all, or those that are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which<T> {
    /// `*`.
    All,
    /// These; none of an empty list.
    Listed(Vec<T>),
}

/// DNS requests that come to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dns {
    /// None.
    Off,
    /// Those for any server.
    All,
    /// Those for these servers.
    Servers(Vec<IpAddr>),
}

/// All that rules are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The proxy's port for outgoing traffic.
    pub outbound_port: u16,
    /// The proxy's port for incoming traffic.
    pub inbound_port: u16,
    /// A port that is never redirected.
    pub tunnel_port: u16,
    /// Users whose traffic is left alone.
    pub uids: Vec<u32>,
    /// Groups whose traffic is left alone.
    pub gids: Vec<u32>,
    /// How incoming traffic comes to the proxy.
    pub mode: Mode,
    /// Mark of connections by TPROXY.
    pub mark: u32,
    /// Their routing table.
    pub route_table: u32,
    /// Ports whose incoming traffic is redirected.
    pub inbound: Which<u16>,
    /// Ports whose incoming traffic is left alone.
    pub inbound_excluded: Vec<u16>,
    /// Destinations that are redirected.
    pub outbound: Which<IpNet>,
    /// Destinations that are left alone.
    pub outbound_excluded: Vec<IpNet>,
    /// Destination ports that are redirected whatever the address.
    pub outbound_ports: Vec<u16>,
    /// Destination ports that are left alone.
    pub outbound_ports_excluded: Vec<u16>,
    /// Interfaces of virtual machines.
    pub virtual_interfaces: Vec<String>,
    /// Interfaces that are left alone.
    pub excluded_interfaces: Vec<String>,
    /// DNS requests that come to the agent.
    pub dns: Dns,
    /// Whether invalid packets are dropped.
    pub drop_invalid: bool,
}

/// A flag whose value means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag}: {value:?} is {wrong}")]
pub struct SettingsError {
    /// The flag.
    pub flag: &'static str,
    /// The entry.
    pub value: String,
    /// What is wrong with it.
    pub wrong: &'static str,
}

impl Settings {
    /// Reads the flags. `servers` are the name servers of this machine.
    ///
    /// # Errors
    /// Names the flag and the entry that means nothing.
    pub fn read(args: &Args, servers: &[IpAddr]) -> Result<Self, SettingsError> {
        let uids = numbers("-u", &args.proxy_uid, "no user id")?;
        let gids: Vec<u32> = numbers("-g", &args.proxy_gid, "no group id")?;
        Ok(Self {
            outbound_port: args.envoy_port,
            inbound_port: args.inbound_capture_port,
            tunnel_port: args.inbound_tunnel_port,
            gids: if gids.is_empty() { uids.clone() } else { gids },
            uids,
            mode: args.istio_inbound_interception_mode,
            mark: args.istio_inbound_tproxy_mark,
            route_table: args.istio_inbound_tproxy_route_table,
            inbound: which(&args.istio_inbound_ports, |list| ports("-b", list))?,
            inbound_excluded: ports("-d", &args.istio_local_exclude_ports)?,
            outbound: which(&args.istio_service_cidr, |list| ranges("-i", list))?,
            outbound_excluded: ranges("-x", &args.istio_service_exclude_cidr)?,
            outbound_ports: ports("-q", &args.istio_outbound_ports)?,
            outbound_ports_excluded: ports("-o", &args.istio_local_outbound_ports_exclude)?,
            virtual_interfaces: interfaces("-k", &args.istio_kubevirt_interfaces)?,
            excluded_interfaces: interfaces("-c", &args.istio_exclude_interfaces)?,
            dns: match (args.redirect_dns, args.capture_all_dns) {
                (false, _) => Dns::Off,
                (true, true) => Dns::All,
                (true, false) => Dns::Servers(servers.to_vec()),
            },
            drop_invalid: args.drop_invalid,
        })
    }
}

fn which<T>(
    list: &str,
    read: impl Fn(&str) -> Result<Vec<T>, SettingsError>,
) -> Result<Which<T>, SettingsError> {
    match list.trim() {
        "*" => Ok(Which::All),
        list => Ok(Which::Listed(read(list)?)),
    }
}

fn each<T>(
    flag: &'static str,
    list: &str,
    wrong: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, SettingsError> {
    let bad = |value: &str, wrong| SettingsError {
        flag,
        value: value.chars().take(100).collect(),
        wrong,
    };
    let entries: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect();
    if entries.len() > MAX_ENTRIES {
        return Err(bad(list, "a list of more than 1024 entries"));
    }
    entries
        .into_iter()
        .map(|entry| read(entry).ok_or_else(|| bad(entry, wrong)))
        .collect()
}

fn numbers(flag: &'static str, list: &str, wrong: &'static str) -> Result<Vec<u32>, SettingsError> {
    each(flag, list, wrong, |entry| entry.parse().ok())
}

fn ports(flag: &'static str, list: &str) -> Result<Vec<u16>, SettingsError> {
    each(flag, list, "no port", |entry| {
        entry.parse().ok().filter(|port| *port != 0)
    })
}

fn ranges(flag: &'static str, list: &str) -> Result<Vec<IpNet>, SettingsError> {
    let read = |entry: &str| {
        entry
            .parse()
            .ok()
            .or_else(|| Some(IpNet::from(entry.parse::<IpAddr>().ok()?)))
    };
    each(flag, list, "no range such as 10.0.0.0/8", |entry| {
        read(entry).map(|range| range.trunc())
    })
}

/// A `+` at the end stands for any rest, as iptables has it.
fn interfaces(flag: &'static str, list: &str) -> Result<Vec<String>, SettingsError> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':' | '+');
    each(flag, list, "no name of an interface", |entry| {
        (entry.len() <= MAX_INTERFACE && entry.chars().all(known)).then(|| entry.to_owned())
    })
}

/// The name servers in the text of /etc/resolv.conf.
pub fn name_servers(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("nameserver")?;
        // A zone, as in fe80::1%eth0, is no part of what rules compare.
        rest.trim().split(['%', ' ', '\t']).next()?.parse().ok()
    });
    servers.take(MAX_ENTRIES).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn read(line: &str) -> Result<Settings, String> {
        let args = Cli::try_parse_from(line.split(' '))
            .map_err(|error| error.to_string())?
            .args;
        Settings::read(&args, &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn the_injectors_flags_are_understood() {
        let line = "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x 10.1.2.3/8 -b * -d 15090,15021,15020 -q 80 -o 443 -k net1 -c eth1,eth2";
        let settings = read(line).unwrap();
        assert_eq!(settings.outbound, Which::All);
        assert_eq!(settings.outbound_excluded, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(settings.inbound_excluded, [15090, 15021, 15020]);
        assert_eq!(settings.gids, [1337], "the group is the user's unless given");
        assert_eq!(settings.excluded_interfaces, ["eth1", "eth2"]);
        assert_eq!(read("istio-iptables -m tproxy").unwrap().mode, Mode::Tproxy);
        assert_eq!(read("istio-iptables").unwrap().inbound, Which::Listed(Vec::new()));
    }

    #[test]
    fn what_means_nothing_is_named() {
        for (line, expected) in [
            ("x -b 80,http", "-b: \"http\" is no port"),
            ("x -i 10.0.0.0/33", "-i: \"10.0.0.0/33\" is no range"),
            ("x -c eth0;reboot", "-c: \"eth0;reboot\" is no name"),
            ("x -u root", "-u: \"root\" is no user id"),
            ("x -m HALF", "invalid value 'HALF'"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn name_servers_of_resolv_conf() {
        let text = "search shop.svc.cluster.local\nnameserver 10.96.0.10\n nameserver\tfe80::1%eth0\nnameserver x\noptions ndots:5\n";
        let expected: Vec<IpAddr> = vec!["10.96.0.10".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }
}
