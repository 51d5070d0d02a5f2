//! The statements of a text and where they begin and end, for those who edit it.
//!
//! Bodies have no statements, and only a few files have anything to repair: so an outline is made when a fix asks for
//! it, from the text alone. Decorators belong to what they decorate.

use std::collections::VecDeque;
use std::sync::OnceLock;

use facts::{FileId, Files};
use ruff_python_ast::token::TokenKind;
use ruff_python_ast::{self as ast, Stmt};
use ruff_python_parser::parse_module;
use ruff_text_size::Ranged;

use crate::parallel;

/// What a statement is, as far as editing needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `if`
    If,
    /// `while`
    While,
    /// `for`
    For,
    /// `with`
    With,
    /// `try`
    Try,
    /// `match`
    Match,
    /// `def`
    Function,
    /// `class`
    Class,
    /// An import of any kind but from `__future__`.
    Import,
    /// `from __future__ import ...`
    Future,
    /// A string alone.
    Text,
    /// An expression alone.
    Expression,
    /// `a = b`, with the range of the value, if there is one target.
    Assign(Option<(u32, u32)>),
    /// `a: T = b`, `a: T`
    Annotated,
    /// `a += b`
    Augmented,
    /// `return`, `raise`, `break`, `continue`
    Leave,
    /// `global`, `nonlocal`
    Declaration,
    /// Any other simple statement.
    Other,
}

/// A part of a compound statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The whole text.
    Module,
    /// After `if`, `while`, `for`, `with`, `try`, `def`, `class`.
    Body,
    /// After `elif`.
    Elif,
    /// After `else`.
    Else,
    /// After `except`.
    Handler,
    /// After `finally`.
    Finally,
    /// After `case`.
    Case,
}

/// One statement.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// The suite it stands in.
    pub suite: usize,
    /// Its index there.
    pub at: usize,
}

/// Statements that stand together.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The compound statement it belongs to; none for the module.
    pub owner: Option<usize>,
    /// Which part of it.
    pub role: Role,
    /// First byte of the clause: of `if`, `elif`, ...; of decorators for functions and classes.
    pub head_start: u32,
    /// One past the colon.
    pub head_end: u32,
    /// Indices into [`Outline::statements`].
    pub statements: Vec<usize>,
}

/// All statements of a text.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Outer ones before inner ones.
    pub statements: Vec<Statement>,
    /// Suite 0 is the module.
    pub suites: Vec<Suite>,
    /// By statement: its suites, in order.
    pub parts: Vec<Vec<usize>>,
    /// String literals that hold line breaks, in order.
    pub strings: Vec<(u32, u32)>,
    /// Semicolons, in order.
    pub semicolons: Vec<u32>,
}

/// The outlines of all texts of a run, each made when it is first asked for.
pub struct Outlines(Vec<OnceLock<Outline>>);

impl Outlines {
    /// None of them made yet.
    #[must_use]
    pub fn of(files: &Files) -> Self {
        Self((0..files.len()).map(|_| OnceLock::new()).collect())
    }

    /// The outline of one text.
    #[must_use]
    pub fn get(&self, files: &Files, file: FileId) -> &Outline {
        self.0[file.0 as usize].get_or_init(|| outline(&files.get(file).text))
    }
}

/// The outline of a text; empty if it does not parse.
#[must_use]
pub fn outline(text: &str) -> Outline {
    parallel::on_large_stack(|| build(text))
}

fn build(text: &str) -> Outline {
    let mut outline = Outline::default();
    let Ok(parsed) = parse_module(text) else { return outline };
    let mut open = Vec::new();
    let mut colons = Vec::new();
    for token in parsed.tokens() {
        let (start, end) = (token.start().to_u32(), token.end().to_u32());
        let breaks = || text[start as usize..end as usize].contains('\n');
        match token.kind() {
            TokenKind::String if breaks() => outline.strings.push((start, end)),
            TokenKind::FStringStart | TokenKind::TStringStart => open.push(start),
            TokenKind::FStringEnd | TokenKind::TStringEnd => {
                let start = open.pop().unwrap_or(start);
                if open.is_empty() && text[start as usize..end as usize].contains('\n') {
                    outline.strings.push((start, end));
                }
            }
            TokenKind::Semi => outline.semicolons.push(start),
            TokenKind::Colon => colons.push(start),
            _ => {}
        }
    }
    let mut work = VecDeque::from([(None, Role::Module, 0, &parsed.syntax().body[..])]);
    while let Some((owner, role, head_start, body)) = work.pop_front() {
        let suite = outline.suites.len();
        let first = body.first().map_or(0, |stmt| stmt.start().to_u32());
        let colon = colons.partition_point(|colon| *colon < first).checked_sub(1).map(|idx| colons[idx] + 1);
        let head_end = if owner.is_some() { colon.unwrap_or(first) } else { 0 };
        let base = outline.statements.len();
        let statements = (base..base + body.len()).collect();
        outline.suites.push(Suite { owner, role, head_start, head_end, statements });
        if let Some(owner) = owner {
            outline.parts[owner].push(suite);
        }
        for (at, stmt) in body.iter().enumerate() {
            let (start, end) = (stmt.start().to_u32(), stmt.end().to_u32());
            outline.statements.push(Statement { kind: kind(stmt), start, end, suite, at });
            outline.parts.push(Vec::new());
        }
        for (at, stmt) in body.iter().enumerate() {
            parts(stmt, |role, head, body| {
                if !body.is_empty() {
                    work.push_back((Some(base + at), role, head, body));
                }
            });
        }
    }
    outline
}

fn kind(stmt: &Stmt) -> Kind {
    match stmt {
        Stmt::If(_) => Kind::If,
        Stmt::While(_) => Kind::While,
        Stmt::For(_) => Kind::For,
        Stmt::With(_) => Kind::With,
        Stmt::Try(_) => Kind::Try,
        Stmt::Match(_) => Kind::Match,
        Stmt::FunctionDef(_) => Kind::Function,
        Stmt::ClassDef(_) => Kind::Class,
        Stmt::ImportFrom(it) if it.module.as_ref().is_some_and(|name| name == "__future__") => Kind::Future,
        Stmt::Import(_) | Stmt::ImportFrom(_) => Kind::Import,
        Stmt::Expr(it) if it.value.is_string_literal_expr() => Kind::Text,
        Stmt::Expr(_) => Kind::Expression,
        Stmt::Assign(it) => {
            let one = it.targets.len() == 1;
            Kind::Assign(one.then(|| (it.value.start().to_u32(), it.value.end().to_u32())))
        }
        Stmt::AnnAssign(_) => Kind::Annotated,
        Stmt::AugAssign(_) => Kind::Augmented,
        Stmt::Return(_) | Stmt::Raise(_) | Stmt::Break(_) | Stmt::Continue(_) => Kind::Leave,
        Stmt::Global(_) | Stmt::Nonlocal(_) => Kind::Declaration,
        _ => Kind::Other,
    }
}

/// The suites of a compound statement, with the first byte of each clause.
fn parts<'a>(stmt: &'a Stmt, mut each: impl FnMut(Role, u32, &'a [Stmt])) {
    let start = stmt.start().to_u32();
    match stmt {
        Stmt::FunctionDef(it) => each(Role::Body, start, &it.body),
        Stmt::ClassDef(it) => each(Role::Body, start, &it.body),
        Stmt::With(it) => each(Role::Body, start, &it.body),
        Stmt::For(it) => {
            each(Role::Body, start, &it.body);
            each(Role::Else, start, &it.orelse);
        }
        Stmt::While(it) => {
            each(Role::Body, start, &it.body);
            each(Role::Else, start, &it.orelse);
        }
        Stmt::If(it) => {
            each(Role::Body, start, &it.body);
            for clause in &it.elif_else_clauses {
                let role = if clause.test.is_some() { Role::Elif } else { Role::Else };
                each(role, clause.start().to_u32(), &clause.body);
            }
        }
        Stmt::Try(it) => {
            each(Role::Body, start, &it.body);
            for ast::ExceptHandler::ExceptHandler(handler) in &it.handlers {
                each(Role::Handler, handler.start().to_u32(), &handler.body);
            }
            each(Role::Else, start, &it.orelse);
            each(Role::Finally, start, &it.finalbody);
        }
        Stmt::Match(it) => it.cases.iter().for_each(|case| each(Role::Case, case.start().to_u32(), &case.body)),
        _ => {}
    }
}

impl Outline {
    /// The innermost statement around a byte.
    #[must_use]
    pub fn at(&self, offset: u32) -> Option<usize> {
        let mut found = None;
        let mut suites = vec![0];
        while let Some(suite) = suites.pop() {
            let statements = &self.suites.get(suite)?.statements;
            let next = statements.partition_point(|idx| self.statements[*idx].start <= offset);
            let Some(idx) = next.checked_sub(1).map(|at| statements[at]) else { continue };
            if self.statements[idx].end > offset {
                found = Some(idx);
                suites.extend(&self.parts[idx]);
            }
        }
        found
    }

    /// The compound statements around a statement, innermost first, itself included.
    pub fn around(&self, idx: usize) -> impl Iterator<Item = usize> + '_ {
        let mut at = Some(idx);
        std::iter::from_fn(move || {
            let here = at?;
            at = self.suites[self.statements[here].suite].owner;
            Some(here)
        })
    }

    /// The smallest run of statements of one suite that holds both bytes.
    #[must_use]
    pub fn run(&self, from: u32, to: u32) -> Option<(usize, usize)> {
        let (first, last) = (self.at(from)?, self.at(to)?);
        let lasts: Vec<usize> = self.around(last).collect();
        self.around(first).find_map(|first| {
            let suite = self.statements[first].suite;
            let last = lasts.iter().copied().find(|last| self.statements[*last].suite == suite)?;
            Some((first, last))
        })
    }

    /// Does a string that holds line breaks begin before this byte and end after it?
    #[must_use]
    pub fn in_string(&self, offset: u32) -> bool {
        let next = self.strings.partition_point(|(start, _)| *start < offset);
        self.strings[..next].iter().rev().take(2).any(|(start, end)| *start < offset && offset < *end)
    }
}
