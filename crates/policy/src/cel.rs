//! What a rate limit descriptor must carry so that Mixer can evaluate a rule, as CEL expressions that have a value for
//! every request.
//!
//! Envoy drops a descriptor of which one expression fails, and then asks nobody. So each expression tests first
//! whether what it reads is there, and says [`ABSENT`] otherwise.

use std::collections::BTreeSet;

use expr::Use;

use crate::SOURCE_ADDRESS_STATE;
use crate::requirements::DescriptorEntry;

/// Stands for a value that is absent: a character that no header, path or name can have.
pub(crate) const ABSENT: &str = "\u{7f}";

/// `ABSENT` as a CEL literal.
const ABSENT_CEL: &str = r"'\u007f'";

/// Key of the request's size: what its `content-length` says, as text.
pub(crate) const SIZE: &str = "request.size";
/// Keys of entries that every descriptor has.
pub(crate) const RULE: &str = "rule";
pub(crate) const DESTINATION_UID: &str = "destination.uid";

/// A fact that a descriptor may carry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Header(String),
    /// A field of Envoy's `request` that may be missing.
    Request(&'static str),
    RequestSize,
    SourceAddress,
    DestinationAddress,
    Principal,
    Mtls,
    ServerName,
}

impl Fact {
    fn entry(&self) -> DescriptorEntry {
        let optional = |path: &str| format!("has({path}) ? {path} : {ABSENT_CEL}");
        let (key, cel) = match self {
            Self::Header(name) => {
                let literal = literal(name);
                let cel = format!("{literal} in request.headers ? request.headers[{literal}] : {ABSENT_CEL}");
                (format!("request.headers[{name}]"), cel)
            }
            Self::Request(field) => (format!("request.{field}"), optional(&format!("request.{field}"))),
            Self::RequestSize => {
                // CEL's own request.size has no value where the header is no number of 63 bits.
                let header = "'content-length'";
                let cel = format!("{header} in request.headers ? request.headers[{header}] : {ABSENT_CEL}");
                (SIZE.into(), cel)
            }
            Self::SourceAddress => {
                let key = literal(SOURCE_ADDRESS_STATE);
                let cel = format!("{key} in filter_state ? filter_state[{key}] : {ABSENT_CEL}");
                ("source.address".into(), cel)
            }
            Self::DestinationAddress => ("destination.address".into(), "destination.address".into()),
            Self::Principal => (
                "source.principal".into(),
                optional("connection.uri_san_peer_certificate"),
            ),
            Self::Mtls => ("connection.mtls".into(), "connection.mtls".into()),
            Self::ServerName => (
                "connection.requested_server_name".into(),
                optional("connection.requested_server_name"),
            ),
        };
        DescriptorEntry { key, cel }
    }
}

/// Text as a CEL literal.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// The facts from which an attribute is made; `Err` says why descriptors cannot carry them.
fn facts(used: &Use) -> Result<Vec<Fact>, String> {
    let header = |name: &str| Fact::Header(name.to_ascii_lowercase());
    Ok(match used {
        Use::Entry(map, key) if map == "request.headers" => vec![header(key)],
        Use::AnyEntry(map) if map == "request.headers" => {
            return Err("it reads request headers whose names are not fixed".into());
        }
        used => match used.name() {
            "request.path" | "request.url_path" | "request.query_params" => vec![Fact::Request("path")],
            "request.method" => vec![Fact::Request("method")],
            "request.host" => vec![Fact::Request("host")],
            "request.scheme" => vec![Fact::Request("scheme")],
            "request.size" => vec![Fact::RequestSize],
            "request.id" => vec![header("x-request-id")],
            "request.useragent" => vec![header("user-agent")],
            "request.referer" => vec![header("referer")],
            "request.api_key" => vec![header("x-api-key"), Fact::Request("path")],
            "context.protocol" | "api.protocol" => vec![header("content-type")],
            "connection.mtls" => vec![Fact::Mtls],
            "connection.requested_server_name" => vec![Fact::ServerName],
            name if name.starts_with("request.auth.") => {
                return Err(format!("it reads {name}, which descriptors cannot carry"));
            }
            name if name.starts_with("source.") => vec![Fact::SourceAddress, Fact::Principal],
            // From the workload and the address, which every descriptor carries; or absent before the response.
            _ => Vec::new(),
        },
    })
}

/// The entries of a descriptor for a rule that reads `uses`, sorted by key after the fixed ones.
pub(crate) fn entries(
    rule: &str,
    workload_uid: &str,
    uses: &BTreeSet<Use>,
) -> Result<Vec<DescriptorEntry>, String> {
    let mut all = BTreeSet::from([Fact::DestinationAddress, Fact::Request("host")]);
    for used in uses {
        all.extend(facts(used)?);
    }
    let fixed = [(RULE, rule), (DESTINATION_UID, workload_uid)];
    let fixed = fixed.map(|(key, value)| DescriptorEntry {
        key: key.to_owned(),
        cel: literal(value),
    });
    Ok(fixed.into_iter().chain(all.iter().map(Fact::entry)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(literal("x-user"), "'x-user'");
        assert_eq!(literal(r"a'b\c"), r"'a\'b\\c'");
        assert_eq!(literal("\n"), r"'\u000a'");
    }

    #[test]
    fn headers_whose_names_are_computed_stay_remote() {
        let uses = BTreeSet::from([Use::AnyEntry("request.headers".into())]);
        assert!(entries("r", "u", &uses).is_err());
        let uses = BTreeSet::from([Use::AnyEntry("request.auth.claims".into())]);
        assert!(entries("r", "u", &uses).is_err());
    }

    #[test]
    fn every_entry_is_total() {
        let uses = expr::STANDARD.all().map(|(name, _)| Use::Attribute(name.into()));
        let uses: BTreeSet<Use> = uses
            .filter(|u| !u.name().starts_with("request.auth."))
            .chain([Use::Entry("request.headers".into(), "X-User".into())])
            .collect();
        for entry in entries("r.ns", "kubernetes://a.ns", &uses).unwrap() {
            let always = ["destination.address", "connection.mtls"];
            let total = entry.cel.starts_with('\'') && entry.cel.ends_with('\'')
                || always.contains(&entry.cel.as_str())
                || entry.cel.ends_with(r" : '\u007f'") && entry.cel.contains(" ? ");
            assert!(total, "{entry:?}");
        }
    }
}
