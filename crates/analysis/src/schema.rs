//! What validation of single objects has found, as messages of analysis.

use config::{Finding, Severity, unserved};

use crate::{Code, Message};

/// The messages for findings about objects: errors, warnings, and rules of VirtualServices that are never used. Findings
/// about no object, information, and fields without effect yet are none.
pub fn of_findings<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Vec<Message> {
    findings.into_iter().filter_map(of_finding).collect()
}

fn of_finding(finding: &Finding) -> Option<Message> {
    let object = finding.object.clone()?;
    let (code, text) = match finding.severity {
        Severity::Info => return None,
        Severity::Warning
            if [unserved::NO_EFFECT, unserved::NO_EFFECT_AT_ALL].contains(&finding.message.as_str()) =>
        {
            return None;
        }
        Severity::Error => (Code::SchemaValidationError, words(finding)),
        Severity::Warning if finding.message.starts_with("never used") => {
            let code = match finding.path.contains(".match[") {
                true => Code::VirtualServiceIneffectiveMatch,
                false => Code::VirtualServiceUnreachableRule,
            };
            (code, code.text(&[&finding.path, &finding.message]))
        }
        Severity::Warning => (Code::SchemaWarning, words(finding)),
    };
    Some(Message {
        code,
        object: Some(object),
        path: finding.path.clone(),
        text,
        origin: finding.origin.clone(),
    })
}

fn words(finding: &Finding) -> String {
    match &finding.help {
        Some(help) => format!("{}; {help}", finding.message),
        None => finding.message.clone(),
    }
}
