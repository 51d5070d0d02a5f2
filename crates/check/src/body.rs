//! Functions as actions in order: what all later stages read once the syntax tree is gone.
//!
//! A body is an arena of [`Node`]s in evaluation order: an operand stands before the node that uses it, a statement
//! before the next one. Blocks lie over the arena as nested ranges and keep what governs a node: the branch of an
//! `if`, a loop, a `with`, a `try`. What follows a branch that leaves (`if x: return`) lies in a block of its own,
//! governed by the opposite of the test.

use facts::{FileId, Span};
use smallvec::SmallVec;

use crate::name::Name;

/// How many stores of one local are looked at to find those that reach a use.
const STORES_MAX: usize = 64;

/// A node of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Val(pub u32);

/// A local variable of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalId(pub u32);

/// A block of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// A function of one module; 0 is the module's own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FuncIdx(pub u32);

/// A class of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassIdx(pub u32);

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// `is`, `==`
    Is,
    /// `is not`, `!=`
    IsNot,
    /// `in`
    In,
    /// `not in`
    NotIn,
    /// `<`, `<=`, `>`, `>=`
    Order,
}

/// The kind of a display or comprehension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Display {
    /// `[...]`
    List,
    /// `{k: v}`
    Dict,
    /// `{...}`
    Set,
    /// `(...)`
    Tuple,
    /// A generator expression, which runs later.
    Generator,
}

/// A run of arguments in [`Body::args`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Args {
    /// First argument.
    pub start: u32,
    /// How many.
    pub len: u32,
}

/// An argument of a call, or an operand of a display.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Its keyword.
    pub name: Option<Name>,
    /// Its value.
    pub value: Val,
    /// `*x` or `**x`.
    pub starred: bool,
}

/// What a node does.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// `None`
    None,
    /// `True` or `False`
    Truth(bool),
    /// A number, bytes, or `...`.
    Scalar,
    /// A string without holes.
    Str(Name),
    /// A parameter as it comes in; the first nodes of a body, one for each parameter.
    Param(u32),
    /// Reads a local variable.
    Local(LocalId),
    /// Reads a local variable of an enclosing function.
    Captured(FuncIdx, LocalId),
    /// Reads a global or a built-in.
    Global(Name),
    /// `base.name`
    Attr { base: Val, name: Name },
    /// `base[key]`
    Item { base: Val, key: Val },
    /// `func(args)`
    Call { func: Val, args: Args },
    /// `await value`
    Await(Val),
    /// `yield value`, `yield from value`
    Yield(Option<Val>),
    /// `left + right` and its kind
    Binary(Val, Val),
    /// One comparison; chains are joined by `Both`.
    Compare { left: Val, how: Compare, right: Val },
    /// `not value`
    Not(Val),
    /// `left and right`: the right side lies in a block governed by the left.
    Both(Val, Val),
    /// `left or right`
    Either(Val, Val),
    /// `then if test else other`
    Choice { test: Val, then: Val, other: Val },
    /// A display. Dict items are pairs key, value; a `**x` is a starred argument.
    Display(Display, Args),
    /// A comprehension, after its loops; the element is the last operand.
    Comprehension(Display, Args),
    /// Begins to iterate over a value.
    Iter { over: Val, is_async: bool },
    /// The next element of an `Iter`.
    Next(Val),
    /// The part with this index of an unpacked value.
    Part(Val, u32),
    /// An f-string and anything else that only computes from its operands.
    Other(Args),
    /// A function or lambda.
    Function(FuncIdx),
    /// A class.
    Class(ClassIdx),
    /// An imported module or member: an index into [`Module::imports`].
    Import(u32),
    /// An exception bound by `except ... as`.
    Caught,
    /// Enters a context manager; the block `With` follows.
    Enter { context: Val, is_async: bool },
    /// `name = value`
    StoreLocal { local: LocalId, value: Val, update: bool },
    /// `nonlocal name; name = value`
    StoreCaptured { func: FuncIdx, local: LocalId, value: Val, update: bool },
    /// `global name; name = value`, and every assignment at module level
    StoreGlobal { name: Name, value: Val, update: bool },
    /// `base.name = value`
    StoreAttr { base: Val, name: Name, value: Val, update: bool },
    /// `base[key] = value`
    StoreItem { base: Val, key: Val, value: Val, update: bool },
    /// `del name`
    DelLocal(LocalId),
    /// `del name` of a global
    DelGlobal(Name),
    /// `del base.name`
    DelAttr { base: Val, name: Name },
    /// `del base[key]`
    DelItem { base: Val, key: Val },
    /// An annotation without a value: `base.name: T` or `name: T` (then no base).
    Declare { base: Option<Val>, name: Name },
    /// A value that a statement drops.
    Discard(Val),
    /// `return value`
    Return(Option<Val>),
    /// `raise value`
    Raise(Option<Val>),
    /// `break`
    Break,
    /// `continue`
    Continue,
}

impl Op {
    /// Does it store or delete something?
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(
            self,
            Op::StoreLocal { .. }
                | Op::StoreCaptured { .. }
                | Op::StoreGlobal { .. }
                | Op::StoreAttr { .. }
                | Op::StoreItem { .. }
                | Op::DelLocal(_)
                | Op::DelGlobal(_)
                | Op::DelAttr { .. }
                | Op::DelItem { .. }
        )
    }
}

/// One action.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// First byte of its text.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// The innermost block around it.
    pub block: BlockId,
}

/// What governs a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// The whole body.
    Body,
    /// Runs where the test holds.
    Then(Val),
    /// Runs where the test does not hold.
    Else(Val),
    /// May run again and again, over an `Iter`, or while a test holds.
    Loop(Val),
    /// Runs inside the context manager of an `Enter`.
    With(Val),
    /// Guarded by the handlers that follow.
    Try,
    /// A handler of a `Try`; the value is what is caught, if anything is named.
    Except(BlockId, Option<Val>),
    /// Runs where the `Try` did not raise.
    TryElse(BlockId),
    /// Runs in any case after the `Try`.
    Finally(BlockId),
    /// A case of a `match` over a value.
    Case(Val),
}

/// A range of nodes and what governs it.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The block around it; the body is its own parent.
    pub parent: BlockId,
    /// What governs it.
    pub kind: BlockKind,
    /// First node.
    pub first: u32,
    /// One past the last node.
    pub end: u32,
    /// Does every way through it leave the suite (return, raise, break, continue)?
    pub leaves: bool,
    /// First byte of its text.
    pub text_start: u32,
    /// One past the last byte.
    pub text_end: u32,
}

/// An annotation, as far as types need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// `a.b.c`
    Name(Vec<Name>),
    /// `a.b[x, y]`
    Generic(Vec<Name>, Vec<Annotation>),
    /// `x | y`, `Union[x, y]`
    Union(Vec<Annotation>),
    /// `None`
    None,
    /// A string inside `Annotated[...]`.
    Text(Name),
    /// Anything else.
    Unknown,
}

/// A parameter.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// Its annotation.
    pub annotation: Option<Annotation>,
    /// Its default, a node of the body that defines the function.
    pub default: Option<Val>,
    /// `*args` or `**kwargs`.
    pub starred: bool,
}

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// The code of a module.
    Module,
    /// The code of a class.
    ClassBody,
    /// `def`
    Def,
    /// `lambda`
    Lambda,
}

/// The nodes of a function.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// In evaluation order.
    pub nodes: Vec<Node>,
    /// Block 0 is the whole body.
    pub blocks: Vec<Block>,
    /// Operands of calls and displays.
    pub args: Vec<Arg>,
    /// Names of the local variables; parameters come first.
    pub locals: Vec<Name>,
    /// For each local, the nodes that store, delete or bind it, in order.
    pub stores: Vec<Vec<Val>>,
    /// The calls: most questions about a whole program are about them, and few nodes are.
    pub calls: Vec<Val>,
    /// The nodes that store or delete something.
    pub writes: Vec<Val>,
}

/// A function, a lambda, or the code of a class or module.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its own name; `<module>`, `<lambda>`.
    pub name: Name,
    /// `Class.method`, without the module; empty for the module.
    pub qualname: Name,
    /// What it is.
    pub kind: FunctionKind,
    /// `async def`
    pub is_async: bool,
    /// Holds a `yield`.
    pub is_generator: bool,
    /// The function that it is defined in; itself for the module.
    pub parent: FuncIdx,
    /// The class that it is a method of, or whose code it is.
    pub class: Option<ClassIdx>,
    /// In order.
    pub params: Vec<Param>,
    /// The annotation of what it returns.
    pub returns: Option<Annotation>,
    /// Nodes of the parent's body.
    pub decorators: Vec<Val>,
    /// Names declared `global`.
    pub globals: Vec<Name>,
    /// Annotations of `name: T`, `self.name: T`; the node is the store or `Declare`.
    pub annotations: Vec<(Val, Annotation)>,
    /// Its nodes.
    pub body: Body,
    /// First byte of the definition, without decorators.
    pub start: u32,
    /// End of the head: of `def f(...):`.
    pub head_end: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A class.
#[derive(Clone, Debug)]
pub struct Class {
    /// Its own name.
    pub name: Name,
    /// `Outer.Inner`
    pub qualname: Name,
    /// The function that it is defined in.
    pub parent: FuncIdx,
    /// Nodes of the parent's body.
    pub bases: Vec<Val>,
    /// Nodes of the parent's body.
    pub keywords: Vec<(Name, Val)>,
    /// Nodes of the parent's body.
    pub decorators: Vec<Val>,
    /// Its code.
    pub body: FuncIdx,
    /// First byte of the definition, without decorators.
    pub start: u32,
    /// End of the name.
    pub head_end: u32,
    /// One past the last byte.
    pub end: u32,
}

/// An imported name.
#[derive(Clone, Copy, Debug)]
pub struct Import {
    /// The dotted module, without leading dots.
    pub module: Name,
    /// `from module import member`; `*` for all.
    pub member: Option<Name>,
    /// How many leading dots.
    pub level: u32,
    /// `import a.b` binds `a`; `import a.b as c` binds `a.b`.
    pub binds_top: bool,
    /// Inside `if TYPE_CHECKING:`.
    pub for_types: bool,
}

/// A comment that speaks to raceproof.
#[derive(Clone, Debug)]
pub struct Comment {
    /// The whole comment, from its `#`.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Nothing but space stands before it on its line.
    pub own_line: bool,
}

/// A file, lowered.
#[derive(Clone, Debug)]
pub struct Module {
    /// The text it comes from.
    pub file: FileId,
    /// Function 0 is the module's own code.
    pub functions: Vec<Function>,
    /// All classes, nested ones too.
    pub classes: Vec<Class>,
    /// All imports.
    pub imports: Vec<Import>,
    /// Comments that hold `raceproof:`.
    pub comments: Vec<Comment>,
    /// Why it did not parse: message, first and last byte.
    pub error: Option<(String, u32, u32)>,
}

impl Module {
    /// A function of this module.
    #[must_use]
    pub fn function(&self, idx: FuncIdx) -> &Function {
        &self.functions[idx.0 as usize]
    }

    /// A class of this module.
    #[must_use]
    pub fn class(&self, idx: ClassIdx) -> &Class {
        &self.classes[idx.0 as usize]
    }
}

impl Body {
    /// What a node does.
    #[must_use]
    pub fn op(&self, val: Val) -> Op {
        self.nodes[val.0 as usize].op
    }

    /// A node.
    #[must_use]
    pub fn node(&self, val: Val) -> &Node {
        &self.nodes[val.0 as usize]
    }

    /// A block.
    #[must_use]
    pub fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    /// Arguments or operands.
    #[must_use]
    pub fn args(&self, args: Args) -> &[Arg] {
        &self.args[args.start as usize..(args.start + args.len) as usize]
    }

    /// All nodes, in evaluation order.
    pub fn vals(&self) -> impl DoubleEndedIterator<Item = Val> + use<> {
        (0..u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes")).map(Val)
    }

    /// All calls, in evaluation order.
    pub fn calls(&self) -> impl DoubleEndedIterator<Item = Val> + '_ {
        self.calls.iter().copied()
    }

    /// All nodes that store or delete something, in evaluation order.
    pub fn writes(&self) -> impl DoubleEndedIterator<Item = Val> + '_ {
        self.writes.iter().copied()
    }

    /// All calls, and all nodes that store or delete something, in evaluation order.
    pub fn acts(&self) -> impl Iterator<Item = Val> + '_ {
        let (mut calls, mut writes) = (self.calls().peekable(), self.writes().peekable());
        std::iter::from_fn(move || match (calls.peek(), writes.peek()) {
            (Some(call), Some(write)) if call < write => calls.next(),
            (_, Some(_)) => writes.next(),
            (_, None) => calls.next(),
        })
    }

    /// The text of a node.
    #[must_use]
    pub fn span(&self, file: FileId, val: Val) -> Span {
        let node = self.node(val);
        Span::new(file, node.start, node.end)
    }

    /// The blocks around a node, innermost first; the whole body is not among them.
    pub fn enclosing(&self, val: Val) -> impl Iterator<Item = (BlockId, &Block)> {
        let mut at = self.node(val).block;
        std::iter::from_fn(move || {
            let block = self.block(at);
            let here = (at, block);
            if block.kind == BlockKind::Body {
                return None;
            }
            at = block.parent;
            Some(here)
        })
    }

    /// Does the body read the local, or hold a function that may?
    #[must_use]
    pub fn reads(&self, local: LocalId) -> bool {
        self.nodes.iter().any(|node| match node.op {
            Op::Local(read) => read == local,
            Op::Function(_) => true,
            _ => false,
        })
    }

    /// Does a block hold a node?
    #[must_use]
    pub fn holds(&self, block: BlockId, val: Val) -> bool {
        let block = self.block(block);
        block.first <= val.0 && val.0 < block.end
    }

    /// Does a store reach every later node of `at`'s block: is the store's block around `at`?
    #[must_use]
    pub fn dominates(&self, store: Val, at: Val) -> bool {
        store < at && self.holds(self.node(store).block, at)
    }

    /// The operands of a node, in evaluation order.
    pub fn operands(&self, val: Val, mut each: impl FnMut(Val)) {
        match self.op(val) {
            Op::None
            | Op::Truth(_)
            | Op::Scalar
            | Op::Str(_)
            | Op::Param(_)
            | Op::Local(_)
            | Op::Captured(..)
            | Op::Global(_)
            | Op::Function(_)
            | Op::Class(_)
            | Op::Import(_)
            | Op::Caught
            | Op::DelLocal(_)
            | Op::DelGlobal(_)
            | Op::Break
            | Op::Continue => {}
            Op::Attr { base, .. } | Op::DelAttr { base, .. } => each(base),
            Op::Item { base, key } | Op::DelItem { base, key } => {
                each(base);
                each(key);
            }
            Op::Call { func, args } => {
                each(func);
                self.args(args).iter().for_each(|arg| each(arg.value));
            }
            Op::Display(_, args) | Op::Comprehension(_, args) | Op::Other(args) => {
                self.args(args).iter().for_each(|arg| each(arg.value));
            }
            Op::Await(value)
            | Op::Not(value)
            | Op::Next(value)
            | Op::Part(value, _)
            | Op::Discard(value)
            | Op::Iter { over: value, .. }
            | Op::Enter { context: value, .. }
            | Op::StoreLocal { value, .. }
            | Op::StoreCaptured { value, .. }
            | Op::StoreGlobal { value, .. } => each(value),
            Op::Yield(value) | Op::Return(value) | Op::Raise(value) | Op::Declare { base: value, .. } => {
                value.into_iter().for_each(each);
            }
            Op::Binary(left, right)
            | Op::Both(left, right)
            | Op::Either(left, right)
            | Op::Compare { left, right, .. } => {
                each(left);
                each(right);
            }
            Op::Choice { test, then, other } => {
                each(test);
                each(then);
                each(other);
            }
            Op::StoreAttr { base, value, .. } => {
                each(value);
                each(base);
            }
            Op::StoreItem { base, key, value, .. } => {
                each(value);
                each(base);
                each(key);
            }
        }
    }

    /// The stores that can have given a local variable the value that `at` reads: walking back, those in branches
    /// that `at` may follow, up to the first that every way to `at` passes. Stores later in a loop are not seen.
    #[must_use]
    pub fn reaching(&self, local: LocalId, at: Val) -> SmallVec<[Val; 4]> {
        let stores = &self.stores[local.0 as usize];
        let before = stores.partition_point(|store| *store < at);
        let mut found = SmallVec::new();
        for &store in stores[..before].iter().rev().take(STORES_MAX) {
            if self.excludes(store, at) {
                continue;
            }
            found.push(store);
            if self.dominates(store, at) || found.len() >= 4 {
                break;
            }
        }
        found
    }

    /// The value that a local variable holds at `at`, if one store alone decides it; otherwise `at` itself. Follows
    /// chains of locals.
    #[must_use]
    pub fn origin(&self, at: Val) -> Val {
        let mut val = at;
        for _ in 0..8 {
            let Op::Local(local) = self.op(val) else { break };
            let stores = self.reaching(local, val);
            let [store] = stores[..] else { break };
            match self.op(store) {
                Op::StoreLocal { value, update: false, .. } => val = value,
                Op::Param(_) => return store,
                _ => break,
            }
        }
        val
    }

    /// Do two nodes lie in branches of which only one runs?
    #[must_use]
    pub fn excludes(&self, first: Val, second: Val) -> bool {
        self.enclosing(first).any(|(_, one)| {
            self.enclosing(second).any(|(_, two)| match (one.kind, two.kind) {
                (BlockKind::Then(a), BlockKind::Else(b)) | (BlockKind::Else(a), BlockKind::Then(b)) => a == b,
                (BlockKind::Case(a), BlockKind::Case(b)) => a == b && one.first != two.first,
                _ => false,
            })
        })
    }
}
