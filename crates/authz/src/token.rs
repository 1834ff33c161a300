//! Which tokens a request proves, by the RequestAuthentications of a workload.

use config::security::{JwtRule, Presence};
use serde_json::{Map, Value};

use crate::request::{Http, Place, Token};

/// What a rule finds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Found<'t> {
    Missing,
    Valid(&'t Token),
    Invalid,
}

/// The claims that hold for a request, or that it must be refused (401).
pub(crate) fn claims(rules: &[JwtRule], http: &Http) -> Result<Option<Map<String, Value>>, ()> {
    let found: Vec<(&JwtRule, Found<'_>)> = rules.iter().map(|rule| (rule, find(rule, http))).collect();
    let is_demanded = |rule: &JwtRule| rule.presence == Presence::Required;
    let demanded: Vec<_> = found.iter().filter(|(rule, _)| is_demanded(rule)).collect();
    if demanded.is_empty() {
        return optional(&found);
    }
    let mut last = None;
    for (rule, found) in &found {
        let shares = || demanded.iter().any(|(other, _)| shares_a_place(rule, other));
        match found {
            _ if !is_demanded(rule) && shares() => {}
            Found::Valid(token) => last = Some(token.claims.clone()),
            Found::Missing if !is_demanded(rule) => {}
            _ => return Err(()),
        }
    }
    Ok(last)
}

/// One valid token of any issuer is enough; without one there must be no token at all.
fn optional(found: &[(&JwtRule, Found<'_>)]) -> Result<Option<Map<String, Value>>, ()> {
    let valid = found.iter().find_map(|(_, found)| match found {
        Found::Valid(token) => Some(token.claims.clone()),
        _ => None,
    });
    match valid {
        Some(claims) => Ok(Some(claims)),
        None if found.iter().all(|(_, found)| *found == Found::Missing) => Ok(None),
        None => Err(()),
    }
}

fn find<'t>(rule: &JwtRule, http: &'t Http) -> Found<'t> {
    let places = places(rule);
    let mut own = http
        .tokens
        .iter()
        .filter(|token| places.contains(&token.place))
        .peekable();
    let Some(first) = own.peek().copied() else {
        return Found::Missing;
    };
    match own.all(|token| proves(rule, token)) {
        true => Found::Valid(first),
        false => Found::Invalid,
    }
}

/// Whether a token is the issuer's and for one of the rule's audiences. Without keys nothing is.
fn proves(rule: &JwtRule, token: &Token) -> bool {
    let issuer = token
        .claims
        .get("iss")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let meant = match token.claims.get("aud") {
        Some(Value::String(one)) => rule.audiences.contains(one),
        Some(Value::Array(several)) => {
            let mut several = several.iter().filter_map(Value::as_str);
            several.any(|one| rule.audiences.iter().any(|own| own == one))
        }
        _ => false,
    };
    token.genuine
        && !rule.jwks.is_empty()
        && (rule.issuer.is_empty() || rule.issuer == issuer)
        && (rule.audiences.is_empty() || meant)
}

fn places(rule: &JwtRule) -> Vec<Place> {
    let headers = rule
        .from_headers
        .iter()
        .map(|h| Place::Header(h.name.to_ascii_lowercase(), h.prefix.clone()));
    let params = rule.from_params.iter().cloned().map(Place::Param);
    let cookies = rule.from_cookies.iter().cloned().map(Place::Cookie);
    let given: Vec<Place> = headers.chain(params).chain(cookies).collect();
    if given.is_empty() {
        let usual = Place::Header("authorization".to_owned(), "Bearer ".to_owned());
        return vec![usual, Place::Param("access_token".to_owned())];
    }
    given
}

fn shares_a_place(a: &JwtRule, b: &JwtRule) -> bool {
    let others = places(b);
    places(a).iter().any(|place| others.contains(place))
}
