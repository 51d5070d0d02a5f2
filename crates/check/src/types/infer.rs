//! The rounds of inference.

use rustc_hash::FxHashMap;

use super::pending::Pending;
use super::{Container, Flags, Slot, Std, TYPES_MAX, Type, TypeMap, Types, annotated, standard};
use crate::body::{Body, Display, FunctionKind, LocalId, Op, Val};
use crate::name::{self, Name};
use crate::parallel;
use crate::project::{ClassId, FuncId, ModuleId, Project, Symbol};

/// Chains of this many steps through globals, attributes, parameters and returns are seen.
const ROUNDS: usize = 4;

/// Sets that nearly every body has.
const NONE: u32 = 1;
const PLAIN: u32 = 2;

struct Inference<'a> {
    project: &'a Project,
    map: TypeMap,
    pending: Pending,
    /// The function that is looked at.
    here: FuncId,
    /// Attributes of what is external, by its dotted name.
    external: FxHashMap<(Name, Name), u32>,
    /// Attributes of modules.
    members: FxHashMap<(ModuleId, Name), Option<Symbol>>,
}

pub(super) fn run(project: &Project) -> TypeMap {
    let functions: Vec<FuncId> = project.function_ids().collect();
    let flags = parallel::map(functions.clone(), |id| super::decorators::flags(project, id));
    let sets = vec![Types::new(), Types::from_slice(&[Type::None]), Types::from_slice(&[Type::Plain])];
    let map = TypeMap {
        ids: sets.iter().cloned().zip(0..).collect(),
        sets,
        nodes: parallel::map(functions.clone(), |id| vec![0; project.function(id).body.nodes.len()]),
        slots: FxHashMap::default(),
        elements: FxHashMap::default(),
        params: FxHashMap::default(),
        returns: FxHashMap::default(),
        assigned: parallel::map(functions.clone(), |id| assigned(project, id, flags[id.0 as usize]))
            .concat()
            .into_iter()
            .collect(),
        flags,
        by_class: FxHashMap::default(),
    };
    let mut inference = Inference {
        project,
        map,
        pending: Pending::all(functions.len()),
        here: FuncId(0),
        external: FxHashMap::default(),
        members: FxHashMap::default(),
    };
    functions.iter().for_each(|id| inference.declare(*id));
    for _ in 0..ROUNDS {
        for id in &functions {
            if inference.pending.take(*id) {
                inference.function(*id);
            }
        }
    }
    inference.map.index_by_class();
    inference.map
}

impl Inference<'_> {
    fn set(&mut self, types: Types) -> u32 {
        if let Some(id) = self.map.ids.get(&types) {
            return *id;
        }
        let id = u32::try_from(self.map.sets.len()).expect("fewer than 2^32 type sets");
        self.map.sets.push(types.clone());
        self.map.ids.insert(types, id);
        id
    }

    fn one(&mut self, of: Type) -> u32 {
        self.set(Types::from_slice(&[of]))
    }

    fn join(&mut self, left: u32, right: u32) -> u32 {
        if left == right || right == 0 {
            return left;
        }
        if left == 0 {
            return right;
        }
        let mut all = self.types(left);
        for of in self.types(right) {
            if !all.contains(&of) && all.len() < TYPES_MAX {
                all.push(of);
            }
        }
        all.sort_unstable();
        self.set(all)
    }

    fn add_slot(&mut self, slot: Slot, set: u32) {
        let old = *self.map.slots.entry(slot).or_insert(0);
        let new = self.join(old, set);
        if new != old {
            self.map.slots.insert(slot, new);
            self.pending.slot_changed(slot);
        }
    }

    fn add_element(&mut self, slot: Slot, set: u32) {
        let old = *self.map.elements.entry(slot).or_insert(0);
        let new = self.join(old, set);
        if new != old {
            self.map.elements.insert(slot, new);
            self.pending.slot_changed(slot);
        }
    }

    /// The types of a slot, on which the function that is looked at depends from now on.
    fn slot(&mut self, slot: Slot) -> u32 {
        self.pending.reads_slot(self.here, slot);
        self.map.slots.get(&slot).copied().unwrap_or(0)
    }

    fn elements(&mut self, slot: Slot) -> u32 {
        self.pending.reads_slot(self.here, slot);
        self.map.elements.get(&slot).copied().unwrap_or(0)
    }

    fn returned(&mut self, func: FuncId) -> u32 {
        self.pending.reads_return(self.here, func);
        self.map.returns.get(&func).copied().unwrap_or(0)
    }

    /// A node of another function.
    fn outside(&mut self, func: FuncId, val: Val) -> u32 {
        self.pending.reads_nodes(self.here, func);
        self.at(func, val)
    }

    fn types(&self, set: u32) -> Types {
        Types::from_slice(&self.map.sets[set as usize])
    }

    fn add_param(&mut self, func: FuncId, idx: u32, set: u32) {
        if set == 0 {
            return;
        }
        let old = self.map.params.get(&(func, idx)).copied().unwrap_or(0);
        let new = self.join(old, set);
        if new != old {
            self.map.params.insert((func, idx), new);
            self.pending.param_changed(func);
        }
    }

    /// Types that annotations and `self` give, before any code is looked at.
    fn declare(&mut self, id: FuncId) {
        let project = self.project;
        let function = project.function(id);
        let module = project.module_of(id);
        let flags = self.map.flags[id.0 as usize];
        for (idx, param) in function.params.iter().enumerate() {
            let idx = crate::project::as_u32(idx);
            if let Some(annotation) = param.annotation.as_ref().filter(|_| !param.starred) {
                let (types, elements) = annotated::types(project, module, annotation);
                let (types, elements) = (self.set(types), self.set(elements));
                self.add_param(id, idx, types);
                if elements != 0 {
                    self.add_element(Slot::Local(id, LocalId(idx)), elements);
                }
            }
        }
        if let (FunctionKind::Def, Some(class)) = (function.kind, project.class_of(id))
            && !flags.is_static
            && !function.params.is_empty()
        {
            let of = if flags.is_class { Type::Class(class) } else { Type::Instance(class) };
            let set = self.one(of);
            self.add_param(id, 0, set);
        }
        if let Some(annotation) = &function.returns {
            let (types, _) = annotated::types(project, module, annotation);
            let set = self.set(types);
            if set != 0 && !function.is_generator {
                self.map.returns.insert(id, set);
            }
        }
    }

    fn declare_slots(&mut self, id: FuncId) {
        let project = self.project;
        let function = project.function(id);
        let module = project.module_of(id);
        for (node, annotation) in &function.annotations {
            let (types, elements) = annotated::types(project, module, annotation);
            let slot = match function.body.op(*node) {
                Op::Declare { base: None, name } => match function.kind {
                    FunctionKind::Module => Some(Slot::Global(module, name)),
                    FunctionKind::ClassBody => {
                        project.class_of(id).map(|class| Slot::Attr(self.map.owner(project, class, name), name))
                    }
                    _ => None,
                },
                Op::Declare { base: Some(base), name } => {
                    let class = self.map.of(id, base).iter().find_map(|of| match of {
                        Type::Instance(class) => Some(*class),
                        _ => None,
                    });
                    class.map(|class| Slot::Attr(self.map.owner(project, class, name), name))
                }
                Op::StoreLocal { local, .. } if function.kind != FunctionKind::ClassBody => {
                    Some(Slot::Local(id, local))
                }
                _ => self.map.slots_of(project, id, *node).first().copied(),
            };
            if let Some(slot) = slot {
                let (types, elements) = (self.set(types), self.set(elements));
                if !matches!(slot, Slot::Local(..)) && types != 0 {
                    self.add_slot(slot, types);
                }
                if elements != 0 {
                    self.add_element(slot, elements);
                }
            }
        }
    }

    fn function(&mut self, id: FuncId) {
        let project = self.project;
        let body = &project.function(id).body;
        self.here = id;
        let mut changed = false;
        for val in body.vals() {
            let set = self.node(id, body, val);
            let old = std::mem::replace(&mut self.map.nodes[id.0 as usize][val.0 as usize], set);
            changed |= old != set;
        }
        if changed {
            self.pending.nodes_changed(id);
        }
        self.declare_slots(id);
    }

    fn at(&self, id: FuncId, val: Val) -> u32 {
        self.map.nodes[id.0 as usize][val.0 as usize]
    }

    fn node(&mut self, id: FuncId, body: &Body, val: Val) -> u32 {
        let project = self.project;
        match body.op(val) {
            Op::None => NONE,
            Op::Truth(_) | Op::Scalar | Op::Str(_) | Op::Compare { .. } | Op::Not(_) => PLAIN,
            Op::Param(idx) => self.param(id, idx),
            Op::Local(local) => self.local(id, body, local, val),
            Op::Captured(owner, local) => {
                let owner = project.sibling(id, owner);
                self.captured(owner, local)
            }
            Op::Global(name) => {
                let module = project.module_of(id);
                self.symbol(project.lookup(module, name))
            }
            Op::Import(idx) => {
                let module = project.module_of(id);
                self.symbol(project.imported(module, idx))
            }
            Op::Function(idx) => self.one(Type::Function(project.sibling(id, idx))),
            Op::Class(idx) => self.one(Type::Class(project.class_id(project.module_of(id), idx))),
            Op::Attr { base, name } => self.attribute(id, base, name),
            Op::Item { base, .. } => self.element(id, body, base),
            Op::Next(iter) => match body.op(iter) {
                Op::Iter { over, .. } => self.element(id, body, over),
                _ => 0,
            },
            Op::Part(value, idx) => self.part(id, body, value, idx),
            Op::Call { .. } => self.call(id, body, val),
            Op::Await(value) => self.at(id, value),
            Op::Binary(left, right) => self.binary(id, left, right),
            Op::Both(left, right) | Op::Either(left, right) => self.join(self.at(id, left), self.at(id, right)),
            Op::Choice { then, other, .. } => self.join(self.at(id, then), self.at(id, other)),
            Op::Display(kind, _) | Op::Comprehension(kind, _) => match kind {
                Display::List => self.one(Type::Container(Container::List)),
                Display::Dict => self.one(Type::Container(Container::Dict)),
                Display::Set => self.one(Type::Container(Container::Set)),
                Display::Tuple => PLAIN,
                Display::Generator => 0,
            },
            Op::Other(_) => PLAIN,
            Op::Enter { context, .. } => self.entered(id, context),
            _ => {
                self.effect(id, body, val);
                0
            }
        }
    }

    /// What stores and returns say of slots and functions.
    fn effect(&mut self, id: FuncId, body: &Body, val: Val) {
        let project = self.project;
        match body.op(val) {
            Op::StoreLocal { local, value, .. } => {
                if project.function(id).kind == FunctionKind::ClassBody {
                    if let Some(slot) = self.map.slots_of(project, id, val).first().copied() {
                        self.store(id, body, slot, value);
                    }
                } else {
                    self.display_elements(id, body, Slot::Local(id, local), value);
                }
            }
            Op::StoreCaptured { .. } | Op::StoreGlobal { .. } | Op::StoreAttr { .. } => {
                let value = match body.op(val) {
                    Op::StoreCaptured { value, .. } | Op::StoreGlobal { value, .. } | Op::StoreAttr { value, .. } => {
                        value
                    }
                    _ => return,
                };
                for slot in self.map.slots_of(project, id, val) {
                    self.store(id, body, slot, value);
                }
            }
            Op::StoreItem { base, value, .. } => {
                let set = self.at(id, value);
                for slot in self.map.slots_of(project, id, base) {
                    self.add_element(slot, set);
                }
            }
            Op::Return(Some(value)) => {
                let set = self.at(id, value);
                let declared =
                    project.function(id).returns.is_some() && self.map.returns.get(&id).is_some_and(|set| *set != 0);
                if !declared {
                    let old = self.map.returns.get(&id).copied().unwrap_or(0);
                    let new = self.join(old, set);
                    if new != old {
                        self.map.returns.insert(id, new);
                        self.pending.return_changed(id);
                    }
                }
            }
            _ => {}
        }
    }

    fn store(&mut self, id: FuncId, body: &Body, slot: Slot, value: Val) {
        let set = self.at(id, value);
        self.add_slot(slot, set);
        self.display_elements(id, body, slot, value);
    }

    /// `[C(), ...]` and `{k: C()}` say what their elements are.
    fn display_elements(&mut self, id: FuncId, body: &Body, slot: Slot, value: Val) {
        if let Op::Display(kind, args) | Op::Comprehension(kind, args) = body.op(value) {
            let args = body.args(args);
            let vals: Vec<Val> = match kind {
                Display::Dict => args.iter().skip(1).step_by(2).map(|arg| arg.value).collect(),
                _ => args.iter().map(|arg| arg.value).collect(),
            };
            for value in vals.into_iter().take(8) {
                let set = self.at(id, value);
                if set != 0 {
                    self.add_element(slot, set);
                }
            }
        }
    }

    fn binary(&mut self, id: FuncId, left: Val, right: Val) -> u32 {
        let (left, right) = (self.at(id, left), self.at(id, right));
        let containers: Types = self.map.sets[left as usize]
            .iter()
            .chain(&self.map.sets[right as usize])
            .copied()
            .filter(|of| matches!(of, Type::Container(_)))
            .take(1)
            .collect();
        if containers.is_empty() { PLAIN } else { self.set(containers) }
    }

    fn param(&mut self, id: FuncId, idx: u32) -> u32 {
        let known = self.map.params.get(&(id, idx)).copied().unwrap_or(0);
        let function = self.project.function(id);
        let Some(default) = function.params[idx as usize].default else { return known };
        let parent = self.project.sibling(id, function.parent);
        let default = self.outside(parent, default);
        if self.map.sets[default as usize].iter().all(|of| matches!(of, Type::None | Type::Plain)) {
            return known;
        }
        self.join(known, default)
    }

    fn local(&mut self, id: FuncId, body: &Body, local: LocalId, at: Val) -> u32 {
        let mut set = 0;
        for store in body.reaching(local, at) {
            let value = match body.op(store) {
                Op::StoreLocal { value, .. } => value,
                Op::Param(_) => store,
                _ => continue,
            };
            set = self.join(set, self.at(id, value));
        }
        set
    }

    fn captured(&mut self, owner: FuncId, local: LocalId) -> u32 {
        let project = self.project;
        let body = &project.function(owner).body;
        let mut set = self.slot(Slot::Local(owner, local));
        for store in &body.stores[local.0 as usize] {
            let value = match body.op(*store) {
                Op::StoreLocal { value, .. } => value,
                Op::Param(_) => *store,
                _ => continue,
            };
            let outside = self.outside(owner, value);
            set = self.join(set, outside);
        }
        set
    }

    fn symbol(&mut self, symbol: Symbol) -> u32 {
        match symbol {
            Symbol::Module(module) => self.one(Type::Module(module)),
            Symbol::Class(class) => self.one(Type::Class(class)),
            Symbol::Function(func) => self.one(Type::Function(func)),
            Symbol::External(dotted) => self.one(Type::External(dotted)),
            Symbol::Global(module, name) => self.slot(Slot::Global(module, name)),
        }
    }

    fn attribute(&mut self, id: FuncId, base: Val, name: Name) -> u32 {
        let mut set = 0;
        for of in self.types(self.at(id, base)) {
            let found = match of {
                Type::Instance(class) => self.member(class, name, true),
                Type::Super(class) => self.inherited(class, name),
                Type::Class(class) => self.member(class, name, false),
                Type::Module(module) => match self.module_member(module, name) {
                    Some(symbol) => self.symbol(symbol),
                    None => 0,
                },
                Type::External(dotted) => self.external_member(dotted, name),
                _ => 0,
            };
            set = self.join(set, found);
        }
        set
    }

    fn module_member(&mut self, module: ModuleId, name: Name) -> Option<Symbol> {
        let project = self.project;
        *self.members.entry((module, name)).or_insert_with(|| project.member(Symbol::Module(module), name))
    }

    fn external_member(&mut self, dotted: Name, name: Name) -> u32 {
        if let Some(known) = self.external.get(&(dotted, name)) {
            return *known;
        }
        let set = self.one(Type::External(crate::project::join(&[dotted, name])));
        self.external.insert((dotted, name), set);
        set
    }

    fn member(&mut self, class: ClassId, name: Name, instance: bool) -> u32 {
        if let Some(method) = self.project.method(class, name) {
            let flags = self.map.flags[method.0 as usize];
            if flags.is_property && instance {
                return self.returned(method);
            }
            let bound = (instance || flags.is_class) && !flags.is_static;
            return self.one(if bound { Type::Method(method) } else { Type::Function(method) });
        }
        let owner = self.map.owner(self.project, class, name);
        let known = self.slot(Slot::Attr(owner, name));
        if known != 0 || instance {
            return known;
        }
        match self.project.member(Symbol::Class(class), name) {
            Some(symbol) => self.symbol(symbol),
            None => 0,
        }
    }

    fn inherited(&mut self, class: ClassId, name: Name) -> u32 {
        let mro = self.project.class_info(class).mro.clone();
        for base in mro.into_iter().skip(1) {
            if let Some(method) = self.project.class_info(base).methods.get(&name) {
                return self.one(Type::Method(*method));
            }
        }
        0
    }

    fn entered(&mut self, id: FuncId, context: Val) -> u32 {
        let set = self.at(id, context);
        let mut all = 0;
        for of in self.types(set) {
            let Type::Instance(class) = of else { continue };
            for name in [name::ENTER, name::ASYNC_ENTER] {
                if let Some(method) = self.project.method(class, name) {
                    let returned = self.returned(method);
                    all = self.join(all, returned);
                }
            }
        }
        if all == 0 { set } else { all }
    }

    /// What an iteration over, or an item of, a value gives.
    fn element(&mut self, id: FuncId, body: &Body, over: Val) -> u32 {
        match body.op(over) {
            Op::Call { func, args } => match body.op(func) {
                Op::Attr { base, name } if matches!(name.as_str(), "values" | "copy" | "items") => {
                    self.element(id, body, base)
                }
                Op::Global(name)
                    if matches!(
                        name.as_str(),
                        "list" | "tuple" | "sorted" | "set" | "reversed" | "iter" | "enumerate"
                    ) =>
                {
                    match body.args(args).first() {
                        Some(arg) => self.element(id, body, arg.value),
                        None => 0,
                    }
                }
                _ => 0,
            },
            Op::Display(Display::List | Display::Tuple | Display::Set, args) => {
                let vals: Vec<Val> = body.args(args).iter().take(8).map(|arg| arg.value).collect();
                vals.into_iter().fold(0, |set, value| self.join(set, self.at(id, value)))
            }
            Op::Local(_) => {
                let origin = body.origin(over);
                if origin != over && !matches!(body.op(origin), Op::Param(_) | Op::Local(_) | Op::Display(..)) {
                    return self.element(id, body, origin);
                }
                self.slot_elements(id, over)
            }
            _ => self.slot_elements(id, over),
        }
    }

    fn slot_elements(&mut self, id: FuncId, over: Val) -> u32 {
        let mut set = 0;
        for slot in self.map.slots_of(self.project, id, over) {
            let found = self.elements(slot);
            set = self.join(set, found);
        }
        set
    }

    fn part(&mut self, id: FuncId, body: &Body, value: Val, idx: u32) -> u32 {
        match body.op(value) {
            Op::Next(iter) => {
                let Op::Iter { over, .. } = body.op(iter) else { return 0 };
                match body.op(over) {
                    Op::Call { func, args } => match body.op(func) {
                        Op::Attr { name, .. } if name == "items" && idx == 1 => self.element(id, body, over),
                        Op::Global(name) if name == "enumerate" && idx == 1 => self.element(id, body, over),
                        Op::Global(name) if name == "list" && idx == 1 => match body.args(args).first() {
                            Some(arg) if is_items(body, arg.value) => self.element(id, body, arg.value),
                            _ => 0,
                        },
                        _ => 0,
                    },
                    _ => 0,
                }
            }
            Op::Display(Display::Tuple, args) => match body.args(args).get(idx as usize) {
                Some(arg) => self.at(id, arg.value),
                None => 0,
            },
            _ => 0,
        }
    }

    fn call(&mut self, id: FuncId, body: &Body, call: Val) -> u32 {
        let Op::Call { func, args } = body.op(call) else { return 0 };
        let args = body.args(args);
        let mut set = 0;
        for of in self.types(self.at(id, func)) {
            let found = match of {
                Type::Class(class) => self.one(Type::Instance(class)),
                Type::Function(callee) | Type::Method(callee) => self.returned(callee),
                Type::External(dotted) => self.external_call(id, body, dotted, args),
                _ => 0,
            };
            set = self.join(set, found);
        }
        if set == 0 {
            set = self.method_call(id, body, func, args);
        }
        self.pass_arguments(id, call);
        set
    }

    fn external_call(&mut self, id: FuncId, body: &Body, dotted: Name, args: &[crate::body::Arg]) -> u32 {
        let first = args.first().map(|arg| arg.value);
        match dotted.as_str() {
            "super" => match self.project.method_around(id).and_then(|method| self.project.class_of(method)) {
                Some(class) => self.one(Type::Super(class)),
                None => 0,
            },
            "getattr" => match (first, args.get(1).map(|arg| body.op(arg.value))) {
                (Some(base), Some(Op::Str(name))) => self.attribute(id, base, name),
                _ => 0,
            },
            "functools.partial" | "functools.wraps" | "copy.copy" | "asyncio.wait_for" | "asyncio.shield"
            | "typing.cast" | "contextlib.closing" | "weakref.proxy" => {
                let which = usize::from(dotted == "typing.cast");
                args.get(which).map_or(0, |arg| self.at(id, arg.value))
            }
            "type" if args.len() == 1 => {
                let types = first.map(|first| self.types(self.at(id, first))).unwrap_or_default();
                let classes = types.into_iter().filter_map(|of| match of {
                    Type::Instance(class) => Some(Type::Class(class)),
                    _ => None,
                });
                self.set(classes.collect())
            }
            "next" | "min" | "max" => first.map_or(0, |first| self.element(id, body, first)),
            text => match standard::constructed(text) {
                Some(of) => self.one(of),
                None => {
                    let last = text.rsplit('.').next().unwrap_or("");
                    if last.starts_with(|first: char| first.is_ascii_uppercase()) {
                        self.one(Type::Foreign(dotted))
                    } else {
                        0
                    }
                }
            },
        }
    }

    /// Calls of methods of containers and standard objects.
    fn method_call(&mut self, id: FuncId, body: &Body, func: Val, args: &[crate::body::Arg]) -> u32 {
        let Op::Attr { base, name } = body.op(func) else { return 0 };
        let receiver = self.types(self.at(id, base));
        let is_container = receiver.iter().any(|of| matches!(of, Type::Container(_)));
        match name.as_str() {
            "append" | "add" | "appendleft" if is_container || receiver.is_empty() => {
                if let Some(arg) = args.first() {
                    let set = self.at(id, arg.value);
                    for slot in self.map.slots_of(self.project, id, base) {
                        self.add_element(slot, set);
                    }
                }
                0
            }
            "get" | "pop" | "popleft" | "popitem" | "setdefault" => {
                let found = self.element(id, body, base);
                if name == "setdefault"
                    && let Some(arg) = args.get(1)
                {
                    let set = self.at(id, arg.value);
                    for slot in self.map.slots_of(self.project, id, base) {
                        self.add_element(slot, set);
                    }
                    return self.join(found, set);
                }
                found
            }
            "copy" => self.at(id, base),
            "submit" if receiver.contains(&Type::Std(Std::Executor)) => self.one(Type::Std(Std::Future)),
            "create_task" => self.one(Type::Std(Std::Task)),
            "create_future" => self.one(Type::Std(Std::AsyncFuture)),
            "items" | "keys" | "values" => 0,
            _ if receiver.contains(&Type::Plain) => PLAIN,
            _ => 0,
        }
    }

    /// So do those that a call hands on to a thread or pool.
    fn pass_handed(&mut self, id: FuncId, call: Val) {
        let project = self.project;
        let dotted = self.map.external_callee(project, id, call);
        let body = &project.function(id).body;
        let Some((target, passed)) = super::handed::arguments(body, call, dotted) else { return };
        let mut callees = smallvec::SmallVec::new();
        self.map.targets(project, id, target, &mut callees);
        for callee in callees {
            let params = &project.function(callee.func).params;
            let shift = usize::from(callee.bound && !self.map.flags[callee.func.0 as usize].is_static);
            for (idx, value) in passed.iter().enumerate() {
                let set = self.at(id, *value);
                let known = self.map.sets[set as usize].iter().any(|of| *of != Type::None);
                if known && params.get(idx + shift).is_some_and(|param| !param.starred) {
                    self.add_param(callee.func, crate::project::as_u32(idx + shift), set);
                }
            }
        }
    }

    /// Arguments say what parameters are.
    fn pass_arguments(&mut self, id: FuncId, call: Val) {
        let project = self.project;
        let body = &project.function(id).body;
        let Op::Call { func, args } = body.op(call) else { return };
        self.pass_handed(id, call);
        if self.at(id, func) == 0 {
            return;
        }
        let mut callees = smallvec::SmallVec::new();
        self.map.targets(project, id, func, &mut callees);
        for callee in callees {
            let params = &project.function(callee.func).params;
            let shift = usize::from(callee.bound && !self.map.flags[callee.func.0 as usize].is_static);
            for (idx, arg) in body.args(args).iter().enumerate() {
                if arg.starred {
                    break;
                }
                let target = match arg.name {
                    Some(name) => params.iter().position(|param| param.name == name && !param.starred),
                    None => Some(idx + shift).filter(|idx| params.get(*idx).is_some_and(|param| !param.starred)),
                };
                if let Some(target) = target {
                    let set = self.at(id, arg.value);
                    if self.map.sets[set as usize].iter().any(|of| *of != Type::None) {
                        self.add_param(callee.func, crate::project::as_u32(target), set);
                    }
                }
            }
        }
    }
}

/// The attributes that a function assigns to its class or its `self`.
fn assigned(project: &Project, id: FuncId, flags: Flags) -> Vec<(ClassId, Name)> {
    let function = project.function(id);
    let body = &function.body;
    let Some(class) = project.class_of(id) else { return Vec::new() };
    let of_class = function.kind == FunctionKind::ClassBody;
    if !of_class && (function.kind != FunctionKind::Def || flags.is_static || function.params.is_empty()) {
        return Vec::new();
    }
    let name = |val: Val| match body.op(val) {
        Op::StoreLocal { local, value, .. } if of_class && !matches!(body.op(value), Op::Function(_)) => {
            Some(body.locals[local.0 as usize])
        }
        Op::Declare { base: None, name } if of_class => Some(name),
        Op::StoreAttr { base, name, .. } | Op::Declare { base: Some(base), name } if !of_class => {
            matches!(body.op(base), Op::Local(LocalId(0))).then_some(name)
        }
        _ => None,
    };
    body.vals().filter_map(name).map(|name| (class, name)).collect()
}

fn is_items(body: &Body, val: Val) -> bool {
    match body.op(val) {
        Op::Call { func, .. } => matches!(body.op(func), Op::Attr { name, .. } if name == "items"),
        _ => false,
    }
}
