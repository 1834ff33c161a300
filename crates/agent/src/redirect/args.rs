//! Flags and variables of `argosy-agent istio-iptables`: those of Istio's command of that name.

use clap::ValueEnum;

/// How incoming traffic comes to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Mode {
    /// By NAT
    #[default]
    #[value(name = "REDIRECT")]
    Redirect,
    /// With its own addresses, by policy routing
    #[value(name = "TPROXY")]
    Tproxy,
    /// Nothing is redirected
    #[value(name = "NONE")]
    None,
}

/// Redirects the traffic of this network namespace to the proxy in it; needs root's rights there
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Port of the proxy for outgoing traffic
    #[arg(
        short = 'p',
        long,
        env = "ENVOY_PORT",
        value_name = "PORT",
        default_value_t = 15001
    )]
    pub envoy_port: u16,
    /// Port of the proxy for incoming traffic
    #[arg(
        short = 'z',
        long,
        env = "INBOUND_CAPTURE_PORT",
        value_name = "PORT",
        default_value_t = 15006
    )]
    pub inbound_capture_port: u16,
    /// Port of tunnels (HBONE), which is never redirected
    #[arg(
        short = 'e',
        long,
        env = "INBOUND_TUNNEL_PORT",
        value_name = "PORT",
        default_value_t = 15008
    )]
    pub inbound_tunnel_port: u16,
    /// Users whose traffic is not redirected: the proxy's; with commas
    #[arg(
        short = 'u',
        long,
        env = "PROXY_UID",
        value_name = "UIDS",
        default_value = "1337"
    )]
    pub proxy_uid: String,
    /// Groups whose traffic is not redirected, with commas; those of -u unless given
    #[arg(short = 'g', long, env = "PROXY_GID", value_name = "GIDS", default_value = "")]
    pub proxy_gid: String,
    /// How incoming traffic comes to the proxy
    #[arg(
        short = 'm',
        long,
        env = "ISTIO_INBOUND_INTERCEPTION_MODE",
        value_enum,
        default_value_t,
        ignore_case = true
    )]
    pub istio_inbound_interception_mode: Mode,
    /// Mark of connections that come to the proxy by TPROXY
    #[arg(
        short = 't',
        long,
        env = "ISTIO_INBOUND_TPROXY_MARK",
        value_name = "MARK",
        default_value_t = 1337
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    pub istio_inbound_tproxy_mark: u32,
    /// Routing table of those connections
    #[arg(
        short = 'r',
        long,
        env = "ISTIO_INBOUND_TPROXY_ROUTE_TABLE",
        value_name = "TABLE",
        default_value_t = 133
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=252))]
    pub istio_inbound_tproxy_route_table: u32,
    /// Ports whose incoming traffic is redirected, with commas; * is all, an empty list none
    #[arg(
        short = 'b',
        long,
        env = "ISTIO_INBOUND_PORTS",
        value_name = "PORTS",
        default_value = ""
    )]
    pub istio_inbound_ports: String,
    /// Ports whose incoming traffic is left alone, where -b is *
    #[arg(
        short = 'd',
        long,
        env = "ISTIO_LOCAL_EXCLUDE_PORTS",
        value_name = "PORTS",
        default_value = ""
    )]
    pub istio_local_exclude_ports: String,
    /// Destinations that are redirected, ranges with commas; * is all, an empty list none
    #[arg(
        short = 'i',
        long,
        env = "ISTIO_SERVICE_CIDR",
        value_name = "RANGES",
        default_value = ""
    )]
    pub istio_service_cidr: String,
    /// Destinations that are left alone
    #[arg(
        short = 'x',
        long,
        env = "ISTIO_SERVICE_EXCLUDE_CIDR",
        value_name = "RANGES",
        default_value = ""
    )]
    pub istio_service_exclude_cidr: String,
    /// Destination ports that are redirected whatever -i says
    #[arg(
        short = 'q',
        long,
        env = "ISTIO_OUTBOUND_PORTS",
        value_name = "PORTS",
        default_value = ""
    )]
    pub istio_outbound_ports: String,
    /// Destination ports that are left alone
    #[arg(
        short = 'o',
        long,
        env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE",
        value_name = "PORTS",
        default_value = ""
    )]
    pub istio_local_outbound_ports_exclude: String,
    /// Interfaces of virtual machines, whose incoming traffic is outgoing
    #[arg(
        short = 'k',
        long,
        env = "KUBE_VIRT_INTERFACES",
        value_name = "NAMES",
        default_value = ""
    )]
    #[arg(visible_alias = "kube-virt-interfaces")]
    pub istio_kubevirt_interfaces: String,
    /// Interfaces whose traffic is left alone
    #[arg(
        short = 'c',
        long,
        env = "ISTIO_EXCLUDE_INTERFACES",
        value_name = "NAMES",
        default_value = ""
    )]
    pub istio_exclude_interfaces: String,
    /// Bring DNS requests to the agent
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    #[arg(action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub redirect_dns: bool,
    /// Bring those for any server, not for those of /etc/resolv.conf alone
    #[arg(long, env = "CAPTURE_ALL_DNS", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    #[arg(action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub capture_all_dns: bool,
    /// Drop what conntrack takes for invalid, instead of resetting the connection
    #[arg(long, env = "INVALID_DROP", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    #[arg(action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub drop_invalid: bool,
    /// Use nft though iptables-restore is there too
    #[arg(long, env = "NATIVE_NFTABLES", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    #[arg(action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub native_nftables: bool,
    /// Print what would be done, and do nothing
    #[arg(short = 'n', long, env = "DRY_RUN", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    #[arg(action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub dry_run: bool,
    /// Take all of it away again, and set nothing up
    #[arg(long)]
    pub cleanup_only: bool,
}
