//! Which resource a client's rejection is about.
//!
//! Envoy's CDS and LDS reject resources one by one, apply the good ones and name the bad in the message
//! ("Error adding/updating cluster(s) NAME: reason, NAME: reason"). All others reject a message and name nothing.

use crate::types::Rank;
use std::collections::VecDeque;
use std::sync::Arc;

/// Up to this many resources are sent one by one to find the bad one; of more, halves.
const SINGLY: usize = 16;

/// The resources among `sent` that the message blames; empty when that cannot be said.
pub(super) fn blamed(rank: Rank, message: &str, sent: &[Arc<str>]) -> Vec<Arc<str>> {
    match sent {
        [only] => vec![only.clone()],
        many if matches!(rank, Rank::Cluster | Rank::Listener) => {
            many.iter().filter(|name| names(message, name)).cloned().collect()
        }
        _ => Vec::new(),
    }
}

/// Whether `NAME: ` stands in the message as a word of its own.
fn names(message: &str, name: &str) -> bool {
    message.match_indices(name).any(|(at, _)| {
        let before = message.get(..at).and_then(|text| text.chars().next_back());
        let after = message.get(at + name.len()..).unwrap_or_default();
        before.is_none_or(|char| char.is_whitespace() || char == ',') && after.starts_with(": ")
    })
}

/// Smaller groups in which to send the resources of a rejected message again.
pub(super) fn split(names: &[Arc<str>]) -> VecDeque<Vec<Arc<str>>> {
    let size = if names.len() <= SINGLY {
        1
    } else {
        names.len().div_ceil(2)
    };
    names.chunks(size).map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rank: Rank, message: &str, sent: &[&str], expected: &[&str]) {
        let sent: Vec<Arc<str>> = sent.iter().map(|name| Arc::from(*name)).collect();
        let seen = blamed(rank, message, &sent);
        assert_eq!(
            seen.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
            expected,
            "{message}"
        );
    }

    #[test]
    fn blames_what_envoy_names() {
        let text = "Error adding/updating cluster(s) outbound|80||a: bad, outbound|80||c: worse";
        let sent = ["outbound|80||a", "outbound|80||b", "outbound|80||c"];
        check(Rank::Cluster, text, &sent, &["outbound|80||a", "outbound|80||c"]);
        check(
            Rank::Listener,
            "Error adding/updating listener(s) x: bad\ny: bad\n",
            &["x", "y", "z"],
            &["x", "y"],
        );
        check(
            Rank::Cluster,
            "outbound|80||abc: no such",
            &["outbound|80||a", "b"],
            &[],
        );
        check(
            Rank::Cluster,
            "xoutbound|80||a: no such",
            &["outbound|80||a", "b"],
            &[],
        );
        check(Rank::Route, "a: no such cluster", &["a", "b"], &[]);
        check(Rank::Route, "whatever", &["a"], &["a"]);
    }

    #[test]
    fn splits_into_single_resources_in_the_end() {
        let names: Vec<Arc<str>> = (0..100).map(|at| format!("r{at}").into()).collect();
        let mut queue = split(&names);
        assert_eq!(queue.len(), 2);
        let mut single = 0;
        while let Some(group) = queue.pop_front() {
            if group.len() == 1 {
                single += 1;
            } else {
                queue.extend(split(&group));
            }
        }
        assert_eq!(single, 100);
    }
}
