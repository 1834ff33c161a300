//! Checks a parsed expression's names and types, and makes of it what is evaluated.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::cel::IdedExpr;
use ::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, ListExpr, LiteralValue, MapEntryExpr,
    MapExpr, SelectExpr, SourceInfo, operators,
};
use regex::Regex;

use super::run::{attribute_name, pattern_name, presence_name};
use super::signature::{self, BOOL, DOUBLE, INT, TEXT, TYPES, Ty};
use super::{ASSUMED_ENTRIES, MAX_COST, MAX_LIST, Program, column, functions};
use crate::attributes::Use;
use crate::error::CompileError;
use crate::functions::compile_pattern;
use crate::value::ValueType;
use crate::vocabulary::Vocabulary;

type Checked = Result<(IdedExpr, Ty), CompileError>;

/// Checks the whole.
pub(super) fn program(
    root: &IdedExpr,
    source: &SourceInfo,
    text: &str,
    vocabulary: &dyn Vocabulary,
) -> Result<Program, CompileError> {
    let mut checker = Checker {
        vocabulary,
        source,
        text,
        locals: Vec::new(),
        attributes: Vec::new(),
        patterns: Vec::new(),
        uses: BTreeSet::new(),
        cost: 0,
        repeats: 1,
    };
    let (expr, ty) = checker.node(root)?;
    let ty = match ty {
        // The crate's values cannot lend a map of the bag's.
        Ty::Value(ValueType::StringMap) => {
            return checker.fail(
                root,
                "is a map; read entries of it, or name the attribute in CEXL",
            );
        }
        Ty::Value(ty) => ty,
        ty => {
            return checker.fail(
                root,
                format!(
                    "is of type {ty}, which no attribute has; convert it, for example by string(…) or int(…)"
                ),
            );
        }
    };
    Ok(Program {
        root: Arc::new(expr),
        ty,
        uses: checker.uses,
        attributes: checker.attributes,
        patterns: checker.patterns,
    })
}

struct Checker<'a> {
    vocabulary: &'a dyn Vocabulary,
    source: &'a SourceInfo,
    text: &'a str,
    /// Variables of the comprehensions around a node, innermost last.
    locals: Vec<(String, Ty)>,
    attributes: Vec<(String, ValueType)>,
    patterns: Vec<Arc<Regex>>,
    uses: BTreeSet<Use>,
    cost: u64,
    /// How often a node is evaluated, by the comprehensions around it.
    repeats: u64,
}

/// `a.b.c`, when nothing but names and dots.
fn dotted(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", dotted(&select.operand.expr)?, select.field))
        }
        _ => None,
    }
}

fn call(name: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr {
        func_name: name.to_owned(),
        target: None,
        args,
    })
}

fn literal(text: &str) -> Expr {
    Expr::Literal(LiteralValue::String(text.to_owned().into()))
}

impl Checker<'_> {
    fn fail<T>(&self, node: &IdedExpr, problem: impl Into<String>) -> Result<T, CompileError> {
        let mut first = node;
        // A selection is said to stand at its dot.
        while let Expr::Select(select) = &first.expr {
            first = &select.operand;
        }
        Err(CompileError::Mismatch {
            column: column(self.source, self.text, first.id),
            problem: problem.into(),
        })
    }

    fn spend(&mut self, node: &IdedExpr) -> Result<(), CompileError> {
        self.cost = self.cost.saturating_add(self.repeats);
        if self.cost > MAX_COST {
            return self.fail(
                node,
                format!("may take more than {MAX_COST} steps; nest fewer loops, or shorten their lists"),
            );
        }
        Ok(())
    }

    fn node(&mut self, node: &IdedExpr) -> Checked {
        self.spend(node)?;
        let (expr, ty) = match &node.expr {
            Expr::Literal(value) => (node.expr.clone(), self.literal(node, value)?),
            Expr::Ident(_) | Expr::Select(_) => self.name(node)?,
            Expr::Call(called) => self.call(node, called)?,
            Expr::List(list) => self.list(node, list)?,
            Expr::Map(map) => self.map(node, map)?,
            Expr::Comprehension(loops) => self.comprehension(node, loops)?,
            Expr::Struct(_) => return self.fail(node, "messages are not part of Mixer's CEL"),
            Expr::Unspecified => return self.fail(node, "is empty; write an expression"),
        };
        Ok((IdedExpr { id: node.id, expr }, ty))
    }

    fn literal(&self, node: &IdedExpr, value: &LiteralValue) -> Result<Ty, CompileError> {
        Ok(match value {
            LiteralValue::Boolean(_) => BOOL,
            LiteralValue::Bytes(_) => Ty::Bytes,
            LiteralValue::Double(_) => DOUBLE,
            LiteralValue::Int(_) => INT,
            LiteralValue::Null => Ty::Null,
            LiteralValue::String(text) if text.inner().len() > super::MAX_TEXT => {
                return self.fail(node, "is too long");
            }
            LiteralValue::String(_) => TEXT,
            LiteralValue::UInt(_) => Ty::Uint,
        })
    }

    /// The place of an attribute among those that the program reads.
    fn place(&mut self, name: &str, ty: ValueType) -> usize {
        match self.attributes.iter().position(|(known, _)| known == name) {
            Some(place) => place,
            None => {
                self.attributes.push((name.to_owned(), ty));
                self.attributes.len() - 1
            }
        }
    }

    fn name(&mut self, node: &IdedExpr) -> Result<(Expr, Ty), CompileError> {
        if let Expr::Ident(name) = &node.expr
            && let Some((_, ty)) = self.locals.iter().rev().find(|(local, _)| local == name)
        {
            return Ok((node.expr.clone(), ty.clone()));
        }
        if let Some(name) = dotted(&node.expr)
            && let Some(ty) = self.vocabulary.attribute(&name)
        {
            self.uses.insert(match ty {
                ValueType::StringMap => Use::AnyEntry(name.clone()),
                _ => Use::Attribute(name.clone()),
            });
            let place = self.place(&name, ty);
            return Ok((Expr::Ident(attribute_name(place)), Ty::Value(ty)));
        }
        match &node.expr {
            Expr::Ident(name) if TYPES.contains(&name.as_str()) => Ok((node.expr.clone(), Ty::Type)),
            Expr::Select(select) if select.test => self.presence(node, select),
            Expr::Select(select) => self.field(node, select),
            _ => self.unknown(node),
        }
    }

    fn unknown<T>(&self, node: &IdedExpr) -> Result<T, CompileError> {
        let Some(name) = dotted(&node.expr) else {
            return self.fail(node, "has no fields");
        };
        Err(CompileError::UnknownAttribute {
            nearest: self.vocabulary.nearest(&name),
            name,
        })
    }

    /// `map.field`, which is `map["field"]`.
    fn field(&mut self, node: &IdedExpr, select: &SelectExpr) -> Result<(Expr, Ty), CompileError> {
        let rooted = dotted(&select.operand.expr);
        let local = |name: &String| {
            self.locals
                .iter()
                .any(|(local, _)| local == name.split('.').next().unwrap_or_default())
        };
        let map_attribute = rooted
            .as_ref()
            .is_some_and(|name| self.vocabulary.attribute(name) == Some(ValueType::StringMap));
        if rooted.as_ref().is_some_and(|name| !map_attribute && !local(name)) {
            return self.unknown(node);
        }
        let key = IdedExpr {
            id: node.id,
            expr: literal(&select.field),
        };
        self.index(node, &select.operand, &key)
    }

    /// `has(attribute)`, `has(map.field)`.
    fn presence(&mut self, node: &IdedExpr, select: &SelectExpr) -> Result<(Expr, Ty), CompileError> {
        if let Some(prefix) = dotted(&select.operand.expr) {
            let name = format!("{prefix}.{}", select.field);
            if let Some(ty) = self.vocabulary.attribute(&name) {
                self.uses.insert(Use::Attribute(name.clone()));
                let place = self.place(&name, ty);
                return Ok((Expr::Ident(presence_name(place)), BOOL));
            }
        }
        let key = IdedExpr {
            id: node.id,
            expr: literal(&select.field),
        };
        self.membership(node, &key, &select.operand)
    }

    /// Takes note of an entry that is read, by a key that is known or not.
    fn entry_used(&mut self, map: &IdedExpr, key: &IdedExpr, before: &BTreeSet<Use>) {
        let (Some(name), Expr::Literal(LiteralValue::String(key))) = (dotted(&map.expr), &key.expr) else {
            return;
        };
        let whole = Use::AnyEntry(name.clone());
        if self.vocabulary.attribute(&name) == Some(ValueType::StringMap) {
            if !before.contains(&whole) {
                self.uses.remove(&whole);
            }
            self.uses.insert(Use::Entry(name, key.inner().to_owned()));
        }
    }

    fn membership(
        &mut self,
        node: &IdedExpr,
        key: &IdedExpr,
        of: &IdedExpr,
    ) -> Result<(Expr, Ty), CompileError> {
        let before = self.uses.clone();
        let (checked_key, key_ty) = self.node(key)?;
        let (checked_of, of_ty) = self.node(of)?;
        self.entry_used(of, key, &before);
        match signature::operator(operators::IN, &[key_ty.clone(), of_ty.clone()]) {
            Some(ty) => Ok((call(operators::IN, vec![checked_key, checked_of]), ty)),
            None => self.fail(node, format!("{key_ty} cannot be in {of_ty}")),
        }
    }

    fn index(&mut self, node: &IdedExpr, of: &IdedExpr, key: &IdedExpr) -> Result<(Expr, Ty), CompileError> {
        let before = self.uses.clone();
        let (checked_of, of_ty) = self.node(of)?;
        let (checked_key, key_ty) = self.node(key)?;
        self.entry_used(of, key, &before);
        match signature::operator(operators::INDEX, &[of_ty.clone(), key_ty.clone()]) {
            Some(ty) => Ok((call(operators::INDEX, vec![checked_of, checked_key]), ty)),
            None => self.fail(node, format!("{of_ty} has no entry under {key_ty}")),
        }
    }

    fn call(&mut self, node: &IdedExpr, called: &CallExpr) -> Result<(Expr, Ty), CompileError> {
        let name = called.func_name.as_str();
        match (name, &called.target, called.args.as_slice()) {
            (operators::INDEX, None, [of, key]) => return self.index(node, of, key),
            (operators::IN, None, [key, of]) => return self.membership(node, key, of),
            ("matches", Some(subject), [pattern]) => return self.matches(node, subject, pattern),
            ("matches", None, [subject, pattern]) => return self.matches(node, subject, pattern),
            // As in Istio: a name for the ternary operator.
            ("conditional" | "conditionalString", None, [_, _, _]) => {
                let ternary = CallExpr {
                    func_name: operators::CONDITIONAL.to_owned(),
                    ..called.clone()
                };
                return self.call(node, &ternary);
            }
            ("pick", None, [rest @ .., last]) => return self.pick(rest, last),
            _ => {}
        }
        let target = called
            .target
            .as_deref()
            .map(|target| self.node(target))
            .transpose()?;
        let mut arguments = Vec::with_capacity(called.args.len());
        let mut types = Vec::with_capacity(called.args.len());
        for argument in &called.args {
            let (argument, ty) = self.node(argument)?;
            arguments.push(argument);
            types.push(ty);
        }
        let target_ty = target.as_ref().map(|(_, ty)| ty);
        let found = match target_ty {
            None => signature::operator(name, &types).or_else(|| signature::function(name, None, &types)),
            target => signature::function(name, target, &types),
        };
        let Some(ty) = found else {
            return self.no_overload(node, name, target_ty, &types);
        };
        let func_name = match name {
            operators::ADD => functions::ADD,
            name => name,
        };
        let expr = Expr::Call(CallExpr {
            func_name: func_name.to_owned(),
            target: target.map(|(target, _)| Box::new(target)),
            args: arguments,
        });
        Ok((expr, ty))
    }

    /// `pick(a, b, …)`: the first that is there, as in Istio: an attribute, or an entry of a map.
    fn pick(&mut self, rest: &[IdedExpr], last: &IdedExpr) -> Result<(Expr, Ty), CompileError> {
        let mut chosen = last.clone();
        for one in rest.iter().rev() {
            let there = match &one.expr {
                Expr::Select(select) if !select.test => Expr::Select(SelectExpr {
                    test: true,
                    ..select.clone()
                }),
                Expr::Call(called) if called.func_name == operators::INDEX => {
                    call(operators::IN, called.args.iter().rev().cloned().collect())
                }
                _ => {
                    chosen = one.clone();
                    continue;
                }
            };
            let there = IdedExpr {
                id: one.id,
                expr: there,
            };
            chosen = IdedExpr {
                id: one.id,
                expr: call(operators::CONDITIONAL, vec![there, one.clone(), chosen]),
            };
        }
        self.node(&chosen).map(|(checked, ty)| (checked.expr, ty))
    }

    fn no_overload<T>(
        &self,
        node: &IdedExpr,
        name: &str,
        target: Option<&Ty>,
        arguments: &[Ty],
    ) -> Result<T, CompileError> {
        let shown = name.trim_matches(|c| c == '_' || c == '@');
        let list: Vec<String> = arguments.iter().map(Ty::to_string).collect();
        let list = list.join(", ");
        let operator = name.contains('_') && target.is_none();
        let problem = match target {
            _ if operator => format!("{shown} is not defined for {list}"),
            Some(target) => format!("there is no {target}.{shown}({list})"),
            None => format!("there is no {shown}({list})"),
        };
        self.fail(node, problem)
    }

    /// `text.matches(pattern)`: a constant pattern is compiled now.
    fn matches(
        &mut self,
        node: &IdedExpr,
        subject: &IdedExpr,
        pattern: &IdedExpr,
    ) -> Result<(Expr, Ty), CompileError> {
        let (subject, subject_ty) = self.node(subject)?;
        let (mut checked, pattern_ty) = self.node(pattern)?;
        if signature::function("matches", Some(&subject_ty), std::slice::from_ref(&pattern_ty)).is_none() {
            return self.no_overload(node, "matches", Some(&subject_ty), &[pattern_ty]);
        }
        if let Expr::Literal(LiteralValue::String(text)) = &pattern.expr {
            let regex = compile_pattern(text.inner()).map_err(|problem| CompileError::Pattern {
                pattern: text.inner().to_owned(),
                problem,
            })?;
            checked.expr = Expr::Ident(pattern_name(self.patterns.len()));
            self.patterns.push(Arc::new(regex));
        }
        Ok((call(functions::MATCHES, vec![subject, checked]), BOOL))
    }

    fn list(&mut self, node: &IdedExpr, list: &ListExpr) -> Result<(Expr, Ty), CompileError> {
        if list.elements.len() > MAX_LIST {
            return self.fail(node, format!("has more than {MAX_LIST} elements"));
        }
        let mut element = Ty::Dyn;
        let mut elements = Vec::with_capacity(list.elements.len());
        for (at, one) in list.elements.iter().enumerate() {
            let (one, ty) = self.node(one)?;
            // A list of several types is a list of dyn.
            element = match element.join(&ty) {
                Some(joined) if at == 0 || element != Ty::Dyn => joined,
                _ => Ty::Dyn,
            };
            elements.push(one);
        }
        Ok((Expr::List(ListExpr::new(elements)), Ty::list(element)))
    }

    fn map(&mut self, node: &IdedExpr, map: &MapExpr) -> Result<(Expr, Ty), CompileError> {
        let (mut key, mut value) = (Ty::Dyn, Ty::Dyn);
        let mut entries = Vec::with_capacity(map.entries.len());
        for (at, entry) in map.entries.iter().enumerate() {
            let EntryExpr::MapEntry(pair) = &entry.expr else {
                return self.fail(node, "messages are not part of Mixer's CEL");
            };
            let (checked_key, key_ty) = self.node(&pair.key)?;
            let (checked_value, value_ty) = self.node(&pair.value)?;
            let joined = |known: &Ty, ty: &Ty| match known.join(ty) {
                Some(joined) if at == 0 || *known != Ty::Dyn => joined,
                _ => Ty::Dyn,
            };
            (key, value) = (joined(&key, &key_ty), joined(&value, &value_ty));
            let pair = MapEntryExpr {
                key: checked_key,
                value: checked_value,
                optional: false,
            };
            entries.push(IdedEntryExpr {
                id: entry.id,
                expr: EntryExpr::MapEntry(pair),
            });
        }
        Ok((
            Expr::Map(MapExpr { entries }),
            Ty::Map(Box::new(key), Box::new(value)),
        ))
    }

    fn comprehension(
        &mut self,
        node: &IdedExpr,
        loops: &ComprehensionExpr,
    ) -> Result<(Expr, Ty), CompileError> {
        let (iter_range, range_ty) = self.node(&loops.iter_range)?;
        let Some((key, value)) = range_ty.entries() else {
            return self.fail(node, format!("{range_ty} has no entries to go through"));
        };
        let first = if matches!(range_ty, Ty::List(_)) && loops.iter_var2.is_none() {
            value.clone()
        } else {
            key
        };
        let (accu_init, accu_ty) = self.node(&loops.accu_init)?;
        let depth = self.locals.len();
        let repeats = self.repeats;
        let entries = match &loops.iter_range.expr {
            Expr::List(list) => list.elements.len() as u64,
            _ => ASSUMED_ENTRIES,
        };
        self.locals.push((loops.iter_var.clone(), first));
        if let Some(second) = &loops.iter_var2 {
            self.locals.push((second.clone(), value));
        }
        self.locals.push((loops.accu_var.clone(), accu_ty));
        self.repeats = repeats.saturating_mul(entries.max(1));
        let condition = self.node(&loops.loop_cond)?.0;
        let (loop_step, step_ty) = self.node(&loops.loop_step)?;
        self.repeats = repeats;
        if let Some((_, accumulated)) = self.locals.last_mut() {
            *accumulated = step_ty;
        }
        let (result, ty) = self.node(&loops.result)?;
        self.locals.truncate(depth);
        let expr = Expr::Comprehension(Box::new(ComprehensionExpr {
            iter_range,
            iter_var: loops.iter_var.clone(),
            iter_var2: loops.iter_var2.clone(),
            accu_var: loops.accu_var.clone(),
            accu_init,
            loop_cond: condition,
            loop_step,
            result,
        }));
        Ok((expr, ty))
    }
}
