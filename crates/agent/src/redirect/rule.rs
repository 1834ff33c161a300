//! Rules of packet filters, as far as redirection needs them, whatever tool writes them.

use std::net::IpAddr;

use ipnet::IpNet;

/// An address family; each has rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Loopback's address that applications use.
    pub(crate) fn loopback(self) -> IpNet {
        self.host("127.0.0.1", "::1")
    }

    /// The address that the proxy's connections to the application come from (Istio's choice).
    pub(crate) fn proxys_own(self) -> IpNet {
        self.host("127.0.0.6", "::6")
    }

    fn host(self, v4: &str, v6: &str) -> IpNet {
        let text = if self == Self::V4 { v4 } else { v6 };
        // Constants, which parse.
        text.parse::<IpAddr>().map(IpNet::from).unwrap_or_default()
    }

    /// Whether a range is of this family.
    pub(crate) fn has(self, range: &IpNet) -> bool {
        matches!((self, range), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}

/// What a chain is for; iptables' tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Before connections are tracked.
    Raw,
    /// Marks and transparent proxying.
    Mangle,
    /// Destinations.
    Nat,
}

impl Table {
    /// All, in the order that packets meet them.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Mangle, Self::Nat];

    /// iptables' name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
        }
    }
}

/// A chain; names of our own are Istio's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// Where packets arrive.
    Prerouting,
    /// Where packets of the machine's own start.
    Output,
    /// Incoming traffic.
    Inbound,
    /// Outgoing traffic.
    Outgoing,
    /// To the proxy's port for outgoing traffic.
    Redirect,
    /// To the proxy's port for incoming traffic.
    InRedirect,
    /// Packets of connections that have a socket.
    Divert,
    /// New connections, to the proxy with their own addresses.
    Tproxy,
}

impl Chain {
    /// Its name in iptables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Output => "OUTPUT",
            Self::Inbound => "ISTIO_INBOUND",
            Self::Outgoing => "ISTIO_OUTPUT",
            Self::Redirect => "ISTIO_REDIRECT",
            Self::InRedirect => "ISTIO_IN_REDIRECT",
            Self::Divert => "ISTIO_DIVERT",
            Self::Tproxy => "ISTIO_TPROXY",
        }
    }

    /// Whether it is the system's.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        matches!(self, Self::Prerouting | Self::Output)
    }
}

/// A condition; `not` turns it around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Destination port of the protocol named before; several are any of them.
    To {
        /// The ports.
        ports: Vec<u16>,
        /// None of them instead.
        not: bool,
    },
    /// Source port of the protocol named before.
    From(u16),
    /// Incoming interface.
    In(String),
    /// Outgoing interface.
    Out(String),
    /// Source address.
    Source(IpNet),
    /// Destination address.
    Destination {
        /// The range.
        range: IpNet,
        /// Outside of it instead.
        not: bool,
    },
    /// User of the socket.
    User {
        /// The user.
        uid: u32,
        /// Any other instead.
        not: bool,
    },
    /// Group of the socket.
    Group {
        /// The group.
        gid: u32,
        /// Any other instead.
        not: bool,
    },
    /// Mark of the packet.
    Mark {
        /// The mark.
        mark: u32,
        /// Any other instead.
        not: bool,
    },
    /// Mark of the connection.
    ConnectionMark(u32),
    /// Belongs to a connection that is there.
    Established,
    /// Belongs to none, by conntrack.
    Invalid,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Back to the chain before; at its end, on without redirection.
    Return,
    /// On without redirection.
    Accept,
    /// Away.
    Drop,
    /// On with this chain.
    Jump(Chain),
    /// To a port of this machine.
    Redirect(u16),
    /// To a port of this machine, with its own addresses and this mark.
    Tproxy {
        /// The port.
        port: u16,
        /// The mark.
        mark: u32,
    },
    /// The packet's mark.
    SetMark(u32),
    /// The packet's mark becomes the connection's.
    SaveMark,
    /// The connection's mark becomes the packet's.
    RestoreMark,
    /// Zone of connection tracking.
    Zone(u16),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its table.
    pub table: Table,
    /// Its chain.
    pub chain: Chain,
    /// All must hold.
    pub matches: Vec<Match>,
    /// Then.
    pub then: Then,
}
