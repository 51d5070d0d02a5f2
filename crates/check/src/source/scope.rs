//! Which names a function binds: the scan that comes before lowering its body.

use ruff_python_ast::{self as ast, Expr, Pattern, Stmt};
use rustc_hash::FxHashSet;

use crate::name::Name;

/// Names bound, and names declared to live elsewhere.
#[derive(Default)]
pub(super) struct Bindings {
    /// In order of first binding.
    pub(super) bound: Vec<Name>,
    pub(super) globals: FxHashSet<Name>,
    pub(super) nonlocals: FxHashSet<Name>,
    seen: FxHashSet<Name>,
}

/// The names that a suite binds, nested functions and classes left out.
pub(super) fn bindings(body: &[Stmt]) -> Bindings {
    let mut found = Bindings::default();
    let mut work: Vec<&[Stmt]> = vec![body];
    while let Some(suite) = work.pop() {
        for stmt in suite {
            statement(stmt, &mut found, &mut work);
        }
    }
    found.bound.retain(|name| !found.globals.contains(name) && !found.nonlocals.contains(name));
    found
}

impl Bindings {
    fn bind(&mut self, name: &str) {
        let name = Name::new(name);
        if self.seen.insert(name) {
            self.bound.push(name);
        }
    }
}

fn statement<'a>(stmt: &'a Stmt, found: &mut Bindings, work: &mut Vec<&'a [Stmt]>) {
    match stmt {
        Stmt::FunctionDef(def) => found.bind(&def.name),
        Stmt::ClassDef(def) => found.bind(&def.name),
        Stmt::Global(it) => found.globals.extend(it.names.iter().map(|name| Name::new(name))),
        Stmt::Nonlocal(it) => found.nonlocals.extend(it.names.iter().map(|name| Name::new(name))),
        Stmt::Assign(it) => {
            it.targets.iter().for_each(|target| bind_target(target, found));
            walrus(&it.value, found);
        }
        Stmt::AugAssign(it) => bind_target(&it.target, found),
        Stmt::AnnAssign(it) => bind_target(&it.target, found),
        Stmt::Delete(it) => it.targets.iter().for_each(|target| bind_target(target, found)),
        Stmt::Expr(it) => walrus(&it.value, found),
        Stmt::Return(it) => it.value.iter().for_each(|value| walrus(value, found)),
        Stmt::For(it) => {
            bind_target(&it.target, found);
            walrus(&it.iter, found);
            work.extend([&it.body[..], &it.orelse[..]]);
        }
        Stmt::While(it) => {
            walrus(&it.test, found);
            work.extend([&it.body[..], &it.orelse[..]]);
        }
        Stmt::If(it) => {
            walrus(&it.test, found);
            work.push(&it.body);
            for clause in &it.elif_else_clauses {
                clause.test.iter().for_each(|test| walrus(test, found));
                work.push(&clause.body);
            }
        }
        Stmt::With(it) => {
            for item in &it.items {
                item.optional_vars.iter().for_each(|target| bind_target(target, found));
            }
            work.push(&it.body);
        }
        Stmt::Try(it) => {
            work.extend([&it.body[..], &it.orelse[..], &it.finalbody[..]]);
            for ast::ExceptHandler::ExceptHandler(handler) in &it.handlers {
                handler.name.iter().for_each(|name| found.bind(name));
                work.push(&handler.body);
            }
        }
        Stmt::Match(it) => {
            for case in &it.cases {
                bind_pattern(&case.pattern, found);
                work.push(&case.body);
            }
        }
        Stmt::Import(it) => {
            for alias in &it.names {
                let top = alias.name.split('.').next().unwrap_or("");
                found.bind(alias.asname.as_ref().map_or(top, |name| name.as_str()));
            }
        }
        Stmt::ImportFrom(it) => {
            for alias in &it.names {
                found.bind(alias.asname.as_ref().unwrap_or(&alias.name));
            }
        }
        Stmt::Assert(it) => walrus(&it.test, found),
        _ => {}
    }
}

fn bind_target(target: &Expr, found: &mut Bindings) {
    let mut work = vec![target];
    while let Some(target) = work.pop() {
        match target {
            Expr::Name(name) => found.bind(&name.id),
            Expr::Tuple(it) => work.extend(&it.elts),
            Expr::List(it) => work.extend(&it.elts),
            Expr::Starred(it) => work.push(&it.value),
            _ => {}
        }
    }
}

/// Binds the names of patterns.
pub(super) fn pattern_names<'a>(pattern: &'a Pattern, mut each: impl FnMut(&'a str)) {
    let mut work = vec![pattern];
    while let Some(pattern) = work.pop() {
        match pattern {
            Pattern::MatchAs(it) => {
                it.name.iter().for_each(|name| each(name));
                work.extend(it.pattern.as_deref());
            }
            Pattern::MatchStar(it) => it.name.iter().for_each(|name| each(name)),
            Pattern::MatchSequence(it) => work.extend(&it.patterns),
            Pattern::MatchOr(it) => work.extend(&it.patterns),
            Pattern::MatchMapping(it) => {
                it.rest.iter().for_each(|name| each(name));
                work.extend(&it.patterns);
            }
            Pattern::MatchClass(it) => {
                work.extend(&it.arguments.patterns);
                work.extend(it.arguments.keywords.iter().map(|keyword| &keyword.pattern));
            }
            Pattern::MatchValue(_) | Pattern::MatchSingleton(_) => {}
        }
    }
}

fn bind_pattern(pattern: &Pattern, found: &mut Bindings) {
    pattern_names(pattern, |name| found.bind(name));
}

/// Names bound by `:=` in the usual places: at the top of an expression and below tests, calls and comparisons.
fn walrus(expr: &Expr, found: &mut Bindings) {
    let mut work = vec![expr];
    while let Some(expr) = work.pop() {
        match expr {
            Expr::Named(it) => {
                bind_target(&it.target, found);
                work.push(&it.value);
            }
            Expr::BoolOp(it) => work.extend(&it.values),
            Expr::Compare(it) => {
                work.push(&it.left);
                work.extend(&it.comparators);
            }
            Expr::UnaryOp(it) => work.push(&it.operand),
            Expr::BinOp(it) => work.extend([&*it.left, &*it.right]),
            Expr::Call(it) => work.extend(&it.arguments.args),
            Expr::If(it) => work.extend([&*it.test, &*it.body, &*it.orelse]),
            Expr::Await(it) => work.push(&it.value),
            _ => {}
        }
    }
}
