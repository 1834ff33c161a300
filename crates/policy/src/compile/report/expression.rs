//! Mixer's expressions as CEL, with Mixer's rules of absence kept: an operand that is absent makes an error of whatever computes
//! with it, and only a bare attribute, an entry of a map or a chain of `|` can be mended by `|`.

use expr::{Builtin, Node, Value, ValueType};

use super::attribute::Ended;
use super::part::{Part, When, Worth};
use super::{Reason, Text};
use crate::cel::literal;
use crate::compile::expression::uncompiled;

type Outcome<'a> = Result<Part<'a>, Reason>;

impl Ended<'_> {
    /// What an expression is worth for a finished request.
    pub(super) fn part<'s>(&'s self, node: &'s Node) -> Outcome<'s> {
        match node {
            Node::Constant(value, _) => Ok(Part::known(value.clone())),
            Node::Attribute(name, _) => self.attribute(name),
            Node::Index(map, key) => self.index(map, key),
            Node::Fallback(left, right) => fallback(self.part(left)?, || self.part(right)),
            Node::And(left, right) => both(true, self.part(left)?, || self.part(right)),
            Node::Or(left, right) => both(false, self.part(left)?, || self.part(right)),
            Node::Compare(op, left, right) => compare(op, left.ty(), &self.part(left)?, &self.part(right)?),
            Node::Call(Builtin::Conditional, arguments) => self.conditional(arguments),
            Node::Call(builtin, arguments) => self.test(*builtin, arguments),
            Node::Add(..) => Err(Reason::Function("a sum")),
            Node::Matches(..) => Err(Reason::Function("a regular expression in a report")),
            Node::Cel(_) => Err(Reason::Cel),
        }?
        .bounded()
    }

    fn index<'s>(&'s self, map: &'s Node, key: &'s Node) -> Outcome<'s> {
        match (map, key) {
            (Node::Attribute(map, _), Node::Constant(Value::Text(key), _)) => self.entry(map, key),
            (Node::Attribute(map, _), _) => Err(Reason::ComputedKey(map.clone())),
            _ => Err(Reason::Function("a map")),
        }
    }

    fn conditional<'s>(&'s self, arguments: &'s [Node]) -> Outcome<'s> {
        let [condition, yes, no] = arguments else {
            return Err(Reason::Function("conditional"));
        };
        let (condition, yes, no) = (self.part(condition)?, self.part(yes)?, self.part(no)?);
        if let Some(truth) = condition.known_truth() {
            let chosen = if truth { yes } else { no };
            return Ok(Part {
                present: condition.present.and(&chosen.present),
                strict: true,
                ..chosen
            });
        }
        let choice = condition.cel()?;
        let cel = format!("({choice} ? {} : {})", yes.cel()?, no.cel()?);
        let present = condition
            .present
            .and(&When::choose(&choice, &yes.present, &no.present));
        Ok(Part {
            free: yes.free || no.free,
            ..Part::computed(cel, present)
        })
    }

    /// `startsWith`, `endsWith` and `match`.
    fn test<'s>(&'s self, builtin: Builtin, arguments: &'s [Node]) -> Outcome<'s> {
        let (function, subject, other) = match (builtin, arguments) {
            (Builtin::StartsWith, [subject, other]) => ("startsWith", subject, other),
            (Builtin::EndsWith, [subject, other]) => ("endsWith", subject, other),
            (Builtin::Match, [subject, pattern]) => return self.wildcard(subject, pattern),
            _ => return Err(uncompiled(builtin)),
        };
        let (subject, other) = (self.part(subject)?, self.part(other)?);
        let cel = format!("{}.{function}({})", subject.cel()?, other.cel()?);
        Ok(Part::computed(cel, subject.present.and(&other.present)))
    }

    fn wildcard<'s>(&'s self, subject: &'s Node, pattern: &'s Node) -> Outcome<'s> {
        let Node::Constant(Value::Text(pattern), _) = pattern else {
            return Err(Reason::TwoValues);
        };
        let subject = self.part(subject)?;
        let cel = subject.cel()?;
        let cel = match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
            (Some(prefix), _) => format!("{cel}.startsWith({})", literal(prefix)),
            (None, Some(suffix)) => format!("{cel}.endsWith({})", literal(suffix)),
            (None, None) => format!("({cel} == {})", literal(pattern)),
        };
        Ok(Part::computed(cel, subject.present))
    }
}

/// `left | right`.
fn fallback<'a>(left: Part<'a>, right: impl FnOnce() -> Outcome<'a>) -> Outcome<'a> {
    if left.strict || left.present == When::Always {
        return Ok(left);
    }
    let right = right()?;
    if left.present == When::Never {
        return Ok(right);
    }
    // Proxies write "-" where a request has no flags.
    if let (Worth::Whole(Text::Flags, name), Worth::Known(Value::Text(other))) = (&left.worth, &right.worth)
        && other == "-"
    {
        return Ok(Part::new(Worth::Whole(Text::Flags, name), When::Always));
    }
    let cel = format!("({} ? {} : {})", left.present.cel(), left.cel()?, right.cel()?);
    Ok(Part {
        present: left.present.or(&right.present),
        strict: right.strict,
        free: left.free || right.free,
        worth: Worth::Cel(cel),
    })
}

/// `left && right`, or `left || right`: the right is looked at only where the left is `all`.
fn both<'a>(all: bool, left: Part<'a>, right: impl FnOnce() -> Outcome<'a>) -> Outcome<'a> {
    match left.known_truth() {
        Some(truth) if truth != all => return Ok(Part::truth(truth, left.present)),
        Some(_) => {
            let right = right()?;
            return Ok(Part {
                present: left.present.and(&right.present),
                strict: true,
                ..right
            });
        }
        None => {}
    }
    let (right, first) = (right()?, left.cel()?);
    let (op, looked) = if all {
        ("&&", When::choose(&first, &right.present, &When::Always))
    } else {
        ("||", When::choose(&first, &When::Always, &right.present))
    };
    let cel = format!("({first} {op} {})", right.cel()?);
    Ok(Part::computed(cel, left.present.and(&looked)))
}

fn compare<'a>(op: &str, ty: ValueType, left: &Part<'a>, right: &Part<'a>) -> Outcome<'a> {
    use ValueType::{Bool, Duration, Int64, String};
    let present = left.present.and(&right.present);
    if let (Worth::Known(left), Worth::Known(right), "==" | "!=") = (&left.worth, &right.worth, op) {
        return Ok(Part::truth((left == right) == (op == "=="), present));
    }
    if !matches!(ty, Bool | Duration | Int64 | String) {
        return Err(Reason::Type(ty));
    }
    let cel = format!("({} {op} {})", left.cel()?, right.cel()?);
    Ok(Part::computed(cel, present))
}
