//! What a name stands for: through imports, re-exports and attributes of modules.

use super::{ClassId, FuncId, ModuleId, Project, join};
use crate::body::{Import, Op, Val};
use crate::name::{self, Name};
use crate::parallel;

/// How many re-exports are followed.
const HOPS_MAX: usize = 8;

/// Standard modules that we have facts about: a file of the same name does not stand in for them.
const FACTUAL: [&str; 20] = [
    "asyncio",
    "atexit",
    "collections",
    "concurrent",
    "contextlib",
    "contextvars",
    "copy",
    "enum",
    "functools",
    "gc",
    "itertools",
    "logging",
    "multiprocessing",
    "os",
    "queue",
    "signal",
    "socketserver",
    "threading",
    "typing",
    "weakref",
];

/// What `from module import *` binds, as far as we have facts about it.
fn exported(module: &str) -> &'static [&'static str] {
    match module {
        "threading" => &[
            "Thread",
            "Lock",
            "RLock",
            "Condition",
            "Event",
            "Semaphore",
            "BoundedSemaphore",
            "Timer",
            "Barrier",
            "local",
        ],
        "queue" => &["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"],
        "concurrent.futures" => &["ThreadPoolExecutor", "ProcessPoolExecutor", "Future"],
        "collections" => &["deque", "defaultdict", "OrderedDict", "Counter"],
        _ => &[],
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// A module of the project.
    Module(ModuleId),
    /// A class of the project.
    Class(ClassId),
    /// A function of the project.
    Function(FuncId),
    /// A variable of a module.
    Global(ModuleId, Name),
    /// Something outside the project, by its dotted name; built-ins have no dots.
    External(Name),
}

fn is_external(symbol: Symbol) -> bool {
    matches!(symbol, Symbol::External(_))
}

fn is_factual(symbol: Symbol) -> bool {
    match symbol {
        Symbol::External(dotted) => dotted.as_str().split_once('.').is_some_and(|(top, _)| FACTUAL.contains(&top)),
        _ => false,
    }
}

impl Project {
    /// What a module-level name of `module` stands for. A name that nothing binds is a built-in.
    #[must_use]
    pub fn lookup(&self, module: ModuleId, name: Name) -> Symbol {
        let known = self.symbols.get(module.0 as usize).and_then(|symbols| symbols.get(&name));
        known.copied().unwrap_or_else(|| self.lookup_hops(module, name, 0))
    }

    /// Looks up all that modules bind and import, once: nearly every node of a body asks for one of them.
    pub(super) fn resolve(&mut self) {
        let project = &*self;
        let found = parallel::map((0..project.modules.len()).collect(), |idx| {
            let module = ModuleId(super::as_u32(idx));
            let bound = project.globals[idx].keys();
            let symbols = bound.map(|name| (*name, project.lookup_hops(module, *name, 0))).collect();
            let imports = project.modules[idx].imports.iter();
            (symbols, imports.map(|import| project.imported_hops(module, *import, 0)).collect())
        });
        (self.symbols, self.imports) = found.into_iter().unzip();
    }

    fn lookup_hops(&self, module: ModuleId, name: Name, hops: usize) -> Symbol {
        let Some(stores) = self.globals[module.0 as usize].get(&name) else {
            return self.star_imported(module, name, hops).unwrap_or(Symbol::External(name));
        };
        let mut best: Option<Symbol> = None;
        for store in stores {
            let body = &self.function(store.func).body;
            let found = match body.op(store.value) {
                Op::Function(idx) => Symbol::Function(self.func_id(module, idx)),
                Op::Class(idx) => Symbol::Class(self.class_id(module, idx)),
                Op::Import(idx) if hops < HOPS_MAX => {
                    let import = self.modules[module.0 as usize].imports[idx as usize];
                    self.imported_hops(module, import, hops + 1)
                }
                // `threading = None` and the like: a stand-in for an import that failed.
                Op::None if stores.len() > 1 => continue,
                _ => Symbol::Global(module, name),
            };
            // A stand-in for where the standard module is missing, or a better source of something external.
            let better = match best {
                None => true,
                Some(known) => !is_factual(known) && (is_factual(found) || is_external(known) && !is_external(found)),
            };
            if better {
                best = Some(found);
            }
        }
        best.unwrap_or(Symbol::Global(module, name))
    }

    fn star_imported(&self, module: ModuleId, name: Name, hops: usize) -> Option<Symbol> {
        if hops >= HOPS_MAX {
            return None;
        }
        if !self.stars[module.0 as usize] {
            return None;
        }
        self.modules[module.0 as usize].imports.iter().filter(|import| import.member == Some(name::STAR)).find_map(
            |import| {
                let Some(source) = self.find_module(module, import.module, import.level) else {
                    let known = import.level == 0 && exported(import.module.as_str()).contains(&name.as_str());
                    return known.then(|| Symbol::External(join(&[import.module, name])));
                };
                let known = self.globals[source.0 as usize].contains_key(&name);
                if known {
                    return Some(self.lookup_hops(source, name, hops + 1));
                }
                self.star_imported(source, name, hops + 1)
            },
        )
    }

    /// What an import binds: an index into the imports of the module.
    #[must_use]
    pub fn imported(&self, importer: ModuleId, idx: u32) -> Symbol {
        let known = self.imports.get(importer.0 as usize).map(|symbols| symbols[idx as usize]);
        known
            .unwrap_or_else(|| self.imported_hops(importer, self.modules[importer.0 as usize].imports[idx as usize], 0))
    }

    fn imported_hops(&self, importer: ModuleId, import: Import, hops: usize) -> Symbol {
        let Some(member) = import.member else {
            let dotted = import.module;
            let bound =
                if import.binds_top { Name::new(dotted.as_str().split('.').next().unwrap_or("")) } else { dotted };
            return self.find_module(importer, bound, 0).map_or(Symbol::External(bound), Symbol::Module);
        };
        let Some(source) = self.find_module(importer, import.module, import.level) else {
            return Symbol::External(join(&[import.module, member]));
        };
        if self.globals[source.0 as usize].contains_key(&member) {
            return self.lookup_hops(source, member, hops);
        }
        self.member_module(source, member)
            .map(Symbol::Module)
            .or_else(|| self.star_imported(source, member, hops))
            .unwrap_or(Symbol::External(join(&[import.module, member])))
    }

    fn member_module(&self, package: ModuleId, member: Name) -> Option<ModuleId> {
        let mut path = self.paths[package.0 as usize].clone();
        path.push(member);
        self.module_at(&path)
    }

    fn module_at(&self, path: &[Name]) -> Option<ModuleId> {
        let candidates = (0..path.len()).find_map(|from| self.by_suffix.get(&join(&path[from..])))?;
        candidates.iter().copied().find(|id| self.paths[id.0 as usize] == path)
    }

    /// The module that `importer` gets for a dotted name, if it is in the project.
    #[must_use]
    pub fn find_module(&self, importer: ModuleId, dotted: Name, level: u32) -> Option<ModuleId> {
        let path = &self.paths[importer.0 as usize];
        if level > 0 {
            let up = level as usize - usize::from(self.packages[importer.0 as usize]);
            let mut target = path.get(..path.len().checked_sub(up)?)?.to_vec();
            target.extend(dotted.as_str().split('.').filter(|part| !part.is_empty()).map(Name::new));
            return self.module_at(&target);
        }
        let top = dotted.as_str().split('.').next().unwrap_or("");
        if FACTUAL.contains(&top) {
            return None;
        }
        let candidates = self.by_suffix.get(&dotted)?;
        candidates.iter().copied().max_by_key(|id| {
            let other = &self.paths[id.0 as usize];
            (path.iter().zip(other).take_while(|(a, b)| a == b).count(), std::cmp::Reverse(id.0))
        })
    }

    /// What an expression of names and attributes stands for, where it can be told without types.
    #[must_use]
    pub fn symbol_of(&self, func: FuncId, val: Val) -> Option<Symbol> {
        let body = &self.function(func).body;
        let mut names = Vec::new();
        let mut at = val;
        let module = self.module_of(func);
        let mut symbol = loop {
            match body.op(at) {
                Op::Attr { base, name } => {
                    names.push(name);
                    at = base;
                }
                // `Base[T]`
                Op::Item { base, .. } => at = base,
                Op::Global(name) => break self.lookup(module, name),
                Op::Class(idx) => break Symbol::Class(self.class_id(module, idx)),
                Op::Function(idx) => break Symbol::Function(self.func_id(module, idx)),
                Op::Import(idx) => break self.imported(module, idx),
                Op::Local(_) => {
                    let origin = body.origin(at);
                    if origin == at || matches!(body.op(origin), Op::Local(_)) {
                        return None;
                    }
                    at = origin;
                }
                Op::Captured(owner, local) => {
                    let owner = self.func_id(module, owner);
                    return self.captured_symbol(owner, local);
                }
                _ => return None,
            }
        };
        for name in names.into_iter().rev() {
            symbol = self.member(symbol, name)?;
        }
        Some(symbol)
    }

    fn captured_symbol(&self, owner: FuncId, local: crate::body::LocalId) -> Option<Symbol> {
        let body = &self.function(owner).body;
        let [store] = body.stores[local.0 as usize][..] else { return None };
        match body.op(store) {
            Op::StoreLocal { value, .. } => match body.op(value) {
                Op::Class(_) | Op::Function(_) | Op::Import(_) => self.symbol_of(owner, value),
                _ => None,
            },
            _ => None,
        }
    }

    /// An attribute of a module, or of something external.
    #[must_use]
    pub fn member(&self, of: Symbol, name: Name) -> Option<Symbol> {
        match of {
            Symbol::Module(module) => {
                if self.globals[module.0 as usize].contains_key(&name) {
                    return Some(self.lookup(module, name));
                }
                let member = self.member_module(module, name).map(Symbol::Module);
                member.or_else(|| self.star_imported(module, name, 0))
            }
            Symbol::External(dotted) => Some(Symbol::External(join(&[dotted, name]))),
            Symbol::Class(class) => {
                // A class defined inside a class.
                let body = self.class(class).body;
                let module = self.class_info(class).module;
                let inner = self.modules[module.0 as usize].function(body);
                let found = inner.body.vals().find_map(|val| match inner.body.op(val) {
                    Op::Class(idx) if self.modules[module.0 as usize].class(idx).name == name => Some(idx),
                    _ => None,
                });
                found.map(|idx| Symbol::Class(self.class_id(module, idx)))
            }
            Symbol::Function(_) | Symbol::Global(..) => None,
        }
    }
}
