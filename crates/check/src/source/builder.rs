//! What lowering builds up: the functions of a module, the scopes around the current one, and its body.

use facts::FileId;
use ruff_python_ast as ast;
use ruff_text_size::{Ranged, TextRange};
use rustc_hash::{FxHashMap, FxHashSet};

use super::DEPTH_MAX;
use super::scope::Bindings;
use crate::body::{
    Arg, Args, Block, BlockId, BlockKind, Body, ClassIdx, Comment, FuncIdx, Function, FunctionKind, LocalId, Module,
    Node, Op, Val,
};
use crate::name::Name;

/// Where a name of the current function lives.
pub(super) enum Home {
    Local(LocalId),
    Captured(FuncIdx, LocalId),
    Global,
}

/// A function under construction.
pub(super) struct Scope {
    pub(super) func: FuncIdx,
    pub(super) kind: FunctionKind,
    pub(super) body: Body,
    pub(super) block: BlockId,
    pub(super) names: FxHashMap<Name, LocalId>,
    /// Comprehension targets, innermost last.
    pub(super) inner: Vec<FxHashMap<Name, LocalId>>,
    pub(super) globals: FxHashSet<Name>,
    pub(super) is_generator: bool,
    pub(super) annotations: Vec<(Val, crate::body::Annotation)>,
}

/// The lowering of one module.
pub(super) struct Builder {
    pub(super) module: Module,
    pub(super) scopes: Vec<Scope>,
    pub(super) depth: usize,
    pub(super) for_types: bool,
    /// Set where the text is nested too deeply.
    pub(super) too_deep: Option<(u32, u32)>,
}

/// Lowers a parsed module.
pub(super) fn lower(file: FileId, syntax: &ast::ModModule, comments: Vec<Comment>) -> Module {
    let module =
        Module { file, functions: Vec::new(), classes: Vec::new(), imports: Vec::new(), comments, error: None };
    let mut builder = Builder { module, scopes: Vec::new(), depth: 0, for_types: false, too_deep: None };
    let func = builder.reserve(Name::new("<module>"), Name::new(""), FunctionKind::Module, None, syntax.range());
    builder.enter(func, FunctionKind::Module, Bindings::default());
    builder.suite(&syntax.body);
    builder.leave();
    if let Some((start, end)) = builder.too_deep {
        builder.module.error = Some((format!("nested more than {DEPTH_MAX} levels deep"), start, end));
        builder.module.functions.clear();
        builder.module.classes.clear();
    }
    builder.module
}

impl Builder {
    /// Adds a function whose body is still to come.
    pub(super) fn reserve(
        &mut self,
        name: Name,
        qualname: Name,
        kind: FunctionKind,
        class: Option<ClassIdx>,
        range: TextRange,
    ) -> FuncIdx {
        let idx = FuncIdx(as_u32(self.module.functions.len()));
        let parent = self.scopes.last().map_or(idx, |scope| scope.func);
        self.module.functions.push(Function {
            name,
            qualname,
            kind,
            is_async: false,
            is_generator: false,
            parent,
            class,
            params: Vec::new(),
            returns: None,
            decorators: Vec::new(),
            globals: Vec::new(),
            annotations: Vec::new(),
            body: Body::default(),
            start: range.start().to_u32(),
            head_end: range.start().to_u32(),
            end: range.end().to_u32(),
        });
        idx
    }

    /// Opens the scope of a function.
    pub(super) fn enter(&mut self, func: FuncIdx, kind: FunctionKind, bindings: Bindings) {
        let mut scope = Scope {
            func,
            kind,
            body: Body::default(),
            block: BlockId(0),
            names: FxHashMap::default(),
            inner: Vec::new(),
            globals: bindings.globals,
            is_generator: false,
            annotations: Vec::new(),
        };
        let (start, end) = {
            let function = self.module.function(func);
            (function.start, function.end)
        };
        scope.body.blocks.push(Block {
            parent: BlockId(0),
            kind: BlockKind::Body,
            first: 0,
            end: 0,
            leaves: false,
            text_start: start,
            text_end: end,
        });
        for param in &self.module.function(func).params {
            let local = LocalId(as_u32(scope.body.locals.len()));
            scope.body.locals.push(param.name);
            scope.names.insert(param.name, local);
        }
        for name in bindings.bound {
            scope.names.entry(name).or_insert_with(|| {
                scope.body.locals.push(name);
                LocalId(as_u32(scope.body.locals.len() - 1))
            });
        }
        self.scopes.push(scope);
        let params = self.module.function(func).params.len();
        for idx in 0..params {
            self.push(Op::Param(as_u32(idx)), TextRange::empty(start.into()));
        }
    }

    /// Closes the current scope and stores its body.
    pub(super) fn leave(&mut self) {
        let Some(mut scope) = self.scopes.pop() else { return };
        scope.body.blocks[0].end = as_u32(scope.body.nodes.len());
        scope.body.stores = stores(&scope.body);
        let nodes = |wanted: fn(Op) -> bool| scope.body.vals().filter(|val| wanted(scope.body.op(*val))).collect();
        (scope.body.calls, scope.body.writes) = (nodes(|op| matches!(op, Op::Call { .. })), nodes(Op::writes));
        scope.body.nodes.shrink_to_fit();
        scope.body.blocks.shrink_to_fit();
        scope.body.args.shrink_to_fit();
        let function = &mut self.module.functions[scope.func.0 as usize];
        function.body = scope.body;
        function.is_generator = scope.is_generator;
        function.annotations = scope.annotations;
        function.globals = scope.globals.into_iter().collect();
        function.globals.sort_unstable();
    }

    pub(super) fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("a scope is open while code is lowered")
    }

    /// Appends a node.
    pub(super) fn push(&mut self, op: Op, range: TextRange) -> Val {
        let scope = self.scope();
        let val = Val(as_u32(scope.body.nodes.len()));
        let block = scope.block;
        scope.body.nodes.push(Node { op, start: range.start().to_u32(), end: range.end().to_u32(), block });
        val
    }

    pub(super) fn args(&mut self, args: Vec<Arg>) -> Args {
        let body = &mut self.scope().body;
        let start = as_u32(body.args.len());
        let len = as_u32(args.len());
        body.args.extend(args);
        Args { start, len }
    }

    pub(super) fn plain_args(&mut self, vals: Vec<Val>) -> Args {
        self.args(vals.into_iter().map(|value| Arg { name: None, value, starred: false }).collect())
    }

    /// Opens a block inside the current one.
    pub(super) fn open(&mut self, kind: BlockKind, start: u32) -> BlockId {
        let scope = self.scope();
        let id = BlockId(as_u32(scope.body.blocks.len()));
        let first = as_u32(scope.body.nodes.len());
        let parent = scope.block;
        let text_start = start;
        scope.body.blocks.push(Block { parent, kind, first, end: first, leaves: false, text_start, text_end: start });
        scope.block = id;
        id
    }

    /// Closes the current block.
    pub(super) fn close(&mut self, id: BlockId, leaves: bool, text_end: u32) {
        let scope = self.scope();
        let end = as_u32(scope.body.nodes.len());
        let block = &mut scope.body.blocks[id.0 as usize];
        block.end = end;
        block.leaves = leaves;
        block.text_end = text_end;
        scope.block = block.parent;
    }

    /// Where a name of the current function lives.
    pub(super) fn home(&self, name: Name) -> Home {
        for (up, scope) in self.scopes.iter().rev().enumerate() {
            // The names of a class are not seen by the functions in it.
            if up > 0 && scope.kind == FunctionKind::ClassBody {
                continue;
            }
            if let Some(local) = scope.inner.iter().rev().find_map(|names| names.get(&name)) {
                return self.at(up, scope, *local);
            }
            if scope.globals.contains(&name) || scope.kind == FunctionKind::Module {
                return Home::Global;
            }
            if let Some(local) = scope.names.get(&name) {
                return self.at(up, scope, *local);
            }
        }
        Home::Global
    }

    fn at(&self, up: usize, scope: &Scope, local: LocalId) -> Home {
        if up == 0 { Home::Local(local) } else { Home::Captured(scope.func, local) }
    }

    /// Runs `work` one level deeper, or notes that the text is too deep and gives `None`.
    pub(super) fn deeper<T>(&mut self, range: TextRange, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth >= DEPTH_MAX {
            self.too_deep.get_or_insert((range.start().to_u32(), range.end().to_u32()));
            return None;
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        Some(result)
    }
}

fn stores(body: &Body) -> Vec<Vec<Val>> {
    let mut stores = vec![Vec::new(); body.locals.len()];
    for val in body.vals() {
        let local = match body.op(val) {
            Op::StoreLocal { local, .. } | Op::DelLocal(local) => local,
            Op::Param(param) => LocalId(param),
            _ => continue,
        };
        stores[local.0 as usize].push(val);
    }
    stores
}

pub(super) fn as_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a file has fewer than 2^32 bytes, so fewer nodes")
}
