//! `identity.yaml`: the trust domain, and who may vouch for workloads. Parsed strictly, because a misspelt field here
//! would be a hole or a lock-out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::TrustDomain;
use serde::Deserialize;

use crate::auth::jwks::{JwksError, KeySet};
use crate::ca::files::{self, FileError};

/// Most other names of the trust domain.
pub const MAX_ALIASES: usize = 16;
/// Most token issuers.
pub const MAX_ISSUERS: usize = 64;

const ONE_OF: &str =
    "give just one of jwksFile, jwks, jwksUri and discovery: where the issuer's public keys are";

/// `identity.yaml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that is named but not there.
    #[error("{0}: there is no such file")]
    Missing(PathBuf),
    /// Not UTF-8.
    #[error("{0} is not UTF-8 text")]
    NotText(PathBuf),
    /// YAML, a type or a field's name.
    #[error("{path}: {reason}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// The place and what is wrong there.
        reason: String,
    },
    /// A value.
    #[error("{path}: {field}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The field's path.
        field: String,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// A key set.
    #[error("{path}: {field}: {source}")]
    Jwks {
        /// The file.
        path: PathBuf,
        /// The field's path.
        field: String,
        /// What is wrong.
        source: JwksError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    trust_domain: TrustDomain,
    #[serde(default)]
    trust_domain_aliases: Vec<TrustDomain>,
    #[serde(default)]
    token_issuers: Vec<IssuerDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IssuerDocument {
    issuer: String,
    audiences: Vec<String>,
    jwks_file: Option<PathBuf>,
    jwks: Option<serde_json::Value>,
    jwks_uri: Option<String>,
    #[serde(default)]
    discovery: bool,
    ca_file: Option<PathBuf>,
}

impl IssuerDocument {
    /// Whether the keys are somewhere else.
    fn is_remote(&self) -> bool {
        self.jwks_uri.is_some() || self.discovery
    }
}

/// Who may vouch for workloads by signed tokens, with keys that have to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteIssuer {
    /// The tokens' `iss`; where the keys are found by discovery also the address that it starts from.
    pub issuer: String,
    /// A token's `aud` must have one of these.
    pub audiences: BTreeSet<String>,
    /// Where the keys are; `None` to find out by OpenID Connect Discovery.
    pub jwks_uri: Option<String>,
    /// Roots that the issuer's certificate must lead to, PEM; the system's where there are none.
    pub roots: Option<Vec<u8>>,
}

/// Who may vouch for workloads by signed tokens.
#[derive(Debug, Clone)]
pub struct TokenIssuer {
    /// The tokens' `iss`.
    pub issuer: String,
    /// A token's `aud` must have one of these.
    pub audiences: BTreeSet<String>,
    /// Its public keys.
    pub keys: Arc<KeySet>,
}

/// The file's contents, ready for use.
#[derive(Debug, Clone, Default)]
pub struct IdentityConfig {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Other names of it, such as the one before it was renamed: certificates with them are of this mesh.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// In the file's order, no `issuer` twice.
    pub token_issuers: Vec<TokenIssuer>,
    /// Likewise, those whose keys are fetched; no `issuer` is in both.
    pub remote_issuers: Vec<RemoteIssuer>,
}

/// All that was read, to see whether it changed: contents in reading order.
pub type Read = Vec<(PathBuf, Vec<u8>)>;

/// Loads the file and what it points to (paths in it are relative to its folder).
///
/// # Errors
/// When anything in it cannot be used: half of a file of trust is worse than none.
pub fn load(path: &Path) -> Result<(IdentityConfig, Read), IdentityFileError> {
    let mut read = Vec::new();
    let text = read_text(path, &mut read)?;
    let document: Document = serde_saphyr::from_str(&text).map_err(|e| IdentityFileError::Yaml {
        path: path.to_owned(),
        reason: e.without_snippet().to_string(),
    })?;
    let value = |field: String, reason: String| IdentityFileError::Value {
        path: path.to_owned(),
        field,
        reason,
    };
    if document.token_issuers.len() > MAX_ISSUERS {
        return Err(value(
            "tokenIssuers".into(),
            format!("more than {MAX_ISSUERS} entries"),
        ));
    }
    if document.trust_domain_aliases.len() > MAX_ALIASES {
        return Err(value(
            "trustDomainAliases".into(),
            format!("more than {MAX_ALIASES} entries"),
        ));
    }
    let mut issuers: Vec<TokenIssuer> = Vec::new();
    let mut remotes: Vec<RemoteIssuer> = Vec::new();
    for (index, entry) in document.token_issuers.into_iter().enumerate() {
        let field = format!("tokenIssuers[{index}]");
        let repeated = issuers.iter().any(|i| i.issuer == entry.issuer)
            || remotes.iter().any(|i| i.issuer == entry.issuer);
        if entry.issuer.is_empty() || repeated {
            return Err(value(
                format!("{field}.issuer"),
                "empty, or the same as in an earlier entry".into(),
            ));
        }
        if entry.audiences.is_empty() || entry.audiences.iter().any(String::is_empty) {
            let reason = "name at least one audience, for example argosy-ca; tokens made for others must not count here";
            return Err(value(format!("{field}.audiences"), reason.into()));
        }
        if entry.is_remote() {
            remotes.push(remote(path, &field, entry, &mut read)?);
            continue;
        }
        let keys = load_keys(path, &field, entry.jwks_file, entry.jwks, &mut read)?;
        issuers.push(TokenIssuer {
            issuer: entry.issuer,
            audiences: entry.audiences.into_iter().collect(),
            keys: Arc::new(keys),
        });
    }
    Ok((
        IdentityConfig {
            trust_domain: document.trust_domain,
            trust_domain_aliases: document.trust_domain_aliases,
            token_issuers: issuers,
            remote_issuers: remotes,
        },
        read,
    ))
}

fn remote(
    path: &Path,
    field: &str,
    entry: IssuerDocument,
    read: &mut Read,
) -> Result<RemoteIssuer, IdentityFileError> {
    let value = |field: String, reason: &str| IdentityFileError::Value {
        path: path.to_owned(),
        field,
        reason: reason.to_owned(),
    };
    let several =
        entry.jwks.is_some() || entry.jwks_file.is_some() || (entry.discovery && entry.jwks_uri.is_some());
    if several {
        return Err(value(field.to_owned(), ONE_OF));
    }
    let (key, address) = match &entry.jwks_uri {
        Some(uri) => ("jwksUri", uri),
        None => ("issuer", &entry.issuer),
    };
    if !address.starts_with("https://") {
        let reason = "not an https address: keys that anybody on the way can change are no keys";
        return Err(value(format!("{field}.{key}"), reason));
    }
    let roots = match entry.ca_file {
        Some(file) => {
            let file = path.parent().unwrap_or(Path::new("")).join(file);
            Some(read_text(&file, read)?.into_bytes())
        }
        None => None,
    };
    Ok(RemoteIssuer {
        issuer: entry.issuer,
        audiences: entry.audiences.into_iter().collect(),
        jwks_uri: entry.jwks_uri,
        roots,
    })
}

fn load_keys(
    path: &Path,
    field: &str,
    file: Option<PathBuf>,
    inline: Option<serde_json::Value>,
    read: &mut Read,
) -> Result<KeySet, IdentityFileError> {
    let wrong = |key: &str, source| {
        let field = format!("{field}.{key}");
        IdentityFileError::Jwks {
            path: path.to_owned(),
            field,
            source,
        }
    };
    match (file, inline) {
        (Some(file), None) => {
            let file = path.parent().unwrap_or(Path::new("")).join(file);
            let text = read_text(&file, read)?;
            KeySet::parse(&text).map_err(|e| wrong(&format!("jwksFile ({})", file.display()), e))
        }
        (None, Some(serde_json::Value::String(text))) => KeySet::parse(&text).map_err(|e| wrong("jwks", e)),
        (None, Some(value)) => KeySet::from_value(&value).map_err(|e| wrong("jwks", e)),
        _ => Err(IdentityFileError::Value {
            path: path.to_owned(),
            field: field.to_owned(),
            reason: ONE_OF.into(),
        }),
    }
}

fn read_text(path: &Path, read: &mut Read) -> Result<String, IdentityFileError> {
    let bytes = files::read(path)?.ok_or_else(|| IdentityFileError::Missing(path.to_owned()))?;
    read.push((path.to_owned(), bytes.clone()));
    String::from_utf8(bytes).map_err(|_| IdentityFileError::NotText(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::IssuerKey;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("identity")).unwrap();
        let jwks = IssuerKey::generate().unwrap().jwks().unwrap();
        std::fs::write(dir.path().join("identity/jwks.json"), jwks).unwrap();
        dir
    }

    fn load_text(text: &str) -> Result<IdentityConfig, String> {
        let dir = folder();
        let path = dir.path().join("identity.yaml");
        std::fs::write(&path, text).unwrap();
        load(&path).map(|(config, _)| config).map_err(|e| e.to_string())
    }

    #[test]
    fn keys_come_from_a_file_beside_or_inline() {
        let jwks = IssuerKey::generate().unwrap().jwks().unwrap();
        let text = format!(
            "trustDomain: mesh.example\ntokenIssuers:\n- issuer: https://a\n  audiences: [argosy-ca, other]\n  \
             jwksFile: identity/jwks.json\n- issuer: b\n  audiences: [argosy-ca]\n  jwks: {}\n",
            jwks.replace('\n', " ")
        );
        let config = load_text(&text).unwrap();
        assert_eq!(config.trust_domain.as_str(), "mesh.example");
        assert_eq!(config.token_issuers.len(), 2);
        assert!(config.token_issuers[0].audiences.contains("other"));
    }

    #[test]
    fn keys_can_be_elsewhere() {
        let text = "tokenIssuers:\n- issuer: https://a\n  audiences: [x]\n  discovery: true\n\
                    - issuer: b\n  audiences: [x]\n  jwksUri: https://b/keys\n  caFile: identity/jwks.json\n";
        let remotes = load_text(text).unwrap().remote_issuers;
        let uris: Vec<_> = remotes.iter().map(|remote| remote.jwks_uri.as_deref()).collect();
        assert_eq!(uris, [None, Some("https://b/keys")]);
        assert!(remotes[0].roots.is_none() && remotes[1].roots.is_some());
        let issuer = "tokenIssuers:\n- issuer: a\n  audiences: [x]\n";
        refused(
            &format!("{issuer}  discovery: true\n"),
            &["tokenIssuers[0].issuer", "https"],
        );
        refused(
            &format!("{issuer}  jwksUri: http://a\n"),
            &["tokenIssuers[0].jwksUri", "https"],
        );
        refused(
            &format!("{issuer}  jwksUri: https://a\n  jwksFile: identity/jwks.json\n"),
            &["give just one of jwksFile, jwks, jwksUri and discovery"],
        );
        refused(
            &format!("{issuer}  jwksUri: https://a\n- issuer: a\n  audiences: [x]\n  jwks: {{}}\n"),
            &["tokenIssuers[1].issuer", "earlier"],
        );
    }

    #[test]
    fn an_empty_document_has_the_defaults() {
        let config = load_text("{}\n").unwrap();
        assert_eq!(config.trust_domain.as_str(), "cluster.local");
        assert!(config.token_issuers.is_empty());
    }

    fn refused(text: &str, expected: &[&str]) {
        let error = load_text(text).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "no {part:?} in: {error}");
        }
    }

    #[test]
    fn each_fault_names_the_file_the_field_and_the_way_out() {
        let issuer = "tokenIssuers:\n- issuer: a\n  audiences: [x]\n";
        refused(
            "trustDomian: x\n",
            &["identity.yaml", "trustDomian", "trustDomain"],
        );
        refused(&format!("{issuer}  jwksFlie: x\n"), &["jwksFlie", "jwksFile"]);
        refused("trustDomain: Mesh\n", &["'M'"]);
        refused(issuer, &["tokenIssuers[0]", "just one of jwksFile, jwks"]);
        refused(
            &format!("{issuer}  jwksFile: none.json\n"),
            &["none.json", "no such file"],
        );
        refused(
            &format!("{issuer}  jwks: {{keys: []}}\n"),
            &["tokenIssuers[0].jwks", "no key"],
        );
        refused(
            "tokenIssuers:\n- issuer: a\n  jwksFile: identity/jwks.json\n",
            &["audiences"],
        );
        refused(
            "tokenIssuers:\n- issuer: a\n  audiences: []\n  jwksFile: identity/jwks.json\n",
            &["argosy-ca"],
        );
        let twice = format!(
            "{issuer}  jwksFile: identity/jwks.json\n{}",
            "- issuer: a\n  audiences: [x]\n"
        );
        refused(&twice, &["tokenIssuers[1].issuer", "earlier"]);
        refused("- a\n", &["identity.yaml"]);
    }
}
