//! The pod as a workload: its labels and annotations from files of the downward API, the rest from variables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::workload::Workload;

/// Label of a pod that says where it is, in the form REGION.ZONE.SUBZONE (Istio's, since labels have no slashes).
const LOCALITY: &str = "istio-locality";
/// Label of a pod with its network.
const NETWORK: &str = "topology.istio.io/network";
/// Largest file in bytes; Kubernetes bounds annotations at 256 KiB.
const MAX_FILE: u64 = 1 << 20;

/// The pod cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// A file of the downward API.
    #[error("--pod-info {}: {source}; mount the downward API's labels and annotations there", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No address.
    #[error("--pod-info needs --address, the pod's address (INSTANCE_IP)")]
    Address,
}

/// What the downward API says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Info {
    /// Reads `labels` and `annotations` in a folder.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn load(folder: &Path) -> Result<Self, InfoError> {
        let read = |name: &str| {
            let path = folder.join(name);
            let text = std::fs::File::open(&path).and_then(|file| {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_FILE), &mut text)?;
                Ok(text)
            });
            text.map(|text| pairs(&text))
                .map_err(|source| InfoError::File { path, source })
        };
        Ok(Self {
            labels: read("labels")?,
            annotations: read("annotations")?,
        })
    }

    /// The pod as a workload at `address`.
    #[must_use]
    pub fn workload(self, address: IpAddr, service_account: &str) -> Workload {
        let locality = self.labels.get(LOCALITY).map(|label| label.replacen('.', "/", 2));
        Workload {
            address,
            network: self.labels.get(NETWORK).cloned().unwrap_or_default(),
            locality: locality.unwrap_or_default().parse().unwrap_or_default(),
            labels: self.labels,
            annotations: self.annotations,
            service_account: if service_account.is_empty() {
                "default"
            } else {
                service_account
            }
            .to_owned(),
        }
    }
}

/// Lines of `KEY="VALUE"`, the value as Go quotes it.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| {
        let (key, quoted) = line.split_once('=')?;
        let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
        Some((key.to_owned(), unquote(inner)))
    });
    pairs.collect()
}

/// Undoes Go's `%q`.
fn unquote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        // Bytes that are no UTF-8 come one by one.
        if let Some('x') = escaped {
            bytes.extend(number(&mut chars, 2).and_then(|byte| u8::try_from(byte).ok()));
            continue;
        }
        out.push_str(&String::from_utf8_lossy(&std::mem::take(&mut bytes)));
        match escaped {
            None => out.push(c),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('v') => out.push('\u{b}'),
            Some('u') => out.extend(number(&mut chars, 4).and_then(char::from_u32)),
            Some('U') => out.extend(number(&mut chars, 8).and_then(char::from_u32)),
            Some(other) => out.push(other),
        }
    }
    out + &String::from_utf8_lossy(&bytes)
}

fn number(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    let text: String = chars.take(digits).collect();
    u32::from_str_radix(&text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_downward_apis_lines_are_read_as_go_wrote_them() {
        let text = "app=\"web\"\nnote=\"a \\\"b\\\"\\nc\\\\ \\u00e9 \\xff\"\nempty=\"\"\nbroken\n";
        let read = pairs(text);
        assert_eq!(read.get("app").unwrap(), "web");
        assert_eq!(read.get("note").unwrap(), "a \"b\"\nc\\ \u{e9} \u{fffd}");
        assert_eq!(read.get("empty").unwrap(), "");
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn the_pod_is_its_workload() {
        let labels = BTreeMap::from([
            (LOCALITY.to_owned(), "eu.eu-1.rack.2".to_owned()),
            (NETWORK.to_owned(), "net-1".to_owned()),
        ]);
        let info = Info {
            labels,
            ..Info::default()
        };
        let workload = info.workload("10.0.0.7".parse().unwrap(), "");
        assert_eq!(workload.locality.zone, "eu-1");
        assert_eq!(workload.locality.sub_zone, "rack.2");
        assert_eq!(
            (workload.network.as_str(), workload.service_account.as_str()),
            ("net-1", "default")
        );
    }
}
