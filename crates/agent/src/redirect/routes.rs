//! Routes for TPROXY: packets with its mark are this machine's own, whatever their address. Arguments of `ip`. Pure.

use super::args::Mode;
use super::rule::Family;
use super::settings::Settings;

/// Calls of `ip` that set routing up; those that may fail (because there is nothing to take away) come in [`removal`].
#[must_use]
pub fn setup(settings: &Settings, family: Family) -> Vec<Vec<String>> {
    if settings.mode != Mode::Tproxy {
        return Vec::new();
    }
    let (mark, table) = (settings.mark, settings.route_table);
    vec![
        call(family, &format!("rule add fwmark {mark} lookup {table}")),
        call(
            family,
            &format!("route replace local default dev lo table {table}"),
        ),
    ]
}

/// The call of `ip` that gives loopback the address from which the proxy reaches its application over IPv6. Of IPv4 it has all of
/// 127.0.0.0/8. It fails where loopback has it already.
#[must_use]
pub fn own_address(settings: &Settings, family: Family) -> Option<Vec<String>> {
    let wanted = family == Family::V6 && settings.mode != Mode::None;
    wanted.then(|| call(family, "addr add ::6/128 dev lo"))
}

/// Calls of `ip` that take it away; each fails where there is nothing to take away.
#[must_use]
pub fn removal(settings: &Settings, family: Family) -> Vec<Vec<String>> {
    if settings.mode != Mode::Tproxy {
        return Vec::new();
    }
    let (mark, table) = (settings.mark, settings.route_table);
    vec![
        call(family, &format!("rule del fwmark {mark} lookup {table}")),
        call(family, &format!("route flush table {table}")),
    ]
}

fn call(family: Family, words: &str) -> Vec<String> {
    let family = if family == Family::V4 { "-4" } else { "-6" };
    std::iter::once(family)
        .chain(words.split(' '))
        .map(str::to_owned)
        .collect()
}
