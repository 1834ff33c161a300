//! CEL, the second syntax: parsed and evaluated by the `cel` crate, over the same attributes and with the same types.
//!
//! As in Istio 1.4's CEL runtime, an attribute that is absent has its type's zero value (`""`, `0`, `false`, no entries), and
//! `has(source.labels)` tells whether it is there; an entry that a map lacks is an absence, as in CEXL. Types are checked when
//! an expression is compiled, so that what compiles has one known type; names of attributes, constant patterns and what grows
//! are replaced by what [`run`] provides.

mod check;
mod functions;
mod run;
mod signature;
mod values;

use std::collections::BTreeSet;
use std::sync::Arc;

use ::cel::IdedExpr;
use ::cel::common::ast::{EntryExpr, Expr, SourceInfo};
use ::cel::parser::PrattParser;
use regex::Regex;

use crate::attributes::Use;
use crate::error::CompileError;
use crate::value::ValueType;
use crate::vocabulary::Vocabulary;

/// Deepest nesting of an expression; a chain of `+` nests once per operand.
const MAX_NESTING: usize = 48;
/// Most parts of an expression.
const MAX_NODES: usize = 2_000;
/// Stack of the thread that parses, in bytes: the grammar's generated parser takes up to 130 KB for a bracket.
const STACK: usize = 64 << 20;
/// Most steps that an evaluation may take, counted with [`ASSUMED_ENTRIES`] for what is not known before.
const MAX_COST: u64 = 100_000;
/// Entries that a map or list is taken to have when an expression's cost is estimated.
const ASSUMED_ENTRIES: u64 = 100;
/// Longest text that an expression may build, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Longest list that an expression may build.
const MAX_LIST: usize = 1_000;

/// A compiled CEL expression.
#[derive(Clone, Debug)]
pub struct Program {
    root: Arc<IdedExpr>,
    ty: ValueType,
    uses: BTreeSet<Use>,
    /// The attributes that are read, with their types; the program calls them by their place here.
    attributes: Vec<(String, ValueType)>,
    patterns: Vec<Arc<Regex>>,
}

impl Program {
    /// Compiles `text`.
    pub(crate) fn compile(text: &str, vocabulary: &dyn Vocabulary) -> Result<Self, CompileError> {
        let (root, source) = parse(text)?;
        check::program(&root, &source, text, vocabulary)
    }

    /// The type of its value.
    pub fn ty(&self) -> ValueType {
        self.ty
    }

    /// What it may read.
    pub fn uses(&self) -> &BTreeSet<Use> {
        &self.uses
    }
}

/// Sees to it that the text is no deeper and larger than its evaluation and the second parser can bear. The `cel` crate's
/// parser by precedence is thrifty with the stack, but does not tell where a part stands.
fn bounded(text: &str) -> Result<(), CompileError> {
    let parser = PrattParser::new()
        .max_recursion_depth(u16::try_from(MAX_NESTING).unwrap_or(u16::MAX))
        .max_expression_node_count(MAX_NODES);
    let root = parser.parse(text).map_err(|errors| syntax_error(text, &errors))?;
    let mut waiting = vec![(&root, 1)];
    while let Some((node, depth)) = waiting.pop() {
        if depth > MAX_NESTING {
            return Err(CompileError::TooDeep { limit: MAX_NESTING });
        }
        waiting.extend(children(&node.expr).into_iter().map(|child| (child, depth + 1)));
    }
    Ok(())
}

fn children(expr: &Expr) -> Vec<&IdedExpr> {
    match expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(loops) => vec![
            &loops.iter_range,
            &loops.accu_init,
            &loops.loop_cond,
            &loops.loop_step,
            &loops.result,
        ],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map
            .entries
            .iter()
            .flat_map(|entry| in_entry(&entry.expr))
            .collect(),
        Expr::Struct(message) => message
            .entries
            .iter()
            .flat_map(|entry| in_entry(&entry.expr))
            .collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn in_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::MapEntry(pair) => vec![&pair.key, &pair.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}

/// Parses by the grammar, which tells where each part stands, on a stack that texts of any form fit. The thread
/// is that stack and nothing more: the caller waits for it.
fn parse(text: &str) -> Result<(IdedExpr, SourceInfo), CompileError> {
    let parsing = || {
        bounded(text)?;
        functions::environment()
            .parser()
            .parse_with_source_info(text)
            .map_err(|errors| syntax_error(text, &errors))
    };
    let parsed = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, parsing);
        thread.ok().and_then(|thread| thread.join().ok())
    });
    parsed.unwrap_or(Err(CompileError::TooDeep { limit: MAX_NESTING }))
}

/// The first thing that the parser has to say.
fn syntax_error(text: &str, errors: &::cel::parser::ParseErrors) -> CompileError {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    let problem = first.map_or("is no CEL", |error| error.msg.as_str());
    let before: usize = text
        .split_inclusive('\n')
        .take(usize::try_from(line - 1).unwrap_or_default())
        .map(|line| line.chars().count())
        .sum();
    // Of what is no word at all the parser counts bytes, which may be more than there are characters.
    let column = before + usize::try_from(column).unwrap_or(1).max(1);
    CompileError::Syntax {
        column: column.min(text.chars().count() + 1),
        problem: problem.lines().next().unwrap_or_default().to_owned(),
    }
}

/// The column, in characters from 1, at which a node begins.
fn column(source: &SourceInfo, text: &str, id: u64) -> usize {
    let offset = source.offset_for(id).map_or(0, |(start, _)| start);
    let offset = usize::try_from(offset).unwrap_or_default();
    // The parser counts characters.
    offset.min(text.chars().count()) + 1
}
