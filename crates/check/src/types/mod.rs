//! What receivers are: types from constructors, annotations, returns and call sites.
//!
//! Every node gets a small set of types; an empty set is unknown. The sets grow over a fixed number of rounds through
//! globals, attributes, parameters and returns, so chains of up to that many steps are seen. No flow sensitivity
//! beyond the stores that reach a local; no generics but the elements of containers.

mod annotated;
mod decorators;
mod handed;
mod infer;
mod pending;
mod standard;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::body::{FunctionKind, LocalId, Op, Val};
use crate::name::{self, Name};
use crate::project::{ClassId, FuncId, ModuleId, Project, Symbol};

pub use standard::{constructed, is_common_method, plain_base};

/// Arguments that are handed on, and the index of the parameter that takes the first.
pub type Handed = (SmallVec<[Val; 4]>, usize);

/// Built-in containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Container {
    /// `list`
    List,
    /// `dict` and its kin
    Dict,
    /// `set`
    Set,
    /// `collections.deque`
    Deque,
    /// `weakref.WeakSet`
    WeakSet,
    /// `weakref.WeakKeyDictionary`, `WeakValueDictionary`
    WeakDict,
}

/// Objects of the standard library that threads and loops are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Std {
    Lock,
    RLock,
    Condition,
    Semaphore,
    Event,
    Barrier,
    Thread,
    Timer,
    ThreadLocal,
    ContextVar,
    Queue,
    Executor,
    Process,
    Future,
    AsyncLock,
    AsyncCondition,
    AsyncSemaphore,
    AsyncEvent,
    AsyncQueue,
    AsyncFuture,
    Task,
    TaskGroup,
    Loop,
    Count,
    WeakRef,
    Resource,
    Logger,
}

impl Std {
    /// A lock that excludes threads.
    #[must_use]
    pub fn is_thread_lock(self) -> bool {
        matches!(self, Std::Lock | Std::RLock | Std::Condition | Std::Semaphore)
    }

    /// A lock that excludes tasks of one event loop.
    #[must_use]
    pub fn is_loop_lock(self) -> bool {
        matches!(self, Std::AsyncLock | Std::AsyncCondition | Std::AsyncSemaphore)
    }

    /// Belongs to one event loop.
    #[must_use]
    pub fn is_loop_bound(self) -> bool {
        self.is_loop_lock() || matches!(self, Std::AsyncEvent | Std::AsyncQueue | Std::AsyncFuture | Std::Task)
    }

    /// May be used by many threads at once without more ado.
    #[must_use]
    pub fn is_thread_safe(self) -> bool {
        !matches!(self, Std::Resource)
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// `None`
    None,
    /// An immutable value.
    Plain,
    /// A built-in container.
    Container(Container),
    /// An object of the standard library.
    Std(Std),
    /// An instance of a class of the project.
    Instance(ClassId),
    /// A class of the project.
    Class(ClassId),
    /// A function of the project.
    Function(FuncId),
    /// A method of the project, bound to an object.
    Method(FuncId),
    /// `super()` in a method of the class.
    Super(ClassId),
    /// A module of the project.
    Module(ModuleId),
    /// Something outside the project.
    External(Name),
    /// An instance of a class outside the project.
    Foreign(Name),
}

/// A small set of types; empty is unknown.
pub type Types = SmallVec<[Type; 2]>;

/// How many types a set keeps.
const TYPES_MAX: usize = 5;

/// State that has a type: what attributes, globals, parameters and elements are keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// A module-level variable.
    Global(ModuleId, Name),
    /// An attribute of the class that first assigns it.
    Attr(ClassId, Name),
    /// A local variable.
    Local(FuncId, LocalId),
}

/// What decorators say of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `@staticmethod`
    pub is_static: bool,
    /// `@classmethod`
    pub is_class: bool,
    /// `@property`, `@cached_property`, or a memoizing property of a library.
    pub is_property: bool,
    /// `@contextmanager`, `@asynccontextmanager`
    pub is_context_manager: bool,
    /// `@lru_cache`, `@cache`
    pub is_cached: bool,
    /// `@overload`, `@abstractmethod`: no code to speak of
    pub is_stub: bool,
}

/// The types of a project.
pub struct TypeMap {
    sets: Vec<Types>,
    ids: FxHashMap<Types, u32>,
    nodes: Vec<Vec<u32>>,
    slots: FxHashMap<Slot, u32>,
    elements: FxHashMap<Slot, u32>,
    params: FxHashMap<(FuncId, u32), u32>,
    returns: FxHashMap<FuncId, u32>,
    flags: Vec<Flags>,
    assigned: FxHashSet<(ClassId, Name)>,
    by_class: FxHashMap<ClassId, Vec<Slot>>,
}

/// How a callee was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callee {
    /// The function that runs.
    pub func: FuncId,
    /// By the name of the method alone.
    pub guessed: bool,
    /// The first argument of the call is the second parameter.
    pub bound: bool,
}

/// Infers the types of a project.
#[must_use]
pub fn infer(project: &Project) -> TypeMap {
    infer::run(project)
}

impl TypeMap {
    /// The types of a node; empty where nothing is known.
    #[must_use]
    pub fn of(&self, func: FuncId, val: Val) -> &[Type] {
        let set = self.nodes.get(func.0 as usize).and_then(|nodes| nodes.get(val.0 as usize)).copied().unwrap_or(0);
        &self.sets[set as usize]
    }

    /// The types of a slot.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> &[Type] {
        &self.sets[self.slots.get(&slot).copied().unwrap_or(0) as usize]
    }

    /// The types of what a slot's container holds.
    #[must_use]
    pub fn elements(&self, slot: Slot) -> &[Type] {
        &self.sets[self.elements.get(&slot).copied().unwrap_or(0) as usize]
    }
    /// All attributes that have a type or elements with one, with their classes.
    #[must_use]
    pub fn attributes(&self) -> Vec<(ClassId, Slot)> {
        let slots = self.slots.keys().chain(self.elements.keys());
        let mut found: Vec<_> = slots
            .filter_map(|slot| match slot {
                Slot::Attr(class, _) => Some((*class, *slot)),
                _ => None,
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn index_by_class(&mut self) {
        let more = self.elements.keys().filter(|slot| !self.slots.contains_key(slot));
        for slot in self.slots.keys().chain(more) {
            if let Slot::Attr(class, _) = slot {
                self.by_class.entry(*class).or_default().push(*slot);
            }
        }
    }

    /// The attributes that a class and its ancestors assign.
    #[must_use]
    pub fn attributes_of(&self, project: &Project, class: ClassId) -> Vec<Slot> {
        let mro = &project.class_info(class).mro;
        let mut found: Vec<Slot> =
            mro.iter().flat_map(|at| self.by_class.get(at).into_iter().flatten().copied()).collect();
        found.sort_unstable();
        found
    }

    /// What decorators say of a function.
    #[must_use]
    pub fn flags(&self, func: FuncId) -> Flags {
        self.flags[func.0 as usize]
    }

    /// The standard object that a type is or inherits from.
    #[must_use]
    pub fn std_of(&self, project: &Project, of: Type) -> Option<Std> {
        match of {
            Type::Std(std) => Some(std),
            Type::Instance(class) => {
                project.external_ancestors(class).find_map(|base| match constructed(base.as_str()) {
                    Some(Type::Std(std)) => Some(std),
                    _ => None,
                })
            }
            _ => None,
        }
    }

    /// The standard object that a node is, if its types agree on one.
    #[must_use]
    pub fn std(&self, project: &Project, func: FuncId, val: Val) -> Option<Std> {
        self.of(func, val).iter().find_map(|of| self.std_of(project, *of))
    }

    /// The container that a type is or inherits from.
    #[must_use]
    pub fn container_of(&self, project: &Project, of: Type) -> Option<Container> {
        match of {
            Type::Container(container) => Some(container),
            Type::Instance(class) => {
                project.external_ancestors(class).find_map(|base| standard::container(base.as_str()))
            }
            _ => None,
        }
    }

    /// The container that a node is, if any of its types is one.
    #[must_use]
    pub fn container(&self, project: &Project, func: FuncId, val: Val) -> Option<Container> {
        self.of(func, val).iter().find_map(|of| self.container_of(project, *of))
    }

    /// Is every known type immutable (and at least one known)?
    #[must_use]
    pub fn is_plain(&self, project: &Project, types: &[Type]) -> bool {
        !types.is_empty()
            && types.iter().all(|of| match of {
                Type::None | Type::Plain | Type::Class(_) | Type::Function(_) | Type::Module(_) => true,
                Type::Instance(class) => project.external_ancestors(*class).any(|base| plain_base(base.as_str())),
                Type::Std(std) => matches!(std, Std::Logger | Std::WeakRef),
                Type::External(_) => true,
                _ => false,
            })
    }

    /// Is the attribute assigned anywhere in the class or its ancestors?
    #[must_use]
    pub fn has_attr(&self, project: &Project, class: ClassId, name: Name) -> bool {
        project.class_info(class).mro.iter().any(|at| self.assigned.contains(&(*at, name)))
    }

    /// The class that an attribute belongs to: the farthest ancestor that assigns it, else the class itself.
    #[must_use]
    pub fn owner(&self, project: &Project, class: ClassId, name: Name) -> ClassId {
        let mro = &project.class_info(class).mro;
        if mro.len() == 1 {
            return class;
        }
        mro.iter().rev().copied().find(|at| self.assigned.contains(&(*at, name))).unwrap_or(class)
    }

    /// The slots that a node reads or stores: a global, an attribute of each class the base can be. Locals that
    /// stand for such a slot are followed.
    #[must_use]
    pub fn slots_of(&self, project: &Project, func: FuncId, val: Val) -> SmallVec<[Slot; 2]> {
        let body = &project.function(func).body;
        let mut found = SmallVec::new();
        match body.op(val) {
            Op::Attr { base, name } | Op::StoreAttr { base, name, .. } | Op::DelAttr { base, name } => {
                self.attr_slots(project, func, base, name, &mut found);
            }
            Op::Global(name) | Op::StoreGlobal { name, .. } | Op::DelGlobal(name) => {
                let module = project.module_of(func);
                match project.lookup(module, name) {
                    Symbol::Global(module, name) => found.push(Slot::Global(module, name)),
                    // A class or function that is rebound here is a variable too.
                    _ if matches!(body.op(val), Op::StoreGlobal { .. } | Op::DelGlobal(_)) => {
                        found.push(Slot::Global(module, name));
                    }
                    _ => {}
                }
            }
            Op::Captured(owner, local) => found.push(Slot::Local(project.sibling(func, owner), local)),
            Op::StoreCaptured { func: owner, local, .. } => {
                found.push(Slot::Local(project.sibling(func, owner), local));
            }
            Op::StoreLocal { local, .. } if project.function(func).kind == FunctionKind::ClassBody => {
                if let Some(class) = project.class_of(func) {
                    let name = body.locals[local.0 as usize];
                    found.push(Slot::Attr(self.owner(project, class, name), name));
                }
            }
            Op::Local(local) => {
                let origin = body.origin(val);
                if origin == val || matches!(body.op(origin), Op::Param(_) | Op::Local(_)) {
                    found.push(Slot::Local(func, local));
                } else {
                    found = self.slots_of(project, func, origin);
                }
            }
            _ => {}
        }
        found
    }

    fn attr_slots(&self, project: &Project, func: FuncId, base: Val, name: Name, found: &mut SmallVec<[Slot; 2]>) {
        for of in self.of(func, base) {
            let slot = match of {
                Type::Instance(class) | Type::Class(class) | Type::Super(class) => {
                    Slot::Attr(self.owner(project, *class, name), name)
                }
                Type::Module(module) => Slot::Global(*module, name),
                _ => continue,
            };
            if !found.contains(&slot) {
                found.push(slot);
            }
        }
    }

    /// The arguments that a call hands on to `callee` for another thread, and what the first of them is bound to.
    #[must_use]
    pub fn handed_on(&self, project: &Project, func: FuncId, call: Val, callee: FuncId) -> Option<Handed> {
        let body = &project.function(func).body;
        let (target, passed) = handed::arguments(body, call, self.external_callee(project, func, call))?;
        let mut callees = SmallVec::new();
        self.targets(project, func, target, &mut callees);
        let found = callees.iter().find(|found| found.func == callee && !found.guessed)?;
        Some((passed, usize::from(found.bound && !self.flags(callee).is_static)))
    }

    /// The functions of the project that a call can run.
    #[must_use]
    pub fn callees(&self, project: &Project, func: FuncId, call: Val) -> SmallVec<[Callee; 2]> {
        let body = &project.function(func).body;
        let mut found = SmallVec::new();
        let Op::Call { func: target, .. } = body.op(call) else { return found };
        self.targets(project, func, target, &mut found);
        if found.is_empty() && self.of(func, target).is_empty() {
            self.guess(project, func, target, &mut found);
        }
        found
    }

    /// The functions of the project that a value stands for when it is called.
    pub fn targets(&self, project: &Project, func: FuncId, target: Val, found: &mut SmallVec<[Callee; 2]>) {
        let mut add = |func: FuncId, bound: bool| {
            if !found.iter().any(|callee: &Callee| callee.func == func) {
                found.push(Callee { func, guessed: false, bound });
            }
        };
        let base = match project.function(func).body.op(target) {
            Op::Attr { base, .. } => Some(base),
            _ => None,
        };
        for of in self.of(func, target) {
            match *of {
                Type::Function(callee) => add(callee, false),
                Type::Method(callee) => {
                    add(callee, true);
                    let name = project.function(callee).name;
                    for receiver in base.into_iter().flat_map(|base| self.of(func, base)) {
                        if let Type::Instance(class) = receiver {
                            project.overrides(*class, name, 8).into_iter().for_each(|other| add(other, true));
                        }
                    }
                }
                Type::Class(class) => {
                    for name in [name::INIT, name::NEW, name::POST_INIT] {
                        project.method(class, name).into_iter().for_each(|init| add(init, true));
                    }
                }
                Type::Instance(class) => {
                    project.method(class, name::CALL).into_iter().for_each(|call| add(call, true));
                }
                _ => {}
            }
        }
    }

    fn guess(&self, project: &Project, func: FuncId, target: Val, found: &mut SmallVec<[Callee; 2]>) {
        let Op::Attr { base, name } = project.function(func).body.op(target) else { return };
        if !self.of(func, base).is_empty() || is_common_method(name.as_str()) {
            return;
        }
        if let Some(methods) = project.methods_by_name.get(&name)
            && methods.len() <= 3
        {
            found.extend(methods.iter().map(|func| Callee { func: *func, guessed: true, bound: true }));
        }
    }

    /// The external thing that a call calls, by its dotted name; a method of a foreign object as `Class.method`.
    #[must_use]
    pub fn external_callee(&self, project: &Project, func: FuncId, call: Val) -> Option<Name> {
        let body = &project.function(func).body;
        let Op::Call { func: target, .. } = body.op(call) else { return None };
        self.of(func, target).iter().find_map(|of| match of {
            Type::External(name) => Some(*name),
            _ => None,
        })
    }
}
