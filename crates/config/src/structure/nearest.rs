//! The known name that a wrong one was probably meant to be.

use crate::clip::{self, clip};

/// The candidate nearest to `name`, when one is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 100 {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    let wanted = plain(name);
    let bound = (wanted.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean NAME?` as a way out.
pub(crate) fn suggestion<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|candidate| format!("did you mean {candidate:?}?"))
}

/// Most names that a message lists.
const MOST: usize = 12;

/// Names that are known where a wrong one was given: all, or of many those that are most like it.
pub(super) fn some_names<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = known.collect();
    let others = names.len().saturating_sub(MOST);
    if others == 0 {
        return format!("known here are {}", names.join(", "));
    }
    let name = clip(name.to_owned(), clip::NAME).to_ascii_lowercase();
    names.sort_by_cached_key(|known| strsim::damerau_levenshtein(&name, &known.to_ascii_lowercase()));
    names.truncate(MOST / 2);
    let others = others + MOST - names.len();
    format!("known here are {} and {others} others", names.join(", "))
}

/// Fields that the API once had, and what replaces them.
const REMOVED: &[(&str, &str)] = &[
    ("appendHeaders", "use headers.request.add"),
    ("appendRequestHeaders", "use headers.request.add"),
    ("appendResponseHeaders", "use headers.response.add"),
    ("removeRequestHeaders", "use headers.request.remove"),
    ("removeResponseHeaders", "use headers.response.remove"),
    (
        "websocketUpgrade",
        "remove it: upgrades to WebSocket are always possible",
    ),
    ("percent", "use percentage.value"),
];

/// What replaces a field that the API once had.
pub(super) fn replacement(name: &str) -> Option<&'static str> {
    REMOVED
        .iter()
        .find(|(removed, _)| *removed == name)
        .map(|(_, help)| *help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(
            nearest(name, ["hosts", "gateways", "http", "exportTo", "trafficPolicy"]),
            expected
        );
    }

    #[test]
    fn of_many_names_those_that_are_most_alike_are_told() {
        let many = (0..20)
            .map(|i| format!("field{i}"))
            .chain(["trustDomain".to_owned()]);
        let many: Vec<String> = many.collect();
        let told = some_names("trustAnchors", many.iter().map(String::as_str));
        assert!(
            told.starts_with("known here are trustDomain, ") && told.ends_with("and 15 others"),
            "{told}"
        );
        assert_eq!(some_names("x", ["a", "b"].into_iter()), "known here are a, b");
    }

    #[test]
    fn near_names() {
        check("host", Some("hosts"));
        check("gateway", Some("gateways"));
        check("htpp", Some("http"));
        check("export_to", Some("exportTo"));
        check("trafficPolicies", Some("trafficPolicy"));
        check("subsets", None);
        check("", None);
    }
}
