//! Which object an expression is, as a path of attributes from a parameter, a global, or a captured variable.
//!
//! Two equal paths in one call of a function are the same object, as far as nothing between rebinds a part of it.
//! A path is carried from a callee into its caller by putting the arguments in the place of the parameters.

use smallvec::SmallVec;

use crate::body::{Body, LocalId, Op, Val};
use crate::contexts::CallSite;
use crate::name::Name;
use crate::project::{ClassId, FuncId, ModuleId, Project, Symbol};
use crate::types::{Type, TypeMap};

/// How many attributes a path keeps.
const ATTRS_MAX: usize = 4;

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Root {
    /// A parameter of the function.
    Param(u32),
    /// A variable of a module.
    Global(ModuleId, Name),
    /// A class.
    Class(ClassId),
    /// A variable of this or an enclosing function.
    Local(FuncId, LocalId),
    /// An object that was made a moment ago and that nobody else has.
    Fresh,
    /// Not known.
    Unknown,
}

/// An object: where to begin, and which attributes to follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectPath {
    /// The beginning.
    pub root: Root,
    /// The attributes.
    pub attrs: SmallVec<[Name; 2]>,
}

impl ObjectPath {
    /// The object at the root itself.
    #[must_use]
    pub fn at(root: Root) -> Self {
        Self { root, attrs: SmallVec::new() }
    }

    /// An object of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self::at(Root::Unknown)
    }

    /// An attribute of the object.
    #[must_use]
    pub fn attr(mut self, name: Name) -> Self {
        if self.attrs.len() >= ATTRS_MAX {
            return Self::unknown();
        }
        if !matches!(self.root, Root::Unknown) {
            self.attrs.push(name);
        }
        self
    }

    /// Does the path say which object it is?
    #[must_use]
    pub fn is_known(&self) -> bool {
        !matches!(self.root, Root::Unknown | Root::Fresh)
    }
}

/// The path of an expression.
#[must_use]
pub fn of(project: &Project, types: &TypeMap, func: FuncId, val: Val) -> ObjectPath {
    let body = &project.function(func).body;
    let mut attrs: SmallVec<[Name; 4]> = SmallVec::new();
    let mut at = val;
    let root = loop {
        match body.op(at) {
            Op::Attr { base, name } => {
                if let Some(class) = class_level(project, types, func, base, name) {
                    attrs.push(name);
                    break Root::Class(class);
                }
                let module = types.of(func, base).iter().find_map(|of| match of {
                    Type::Module(module) => Some(*module),
                    _ => None,
                });
                if let Some(module) = module {
                    break symbol(project.lookup(module, name));
                }
                attrs.push(name);
                at = base;
            }
            Op::Local(local) => {
                let origin = body.origin(at);
                match body.op(origin) {
                    Op::Param(idx) => break Root::Param(idx),
                    Op::Local(_) => break Root::Local(func, local),
                    Op::Call { .. } => break Root::Local(func, local),
                    _ if origin == at => break Root::Local(func, local),
                    _ => at = origin,
                }
            }
            Op::Global(name) => break symbol(project.lookup(project.module_of(func), name)),
            Op::Captured(owner, local) => break Root::Local(project.sibling(func, owner), local),
            Op::Param(idx) => break Root::Param(idx),
            Op::Enter { context, .. } => at = context,
            Op::Call { func: target, .. } if makes(types, func, target) => break Root::Fresh,
            _ => break Root::Unknown,
        }
    };
    attrs.into_iter().rev().fold(ObjectPath::at(root), ObjectPath::attr)
}

fn symbol(symbol: Symbol) -> Root {
    match symbol {
        Symbol::Global(module, name) => Root::Global(module, name),
        Symbol::Class(class) => Root::Class(class),
        _ => Root::Unknown,
    }
}

fn makes(types: &TypeMap, func: FuncId, target: Val) -> bool {
    types.of(func, target).iter().any(|of| matches!(of, Type::Class(_)))
}

/// An attribute that the class body makes is one object for all instances: the class that owns it.
fn class_level(project: &Project, types: &TypeMap, func: FuncId, base: Val, name: Name) -> Option<ClassId> {
    types.of(func, base).iter().find_map(|of| match of {
        Type::Class(class) | Type::Instance(class) => {
            let owner = types.owner(project, *class, name);
            let body =
                &project.function(project.func_id(project.class_info(owner).module, project.class(owner).body)).body;
            let in_body = body.vals().any(|val| match body.op(val) {
                Op::StoreLocal { local, value, .. } => {
                    body.locals[local.0 as usize] == name && !matches!(body.op(value), Op::None)
                }
                _ => false,
            });
            (in_body || matches!(of, Type::Class(_))).then_some(owner)
        }
        _ => None,
    })
}

/// The argument that a call gives for a parameter of the callee.
#[must_use]
pub fn argument(project: &Project, types: &TypeMap, site: &CallSite, param: u32) -> Option<Argument> {
    let body = &project.function(site.caller).body;
    let flags = types.flags(site.callee);
    let Op::Call { func: target, args } = body.op(site.at) else {
        // A property, an operator or a context manager: its receiver is the first operand.
        return (param == 0).then(|| Argument::Value(receiver(body, site.at)));
    };
    let base = match body.op(target) {
        Op::Attr { base, .. } => Some(base),
        _ => None,
    };
    let of_target = types.of(site.caller, target);
    let constructs = of_target.iter().any(|of| matches!(of, Type::Class(_)));
    let is_method = project.function(site.callee).class.is_some() && !flags.is_static;
    let bound = is_method && !of_target.contains(&Type::Function(site.callee));
    if bound && param == 0 {
        if constructs {
            return Some(Argument::Fresh);
        }
        let base = base.unwrap_or(target);
        let is_super = types.of(site.caller, base).iter().any(|of| matches!(of, Type::Super(_)));
        return Some(if is_super { Argument::OwnSelf } else { Argument::Value(base) });
    }
    let params = &project.function(site.callee).params;
    let name = params.get(param as usize)?.name;
    let args = body.args(args);
    if let Some(arg) = args.iter().find(|arg| arg.name == Some(name)) {
        return Some(Argument::Value(arg.value));
    }
    let idx = (param as usize).checked_sub(usize::from(bound))?;
    if args.iter().take(idx + 1).any(|arg| arg.starred) {
        return None;
    }
    args.get(idx).filter(|arg| arg.name.is_none()).map(|arg| Argument::Value(arg.value))
}

/// What stands for a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// An expression of the caller.
    Value(Val),
    /// The caller's own first parameter.
    OwnSelf,
    /// A new object.
    Fresh,
}

fn receiver(body: &Body, at: Val) -> Val {
    match body.op(at) {
        Op::Attr { base, .. } | Op::Item { base, .. } | Op::StoreItem { base, .. } | Op::DelItem { base, .. } => base,
        Op::Iter { over, .. } => over,
        Op::Compare { right, .. } => right,
        Op::Enter { context, .. } => context,
        _ => at,
    }
}

/// A path of the callee as the caller sees it.
#[must_use]
pub fn at_caller(project: &Project, types: &TypeMap, site: &CallSite, path: &ObjectPath) -> ObjectPath {
    let root = match path.root {
        Root::Param(param) => match argument(project, types, site, param) {
            Some(Argument::Value(val)) => of(project, types, site.caller, val),
            Some(Argument::OwnSelf) => ObjectPath::at(Root::Param(0)),
            Some(Argument::Fresh) => ObjectPath::at(Root::Fresh),
            None => ObjectPath::unknown(),
        },
        Root::Local(owner, local) if owner == site.caller => own(project, owner, local),
        Root::Local(owner, _) if owner == site.callee => ObjectPath::unknown(),
        root => ObjectPath::at(root),
    };
    path.attrs.iter().fold(root, |path, name| path.attr(*name))
}

/// A variable of the function itself, captured by the callee.
fn own(project: &Project, func: FuncId, local: LocalId) -> ObjectPath {
    let body = &project.function(func).body;
    let stores = &body.stores[local.0 as usize];
    match stores[..] {
        [store] => match body.op(store) {
            Op::Param(idx) => ObjectPath::at(Root::Param(idx)),
            _ => ObjectPath::at(Root::Local(func, local)),
        },
        _ => ObjectPath::at(Root::Local(func, local)),
    }
}
