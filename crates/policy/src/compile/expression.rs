//! Expressions as matchers, with Mixer's rules of absence kept.
//!
//! An expression without value is of two kinds (`expr`): absent in a way that `|` mends, or an error. So a text is a list of
//! cases that exclude each other ([`Cases`]), a truth two matchers ([`Truth`]), each with the matcher for "absent"; where none
//! of them holds, the expression is an error, and whatever contains it is one too.

use expr::{Builtin, Node, Value, ValueType};

use super::attribute::{Environment, Known, Subject, lower_case};
use super::matcher::{Fact, Matcher, Test};
use super::pattern;
use super::reason::Reason;

/// A value that is known, or read from the request.
#[derive(Clone, Debug)]
pub(super) enum Term<'a> {
    Known(Value<'a>),
    Text(Subject),
    SourceIp,
}

/// What a value may be, and when.
pub(super) struct Cases<'a> {
    pub(super) values: Vec<(Matcher, Term<'a>)>,
    pub(super) absent: Matcher,
}

/// When a truth is which.
pub(super) struct Truth {
    pub(super) yes: Matcher,
    no: Matcher,
    absent: Matcher,
}

/// A map of text.
enum Map<'a> {
    Headers,
    Known(Value<'a>),
    Absent,
}

type Outcome<T> = Result<T, Reason>;

impl<'a> Cases<'a> {
    fn only(value: Value<'a>) -> Self {
        Self {
            values: vec![(Matcher::Always, Term::Known(value))],
            absent: Matcher::Never,
        }
    }

    fn absent() -> Self {
        Self {
            values: Vec::new(),
            absent: Matcher::Always,
        }
    }

    fn text(subject: Subject) -> Self {
        let present = subject.present();
        Self {
            absent: present.clone().negated(),
            values: vec![(present, Term::Text(subject))],
        }
    }

    fn one(term: Term<'a>) -> Self {
        Self {
            values: vec![(Matcher::Always, term)],
            absent: Matcher::Never,
        }
    }
}

impl Truth {
    fn known(truth: bool) -> Self {
        let (yes, no) = match truth {
            true => (Matcher::Always, Matcher::Never),
            false => (Matcher::Never, Matcher::Always),
        };
        Self {
            yes,
            no,
            absent: Matcher::Never,
        }
    }

    fn of(yes: Matcher) -> Self {
        Self {
            no: yes.clone().negated(),
            yes,
            absent: Matcher::Never,
        }
    }

    fn absent() -> Self {
        Self {
            yes: Matcher::Never,
            no: Matcher::Never,
            absent: Matcher::Always,
        }
    }

    /// `yes` and `no` of one value under each of its guards.
    fn each<'a>(
        values: &[(Matcher, Term<'a>)],
        test: impl Fn(&Term<'a>) -> Outcome<Matcher>,
    ) -> Outcome<Self> {
        let (mut yes, mut no) = (Matcher::Never, Matcher::Never);
        for (guard, term) in values {
            let holds = test(term)?;
            yes = yes.or(&guard.and(&holds));
            no = no.or(&guard.and(&holds.negated()));
        }
        Ok(Self {
            yes,
            no,
            absent: Matcher::Never,
        })
    }
}

impl Environment<'_> {
    /// When a truth is which.
    pub(super) fn truth(&self, node: &Node) -> Outcome<Truth> {
        bounded(match node {
            Node::Constant(Value::Bool(truth), _) => Truth::known(*truth),
            Node::Attribute(name, _) => match self.attribute(name)? {
                Known::Absent => Truth::absent(),
                Known::Always(value) => Truth::known(matches!(value, Value::Bool(true))),
                Known::Mtls => Truth::of(Subject::Principal.present()),
                _ => return Err(Reason::Attribute(name.clone())),
            },
            Node::And(left, right) => {
                let left = self.truth(left)?;
                if left.yes == Matcher::Never {
                    return Ok(Truth {
                        absent: Matcher::Never,
                        ..left
                    });
                }
                let right = self.truth(right)?;
                Truth {
                    no: left.no.or(&left.yes.and(&right.no)),
                    yes: left.yes.and(&right.yes),
                    absent: Matcher::Never,
                }
            }
            Node::Or(left, right) => {
                let left = self.truth(left)?;
                if left.no == Matcher::Never {
                    return Ok(Truth {
                        absent: Matcher::Never,
                        ..left
                    });
                }
                let right = self.truth(right)?;
                Truth {
                    yes: left.yes.or(&left.no.and(&right.yes)),
                    no: left.no.and(&right.no),
                    absent: Matcher::Never,
                }
            }
            Node::Fallback(left, right) => {
                let left = self.truth(left)?;
                if left.absent == Matcher::Never {
                    return Ok(left);
                }
                let right = self.truth(right)?;
                Truth {
                    yes: left.yes.or(&left.absent.and(&right.yes)),
                    no: left.no.or(&left.absent.and(&right.no)),
                    absent: left.absent.and(&right.absent),
                }
            }
            Node::Compare(op, left, right) => self.compare(op, left, right)?,
            Node::Matches(regex, subject) => {
                let pattern = regex.as_str();
                let translated = pattern::within(pattern);
                Truth::each(&self.cases(subject)?.values, |term| match term {
                    Term::Known(value) => Ok(known(regex.is_match(&value.to_string()))),
                    Term::Text(subject) => subject.passes(Test::Regex(translated.clone()?)),
                    Term::SourceIp => Err(Reason::Type(ValueType::IpAddress)),
                })?
            }
            Node::Call(Builtin::Conditional, arguments) => self.chosen_truth(arguments)?,
            Node::Call(builtin, arguments) => self.text_test(*builtin, arguments)?,
            Node::Cel(_) => return Err(Reason::Cel),
            Node::Constant(..) | Node::Index(..) | Node::Add(..) => return Err(Reason::Type(node.ty())),
        })
    }

    fn chosen_truth(&self, arguments: &[Node]) -> Outcome<Truth> {
        let [condition, yes, no] = arguments else {
            return Err(Reason::Function("conditional"));
        };
        let (condition, yes, no) = (self.truth(condition)?, self.truth(yes)?, self.truth(no)?);
        let pick = |a: &Matcher, b: &Matcher| condition.yes.and(a).or(&condition.no.and(b));
        Ok(Truth {
            yes: pick(&yes.yes, &no.yes),
            no: pick(&yes.no, &no.no),
            absent: Matcher::Never,
        })
    }

    /// `startsWith`, `endsWith` and `match` with a second text that is known.
    fn text_test(&self, builtin: Builtin, arguments: &[Node]) -> Outcome<Truth> {
        let [subject, other] = arguments else {
            return Err(Reason::Type(ValueType::Bool));
        };
        let (subject, other) = (self.cases(subject)?, self.cases(other)?);
        let (mut yes, mut no) = (Matcher::Never, Matcher::Never);
        for (guard, other) in &other.values {
            let Term::Known(Value::Text(other)) = other else {
                return Err(Reason::TwoValues);
            };
            let truth = Truth::each(&subject.values, |term| tested(builtin, term, other))?;
            yes = yes.or(&guard.and(&truth.yes));
            no = no.or(&guard.and(&truth.no));
        }
        Ok(Truth {
            yes,
            no,
            absent: Matcher::Never,
        })
    }

    fn compare(&self, op: &str, left: &Node, right: &Node) -> Outcome<Truth> {
        let ty = left.ty();
        if ty == ValueType::Bool {
            return self.compare_truths(op, left, right);
        }
        let (left, right) = match (lowered(left), lowered(right)) {
            (Some(inner), None) => return self.compare_lowered(op, inner, right),
            (None, Some(inner)) => return self.compare_lowered(op, inner, left),
            _ => (self.cases(left)?, self.cases(right)?),
        };
        let (mut yes, mut no) = (Matcher::Never, Matcher::Never);
        for (guard, right) in &right.values {
            let truth = Truth::each(&left.values, |left| ordered(op, ty, left, right))?;
            yes = yes.or(&guard.and(&truth.yes));
            no = no.or(&guard.and(&truth.no));
        }
        Ok(Truth {
            yes,
            no,
            absent: Matcher::Never,
        })
    }

    fn compare_truths(&self, op: &str, left: &Node, right: &Node) -> Outcome<Truth> {
        let (left, right) = (self.truth(left)?, self.truth(right)?);
        let same = left.yes.and(&right.yes).or(&left.no.and(&right.no));
        let other = left.yes.and(&right.no).or(&left.no.and(&right.yes));
        let (yes, no) = if op == "==" { (same, other) } else { (other, same) };
        Ok(Truth {
            yes,
            no,
            absent: Matcher::Never,
        })
    }

    /// `toLower(TEXT) == CONSTANT`.
    fn compare_lowered(&self, op: &str, inner: &Node, constant: &Node) -> Outcome<Truth> {
        let Node::Constant(Value::Text(expected), _) = constant else {
            return Err(Reason::TwoValues);
        };
        let same = |term: &Term<'_>| match term {
            Term::Known(value) => Ok(known(value.to_string().to_lowercase() == *expected)),
            Term::Text(subject) => match lower_case(expected)? {
                Some(test) => subject.passes(test),
                None => Ok(Matcher::Never),
            },
            Term::SourceIp => Err(Reason::Type(ValueType::IpAddress)),
        };
        Truth::each(&self.cases(inner)?.values, |term| match op {
            "==" => same(term),
            "!=" => Ok(same(term)?.negated()),
            _ => Err(Reason::Function("the order of texts")),
        })
    }

    /// What a value that is no truth may be.
    pub(super) fn cases<'s>(&'s self, node: &'s Node) -> Outcome<Cases<'s>> {
        Ok(match node {
            Node::Constant(value, _) => Cases::only(value.clone()),
            Node::Attribute(name, _) => match self.attribute(name)? {
                Known::Absent => Cases::absent(),
                Known::Always(value) => Cases::only(value),
                Known::Text(subject) => Cases::text(subject),
                Known::SourceIp => Cases::one(Term::SourceIp),
                Known::Protocol => protocol(),
                Known::Headers => return Err(Reason::ComputedKey(name.clone())),
                Known::Mtls => return Err(Reason::Type(ValueType::Bool)),
            },
            Node::Index(map, key) => self.entry(map, key)?,
            Node::Fallback(left, right) => {
                let mut left = self.cases(left)?;
                if left.absent == Matcher::Never {
                    return Ok(left);
                }
                let right = self.cases(right)?;
                let guarded = right
                    .values
                    .into_iter()
                    .map(|(guard, term)| (left.absent.and(&guard), term));
                left.values.extend(guarded);
                left.absent = left.absent.and(&right.absent);
                left
            }
            Node::Call(Builtin::Conditional, arguments) => self.chosen(arguments)?,
            Node::Call(Builtin::Ip, arguments) => address(arguments)?,
            Node::Call(builtin, _) => return Err(uncompiled(*builtin)),
            Node::Cel(_) => return Err(Reason::Cel),
            Node::Add(..) => return Err(Reason::Function("a sum")),
            Node::And(..) | Node::Or(..) | Node::Compare(..) | Node::Matches(..) => {
                return Err(Reason::Type(ValueType::Bool));
            }
        })
    }

    fn chosen<'s>(&'s self, arguments: &'s [Node]) -> Outcome<Cases<'s>> {
        let [condition, yes, no] = arguments else {
            return Err(Reason::Function("conditional"));
        };
        let (condition, yes, no) = (self.truth(condition)?, self.cases(yes)?, self.cases(no)?);
        let under = |when: Matcher, cases: Cases<'s>| {
            let guarded = move |(guard, term): (Matcher, Term<'s>)| (when.and(&guard), term);
            cases.values.into_iter().map(guarded).collect::<Vec<_>>()
        };
        let mut values = under(condition.yes, yes);
        values.extend(under(condition.no, no));
        // What is absent inside of a function is an error.
        Ok(Cases {
            values,
            absent: Matcher::Never,
        })
    }

    fn entry<'s>(&'s self, map: &'s Node, key: &'s Node) -> Outcome<Cases<'s>> {
        let map_name = || match map {
            Node::Attribute(name, _) => name.clone(),
            _ => "a map".to_owned(),
        };
        let Node::Constant(Value::Text(key), _) = key else {
            return Err(Reason::ComputedKey(map_name()));
        };
        Ok(match self.map(map)? {
            Map::Absent => Cases::absent(),
            Map::Headers => match Subject::header(key)? {
                Some(header) => Cases::text(header),
                None => Cases::absent(),
            },
            Map::Known(Value::Map(entries)) => match entries.lookup(key) {
                Some(value) => Cases::only(Value::from(value)),
                None => Cases::absent(),
            },
            Map::Known(_) => return Err(Reason::Type(map.ty())),
        })
    }

    fn map<'s>(&'s self, node: &'s Node) -> Outcome<Map<'s>> {
        Ok(match node {
            Node::Attribute(name, _) => match self.attribute(name)? {
                Known::Absent => Map::Absent,
                Known::Headers => Map::Headers,
                Known::Always(value) => Map::Known(value),
                _ => return Err(Reason::Attribute(name.clone())),
            },
            Node::Fallback(left, right) => match self.map(left)? {
                Map::Absent => self.map(right)?,
                there => there,
            },
            Node::Call(Builtin::EmptyStringMap, _) => Map::Known(Value::empty_map()),
            _ => return Err(Reason::Function("a map")),
        })
    }
}

fn bounded(truth: Truth) -> Outcome<Truth> {
    match truth.yes.size() + truth.no.size() + truth.absent.size() {
        size if size > 2 * super::MAX_SIZE => Err(Reason::Large),
        _ => Ok(truth),
    }
}

fn known(truth: bool) -> Matcher {
    if truth { Matcher::Always } else { Matcher::Never }
}

/// The argument of `toLower`.
fn lowered(node: &Node) -> Option<&Node> {
    match node {
        Node::Call(Builtin::ToLower, arguments) => arguments.first(),
        _ => None,
    }
}

/// `ip` of a constant; of anything else it may fail.
fn address<'a>(arguments: &[Node]) -> Outcome<Cases<'a>> {
    let malformed = Reason::Malformed("ip()");
    match arguments {
        [Node::Constant(Value::Text(text), _)] => text
            .parse()
            .map(|ip| Cases::only(Value::Ip(ip)))
            .map_err(|_| malformed),
        _ => Err(malformed),
    }
}

pub(super) fn uncompiled(builtin: Builtin) -> Reason {
    match builtin {
        Builtin::DnsName => Reason::Malformed("dnsName()"),
        Builtin::Email => Reason::Malformed("email()"),
        Builtin::Timestamp => Reason::Malformed("timestamp()"),
        Builtin::Uri => Reason::Malformed("uri()"),
        Builtin::Matches => Reason::Malformed("matches() with a pattern"),
        Builtin::Reverse => Reason::Function("reverse()"),
        Builtin::Size => Reason::Function("size()"),
        Builtin::ToLower => Reason::Function("toLower()"),
        _ => Reason::Function("a function"),
    }
}

fn protocol<'a>() -> Cases<'a> {
    let content_type = Fact::Header("content-type".to_owned());
    let grpc = Matcher::Text(content_type, Test::prefix("application/grpc"));
    Cases {
        values: vec![
            (grpc.clone(), Term::Known(Value::from("grpc"))),
            (grpc.negated(), Term::Known(Value::from("http"))),
        ],
        absent: Matcher::Never,
    }
}

fn tested(builtin: Builtin, term: &Term<'_>, other: &str) -> Outcome<Matcher> {
    let subject = match term {
        Term::Known(value) => {
            let value = value.to_string();
            return Ok(known(match builtin {
                Builtin::StartsWith => value.starts_with(other),
                Builtin::EndsWith => value.ends_with(other),
                Builtin::Match => expr::wildcard_match(&value, other),
                _ => return Err(uncompiled(builtin)),
            }));
        }
        Term::Text(subject) => subject,
        Term::SourceIp => return Err(Reason::Type(ValueType::IpAddress)),
    };
    subject.passes(match builtin {
        Builtin::StartsWith => Test::prefix(other),
        Builtin::EndsWith => Test::suffix(other),
        Builtin::Match => match (other.strip_suffix('*'), other.strip_prefix('*')) {
            (Some(prefix), _) => Test::prefix(prefix),
            (None, Some(suffix)) => Test::suffix(suffix),
            (None, None) => Test::Exact(other.to_owned()),
        },
        _ => return Err(uncompiled(builtin)),
    })
}

/// A comparison of two values of one type.
fn ordered(op: &str, ty: ValueType, left: &Term<'_>, right: &Term<'_>) -> Outcome<Matcher> {
    if let (Term::Known(Value::Int(left)), Term::Known(Value::Int(right))) = (left, right) {
        return Ok(known(match op {
            "==" => left == right,
            "!=" => left != right,
            "<" => left < right,
            "<=" => left <= right,
            ">" => left > right,
            _ => left >= right,
        }));
    }
    match op {
        "==" => equal(ty, left, right),
        "!=" => Ok(equal(ty, left, right)?.negated()),
        _ => Err(Reason::Function("an order of values")),
    }
}

fn equal(ty: ValueType, left: &Term<'_>, right: &Term<'_>) -> Outcome<Matcher> {
    if !matches!(ty, ValueType::String | ValueType::IpAddress) {
        return Err(Reason::Type(ty));
    }
    match (left, right) {
        (Term::Known(left), Term::Known(right)) => Ok(known(left == right)),
        (Term::Text(subject), Term::Known(Value::Text(text)))
        | (Term::Known(Value::Text(text)), Term::Text(subject)) => {
            subject.passes(Test::Exact(text.to_string()))
        }
        (Term::SourceIp, Term::Known(Value::Ip(ip))) | (Term::Known(Value::Ip(ip)), Term::SourceIp) => {
            Ok(Matcher::SourceIp(vec![ip.to_canonical().into()]))
        }
        _ => Err(Reason::TwoValues),
    }
}
