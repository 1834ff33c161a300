//! Text to tokens, by Go's lexical rules, which are CEXL's: literals, comments, and the line end that closes an
//! expression.

use crate::error::CompileError;

/// A token and the column where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spanned {
    pub(crate) token: Token,
    pub(crate) column: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Name(String),
    Int(i64),
    Float(f64),
    Text(String),
    /// An operator or bracket.
    Op(&'static str),
    /// The line's end, where Go would insert a semicolon.
    LineEnd,
    End,
}

/// Longer operators first.
const OPERATORS: [&str; 30] = [
    "&&", "||", "==", "!=", "<=", ">=", "<<", ">>", "&^", "<-", "|", "&", "^", "+", "-", "*", "/", "%", "!",
    "<", ">", "(", ")", "[", "]", ",", ".", ":", "{", "}",
];

/// Go's keywords, which cannot be names.
const KEYWORDS: [&str; 25] = [
    "break",
    "case",
    "chan",
    "const",
    "continue",
    "default",
    "defer",
    "else",
    "fallthrough",
    "for",
    "func",
    "go",
    "goto",
    "if",
    "import",
    "interface",
    "map",
    "package",
    "range",
    "return",
    "select",
    "struct",
    "switch",
    "type",
    "var",
];

struct Lexer<'a> {
    rest: &'a str,
    column: usize,
    tokens: Vec<Spanned>,
}

pub(crate) fn lex(text: &str) -> Result<Vec<Spanned>, CompileError> {
    let mut lexer = Lexer {
        rest: text,
        column: 1,
        tokens: Vec::new(),
    };
    while lexer.next()? {}
    Ok(lexer.tokens)
}

impl Lexer<'_> {
    fn error<T>(&self, problem: impl Into<String>) -> Result<T, CompileError> {
        Err(CompileError::Syntax {
            column: self.column,
            problem: problem.into(),
        })
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        self.column += 1;
        Some(c)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.peek().filter(|c| keep(*c)) {
            taken.push(c);
            self.advance();
        }
        taken
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(prefix) else {
            return false;
        };
        self.rest = rest;
        self.column += prefix.chars().count();
        true
    }

    fn push(&mut self, token: Token, column: usize) {
        self.tokens.push(Spanned { token, column });
    }

    /// Lexes one token; false at the end.
    fn next(&mut self) -> Result<bool, CompileError> {
        let column = self.column;
        let Some(c) = self.peek() else {
            self.push(Token::End, column);
            return Ok(false);
        };
        match c {
            '\n' => self.line_end(),
            ' ' | '\t' | '\r' => {
                self.advance();
            }
            '/' if self.rest.starts_with("//") => {
                self.take_while(|c| c != '\n');
            }
            '/' if self.rest.starts_with("/*") => self.block_comment()?,
            '"' => {
                let text = self.quoted('"')?;
                self.push(Token::Text(text), column);
            }
            '\'' => {
                let text = self.quoted('\'')?;
                if text.chars().count() != 1 {
                    return self.error("single quotes hold one character; write text in double quotes");
                }
                self.push(Token::Text(text), column);
            }
            '`' => {
                let text = self.raw()?;
                self.push(Token::Text(text), column);
            }
            c if c.is_ascii_digit() => self.number(column)?,
            '.' if self.rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit()) => self.number(column)?,
            c if c == '_' || c.is_alphabetic() => self.name(column)?,
            c => match OPERATORS.into_iter().find(|op| self.eat(op)) {
                Some(op) => self.push(Token::Op(op), column),
                None => return self.error(format!("unexpected character {c:?}")),
            },
        }
        Ok(true)
    }

    fn line_end(&mut self) {
        let closes = match self.tokens.last().map(|t| &t.token) {
            Some(Token::Op(op)) => matches!(*op, ")" | "]" | "}"),
            Some(Token::LineEnd | Token::End) | None => false,
            Some(_) => true,
        };
        if closes {
            self.push(Token::LineEnd, self.column);
        }
        self.advance();
    }

    fn block_comment(&mut self) -> Result<(), CompileError> {
        self.eat("/*");
        while !self.eat("*/") {
            if self.advance().is_none() {
                return self.error("comment not closed; add */");
            }
        }
        Ok(())
    }

    fn name(&mut self, column: usize) -> Result<(), CompileError> {
        let name = self.take_while(|c| c == '_' || c.is_alphanumeric());
        if KEYWORDS.contains(&name.as_str()) {
            self.column = column;
            return self.error(format!(
                "{name:?} is a reserved word and cannot be part of a name"
            ));
        }
        self.push(Token::Name(name), column);
        Ok(())
    }

    fn number(&mut self, column: usize) -> Result<(), CompileError> {
        let mut text = self.take_while(|c| c.is_ascii_digit());
        let mut float = false;
        if self.eat(".") {
            float = true;
            text.push('.');
            text.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        if self.peek().is_some_and(|c| matches!(c, 'e' | 'E')) {
            float = true;
            text.push('e');
            self.advance();
            if let Some(sign) = self.peek().filter(|c| matches!(c, '+' | '-')) {
                text.push(sign);
                self.advance();
            }
            text.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        if self.peek().is_some_and(|c| c == '_' || c.is_alphanumeric()) {
            return self.error("numbers are decimal: digits, and a point or exponent for a DOUBLE");
        }
        self.column = column;
        let token = if float {
            text.parse()
                .ok()
                .filter(|n: &f64| n.is_finite())
                .map(Token::Float)
        } else {
            text.parse().ok().map(Token::Int)
        };
        let Some(token) = token else {
            return self.error(format!("{text} does not fit a number of 64 bits"));
        };
        self.push(token, column);
        self.column = column + text.chars().count();
        Ok(())
    }

    fn raw(&mut self) -> Result<String, CompileError> {
        self.advance();
        let text = self.take_while(|c| c != '`');
        if self.advance().is_none() {
            return self.error("text not closed; add a back quote");
        }
        Ok(text.replace('\r', ""))
    }

    fn quoted(&mut self, quote: char) -> Result<String, CompileError> {
        self.advance();
        let mut bytes = Vec::new();
        loop {
            match self.advance() {
                None | Some('\n') => return self.error(format!("text not closed; add {quote}")),
                Some('\\') => self.escape(quote, &mut bytes)?,
                Some(c) if c == quote => break,
                Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        String::from_utf8(bytes).or_else(|_| self.error("the escapes do not make UTF-8 text"))
    }

    /// What follows a backslash.
    fn escape(&mut self, quote: char, bytes: &mut Vec<u8>) -> Result<(), CompileError> {
        let simple = match self.peek() {
            Some('a') => 7,
            Some('b') => 8,
            Some('f') => 12,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 11,
            Some('\\') => b'\\',
            Some(c) if c == quote => u8::try_from(c).unwrap_or(b'"'),
            Some('x') => {
                self.advance();
                return self.byte(2, 16, bytes);
            }
            Some('u') => {
                self.advance();
                return self.code_point(4, bytes);
            }
            Some('U') => {
                self.advance();
                return self.code_point(8, bytes);
            }
            Some('0'..='7') => return self.byte(3, 8, bytes),
            _ => return self.error("unknown escape; write \\\\ for a backslash"),
        };
        self.advance();
        bytes.push(simple);
        Ok(())
    }

    fn digits(&mut self, count: usize, radix: u32) -> Result<u32, CompileError> {
        let mut value = 0u32;
        for _ in 0..count {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(radix)) else {
                return self.error(format!("the escape needs {count} digits of base {radix}"));
            };
            self.advance();
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        Ok(value)
    }

    fn byte(&mut self, count: usize, radix: u32, bytes: &mut Vec<u8>) -> Result<(), CompileError> {
        let value = self.digits(count, radix)?;
        match u8::try_from(value) {
            Ok(byte) => {
                bytes.push(byte);
                Ok(())
            }
            Err(_) => self.error("the escape is larger than a byte"),
        }
    }

    fn code_point(&mut self, count: usize, bytes: &mut Vec<u8>) -> Result<(), CompileError> {
        let value = self.digits(count, 16)?;
        match char::from_u32(value) {
            Some(c) => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                Ok(())
            }
            None => self.error("the escape is no Unicode character"),
        }
    }
}
