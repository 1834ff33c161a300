//! Syntax to a typed tree: names are looked up, types compared, constants read.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;

use crate::MAX_LENGTH;
use crate::attributes::Use;
use crate::builtin::{Builtin, Form};
use crate::cel::Program;
use crate::error::CompileError;
use crate::functions::{compile_pattern, parse_duration};
use crate::parser::{Syntax, parse};
use crate::value::{Value, ValueType};
use crate::vocabulary::{Language, Vocabulary};

/// A checked expression. Both sides of an operator have one type, unless said otherwise.
#[derive(Clone, Debug)]
pub enum Node {
    /// A literal and its type.
    Constant(Value<'static>, ValueType),
    /// An attribute and its type.
    Attribute(String, ValueType),
    /// `map[key]`.
    Index(Box<Node>, Box<Node>),
    /// `left | right`: the right where the left is absent.
    Fallback(Box<Node>, Box<Node>),
    /// `left && right`.
    And(Box<Node>, Box<Node>),
    /// `left || right`.
    Or(Box<Node>, Box<Node>),
    /// `==`, `!=`, `<`, `<=`, `>`, `>=`.
    Compare(&'static str, Box<Node>, Box<Node>),
    /// `left + right`.
    Add(Box<Node>, Box<Node>),
    /// A function; a method's target is the first argument.
    Call(Builtin, Vec<Node>),
    /// `matches` with a constant pattern, and its subject.
    Matches(Regex, Box<Node>),
    /// The whole of an expression in CEL.
    Cel(Arc<Program>),
}

impl Node {
    /// The type of the node's value.
    pub fn ty(&self) -> ValueType {
        match self {
            Node::Constant(_, ty) | Node::Attribute(_, ty) => *ty,
            Node::Index(..) => ValueType::String,
            Node::Fallback(left, _) | Node::Add(left, _) => left.ty(),
            Node::And(..) | Node::Or(..) | Node::Compare(..) | Node::Matches(..) => ValueType::Bool,
            Node::Call(Builtin::Conditional, arguments) => {
                arguments.get(1).map_or(ValueType::String, Node::ty)
            }
            Node::Call(builtin, _) => builtin.result(),
            Node::Cel(program) => program.ty(),
        }
    }

    /// The nodes right below this one.
    pub fn children(&self) -> Vec<&Node> {
        match self {
            Node::Constant(..) | Node::Attribute(..) | Node::Cel(_) => Vec::new(),
            Node::Index(a, b)
            | Node::Fallback(a, b)
            | Node::And(a, b)
            | Node::Or(a, b)
            | Node::Compare(_, a, b)
            | Node::Add(a, b) => vec![a, b],
            Node::Call(_, arguments) => arguments.iter().collect(),
            Node::Matches(_, subject) => vec![subject],
        }
    }

    fn collect_uses(&self, uses: &mut BTreeSet<Use>) {
        match self {
            Node::Cel(program) => uses.extend(program.uses().iter().cloned()),
            Node::Attribute(name, ValueType::StringMap) => {
                uses.insert(Use::AnyEntry(name.clone()));
            }
            Node::Attribute(name, _) => {
                uses.insert(Use::Attribute(name.clone()));
            }
            Node::Index(map, key) => match (&**map, &**key) {
                (Node::Attribute(name, _), Node::Constant(Value::Text(key), _)) => {
                    uses.insert(Use::Entry(name.clone(), key.to_string()));
                }
                _ => [map, key].into_iter().for_each(|node| node.collect_uses(uses)),
            },
            _ => self
                .children()
                .into_iter()
                .for_each(|node| node.collect_uses(uses)),
        }
    }
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    root: Node,
}

impl Expression {
    /// Compiles `text` against the attributes that `vocabulary` knows, in the language that it says.
    ///
    /// # Errors
    /// Says what is wrong and where; mend the text, or declare the attribute in an attributemanifest.
    pub fn compile(text: &str, vocabulary: &dyn Vocabulary) -> Result<Self, CompileError> {
        let root = match vocabulary.language() {
            Language::Cexl => Checker { vocabulary }.node(&parse(text)?)?,
            Language::Cel if text.len() > MAX_LENGTH => {
                return Err(CompileError::TooLong {
                    length: text.len(),
                    limit: MAX_LENGTH,
                });
            }
            Language::Cel => Node::Cel(Arc::new(Program::compile(text, vocabulary)?)),
        };
        Ok(Self {
            text: text.to_owned(),
            root,
        })
    }

    /// The expression as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The type of its value.
    pub fn ty(&self) -> ValueType {
        self.root.ty()
    }

    /// The checked tree, for those who translate it.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// What it may read.
    pub fn uses(&self) -> BTreeSet<Use> {
        let mut uses = BTreeSet::new();
        self.root.collect_uses(&mut uses);
        uses
    }
}

struct Checker<'a> {
    vocabulary: &'a dyn Vocabulary,
}

type Checked = Result<Node, CompileError>;

fn require(node: &Node, expected: ValueType, what: impl FnOnce() -> String) -> Result<(), CompileError> {
    let found = node.ty();
    if found == expected {
        Ok(())
    } else {
        Err(CompileError::WrongType {
            what: what(),
            expected,
            found,
        })
    }
}

fn constant(text: &str) -> Node {
    match parse_duration(text) {
        Some(ns) => Node::Constant(Value::Duration(ns), ValueType::Duration),
        None => Node::Constant(Value::from(text.to_owned()), ValueType::String),
    }
}

/// `a.b.c`, or the expression and the name that follows it.
enum Path<'a> {
    Dotted(String),
    Of(&'a Syntax, &'a str),
}

fn path(syntax: &Syntax) -> Result<Path<'_>, CompileError> {
    match syntax {
        Syntax::Name(name) => Ok(Path::Dotted(name.clone())),
        Syntax::Select(left, name) => match &**left {
            Syntax::Name(_) | Syntax::Select(..) => match path(left)? {
                Path::Dotted(prefix) => Ok(Path::Dotted(format!("{prefix}.{name}"))),
                Path::Of(..) => Err(CompileError::Unsupported {
                    construct: "a field of a value",
                    hint: "",
                }),
            },
            Syntax::Index(..) => Err(CompileError::Unsupported {
                construct: "a method right behind [ ]",
                hint: "; put what stands before it into parentheses",
            }),
            left => Ok(Path::Of(left, name)),
        },
        _ => Err(CompileError::Unsupported {
            construct: "calling a value",
            hint: "",
        }),
    }
}

impl Checker<'_> {
    fn node(&self, syntax: &Syntax) -> Checked {
        match syntax {
            Syntax::Name(name) if name.eq_ignore_ascii_case("true") => Ok(boolean(true)),
            Syntax::Name(name) if name.eq_ignore_ascii_case("false") => Ok(boolean(false)),
            Syntax::Name(name) => self.attribute(name),
            Syntax::Int(n) => Ok(Node::Constant(Value::Int(*n), ValueType::Int64)),
            Syntax::Float(n) => Ok(Node::Constant(Value::Double(*n), ValueType::Double)),
            Syntax::Text(text) => Ok(constant(text)),
            Syntax::Paren(inner) => self.node(inner),
            Syntax::Select(..) => match path(syntax)? {
                Path::Dotted(name) => self.attribute(&name),
                Path::Of(..) => Err(CompileError::Unsupported {
                    construct: "a field of a value",
                    hint: "",
                }),
            },
            Syntax::Index(map, key) => {
                let (map, key) = (self.node(map)?, self.node(key)?);
                require(&map, ValueType::StringMap, || "what stands before [ ]".into())?;
                require(&key, ValueType::String, || "the key in [ ]".into())?;
                Ok(Node::Index(Box::new(map), Box::new(key)))
            }
            Syntax::Call(callee, arguments) => self.call(callee, arguments),
            Syntax::Unary(op) => Err(CompileError::UnknownOperator {
                operator: (*op).to_owned(),
            }),
            Syntax::Binary(op, left, right) => self.binary(op, left, right),
        }
    }

    fn attribute(&self, name: &str) -> Checked {
        match self.vocabulary.attribute(name) {
            Some(ty) => Ok(Node::Attribute(name.to_owned(), ty)),
            None => Err(CompileError::UnknownAttribute {
                name: name.to_owned(),
                nearest: self.vocabulary.nearest(name),
            }),
        }
    }

    fn binary(&self, op: &'static str, left: &Syntax, right: &Syntax) -> Checked {
        if !matches!(
            op,
            "==" | "!=" | "<" | "<=" | ">" | ">=" | "&&" | "||" | "|" | "+"
        ) {
            return Err(CompileError::UnknownOperator {
                operator: op.to_owned(),
            });
        }
        let (left, right) = (Box::new(self.node(left)?), Box::new(self.node(right)?));
        if matches!(op, "&&" | "||") {
            require(&left, ValueType::Bool, || format!("the left side of {op}"))?;
        }
        let ty = left.ty();
        require(&right, ty, || format!("the right side of {op}"))?;
        match op {
            "&&" => Ok(Node::And(left, right)),
            "||" => Ok(Node::Or(left, right)),
            "|" => Ok(Node::Fallback(left, right)),
            "+" => match ty {
                ValueType::Double | ValueType::Int64 => Ok(Node::Add(left, right)),
                ty if ty.is_text() => Ok(Node::Add(left, right)),
                ty => Err(CompileError::NotDefined { operator: op, ty }),
            },
            _ if comparable(op, ty) => Ok(Node::Compare(op, left, right)),
            _ => Err(CompileError::NotDefined { operator: op, ty }),
        }
    }

    fn call(&self, callee: &Syntax, arguments: &[Syntax]) -> Checked {
        let (name, target) = match path(callee)? {
            Path::Dotted(dotted) => match dotted.rsplit_once('.') {
                None => (dotted, None),
                Some((target, name)) => (name.to_owned(), Some(self.attribute(target)?)),
            },
            Path::Of(target, name) => (name.to_owned(), Some(self.node(target)?)),
        };
        let builtin =
            Builtin::named(&name).ok_or_else(|| CompileError::UnknownFunction { name: name.clone() })?;
        match (target.is_some(), builtin.form()) {
            (true, Form::Function) => {
                return Err(CompileError::CallForm {
                    name,
                    right: "a function",
                    wrong: "a method of a value",
                });
            }
            (false, Form::Method) => {
                return Err(CompileError::CallForm {
                    name,
                    right: "a method of a value",
                    wrong: "a function",
                });
            }
            _ => {}
        }
        let has_target = usize::from(target.is_some());
        let mut all: Vec<Node> = target.into_iter().collect();
        for argument in arguments {
            all.push(self.node(argument)?);
        }
        if all.len() != builtin.arity() {
            let expected = builtin.arity() - has_target.min(builtin.arity());
            return Err(CompileError::Arity {
                name,
                expected,
                found: arguments.len(),
            });
        }
        check_arguments(&name, builtin, &all, has_target)?;
        finish_call(builtin, all)
    }
}

fn boolean(truth: bool) -> Node {
    Node::Constant(Value::Bool(truth), ValueType::Bool)
}

/// What Istio 1.4 compares: it has neither equality of maps and durations nor order of truths and addresses.
fn comparable(op: &str, ty: ValueType) -> bool {
    let equality = matches!(op, "==" | "!=");
    match ty {
        ValueType::Bool | ValueType::IpAddress => equality,
        ValueType::StringMap | ValueType::Duration => false,
        _ => true,
    }
}

fn check_arguments(name: &str, builtin: Builtin, all: &[Node], targets: usize) -> Result<(), CompileError> {
    for (i, argument) in all.iter().enumerate() {
        let what = || match (i + 1).checked_sub(targets) {
            Some(0) | None => format!("the target of {name}"),
            Some(n) => format!("argument {n} of {name}"),
        };
        let expected = match (builtin, i, all.get(1)) {
            (Builtin::Conditional, 0, _) => ValueType::Bool,
            (Builtin::Conditional, _, _) if name == "conditionalString" => ValueType::String,
            (Builtin::Conditional, 2, Some(second)) => second.ty(),
            (Builtin::Conditional, ..) => continue,
            _ => ValueType::String,
        };
        require(argument, expected, what)?;
    }
    Ok(())
}

/// Compiles a pattern that is known already.
fn finish_call(builtin: Builtin, mut all: Vec<Node>) -> Checked {
    if builtin != Builtin::Matches {
        return Ok(Node::Call(builtin, all));
    }
    let Some(Node::Constant(Value::Text(pattern), _)) = all.first() else {
        return Ok(Node::Call(builtin, all));
    };
    let regex = compile_pattern(pattern).map_err(|problem| CompileError::Pattern {
        pattern: pattern.to_string(),
        problem,
    })?;
    match all.pop() {
        Some(subject) => Ok(Node::Matches(regex, Box::new(subject))),
        None => Ok(Node::Call(builtin, all)),
    }
}
