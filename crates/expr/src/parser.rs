//! Tokens to a syntax tree, by Go's precedences: `||`, `&&`, comparisons, then `+` and `|` alike, all grouping to
//! the left.

use crate::error::CompileError;
use crate::lexer::{Spanned, Token, lex};
use crate::{MAX_DEPTH, MAX_LENGTH};

/// An expression as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Syntax {
    Name(String),
    Int(i64),
    Float(f64),
    Text(String),
    Paren(Box<Syntax>),
    Select(Box<Syntax>, String),
    Index(Box<Syntax>, Box<Syntax>),
    Call(Box<Syntax>, Vec<Syntax>),
    Unary(&'static str),
    Binary(&'static str, Box<Syntax>, Box<Syntax>),
}

struct Parser {
    tokens: std::vec::IntoIter<Spanned>,
    next: Spanned,
}

/// A tree and how deep it nests.
type Parsed = Result<(Syntax, usize), CompileError>;

pub(crate) fn parse(text: &str) -> Result<Syntax, CompileError> {
    if text.len() > MAX_LENGTH {
        return Err(CompileError::TooLong {
            length: text.len(),
            limit: MAX_LENGTH,
        });
    }
    let mut tokens = lex(text)?.into_iter();
    let end = Spanned {
        token: Token::End,
        column: 1,
    };
    let next = tokens.next().unwrap_or(end);
    let mut parser = Parser { tokens, next };
    let (syntax, _) = parser.binary(1, 0)?;
    if parser.next.token == Token::LineEnd {
        parser.advance();
    }
    match parser.next.token {
        Token::End => Ok(syntax),
        _ => parser.unexpected("the end of the expression (a line may only end after an operator)"),
    }
}

fn precedence(op: &str) -> usize {
    match op {
        "||" => 1,
        "&&" => 2,
        "==" | "!=" | "<" | "<=" | ">" | ">=" => 3,
        "+" | "-" | "|" | "^" => 4,
        "*" | "/" | "%" | "<<" | ">>" | "&" | "&^" => 5,
        _ => 0,
    }
}

fn deeper(depth: usize) -> Result<usize, CompileError> {
    if depth >= MAX_DEPTH {
        Err(CompileError::TooDeep { limit: MAX_DEPTH })
    } else {
        Ok(depth + 1)
    }
}

impl Parser {
    fn advance(&mut self) -> Token {
        let end = Spanned {
            token: Token::End,
            column: self.next.column,
        };
        let next = self.tokens.next().unwrap_or(end);
        std::mem::replace(&mut self.next, next).token
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, CompileError> {
        let found = match &self.next.token {
            Token::Name(name) => name.clone(),
            Token::Int(n) => n.to_string(),
            Token::Float(n) => n.to_string(),
            Token::Text(text) => format!("{text:?}"),
            Token::Op(op) => format!("{op:?}"),
            Token::LineEnd => "the end of the line".into(),
            Token::End => "the end".into(),
        };
        let problem = format!("found {found} instead of {expected}");
        Err(CompileError::Syntax {
            column: self.next.column,
            problem,
        })
    }

    fn expect(&mut self, op: &'static str) -> Result<(), CompileError> {
        if self.next.token != Token::Op(op) {
            return self.unexpected(&format!("{op:?}"));
        }
        self.advance();
        Ok(())
    }

    /// Operators of at least precedence `least`; `above` is how deep the caller stands.
    fn binary(&mut self, least: usize, above: usize) -> Parsed {
        let above = deeper(above)?;
        let (mut left, mut depth) = self.unary(above)?;
        while let Token::Op(op) = self.next.token {
            let found = precedence(op);
            if found < least.max(1) {
                break;
            }
            self.advance();
            let (right, right_depth) = self.binary(found + 1, above)?;
            depth = deeper(depth.max(right_depth))?;
            left = Syntax::Binary(op, Box::new(left), Box::new(right));
        }
        Ok((left, depth))
    }

    fn unary(&mut self, above: usize) -> Parsed {
        match self.next.token {
            // None of these is part of the language, so what they apply to is read and forgotten.
            Token::Op(op @ ("!" | "-" | "+" | "^" | "*" | "&" | "<-")) => {
                self.advance();
                let (_, depth) = self.unary(deeper(above)?)?;
                Ok((Syntax::Unary(op), deeper(depth)?))
            }
            _ => self.primary(above),
        }
    }

    fn operand(&mut self, above: usize) -> Parsed {
        match self.advance_operand()? {
            Some(syntax) => Ok((syntax, 1)),
            None => {
                self.expect("(")?;
                let (inner, depth) = self.binary(1, above)?;
                self.expect(")")?;
                Ok((Syntax::Paren(Box::new(inner)), deeper(depth)?))
            }
        }
    }

    /// A name or literal; `None` at an opening parenthesis.
    fn advance_operand(&mut self) -> Result<Option<Syntax>, CompileError> {
        if !matches!(
            self.next.token,
            Token::Name(_) | Token::Int(_) | Token::Float(_) | Token::Text(_)
        ) {
            if self.next.token == Token::Op("(") {
                return Ok(None);
            }
            return self.unexpected("an attribute, a literal or a function");
        }
        Ok(match self.advance() {
            Token::Name(name) => Some(Syntax::Name(name)),
            Token::Int(n) => Some(Syntax::Int(n)),
            Token::Float(n) => Some(Syntax::Float(n)),
            Token::Text(text) => Some(Syntax::Text(text)),
            Token::Op(_) | Token::LineEnd | Token::End => None,
        })
    }

    fn primary(&mut self, above: usize) -> Parsed {
        let (mut syntax, mut depth) = self.operand(above)?;
        loop {
            match self.next.token {
                Token::Op(".") => {
                    self.advance();
                    let Token::Name(_) = self.next.token else {
                        return self.unexpected("a name");
                    };
                    if let Token::Name(name) = self.advance() {
                        syntax = Syntax::Select(Box::new(syntax), name);
                    }
                }
                Token::Op("[") => {
                    self.advance();
                    let (index, index_depth) = self.binary(1, above)?;
                    self.expect("]")?;
                    depth = depth.max(index_depth);
                    syntax = Syntax::Index(Box::new(syntax), Box::new(index));
                }
                Token::Op("(") => {
                    let (arguments, arguments_depth) = self.arguments(above)?;
                    depth = depth.max(arguments_depth);
                    syntax = Syntax::Call(Box::new(syntax), arguments);
                }
                _ => return Ok((syntax, depth)),
            }
            depth = deeper(depth)?;
        }
    }

    fn arguments(&mut self, above: usize) -> Result<(Vec<Syntax>, usize), CompileError> {
        self.expect("(")?;
        let (mut arguments, mut depth) = (Vec::new(), 0);
        while self.next.token != Token::Op(")") {
            let (argument, argument_depth) = self.binary(1, above)?;
            arguments.push(argument);
            depth = depth.max(argument_depth);
            if self.next.token != Token::Op(",") {
                break;
            }
            self.advance();
        }
        self.expect(")")?;
        Ok((arguments, depth))
    }
}
