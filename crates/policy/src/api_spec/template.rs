//! URI templates of HTTPAPISpecs: `/pets/{id}`, `/v1/{name=shelves/*}/books/**:list`, in the grammar of google.api.http that
//! Istio's proxies read them by.

use std::collections::BTreeSet;

/// A template. Those that say more of a path come first in their order: text before `*`, `*` before `**`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Template {
    segments: Vec<Segment>,
    verb: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Text(String),
    /// One segment, whatever it is.
    One,
    /// All that is left, which may be nothing.
    Rest,
}

/// Most segments of a template.
const MAX_SEGMENTS: usize = 100;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix('/')
            .ok_or("must begin with /, such as /pets/{id}")?;
        let (path, verb) = match rest.rsplit_once(':') {
            Some((path, verb)) if !verb.contains(['/', '}']) => (path, Some(verb.to_owned())),
            _ => (rest, None),
        };
        if verb.as_deref() == Some("") {
            return Err("has nothing behind its colon".to_owned());
        }
        let mut segments = Vec::new();
        for part in split(path)? {
            match variable(part)? {
                Some(inner) => {
                    for part in inner.split('/') {
                        segments.push(segment(part)?);
                    }
                }
                None => segments.push(segment(part)?),
            }
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(format!("has more than {MAX_SEGMENTS} segments"));
        }
        let rest = segments.iter().position(|segment| *segment == Segment::Rest);
        if rest.is_some_and(|at| at + 1 < segments.len()) {
            return Err("has segments behind **, which takes all that is left".to_owned());
        }
        Ok(Self { segments, verb })
    }

    /// The custom verb, without its colon.
    pub(super) fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    pub(super) fn matches(&self, path: &Parts<'_>) -> bool {
        if self.verb.as_deref() != path.verb {
            return false;
        }
        let mut parts = path.segments.iter();
        for segment in &self.segments {
            match (segment, parts.next()) {
                (Segment::Rest, _) => return true,
                (Segment::One, Some(_)) => {}
                (Segment::Text(text), Some(part)) if text == part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }
}

/// Segments, of which those of a variable stand together.
fn split(path: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = match rest.strip_prefix('{') {
            Some(_) => rest.find('}').ok_or("has a { without }")?.saturating_add(1),
            None => rest.find('/').unwrap_or(rest.len()),
        };
        let (part, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        parts.push(part);
        rest = match behind.strip_prefix('/') {
            Some(behind) => behind,
            None if behind.is_empty() => behind,
            None => {
                return Err(format!(
                    "has {behind:?} behind a variable; a variable is a whole segment"
                ));
            }
        };
    }
    Ok(parts)
}

/// What a variable stands for, without its name: `{id}` is `*`, `{name=a/*}` is `a/*`.
fn variable(part: &str) -> Result<Option<&str>, String> {
    let Some(inner) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
        return Ok(None);
    };
    let (name, path) = inner.split_once('=').unwrap_or((inner, "*"));
    if name.is_empty() || path.is_empty() {
        return Err(format!("has a variable without name or value: {part:?}"));
    }
    Ok(Some(path))
}

fn segment(part: &str) -> Result<Segment, String> {
    match part {
        "" => Err("has an empty segment".to_owned()),
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Rest),
        text if text.contains(['{', '}', '*']) => Err(format!(
            "{text:?} is neither text, *, ** nor a variable such as {{id}}"
        )),
        text => Ok(Segment::Text(text.to_owned())),
    }
}

/// A request's path taken apart.
pub(super) struct Parts<'a> {
    segments: Vec<&'a str>,
    verb: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// `path` without its query; `verbs` are those that templates have: any other colon belongs to the segment. Slashes at
    /// the end do not count (Istio's path matcher).
    pub(super) fn new(path: &'a str, verbs: &BTreeSet<String>) -> Self {
        let (path, verb) = match path.rsplit_once(':') {
            Some((path, verb)) if verbs.contains(verb) => (path, Some(verb)),
            _ => (path, None),
        };
        let path = path.strip_prefix('/').unwrap_or(path).trim_end_matches('/');
        let segments = match path {
            "" => Vec::new(),
            path => path.split('/').collect(),
        };
        Self { segments, verb }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, paths: &[(&str, bool)]) {
        let parsed = Template::parse(template).unwrap();
        let verbs = parsed.verb().map(str::to_owned).into_iter().collect();
        for (path, expected) in paths {
            assert_eq!(
                parsed.matches(&Parts::new(path, &verbs)),
                *expected,
                "{template} {path}"
            );
        }
    }

    #[test]
    fn templates_match_whole_paths() {
        check("/", &[("/", true), ("", true), ("/a", false)]);
        check(
            "/pets",
            &[
                ("/pets", true),
                ("/pets/", true),
                ("/pet", false),
                ("/pets/1", false),
            ],
        );
        check(
            "/pets/{id}",
            &[("/pets/1", true), ("/pets", false), ("/pets/1/2", false)],
        );
        check(
            "/{name=shelves/*}/x",
            &[("/shelves/1/x", true), ("/books/1/x", false)],
        );
        check("/a/**", &[("/a", true), ("/a/b/c", true), ("/b", false)]);
        check("/a/{rest=**}", &[("/a/b/c", true)]);
        check(
            "/a/*:list",
            &[("/a/b:list", true), ("/a/b", false), ("/a/b:drop", false)],
        );
        check("/a/*", &[("/a/b:drop", true)]);
    }

    #[test]
    fn the_more_exact_template_comes_first() {
        let mut all = ["/a/**", "/*/b", "/a/*", "/a/b", "/a"].map(|text| Template::parse(text).unwrap());
        all.sort();
        let texts = ["/a", "/a/b", "/a/*", "/a/**", "/*/b"];
        assert_eq!(all, texts.map(|text| Template::parse(text).unwrap()));
    }

    #[test]
    fn what_is_no_template_is_named() {
        for (text, why) in [
            ("pets", "begin with /"),
            ("/a//b", "empty segment"),
            ("/{id", "without }"),
            ("/{=a}", "without name"),
            ("/{id}x", "whole segment"),
            ("/a*", "neither text"),
            ("/**/a", "behind **"),
            ("/a:", "colon"),
        ] {
            let said = Template::parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
