//! The grammar (re2/parse.cc, and Go's regexp/syntax where it is narrower), without recursion: groups are frames of a stack.

use std::collections::BTreeMap;

use crate::cursor::Cursor;
use crate::{Expression, Fault, MAX_INSTRUCTIONS, Problem, class, size};

/// Largest count of a repetition, and largest product of counts within one another.
const MAX_REPEAT: u32 = 1000;

/// What a repetition repeats.
#[derive(Clone, Copy)]
struct Operand {
    size: usize,
    /// Largest product of the counts within it.
    product: u32,
}

/// A group that is open, or the whole expression.
struct Frame<'a> {
    start: Cursor<'a>,
    /// What holds again after the group.
    fold: bool,
    captures: bool,
    /// Of all that is in it, the operand too.
    size: usize,
    product: u32,
    operand: Option<Operand>,
}

impl<'a> Frame<'a> {
    fn new(start: Cursor<'a>, fold: bool, captures: bool) -> Self {
        Self {
            start,
            fold,
            captures,
            size: 0,
            product: 1,
            operand: None,
        }
    }
}

struct Parser<'a> {
    input: Cursor<'a>,
    outer: Vec<Frame<'a>>,
    frame: Frame<'a>,
    /// Whether case is ignored.
    fold: bool,
    any_byte: bool,
    rust: String,
    groups: usize,
    /// Where the repetition starts that was read last, if nothing follows it yet.
    repetition: Option<Cursor<'a>>,
    /// Sizes of the classes met so far.
    sizes: BTreeMap<String, usize>,
}

pub(crate) fn parse(expression: &str, any_byte: bool) -> Result<Expression, Fault> {
    let input = Cursor::new(expression);
    let mut parser = Parser {
        input,
        outer: Vec::new(),
        frame: Frame::new(input, false, false),
        fold: false,
        any_byte,
        rust: String::with_capacity(expression.len() + 16),
        groups: 0,
        repetition: None,
        sizes: BTreeMap::new(),
    };
    while let Some(c) = parser.input.peek() {
        let start = parser.input;
        let is_repetition = parser.token(c)?;
        parser.repetition = is_repetition.then_some(start);
    }
    parser.finish()
}

impl<'a> Parser<'a> {
    /// Reads what starts with `c`; whether it is a repetition.
    fn token(&mut self, c: char) -> Result<bool, Fault> {
        match c {
            '(' => self.open()?,
            ')' => self.close()?,
            '|' => self.alternative(),
            '*' => return self.repeat(0, None).map(|()| true),
            '+' => return self.repeat(1, None).map(|()| true),
            '?' => return self.repeat(0, Some(1)).map(|()| true),
            '{' => return self.brace(),
            '^' | '$' => self.simple(c, 1),
            '.' => self.simple(c, 2),
            '[' => {
                let class = class::bracketed(&mut self.input)?;
                self.class(class);
            }
            '\\' => self.escape()?,
            c => {
                self.input.next();
                self.literal(c);
            }
        }
        Ok(false)
    }

    fn simple(&mut self, c: char, size: usize) {
        self.input.next();
        self.rust.push(c);
        self.push(size, 1);
    }

    fn push(&mut self, size: usize, product: u32) {
        self.frame.size = self.frame.size.saturating_add(size);
        self.frame.product = self.frame.product.max(product);
        self.frame.operand = Some(Operand { size, product });
    }

    fn literal(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.rust
            .push_str(&regex_syntax::escape(c.encode_utf8(&mut buffer)));
        self.push(c.len_utf8(), 1);
    }

    /// A class in Rust's syntax.
    fn class(&mut self, class: String) {
        self.rust.push_str(&class);
        let key = if self.fold { format!("(?i){class}") } else { class };
        let known = self.sizes.get(&key).copied();
        let size = known.unwrap_or_else(|| size::of_class(&key));
        self.sizes.insert(key, size);
        self.push(size, 1);
    }

    fn alternative(&mut self) {
        self.input.next();
        self.rust.push('|');
        self.frame.operand = None;
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let start = self.input;
        for (escape, rust) in [
            ("\\b", "(?-u:\\b)"),
            ("\\B", "(?-u:\\B)"),
            ("\\A", "\\A"),
            ("\\z", "\\z"),
        ] {
            if self.input.eat(escape) {
                self.rust.push_str(rust);
                self.push(1, 1);
                return Ok(());
            }
        }
        if self.input.eat("\\C") {
            if !self.any_byte {
                return Err(start.fault(Problem::AnyByte));
            }
            self.rust.push_str("(?s:.)");
            self.push(1, 1);
        } else if self.input.eat("\\Q") {
            self.quoted();
        } else if let Some(items) = class::group(&mut self.input)? {
            self.class(format!("[{items}]"));
        } else {
            let code = class::escaped(&mut self.input)?;
            self.rust.push_str(&class::range(code, code));
            self.push(1, 1);
        }
        Ok(())
    }

    /// `\Q…\E`, or up to the end.
    fn quoted(&mut self) {
        while self.input.peek().is_some() && !self.input.eat("\\E") {
            if let Some(c) = self.input.next() {
                self.literal(c);
            }
        }
    }

    fn open(&mut self) -> Result<(), Fault> {
        let start = self.input;
        self.input.next();
        if !self.input.eat("?") {
            self.enter(start, self.fold, true);
            self.rust.push('(');
            return Ok(());
        }
        if self.input.eat("P<") || self.input.eat("<") {
            let name = self.input.until(">").unwrap_or_default();
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_word) {
                let given = self.input.since(start).to_owned();
                return Err(start.fault(Problem::GroupName(given)));
            }
            self.enter(start, self.fold, true);
            self.rust.push('(');
            return Ok(());
        }
        self.flags(start)
    }

    /// `(?i)`, `(?i-s:…`, `(?:…`, after its `(?`.
    fn flags(&mut self, start: Cursor<'a>) -> Result<(), Fault> {
        let (mut fold, mut negated, mut is_set) = (self.fold, false, false);
        loop {
            let next = self.input.next();
            let fault = || start.fault(Problem::Group(self.input.since(start).to_owned()));
            match next {
                Some('i') => (fold, is_set) = (!negated, true),
                Some('m' | 's' | 'U') => is_set = true,
                Some('-') if !negated => (negated, is_set) = (true, false),
                Some(':' | ')') if negated && !is_set => return Err(fault()),
                Some(':') => {
                    self.enter(start, self.fold, false);
                    break;
                }
                Some(')') => break,
                _ => return Err(fault()),
            }
        }
        self.fold = fold;
        match self.input.since(start) {
            // Rust has no flags without a flag.
            "(?)" => {}
            group => self.rust.push_str(group),
        }
        Ok(())
    }

    fn enter(&mut self, start: Cursor<'a>, fold: bool, captures: bool) {
        self.groups += usize::from(captures);
        let inner = Frame::new(start, fold, captures);
        self.outer.push(std::mem::replace(&mut self.frame, inner));
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(outer) = self.outer.pop() else {
            return Err(self.input.fault(Problem::UnexpectedParenthesis));
        };
        self.input.next();
        let inner = std::mem::replace(&mut self.frame, outer);
        self.fold = inner.fold;
        self.rust.push(')');
        let captured = if inner.captures { 2 } else { 0 };
        self.push(inner.size.saturating_add(captured), inner.product);
        Ok(())
    }

    /// `{n}`, `{n,}`, `{n,m}`; any other brace is a character. Whether it was a repetition.
    fn brace(&mut self) -> Result<bool, Fault> {
        let Some((low, high, length)) = counts(self.input.rest()) else {
            self.input.next();
            self.literal('{');
            return Ok(false);
        };
        let start = self.input;
        // The last character of it is read as an operator's.
        (1..length).for_each(|_| _ = self.input.next());
        self.repeat_from(start, low, high)?;
        let product = self.frame.operand.map_or(1, |operand| operand.product);
        let is_bad = low > MAX_REPEAT || high.is_some_and(|high| high > MAX_REPEAT || high < low);
        if is_bad || product > MAX_REPEAT {
            let given = self.input.since(start).to_owned();
            return Err(start.fault(Problem::RepetitionSize(given)));
        }
        Ok(true)
    }

    fn repeat(&mut self, low: u32, high: Option<u32>) -> Result<(), Fault> {
        self.repeat_from(self.input, low, high)
    }

    /// A repetition from `start` whose last character is next, with a `?` perhaps.
    fn repeat_from(&mut self, start: Cursor<'a>, low: u32, high: Option<u32>) -> Result<(), Fault> {
        self.input.next();
        self.input.eat("?");
        let operator = self.input.since(start);
        if let Some(first) = self.repetition {
            let both = self.input.since(first).to_owned();
            return Err(first.fault(Problem::DoubleRepetition(both)));
        }
        let Some(operand) = self.frame.operand else {
            return Err(start.fault(Problem::NothingToRepeat(operator.to_owned())));
        };
        self.rust.push_str(operator);
        let size = size::of_repetition(operand.size, low, high);
        let is_counted = operator.starts_with('{');
        let times = if is_counted { high.unwrap_or(low).max(1) } else { 1 };
        self.frame.size = self.frame.size.saturating_sub(operand.size);
        self.push(size, operand.product.saturating_mul(times));
        Ok(())
    }

    fn finish(self) -> Result<Expression, Fault> {
        if !self.outer.is_empty() {
            return Err(self.frame.start.fault(Problem::MissingParenthesis));
        }
        let instructions = self.frame.size.saturating_add(size::FRAME);
        if instructions > MAX_INSTRUCTIONS {
            return Err(self.frame.start.fault(Problem::TooLarge(instructions)));
        }
        Ok(Expression {
            rust: self.rust,
            instructions,
            groups: self.groups,
        })
    }
}

/// The counts of a repetition that starts the text, and its length in characters.
fn counts(text: &str) -> Option<(u32, Option<u32>, usize)> {
    let (bounds, _) = text.strip_prefix('{')?.split_once('}')?;
    let (low, high) = match bounds.split_once(',') {
        None => {
            let count = count(bounds)?;
            (count, Some(count))
        }
        Some((low, "")) => (count(low)?, None),
        Some((low, high)) => (count(low)?, Some(count(high)?)),
    };
    Some((low, high, bounds.len() + 2))
}

/// A count, without leading zeros; what is too large for a number is too large anyway.
fn count(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let has_zeros = text.len() > 1 && text.starts_with('0');
    (is_number && !has_zeros).then(|| text.parse().unwrap_or(u32::MAX))
}
