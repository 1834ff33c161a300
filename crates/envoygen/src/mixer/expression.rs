//! Conditions of `policy` as CEL for Envoy's formatters. Each has a value for every request: what may be absent is asked for
//! first, since an error would make the whole expression nothing.

use policy::{BodyPart, Fact, Matcher, Test};

/// Filter state with the address of the connection itself, without its port. CEL's own `source.address` is what the client
/// writes into X-Forwarded-For.
pub(super) const SOURCE_IP: &str = "argosy.source.ip";

/// A condition.
pub(super) fn condition(matcher: &Matcher) -> String {
    let joined = |parts: &[Matcher], op: &str| {
        let parts: Vec<String> = parts.iter().map(condition).collect();
        format!("({})", parts.join(op))
    };
    match matcher {
        Matcher::Always => "true".to_owned(),
        Matcher::Never => "false".to_owned(),
        Matcher::All(parts) => joined(parts, " && "),
        Matcher::Any(parts) => joined(parts, " || "),
        Matcher::Not(inner) => format!("!{}", condition(inner)),
        Matcher::Text(fact, test) => of_text(fact, test),
        Matcher::SourceIp(networks) => {
            let addresses: Vec<String> = networks
                .iter()
                .map(|network| network.addr().to_string())
                .collect();
            let list: Vec<String> = addresses
                .iter()
                .flat_map(|address| [literal(address), literal(&format!("::ffff:{address}"))])
                .collect();
            format!("(filter_state[{}] in [{}])", literal(SOURCE_IP), list.join(", "))
        }
    }
}

/// Whether it asks for the connection's own address.
pub(super) fn reads_source(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::All(parts) | Matcher::Any(parts) => parts.iter().any(reads_source),
        Matcher::Not(inner) => reads_source(inner),
        Matcher::SourceIp(_) => true,
        Matcher::Always | Matcher::Never | Matcher::Text(..) => false,
    }
}

/// The value of the first of some conditions that holds, else nothing.
pub(super) fn value(cases: &[(Matcher, BodyPart)]) -> String {
    let cases = cases.iter().rev();
    cases.fold(literal(""), |otherwise, (when, value)| match when {
        Matcher::Always => part(value),
        when => format!("({} ? {} : {otherwise})", condition(when), part(value)),
    })
}

/// A value whose guard holds.
fn part(part: &BodyPart) -> String {
    match part {
        BodyPart::Text(text) => literal(text),
        BodyPart::Fact(fact) => place(fact),
        BodyPart::SourceIp => format!("filter_state[{}]", literal(SOURCE_IP)),
    }
}

fn place(fact: &Fact) -> String {
    match fact {
        Fact::Header(name) => format!("request.headers[{}]", literal(name)),
        Fact::UrlPath => "request.url_path".to_owned(),
        Fact::PeerUri => "connection.uri_san_peer_certificate".to_owned(),
    }
}

fn of_text(fact: &Fact, test: &Test) -> String {
    let place = place(fact);
    let there = match fact {
        Fact::Header(name) => format!("{} in request.headers", literal(name)),
        Fact::UrlPath | Fact::PeerUri => format!("has({place})"),
    };
    let passes = match test {
        Test::Present => return format!("({there})"),
        Test::Exact(text) => format!("{place} == {}", literal(text)),
        Test::Prefix(text) => format!("{place}.startsWith({})", literal(text)),
        Test::Suffix(text) => format!("{place}.endsWith({})", literal(text)),
        Test::Regex(pattern) => format!("{place}.matches({})", literal(&format!("^(?:{pattern})$"))),
    };
    format!("({there} && {passes})")
}

/// Text as a CEL literal that holds nothing that formats read: `%` would end a command.
fn literal(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            '%' => out.push_str("\\u0025"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_absent_is_asked_for_first() {
        let header = Matcher::Text(Fact::Header("x-a".into()), Test::Exact("100%'".into()));
        let text = r"('x-a' in request.headers && request.headers['x-a'] == '100\u0025\'')";
        assert_eq!(condition(&header), text);
        let not = Matcher::Not(Box::new(header.clone()));
        let any = Matcher::Any(vec![not, Matcher::Text(Fact::PeerUri, Test::Present)]);
        assert_eq!(
            condition(&any),
            format!("(!{text} || (has(connection.uri_san_peer_certificate)))")
        );
        let cases = [
            (header, BodyPart::Fact(Fact::Header("x-a".into()))),
            (Matcher::Always, BodyPart::Text("b".into())),
        ];
        assert_eq!(value(&cases), format!("({text} ? request.headers['x-a'] : 'b')"));
    }
}
