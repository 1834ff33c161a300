//! What an object's `.status` should say, and how urgent a change of it is. In the shape of Istio's `IstioStatus`, so that
//! tools that read it there find it here.
//!
//! Pure; what is in the cluster is compared in [`super::plan`].

use std::time::Duration;

use config::Severity;
use serde_json::{Value, json};

use super::progress::Progress;

/// How far the object has come among the proxies.
pub const RECONCILED: &str = "Reconciled";
/// Whether analysis found no error.
pub const PASSED_ANALYSIS: &str = "PassedAnalysis";

/// Most messages in one object's status.
const MAX_MESSAGES: usize = 50;
/// Longest text in characters.
const MAX_TEXT: usize = 1024;
/// How long counts may be old while all proxies follow: pods come and go, and each would rewrite every object.
const COUNTS: Duration = Duration::from_secs(60);
/// How long proxies that had accepted a version may seem not to have it: a Pilot that restarts is told again.
const RELAPSE: Duration = Duration::from_secs(20);

/// One thing that validation or analysis says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Such as `IST0101`.
    pub code: String,
    /// Such as `ReferencedResourceNotFound`.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// The message's page; empty where there is none.
    pub url: String,
    /// In words, with the field's path.
    pub text: String,
}

/// What is known of one version of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The version.
    pub generation: i64,
    /// Whether this version is served; one with errors is not, and the last good one stays.
    pub served: bool,
    /// How far it has come; `None` when no Pilot has told of it.
    pub progress: Option<Progress>,
    /// What is said of it.
    pub messages: Vec<Said>,
    /// Of a rule: what proxies do for it by themselves.
    pub compiled: Option<Condition>,
}

/// A condition without times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub r#type: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Wanted {
    /// Galley's conditions. Without news from Pilots there is none about proxies, and the one in the cluster stays.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        let mut conditions: Vec<Condition> = self.reconciled().into_iter().collect();
        conditions.push(self.passed_analysis());
        conditions.extend(self.compiled.clone().map(|condition| Condition {
            message: cut(condition.message),
            ..condition
        }));
        conditions
    }

    fn reconciled(&self) -> Option<Condition> {
        let condition = |status, reason, message| Condition {
            r#type: RECONCILED,
            status,
            reason,
            message: cut(message),
        };
        if !self.served {
            let text = "this version has errors and is not used (see validationMessages); the last good one, if any, stays";
            return Some(condition("False", "NotUsed", text.to_owned()));
        }
        let progress = self.progress.as_ref()?;
        let (accepted, proxies) = (progress.accepted, progress.proxies);
        let counts = format!("{accepted}/{proxies} proxies up to date");
        Some(match () {
            () if progress.rejected > 0 => {
                let (rejected, reason) = (progress.rejected, &progress.reason);
                let text = format!("{counts}; {rejected}/{proxies} proxies reject it: {reason}");
                condition("False", "Rejected", text)
            }
            () if proxies == 0 => condition("True", "NoProxies", format!("{counts}; no proxy needs it")),
            () if accepted < proxies => condition("False", "Propagating", counts),
            () => condition("True", "UpToDate", counts),
        })
    }

    fn passed_analysis(&self) -> Condition {
        let count = |severity| {
            self.messages
                .iter()
                .filter(|each| each.severity == severity)
                .count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let (status, reason) = match (errors, warnings) {
            (0, 0) => ("True", "NothingFound"),
            (0, _) => ("True", "WarningsFound"),
            (_, _) => ("False", "ErrorsFound"),
        };
        let message = match (errors, warnings) {
            (0, 0) => "no errors and no warnings".to_owned(),
            _ => format!(
                "{}, {}; see validationMessages",
                plural(errors, "error"),
                plural(warnings, "warning")
            ),
        };
        Condition {
            r#type: PASSED_ANALYSIS,
            status,
            reason,
            message,
        }
    }

    /// `validationMessages`: Istio's `AnalysisMessageBase`, and the words beside it.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        let message = |said: &Said| {
            let mut message = json!({
                "type": { "code": said.code, "name": said.name },
                "level": said.severity.to_string().to_uppercase(),
                "message": cut(said.text.clone()),
            });
            if let Some(fields) = message.as_object_mut().filter(|_| !said.url.is_empty()) {
                fields.insert("documentationUrl".to_owned(), json!(said.url));
            }
            message
        };
        let mut messages: Vec<Value> = self.messages.iter().take(MAX_MESSAGES).map(message).collect();
        if let more @ 1.. = self.messages.len().saturating_sub(MAX_MESSAGES) {
            messages.push(json!({
                "type": { "code": "", "name": "More" },
                "level": "INFO",
                "message": format!("and {more} more; `argosy analyze` shows all"),
            }));
        }
        messages
    }

    /// How long the change from `written` to this may wait.
    #[must_use]
    pub fn patience(&self, written: &Self) -> Duration {
        let state = |wanted: &Self| wanted.reconciled().map(|condition| condition.reason);
        let others = |wanted: &Self| {
            let said = (wanted.messages.clone(), wanted.compiled.clone());
            (wanted.generation, wanted.served, said)
        };
        match (state(written), state(self)) {
            _ if others(self) != others(written) => Duration::ZERO,
            (Some("UpToDate" | "NoProxies"), Some("Propagating")) => RELAPSE,
            (before, now) if before == now && now != Some("Rejected") => match now {
                Some("Propagating") => COUNTS / 12,
                _ => COUNTS,
            },
            (before, now) if before == now => COUNTS / 4,
            _ => Duration::ZERO,
        }
    }
}

fn plural(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text,
        Some(_) => text.chars().take(MAX_TEXT - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(proxies: u32, accepted: u32, rejected: u32) -> Option<Progress> {
        Some(Progress {
            proxies,
            accepted,
            rejected,
            reason: "bad regex".to_owned(),
        })
    }

    fn wanted(progress: Option<Progress>, severities: &[Severity]) -> Wanted {
        let said = |severity: &Severity| Said {
            code: "IST0101".to_owned(),
            name: "ReferencedResourceNotFound".to_owned(),
            severity: *severity,
            url: String::new(),
            text: "x".to_owned(),
        };
        Wanted {
            generation: 3,
            served: true,
            progress,
            messages: severities.iter().map(said).collect(),
            compiled: None,
        }
    }

    #[test]
    fn conditions() {
        let check = |wanted: Wanted, expected: &[&str]| {
            let conditions = wanted.conditions();
            let seen: Vec<String> = conditions
                .iter()
                .map(|c| format!("{}={} {}: {}", c.r#type, c.status, c.reason, c.message))
                .collect();
            assert_eq!(seen, expected);
        };
        const PASSED: &str = "PassedAnalysis=True NothingFound: no errors and no warnings";
        check(wanted(None, &[]), &[PASSED]);
        check(
            wanted(progress(100, 97, 0), &[]),
            &["Reconciled=False Propagating: 97/100 proxies up to date", PASSED],
        );
        check(
            wanted(progress(100, 97, 3), &[]),
            &[
                "Reconciled=False Rejected: 97/100 proxies up to date; 3/100 proxies reject it: bad regex",
                PASSED,
            ],
        );
        check(
            wanted(progress(1, 1, 0), &[Severity::Warning]),
            &[
                "Reconciled=True UpToDate: 1/1 proxies up to date",
                "PassedAnalysis=True WarningsFound: 0 errors, 1 warning; see validationMessages",
            ],
        );
        check(
            Wanted {
                served: false,
                ..wanted(progress(0, 0, 0), &[Severity::Error, Severity::Error])
            },
            &[
                "Reconciled=False NotUsed: this version has errors and is not used (see validationMessages); the last good one, if any, stays",
                "PassedAnalysis=False ErrorsFound: 2 errors, 0 warnings; see validationMessages",
            ],
        );
        let compiled = Condition {
            r#type: "Compiled",
            status: "True",
            reason: "InProxies",
            message: "x".repeat(2000),
        };
        let rule = Wanted {
            compiled: Some(compiled),
            ..wanted(None, &[])
        };
        check(
            rule.clone(),
            &[PASSED, &format!("Compiled=True InProxies: {}…", "x".repeat(1023))],
        );
        assert_eq!(rule.patience(&wanted(None, &[])), Duration::ZERO);
    }

    #[test]
    fn messages_have_istios_shape_and_a_bound() {
        let messages = wanted(None, &[Severity::Warning; 60]).messages();
        assert_eq!(
            messages[0],
            json!({"type": {"code": "IST0101", "name": "ReferencedResourceNotFound"}, "level": "WARNING", "message": "x"})
        );
        assert_eq!(
            (messages.len(), &messages[50]["message"]),
            (51, &json!("and 10 more; `argosy analyze` shows all"))
        );
    }

    #[test]
    fn news_do_not_wait_and_counts_do() {
        let check = |before: Wanted, now: Wanted, waits: bool| {
            assert_eq!(
                now.patience(&before) > Duration::ZERO,
                waits,
                "{before:?} {now:?}"
            );
        };
        let of = |p: (u32, u32, u32)| wanted(progress(p.0, p.1, p.2), &[]);
        check(of((9, 9, 0)), of((10, 10, 0)), true);
        check(of((9, 9, 0)), of((9, 5, 0)), true);
        check(of((9, 5, 0)), of((9, 9, 0)), false);
        check(of((9, 9, 0)), of((9, 8, 1)), false);
        check(of((9, 8, 1)), of((9, 7, 2)), true);
        check(wanted(None, &[]), of((9, 9, 0)), false);
        check(
            of((9, 9, 0)),
            wanted(progress(9, 9, 0), &[Severity::Error]),
            false,
        );
        check(
            of((9, 9, 0)),
            Wanted {
                generation: 4,
                ..of((9, 5, 0))
            },
            false,
        );
    }
}
