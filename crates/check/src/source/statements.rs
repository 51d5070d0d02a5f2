//! Statements to nodes and blocks.

use ruff_python_ast::{self as ast, Expr, Stmt};
use ruff_text_size::{Ranged, TextRange};

use super::annotation::annotation;
use super::builder::{Builder, Home, as_u32};
use super::scope::{bindings, pattern_names};
use crate::body::{BlockId, BlockKind, Class, ClassIdx, FuncIdx, FunctionKind, Import, Op, Val};
use crate::name::Name;

/// How many blocks one suite may open for what follows its early exits.
const RESTS_MAX: usize = 48;

/// What a statement means for those after it.
#[derive(Default)]
struct Flow {
    /// Nothing after it runs.
    leaves: bool,
    /// What governs those after it.
    rest: Vec<BlockKind>,
}

impl Flow {
    fn leaving() -> Self {
        Self { leaves: true, rest: Vec::new() }
    }
}

impl Builder {
    /// Lowers statements in order; says whether they leave the suite.
    pub(super) fn suite(&mut self, body: &[Stmt]) -> bool {
        let end = body.last().map_or(0, |stmt| stmt.end().to_u32());
        let mut opened: Vec<BlockId> = Vec::new();
        let mut leaves = false;
        for stmt in body {
            let flow = self.deeper(stmt.range(), |builder| builder.stmt(stmt)).unwrap_or_default();
            leaves |= flow.leaves;
            for kind in flow.rest {
                if opened.len() < RESTS_MAX {
                    opened.push(self.open(kind, stmt.end().to_u32()));
                }
            }
        }
        for block in opened.into_iter().rev() {
            self.close(block, leaves, end);
        }
        leaves
    }

    fn block(&mut self, kind: BlockKind, body: &[Stmt]) -> (BlockId, bool) {
        let start = body.first().map_or(0, |stmt| stmt.start().to_u32());
        let end = body.last().map_or(0, |stmt| stmt.end().to_u32());
        let id = self.open(kind, start);
        let leaves = self.suite(body);
        self.close(id, leaves, end);
        (id, leaves)
    }

    fn stmt(&mut self, stmt: &Stmt) -> Flow {
        let range = stmt.range();
        match stmt {
            Stmt::If(it) => return self.if_(it),
            Stmt::While(it) => return self.while_(it),
            Stmt::For(it) => self.for_(it),
            Stmt::With(it) => return Flow { leaves: self.with(it), rest: Vec::new() },
            Stmt::Try(it) => return self.try_(it),
            Stmt::Match(it) => self.match_(it),
            Stmt::Return(it) => {
                let value = it.value.as_ref().map(|value| self.expr(value));
                self.push(Op::Return(value), range);
                return Flow::leaving();
            }
            Stmt::Raise(it) => {
                let value = it.exc.as_ref().map(|value| self.expr(value));
                self.push(Op::Raise(value), range);
                return Flow::leaving();
            }
            Stmt::Break(_) => {
                self.push(Op::Break, range);
                return Flow::leaving();
            }
            Stmt::Continue(_) => {
                self.push(Op::Continue, range);
                return Flow::leaving();
            }
            Stmt::Assert(it) => {
                let test = self.expr(&it.test);
                return Flow { leaves: false, rest: vec![BlockKind::Then(test)] };
            }
            _ => self.simple(stmt, range),
        }
        Flow::default()
    }

    fn simple(&mut self, stmt: &Stmt, range: TextRange) {
        match stmt {
            Stmt::Expr(it) => {
                let value = self.expr(&it.value);
                self.push(Op::Discard(value), range);
            }
            Stmt::Assign(it) => self.assignment(it),
            Stmt::AugAssign(it) => self.augmented(it, range),
            Stmt::AnnAssign(it) => self.annotated(it, range),
            Stmt::Delete(it) => it.targets.iter().for_each(|target| self.delete(target)),
            Stmt::FunctionDef(it) => self.function(it),
            Stmt::ClassDef(it) => self.class(it),
            Stmt::Import(it) => it.names.iter().for_each(|alias| self.import(alias)),
            Stmt::ImportFrom(it) => self.import_from(it),
            _ => {}
        }
    }

    fn assignment(&mut self, it: &ast::StmtAssign) {
        // `a, b = x, y` stores part by part.
        if let ([target], Expr::Tuple(value)) = (&it.targets[..], &*it.value) {
            let parts = match target {
                Expr::Tuple(target) => Some(&target.elts),
                Expr::List(target) => Some(&target.elts),
                _ => None,
            };
            let fits = |parts: &&Vec<Expr>| {
                parts.len() == value.elts.len() && !parts.iter().chain(&value.elts).any(Expr::is_starred_expr)
            };
            if let Some(parts) = parts.filter(fits) {
                let vals: Vec<Val> = value.elts.iter().map(|elt| self.expr(elt)).collect();
                parts.iter().zip(vals).for_each(|(part, val)| self.assign(part, val));
                return;
            }
        }
        let value = self.expr(&it.value);
        it.targets.iter().for_each(|target| self.assign(target, value));
    }

    /// Stores a value into a target.
    pub(super) fn assign(&mut self, target: &Expr, value: Val) {
        self.store(target, value, false, target.range());
    }

    fn store(&mut self, target: &Expr, value: Val, update: bool, range: TextRange) {
        match target {
            Expr::Name(it) => {
                let name = Name::new(&it.id);
                let op = match self.home(name) {
                    Home::Local(local) => Op::StoreLocal { local, value, update },
                    Home::Captured(func, local) => Op::StoreCaptured { func, local, value, update },
                    Home::Global => Op::StoreGlobal { name, value, update },
                };
                self.push(op, range);
            }
            Expr::Attribute(it) => {
                let base = self.expr(&it.value);
                self.push(Op::StoreAttr { base, name: Name::new(&it.attr), value, update }, range);
            }
            Expr::Subscript(it) => {
                let base = self.expr(&it.value);
                let key = self.expr(&it.slice);
                self.push(Op::StoreItem { base, key, value, update }, range);
            }
            Expr::Starred(it) => self.store(&it.value, value, update, range),
            Expr::Tuple(it) => self.unpack(&it.elts, value),
            Expr::List(it) => self.unpack(&it.elts, value),
            _ => {}
        }
    }

    fn unpack(&mut self, targets: &[Expr], value: Val) {
        for (idx, target) in targets.iter().enumerate() {
            self.deeper(target.range(), |builder| {
                let part = builder.push(Op::Part(value, as_u32(idx)), target.range());
                builder.assign(target, part);
            });
        }
    }

    /// `target op= value`: base and key are evaluated once; the read and the write are nodes of the same text.
    fn augmented(&mut self, it: &ast::StmtAugAssign, range: TextRange) {
        match &*it.target {
            Expr::Attribute(target) => {
                let base = self.expr(&target.value);
                let name = Name::new(&target.attr);
                let read = self.push(Op::Attr { base, name }, target.range());
                let right = self.expr(&it.value);
                let value = self.push(Op::Binary(read, right), range);
                self.push(Op::StoreAttr { base, name, value, update: true }, range);
            }
            Expr::Subscript(target) => {
                let base = self.expr(&target.value);
                let key = self.expr(&target.slice);
                let read = self.push(Op::Item { base, key }, target.range());
                let right = self.expr(&it.value);
                let value = self.push(Op::Binary(read, right), range);
                self.push(Op::StoreItem { base, key, value, update: true }, range);
            }
            target => {
                let read = self.expr(target);
                let right = self.expr(&it.value);
                let value = self.push(Op::Binary(read, right), range);
                self.store(target, value, true, range);
            }
        }
    }

    fn annotated(&mut self, it: &ast::StmtAnnAssign, range: TextRange) {
        let declared = annotation(&it.annotation);
        let node = if let Some(value) = &it.value {
            let value = self.expr(value);
            self.assign(&it.target, value);
            Val(as_u32(self.scope().body.nodes.len() - 1))
        } else {
            let (base, name) = match &*it.target {
                Expr::Name(target) => (None, Name::new(&target.id)),
                Expr::Attribute(target) => (Some(self.expr(&target.value)), Name::new(&target.attr)),
                _ => return,
            };
            self.push(Op::Declare { base, name }, range)
        };
        self.scope().annotations.push((node, declared));
    }

    fn delete(&mut self, target: &Expr) {
        let range = target.range();
        match target {
            Expr::Name(it) => {
                let name = Name::new(&it.id);
                match self.home(name) {
                    Home::Local(local) => self.push(Op::DelLocal(local), range),
                    _ => self.push(Op::DelGlobal(name), range),
                };
            }
            Expr::Attribute(it) => {
                let base = self.expr(&it.value);
                self.push(Op::DelAttr { base, name: Name::new(&it.attr) }, range);
            }
            Expr::Subscript(it) => {
                let base = self.expr(&it.value);
                let key = self.expr(&it.slice);
                self.push(Op::DelItem { base, key }, range);
            }
            Expr::Tuple(it) => it.elts.iter().for_each(|elt| self.delete(elt)),
            _ => {}
        }
    }

    fn if_(&mut self, it: &ast::StmtIf) -> Flow {
        let for_types = self.for_types;
        let mut opened = Vec::new();
        let mut taken: Vec<BlockKind> = Vec::new();
        let mut falls: Vec<Vec<BlockKind>> = Vec::new();
        let mut has_else = false;
        let first = (Some(&*it.test), &it.body[..]);
        let clauses = it.elif_else_clauses.iter().map(|clause| (clause.test.as_ref(), &clause.body[..]));
        for (test, body) in std::iter::once(first).chain(clauses) {
            if let Some(test) = test {
                self.for_types = for_types || names_type_checking(test);
                let test = self.expr(test);
                let (_, leaves) = self.block(BlockKind::Then(test), body);
                self.for_types = for_types;
                if !leaves {
                    falls.push(taken.iter().copied().chain([BlockKind::Then(test)]).collect());
                }
                taken.push(BlockKind::Else(test));
                opened.push(self.open(BlockKind::Else(test), body.last().map_or(0, |stmt| stmt.end().to_u32())));
            } else {
                has_else = true;
                if !self.suite(body) {
                    falls.push(taken.clone());
                }
            }
        }
        if !has_else {
            falls.push(taken);
        }
        for block in opened.into_iter().rev() {
            self.close(block, false, it.end().to_u32());
        }
        match <[_; 1]>::try_from(falls) {
            Ok([rest]) if has_else || !it.body.is_empty() => Flow { leaves: false, rest },
            Ok(_) => Flow::default(),
            Err(falls) => Flow { leaves: falls.is_empty(), rest: Vec::new() },
        }
    }

    fn while_(&mut self, it: &ast::StmtWhile) -> Flow {
        let id = self.open(BlockKind::Loop(Val(0)), it.start().to_u32());
        let test = self.expr(&it.test);
        self.scope().body.blocks[id.0 as usize].kind = BlockKind::Loop(test);
        self.block(BlockKind::Then(test), &it.body);
        self.close(id, false, it.end().to_u32());
        self.suite(&it.orelse);
        let endless = matches!(self.scope().body.op(test), Op::Truth(true));
        Flow { leaves: endless && !has_break(&it.body), rest: Vec::new() }
    }

    fn for_(&mut self, it: &ast::StmtFor) {
        let over = self.expr(&it.iter);
        let iter = self.push(Op::Iter { over, is_async: it.is_async }, it.iter.range());
        let id = self.open(BlockKind::Loop(iter), it.body.first().map_or(0, |stmt| stmt.start().to_u32()));
        let next = self.push(Op::Next(iter), it.target.range());
        self.assign(&it.target, next);
        self.suite(&it.body);
        self.close(id, false, it.body.last().map_or(0, |stmt| stmt.end().to_u32()));
        self.suite(&it.orelse);
    }

    fn with(&mut self, it: &ast::StmtWith) -> bool {
        let mut opened = Vec::new();
        let start = it.body.first().map_or(0, |stmt| stmt.start().to_u32());
        for item in &it.items {
            let context = self.expr(&item.context_expr);
            let enter = self.push(Op::Enter { context, is_async: it.is_async }, item.context_expr.range());
            opened.push(self.open(BlockKind::With(enter), start));
            if let Some(target) = &item.optional_vars {
                self.assign(target, enter);
            }
        }
        let leaves = self.suite(&it.body);
        for block in opened.into_iter().rev() {
            self.close(block, leaves, it.end().to_u32());
        }
        // A context manager may swallow what was raised inside.
        leaves && it.body.last().is_some_and(Stmt::is_return_stmt)
    }

    fn try_(&mut self, it: &ast::StmtTry) -> Flow {
        let (tried, mut body_leaves) = self.block(BlockKind::Try, &it.body);
        let mut falls: Vec<BlockKind> = Vec::new();
        for ast::ExceptHandler::ExceptHandler(handler) in &it.handlers {
            let id = self.open(BlockKind::Except(tried, None), handler.start().to_u32());
            let caught = handler.type_.as_ref().map(|caught| self.expr(caught));
            let kind = BlockKind::Except(tried, caught);
            self.scope().body.blocks[id.0 as usize].kind = kind;
            if let Some(name) = &handler.name {
                let value = self.push(Op::Caught, name.range());
                let target = Name::new(name);
                match self.home(target) {
                    Home::Local(local) => self.push(Op::StoreLocal { local, value, update: false }, name.range()),
                    _ => self.push(Op::StoreGlobal { name: target, value, update: false }, name.range()),
                };
            }
            let leaves = self.suite(&handler.body);
            self.close(id, leaves, handler.end().to_u32());
            if !leaves {
                falls.push(kind);
            }
        }
        if !it.orelse.is_empty() {
            body_leaves |= self.block(BlockKind::TryElse(tried), &it.orelse).1;
        }
        let mut finally_leaves = false;
        if !it.finalbody.is_empty() {
            finally_leaves = self.block(BlockKind::Finally(tried), &it.finalbody).1;
        }
        if !body_leaves {
            falls.push(BlockKind::TryElse(tried));
        }
        match falls[..] {
            _ if finally_leaves => Flow::leaving(),
            [] => Flow::leaving(),
            [only @ BlockKind::Except(..)] => Flow { leaves: false, rest: vec![only] },
            _ => Flow::default(),
        }
    }

    fn match_(&mut self, it: &ast::StmtMatch) {
        let subject = self.expr(&it.subject);
        for case in &it.cases {
            let id = self.open(BlockKind::Case(subject), case.start().to_u32());
            let mut names = Vec::new();
            pattern_names(&case.pattern, |name| names.push(Name::new(name)));
            for name in names {
                let value = self.push(Op::Part(subject, 0), case.pattern.range());
                match self.home(name) {
                    Home::Local(local) => {
                        self.push(Op::StoreLocal { local, value, update: false }, case.pattern.range());
                    }
                    _ => {
                        self.push(Op::StoreGlobal { name, value, update: false }, case.pattern.range());
                    }
                }
            }
            if let Some(guard) = &case.guard {
                self.expr(guard);
            }
            let leaves = self.suite(&case.body);
            self.close(id, leaves, case.end().to_u32());
        }
    }

    fn function(&mut self, it: &ast::StmtFunctionDef) {
        let decorators = it.decorator_list.iter().map(|decorator| self.expr(&decorator.expression)).collect();
        let params = self.params(&it.parameters);
        let name = Name::new(&it.name);
        let qualname = self.qualname(&it.name);
        let class = {
            let outer = self.scope();
            (outer.kind == FunctionKind::ClassBody).then_some(outer.func)
        };
        let class = class.and_then(|outer| self.module.function(outer).class);
        let range = TextRange::new(it.name.start(), it.end());
        let func = self.reserve(name, qualname, FunctionKind::Def, class, range);
        let function = &mut self.module.functions[func.0 as usize];
        function.is_async = it.is_async;
        function.params = params;
        function.returns = it.returns.as_deref().map(annotation);
        function.decorators = decorators;
        function.head_end = it.returns.as_ref().map_or(it.parameters.end(), |returns| returns.end()).to_u32();
        let def_start = it.decorator_list.last().map_or(it.start(), |decorator| decorator.end());
        function.start = def_start.to_u32().max(it.start().to_u32());
        self.enter(func, FunctionKind::Def, bindings(&it.body));
        self.suite(&it.body);
        self.leave();
        let value = self.push(Op::Function(func), it.name.range());
        self.bind(name, value, it.name.range());
    }

    fn class(&mut self, it: &ast::StmtClassDef) {
        let decorators = it.decorator_list.iter().map(|decorator| self.expr(&decorator.expression)).collect();
        let mut bases = Vec::new();
        let mut keywords = Vec::new();
        if let Some(arguments) = &it.arguments {
            bases.extend(arguments.args.iter().map(|base| self.expr(base)));
            for keyword in &arguments.keywords {
                let value = self.expr(&keyword.value);
                keywords.extend(keyword.arg.as_ref().map(|name| (Name::new(name), value)));
            }
        }
        let name = Name::new(&it.name);
        let qualname = self.qualname(&it.name);
        let idx = ClassIdx(as_u32(self.module.classes.len()));
        let parent = self.scope().func;
        self.module.classes.push(Class {
            name,
            qualname,
            parent,
            bases,
            keywords,
            decorators,
            body: FuncIdx(0),
            start: it.name.start().to_u32(),
            head_end: it.name.end().to_u32(),
            end: it.end().to_u32(),
        });
        let range = TextRange::new(it.name.start(), it.end());
        let body = self.reserve(name, qualname, FunctionKind::ClassBody, Some(idx), range);
        self.module.classes[idx.0 as usize].body = body;
        self.enter(body, FunctionKind::ClassBody, bindings(&it.body));
        self.suite(&it.body);
        self.leave();
        let value = self.push(Op::Class(idx), it.name.range());
        self.bind(name, value, it.name.range());
    }

    fn bind(&mut self, name: Name, value: Val, range: TextRange) {
        let op = match self.home(name) {
            Home::Local(local) => Op::StoreLocal { local, value, update: false },
            Home::Captured(func, local) => Op::StoreCaptured { func, local, value, update: false },
            Home::Global => Op::StoreGlobal { name, value, update: false },
        };
        self.push(op, range);
    }

    fn import(&mut self, alias: &ast::Alias) {
        let module = Name::new(&alias.name);
        let top = alias.name.split('.').next().unwrap_or("");
        let name = Name::new(alias.asname.as_ref().map_or(top, |name| name.as_str()));
        let for_types = self.for_types;
        self.imported(
            Import { module, member: None, level: 0, binds_top: alias.asname.is_none(), for_types },
            name,
            alias.range(),
        );
    }

    fn import_from(&mut self, it: &ast::StmtImportFrom) {
        let module = Name::new(it.module.as_ref().map_or("", |name| name.as_str()));
        let for_types = self.for_types;
        for alias in &it.names {
            let member = Name::new(&alias.name);
            let name = alias.asname.as_ref().map_or(member, |name| Name::new(name));
            let import = Import { module, member: Some(member), level: it.level, binds_top: false, for_types };
            self.imported(import, name, alias.range());
        }
    }

    fn imported(&mut self, import: Import, name: Name, range: TextRange) {
        self.module.imports.push(import);
        let value = self.push(Op::Import(as_u32(self.module.imports.len() - 1)), range);
        self.bind(name, value, range);
    }
}

fn names_type_checking(test: &Expr) -> bool {
    match test {
        Expr::Name(it) => it.id == "TYPE_CHECKING",
        Expr::Attribute(it) => &it.attr == "TYPE_CHECKING",
        _ => false,
    }
}

fn has_break(body: &[Stmt]) -> bool {
    let mut work: Vec<&[Stmt]> = vec![body];
    while let Some(suite) = work.pop() {
        for stmt in suite {
            match stmt {
                Stmt::Break(_) => return true,
                Stmt::If(it) => {
                    work.push(&it.body);
                    work.extend(it.elif_else_clauses.iter().map(|clause| &clause.body[..]));
                }
                Stmt::With(it) => work.push(&it.body),
                Stmt::Try(it) => {
                    work.extend([&it.body[..], &it.orelse[..], &it.finalbody[..]]);
                    work.extend(it.handlers.iter().map(|handler| match handler {
                        ast::ExceptHandler::ExceptHandler(handler) => &handler.body[..],
                    }));
                }
                Stmt::Match(it) => work.extend(it.cases.iter().map(|case| &case.body[..])),
                _ => {}
            }
        }
    }
    false
}
