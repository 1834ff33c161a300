//! The functions that Mixer adds to CEL's, and bounded forms of those that grow.

#![expect(
    clippy::needless_pass_by_value,
    reason = "functions have the signature that the cel crate wants"
)]

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use ::cel::common::types::{CelBool, CelList, CelString, DYN_TYPE, STRING_TYPE};
use ::cel::common::value::{CowVal, Val};
use ::cel::{Env, ExecutionError, extensions};

use super::values::{Pattern, Special};
use super::{MAX_LIST, MAX_TEXT};
use crate::functions::{compile_pattern, wildcard_match};
use crate::names::{check_dns_name, parse_email, parse_uri};
use crate::value::ValueType;

/// `a + b`, bounded.
pub(super) const ADD: &str = "@add";
/// `text.matches(pattern)`, the pattern compiled or of bounded size.
pub(super) const MATCHES: &str = "@matches";

type Result<'b, 'v> = std::result::Result<CowVal<'b, 'v>, ExecutionError>;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(false);
    // None of these is declared already: the test of values calls each.
    let _ = env.add_extension(extensions::strings);
    let text = || vec![STRING_TYPE];
    let _ = env.add_overload("match", "match", vec![STRING_TYPE, STRING_TYPE], matches_wildcard);
    let _ = env.add_overload("reverse", "reverse", text(), reverse);
    let _ = env.add_overload("toLower", "toLower", text(), to_lower);
    let _ = env.add_overload("email", "email", text(), email);
    let _ = env.add_overload("dnsName", "dnsName", text(), dns_name);
    let _ = env.add_overload("uri", "uri", text(), uri);
    let _ = env.add_overload("ip", "ip", text(), ip);
    let _ = env.add_overload(MATCHES, MATCHES, vec![STRING_TYPE, DYN_TYPE], matches);
    let _ = env.add_overload(ADD, ADD, vec![DYN_TYPE, DYN_TYPE], add);
    Arc::new(env)
});

/// The functions and macros.
pub(super) fn environment() -> Arc<Env> {
    ENVIRONMENT.clone()
}

fn text<'c>(arguments: &'c [CowVal<'_, '_>], at: usize) -> std::result::Result<&'c str, ExecutionError> {
    arguments
        .get(at)
        .and_then(|argument| argument.downcast_ref::<CelString>())
        .map(CelString::inner)
        .ok_or_else(ExecutionError::missing_argument_or_target)
}

fn made<'b, 'v>(text: impl Into<String>) -> Result<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text.into())))
}

fn matches_wildcard<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<'b, 'v> {
    let matched = wildcard_match(text(&arguments, 0)?, text(&arguments, 1)?);
    Ok(CowVal::owned(CelBool::from(matched)))
}

fn reverse<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<'b, 'v> {
    made(text(&arguments, 0)?.chars().rev().collect::<String>())
}

fn to_lower<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<'b, 'v> {
    made(text(&arguments, 0)?.to_lowercase())
}

fn special<'b, 'v>(
    ty: ValueType,
    arguments: &[CowVal<'b, 'v>],
    check: impl FnOnce(&str) -> std::result::Result<(), &'static str>,
) -> Result<'b, 'v> {
    let text = text(arguments, 0)?;
    match check(text) {
        Ok(()) => Ok(CowVal::owned(Special::Text(ty, text.to_owned()))),
        Err(reason) => Err(ExecutionError::function_error(
            ty.name(),
            format!("{text:?} is none: {reason}"),
        )),
    }
}

fn email<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<'b, 'v> {
    special(ValueType::EmailAddress, &arguments, |text| {
        parse_email(text).map(|_| ())
    })
}

fn dns_name<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<'b, 'v> {
    special(ValueType::DnsName, &arguments, check_dns_name)
}

fn uri<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<'b, 'v> {
    special(ValueType::Uri, &arguments, |text| parse_uri(text).map(|_| ()))
}

fn ip<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<'b, 'v> {
    let text = text(&arguments, 0)?;
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(CowVal::owned(Special::Ip(Some(ip)))),
        Err(_) => Err(ExecutionError::function_error(
            "ip",
            format!("{text:?} is neither IPv4 nor IPv6"),
        )),
    }
}

fn matches<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<'b, 'v> {
    let subject = text(&arguments, 0)?;
    let compiled = arguments
        .get(1)
        .and_then(|pattern| pattern.downcast_ref::<Pattern>());
    let matched = match compiled {
        Some(Pattern(regex)) => regex.is_match(subject),
        None => compile_pattern(text(&arguments, 1)?)
            .map_err(|problem| ExecutionError::function_error("matches", problem))?
            .is_match(subject),
    };
    Ok(CowVal::owned(CelBool::from(matched)))
}

/// The size of what grows by `+`: bytes or elements, and how many there may be.
fn size(value: &(dyn Val + '_)) -> (usize, usize) {
    if let Some(text) = value.downcast_ref::<CelString>() {
        (text.inner().len(), MAX_TEXT)
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        (list.inner().len(), MAX_LIST)
    } else {
        (0, MAX_TEXT)
    }
}

fn add<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<'b, 'v> {
    let [left, right] = arguments.as_slice() else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let ((a, limit), (b, _)) = (size(&**left), size(&**right));
    if a.saturating_add(b) > limit {
        return Err(ExecutionError::function_error(
            "+",
            format!("the sum has more than {limit} bytes or elements"),
        ));
    }
    let adder = left
        .as_adder()
        .ok_or_else(|| ExecutionError::no_such_overload("_+_", vec![left.get_type().name().to_owned()]))?;
    adder.add(&**right).map(|sum| CowVal::Owned(sum.into_owned()))
}
