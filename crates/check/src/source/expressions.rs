//! Expressions to nodes, in evaluation order.

use ruff_python_ast::{self as ast, CmpOp, Expr};
use ruff_text_size::{Ranged, TextRange};
use rustc_hash::FxHashMap;

use super::builder::{Builder, Home, as_u32};
use crate::body::{Arg, BlockKind, Compare, Display, FunctionKind, LocalId, Op, Param, Val};
use crate::name::Name;

const TEXT_MAX: usize = 80;

impl Builder {
    /// Lowers an expression; where it is nested too deeply, a node that computes nothing.
    pub(super) fn expr(&mut self, expr: &Expr) -> Val {
        let range = expr.range();
        match self.deeper(range, |builder| builder.expr_here(expr, range)) {
            Some(val) => val,
            None => self.push(Op::Scalar, range),
        }
    }

    fn expr_here(&mut self, expr: &Expr, range: TextRange) -> Val {
        match expr {
            Expr::Name(it) => self.read(Name::new(&it.id), range),
            Expr::Attribute(it) => {
                let base = self.expr(&it.value);
                self.push(Op::Attr { base, name: Name::new(&it.attr) }, range)
            }
            Expr::Call(it) => self.call(it, range),
            Expr::Subscript(it) => {
                let base = self.expr(&it.value);
                let key = self.expr(&it.slice);
                self.push(Op::Item { base, key }, range)
            }
            Expr::NoneLiteral(_) => self.push(Op::None, range),
            Expr::BooleanLiteral(it) => self.push(Op::Truth(it.value), range),
            Expr::StringLiteral(it) => {
                let text = it.value.to_str();
                let op = if text.len() <= TEXT_MAX { Op::Str(Name::new(text)) } else { Op::Scalar };
                self.push(op, range)
            }
            Expr::BoolOp(it) => self.bool_op(it),
            Expr::UnaryOp(it) => {
                let value = self.expr(&it.operand);
                if it.op == ast::UnaryOp::Not {
                    self.push(Op::Not(value), range)
                } else {
                    self.other(vec![value], range)
                }
            }
            Expr::Compare(it) => self.compare(it, range),
            Expr::BinOp(it) => self.binary(it),
            Expr::If(it) => self.choice(it, range),
            Expr::Await(it) => {
                let value = self.expr(&it.value);
                self.push(Op::Await(value), range)
            }
            Expr::Yield(it) => {
                let value = it.value.as_ref().map(|value| self.expr(value));
                self.scope().is_generator = true;
                self.push(Op::Yield(value), range)
            }
            Expr::YieldFrom(it) => {
                let value = self.expr(&it.value);
                self.scope().is_generator = true;
                self.push(Op::Yield(Some(value)), range)
            }
            Expr::Named(it) => {
                let value = self.expr(&it.value);
                self.assign(&it.target, value);
                value
            }
            Expr::Lambda(it) => self.lambda(it, range),
            Expr::Starred(it) => self.expr(&it.value),
            _ => self.displays(expr, range),
        }
    }

    fn displays(&mut self, expr: &Expr, range: TextRange) -> Val {
        match expr {
            Expr::List(it) => self.display(Display::List, &it.elts, range),
            Expr::Tuple(it) => self.display(Display::Tuple, &it.elts, range),
            Expr::Set(it) => self.display(Display::Set, &it.elts, range),
            Expr::Dict(it) => {
                let mut args = Vec::with_capacity(it.items.len() * 2);
                for item in &it.items {
                    if let Some(key) = &item.key {
                        args.push(Arg { name: None, value: self.expr(key), starred: false });
                    }
                    args.push(Arg { name: None, value: self.expr(&item.value), starred: item.key.is_none() });
                }
                let args = self.args(args);
                self.push(Op::Display(Display::Dict, args), range)
            }
            Expr::ListComp(it) => self.comprehension(Display::List, &[&it.elt], &it.generators, range),
            Expr::SetComp(it) => self.comprehension(Display::Set, &[&it.elt], &it.generators, range),
            Expr::Generator(it) => self.comprehension(Display::Generator, &[&it.elt], &it.generators, range),
            Expr::DictComp(it) => {
                let parts: Vec<&Expr> = it.key.as_deref().into_iter().chain([&*it.value]).collect();
                self.comprehension(Display::Dict, &parts, &it.generators, range)
            }
            Expr::FString(it) => {
                let mut vals = Vec::new();
                for element in it.value.elements() {
                    if let Some(hole) = element.as_interpolation() {
                        vals.push(self.expr(&hole.expression));
                    }
                }
                self.other(vals, range)
            }
            Expr::Slice(it) => {
                let parts = [&it.lower, &it.upper, &it.step];
                let vals = parts.into_iter().flatten().map(|part| self.expr(part)).collect();
                self.other(vals, range)
            }
            _ => self.push(Op::Scalar, range),
        }
    }

    pub(super) fn other(&mut self, vals: Vec<Val>, range: TextRange) -> Val {
        let args = self.plain_args(vals);
        self.push(Op::Other(args), range)
    }

    /// Reads a name.
    pub(super) fn read(&mut self, name: Name, range: TextRange) -> Val {
        let op = match self.home(name) {
            Home::Local(local) => Op::Local(local),
            Home::Captured(func, local) => Op::Captured(func, local),
            Home::Global => Op::Global(name),
        };
        self.push(op, range)
    }

    fn call(&mut self, it: &ast::ExprCall, range: TextRange) -> Val {
        let func = self.expr(&it.func);
        let mut args = Vec::with_capacity(it.arguments.args.len() + it.arguments.keywords.len());
        for arg in &it.arguments.args {
            let starred = arg.is_starred_expr();
            args.push(Arg { name: None, value: self.expr(arg), starred });
        }
        for keyword in &it.arguments.keywords {
            let name = keyword.arg.as_ref().map(|name| Name::new(name));
            args.push(Arg { name, value: self.expr(&keyword.value), starred: name.is_none() });
        }
        let args = self.args(args);
        self.push(Op::Call { func, args }, range)
    }

    fn display(&mut self, kind: Display, elts: &[Expr], range: TextRange) -> Val {
        let args =
            elts.iter().map(|elt| Arg { name: None, value: self.expr(elt), starred: elt.is_starred_expr() }).collect();
        let args = self.args(args);
        self.push(Op::Display(kind, args), range)
    }

    fn bool_op(&mut self, it: &ast::ExprBoolOp) -> Val {
        let is_and = it.op == ast::BoolOp::And;
        let mut opened = Vec::new();
        let mut left: Option<Val> = None;
        for value in &it.values {
            if let Some(left) = left {
                let kind = if is_and { BlockKind::Then(left) } else { BlockKind::Else(left) };
                opened.push(self.open(kind, value.start().to_u32()));
            }
            let right = self.expr(value);
            left = Some(match left {
                None => right,
                Some(left) => {
                    let range = TextRange::new(it.start(), value.end());
                    self.push(if is_and { Op::Both(left, right) } else { Op::Either(left, right) }, range)
                }
            });
        }
        for block in opened.into_iter().rev() {
            self.close(block, false, it.end().to_u32());
        }
        left.unwrap_or(Val(0))
    }

    fn compare(&mut self, it: &ast::ExprCompare, range: TextRange) -> Val {
        let mut left = self.expr(&it.left);
        let mut joined: Option<Val> = None;
        for (op, comparator) in it.ops.iter().zip(&it.comparators) {
            let right = self.expr(comparator);
            let how = match op {
                CmpOp::Is | CmpOp::Eq => Compare::Is,
                CmpOp::IsNot | CmpOp::NotEq => Compare::IsNot,
                CmpOp::In => Compare::In,
                CmpOp::NotIn => Compare::NotIn,
                CmpOp::Lt | CmpOp::LtE | CmpOp::Gt | CmpOp::GtE => Compare::Order,
            };
            let here = self.push(Op::Compare { left, how, right }, range);
            joined = Some(match joined {
                None => here,
                Some(before) => self.push(Op::Both(before, here), range),
            });
            left = right;
        }
        joined.unwrap_or(left)
    }

    /// Left-leaning chains (`a + b + c + ...`) are walked, not recursed into.
    fn binary(&mut self, it: &ast::ExprBinOp) -> Val {
        let mut chain = vec![it];
        let mut first = &*it.left;
        while let Expr::BinOp(inner) = first {
            chain.push(inner);
            first = &inner.left;
        }
        let mut left = self.expr(first);
        for part in chain.into_iter().rev() {
            let right = self.expr(&part.right);
            left = self.push(Op::Binary(left, right), part.range());
        }
        left
    }

    fn choice(&mut self, it: &ast::ExprIf, range: TextRange) -> Val {
        let test = self.expr(&it.test);
        let block = self.open(BlockKind::Then(test), it.body.start().to_u32());
        let then = self.expr(&it.body);
        self.close(block, false, it.body.end().to_u32());
        let block = self.open(BlockKind::Else(test), it.orelse.start().to_u32());
        let other = self.expr(&it.orelse);
        self.close(block, false, it.orelse.end().to_u32());
        self.push(Op::Choice { test, then, other }, range)
    }

    fn comprehension(
        &mut self,
        kind: Display,
        parts: &[&Expr],
        generators: &[ast::Comprehension],
        range: TextRange,
    ) -> Val {
        let mut opened = Vec::new();
        self.scope().inner.push(FxHashMap::default());
        for generator in generators {
            let over = self.expr(&generator.iter);
            let iter = self.push(Op::Iter { over, is_async: generator.is_async }, generator.iter.range());
            opened.push(self.open(BlockKind::Loop(iter), range.start().to_u32()));
            let next = self.push(Op::Next(iter), generator.target.range());
            self.bind_inner(&generator.target);
            self.assign(&generator.target, next);
            for test in &generator.ifs {
                let test = self.expr(test);
                opened.push(self.open(BlockKind::Then(test), range.start().to_u32()));
            }
        }
        let vals: Vec<Val> = parts.iter().map(|part| self.expr(part)).collect();
        for block in opened.into_iter().rev() {
            self.close(block, false, range.end().to_u32());
        }
        self.scope().inner.pop();
        let args = self.plain_args(vals);
        self.push(Op::Comprehension(kind, args), range)
    }

    fn bind_inner(&mut self, target: &Expr) {
        let mut work = vec![target];
        while let Some(target) = work.pop() {
            match target {
                Expr::Name(it) => {
                    let name = Name::new(&it.id);
                    let scope = self.scope();
                    let local = LocalId(as_u32(scope.body.locals.len()));
                    scope.body.locals.push(name);
                    if let Some(names) = scope.inner.last_mut() {
                        names.insert(name, local);
                    }
                }
                Expr::Tuple(it) => work.extend(&it.elts),
                Expr::List(it) => work.extend(&it.elts),
                Expr::Starred(it) => work.push(&it.value),
                _ => {}
            }
        }
    }

    fn lambda(&mut self, it: &ast::ExprLambda, range: TextRange) -> Val {
        let params = it.parameters.as_deref().map(|params| self.params(params)).unwrap_or_default();
        let qualname = self.qualname("<lambda>");
        let func = self.reserve(Name::new("<lambda>"), qualname, FunctionKind::Lambda, None, range);
        self.module.functions[func.0 as usize].params = params;
        self.enter(func, FunctionKind::Lambda, super::scope::Bindings::default());
        let value = self.expr(&it.body);
        self.push(Op::Return(Some(value)), it.body.range());
        self.leave();
        self.push(Op::Function(func), range)
    }

    /// The parameters of a function; their defaults are evaluated here, in the defining body.
    pub(super) fn params(&mut self, params: &ast::Parameters) -> Vec<Param> {
        let mut found = Vec::new();
        for it in params.posonlyargs.iter().chain(&params.args) {
            found.push(self.param(&it.parameter, it.default.as_deref(), false));
        }
        if let Some(it) = &params.vararg {
            found.push(self.param(it, None, true));
        }
        for it in &params.kwonlyargs {
            found.push(self.param(&it.parameter, it.default.as_deref(), false));
        }
        if let Some(it) = &params.kwarg {
            found.push(self.param(it, None, true));
        }
        found
    }

    fn param(&mut self, it: &ast::Parameter, default: Option<&Expr>, starred: bool) -> Param {
        Param {
            name: Name::new(&it.name),
            annotation: it.annotation.as_deref().map(super::annotation::annotation),
            default: default.map(|default| self.expr(default)),
            starred,
        }
    }

    /// The dotted name of something defined here.
    pub(super) fn qualname(&self, name: &str) -> Name {
        let outer = self.scopes.last().map_or("", |scope| self.module.function(scope.func).qualname.as_str());
        if outer.is_empty() { Name::new(name) } else { Name::new(&format!("{outer}.{name}")) }
    }
}
