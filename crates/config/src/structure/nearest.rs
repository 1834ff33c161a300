//! The known name that a wrong one was probably meant to be.

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
