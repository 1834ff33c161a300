//! The authority's state, for people: what `argosy ca status` prints.

use std::collections::BTreeMap;

use runtime::logging::utc;
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use crate::ca::folder::fingerprint;
use crate::ca::rotation::{self, Policy, Record, Stage, Step};
use crate::ca::{Authority, AuthorityError, Folder};

/// A root.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RootStatus {
    /// SHA-256, hexadecimal.
    pub(crate) fingerprint: String,
    /// Whether it signs, is about to, or is about to leave.
    pub(crate) role: &'static str,
}

/// What this process has done since it was started.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    /// Certificates issued to callers.
    pub(crate) issued: u64,
    /// Requests refused, by reason.
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

/// A certificate that was revoked.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevokedStatus {
    pub(crate) serial: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// RFC 3339.
    pub(crate) revoked: String,
    /// When it ends and leaves the list, RFC 3339.
    pub(crate) until: String,
}

/// An identity all of whose certificates were revoked.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CutStatus {
    pub(crate) identity: String,
    /// What was issued before is revoked, RFC 3339.
    pub(crate) before: String,
    /// Until then its certificates are no proof to Citadel, tokens alone are, RFC 3339.
    pub(crate) until: String,
}

/// The authority's state.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// The mesh's trust domain.
    pub(crate) trust_domain: String,
    /// Other names of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) trust_domain_aliases: Vec<String>,
    /// Whether the authority was plugged in by its owner.
    pub(crate) plugged_in: bool,
    /// Where a rotation stands.
    pub(crate) stage: Stage,
    /// When the next step is due, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_step: Option<String>,
    /// End of the certificate that signs, RFC 3339.
    pub(crate) not_after: String,
    /// Beginning of the certificate that signs, RFC 3339.
    pub(crate) not_before: String,
    /// Since when it can have signed, in seconds: the hour by which own roots are backdated is no age.
    pub(crate) age_seconds: i64,
    /// All roots that the mesh trusts.
    pub(crate) roots: Vec<RootStatus>,
    /// Authorities between leaves and a root, the one that signs first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) intermediates: Vec<RootStatus>,
    /// Authorities that were tainted and are trusted no more: SHA-256, hexadecimal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tainted: Vec<String>,
    /// Certificates issued before this are renewed at once, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reissue_before: Option<String>,
    /// Certificates that were revoked and have not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) revoked: Vec<RevokedStatus>,
    /// Identities all of whose certificates were revoked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) revoked_identities: Vec<CutStatus>,
    /// Until when the lists of revoked certificates count, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crl_next_update: Option<String>,
    /// Since this process was started.
    pub(crate) requests: Counts,
}

/// How things stand at `now`.
pub(crate) fn status(
    folder: &Folder,
    policy: &Policy,
    authority: &Authority,
    requests: Counts,
    now: i64,
) -> Result<Status, AuthorityError> {
    let record = folder.record()?;
    let next_key = folder.next_key();
    let stage = rotation::stage(&record, next_key);
    let next_step = match rotation::next(&record, next_key, authority.since(), policy, now) {
        Step::Wait(at) => at,
        _ => Some(now),
    };
    let bundle = authority.bundle();
    Ok(Status {
        trust_domain: bundle.trust_domain().to_string(),
        trust_domain_aliases: bundle.aliases().iter().map(ToString::to_string).collect(),
        plugged_in: folder.plugged(),
        stage,
        next_step: next_step.map(utc),
        not_after: utc(authority.not_after()),
        not_before: utc(authority.not_before()),
        age_seconds: now.saturating_sub(authority.since()),
        roots: bundle
            .roots()
            .iter()
            .map(|root| root_status(root, authority, &record, stage))
            .collect(),
        intermediates: authority
            .chain()
            .iter()
            .map(|own| root_status(own, authority, &record, stage))
            .collect(),
        tainted: record.distrusted.clone(),
        reissue_before: Some(record.reissue_before).filter(|at| *at > 0).map(utc),
        revoked: revoked(authority),
        revoked_identities: cuts(authority),
        crl_next_update: Some(authority.lists().next_update).filter(|at| *at > 0).map(utc),
        requests,
    })
}

fn revoked(authority: &Authority) -> Vec<RevokedStatus> {
    let entries = authority.revoked().entries.iter();
    entries
        .map(|(serial, entry)| RevokedStatus {
            serial: serial.as_str().to_owned(),
            identity: entry.identity.clone(),
            revoked: utc(entry.revoked),
            until: utc(entry.until),
        })
        .collect()
}

fn cuts(authority: &Authority) -> Vec<CutStatus> {
    let cuts = authority.revoked().identities.iter();
    cuts.map(|(identity, cut)| CutStatus {
        identity: identity.clone(),
        before: utc(cut.before),
        until: utc(cut.until),
    })
    .collect()
}

fn root_status(
    root: &CertificateDer<'_>,
    authority: &Authority,
    record: &Record,
    stage: Stage,
) -> RootStatus {
    let fingerprint = fingerprint(root);
    let role = match stage {
        _ if root == authority.certificate() => "signing",
        _ if record.retiring.contains(&fingerprint) => "retiring",
        Stage::Distributing => "next",
        _ => "trusted",
    };
    RootStatus { fingerprint, role }
}
