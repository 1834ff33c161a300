//! A request, or a connection, as policies see it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value};

/// A request or connection that arrives at a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The SPIFFE ID that the peer proved by mutual TLS; none on plaintext.
    pub peer: Option<String>,
    /// The address that the connection comes from.
    pub source_ip: IpAddr,
    /// The client's address behind trusted proxies; the same where there are none.
    pub remote_ip: IpAddr,
    /// The address that it is for.
    pub destination_ip: IpAddr,
    /// The workload's port.
    pub port: u16,
    /// The server's name that TLS announced; empty without one.
    pub sni: String,
    /// The request; none on a connection that is not HTTP.
    pub http: Option<Http>,
}

/// What only requests have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Http {
    /// The method, in the case that was sent.
    pub method: String,
    /// The host, perhaps with a port.
    pub authority: String,
    /// The path as sent, with its query.
    pub path: String,
    /// Names in lower case, each with all its values in order.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The tokens that it carries.
    pub tokens: Vec<Token>,
}

/// A JSON Web Token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Where it stands.
    pub place: Place,
    /// What it claims.
    pub claims: Map<String, Value>,
    /// Whether a key of the issuer that it names has signed it and it is neither too old nor too new.
    pub genuine: bool,
}

/// Where a token stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// After this prefix in the header of this name (lower case).
    Header(String, String),
    /// In the query's parameter of this name.
    Param(String),
    /// In the cookie of this name.
    Cookie(String),
}
