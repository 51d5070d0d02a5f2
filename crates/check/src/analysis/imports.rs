//! Which modules import which at their top, and which of them form cycles.

use rustc_hash::FxHashMap;

use super::Analysis;
use crate::body::{FunctionKind, Op, Val};
use crate::project::{FuncId, ModuleId, Symbol};

/// The imports that run when a module is loaded.
pub struct Imports {
    /// By module: the modules that it loads.
    edges: Vec<Vec<ModuleId>>,
    /// By module: its cycle, named by its first module.
    cycle: Vec<ModuleId>,
    /// By first module: how many modules the cycle has.
    size: FxHashMap<ModuleId, usize>,
}

/// An import that stands in a function.
#[derive(Clone, Copy, Debug)]
pub struct LazyImport {
    /// The function.
    pub func: FuncId,
    /// The import, or the call of `import_module`.
    pub at: Val,
    /// The module that is loaded.
    pub module: ModuleId,
}

impl Imports {
    /// Is the module part of a cycle? Its name, if so.
    #[must_use]
    pub fn cycle_of(&self, module: ModuleId) -> Option<ModuleId> {
        let first = self.cycle[module.0 as usize];
        self.size.get(&first).is_some_and(|size| *size > 1).then_some(first)
    }

    /// Has a cycle been loaded by a module outside of it, or by what `from` imports?
    #[must_use]
    pub fn is_loaded_elsewhere(&self, cycle: ModuleId) -> bool {
        let in_cycle = |module: ModuleId| self.cycle[module.0 as usize] == cycle;
        self.edges
            .iter()
            .enumerate()
            .any(|(idx, targets)| self.cycle[idx] != cycle && targets.iter().any(|target| in_cycle(*target)))
    }

    /// Is the module part of the cycle?
    #[must_use]
    pub fn is_in(&self, module: ModuleId, cycle: ModuleId) -> bool {
        self.cycle[module.0 as usize] == cycle
    }
}

impl Analysis<'_> {
    /// The imports at the top of all modules.
    #[must_use]
    pub fn imports(&self) -> Imports {
        let count = self.project.modules.len();
        let mut edges: Vec<Vec<ModuleId>> = vec![Vec::new(); count];
        for func in self.functions() {
            let kind = self.project.function(func).kind;
            if !matches!(kind, FunctionKind::Module | FunctionKind::ClassBody) {
                continue;
            }
            let module = self.project.module_of(func);
            let body = self.body(func);
            for val in body.vals() {
                let Op::Import(idx) = body.op(val) else { continue };
                let import = self.project.modules[module.0 as usize].imports[idx as usize];
                if !import.for_types {
                    edges[module.0 as usize].extend(self.loaded(module, idx));
                }
            }
        }
        for (idx, targets) in edges.iter_mut().enumerate() {
            targets.sort_unstable();
            targets.dedup();
            targets.retain(|target| target.0 as usize != idx);
        }
        let cycle = components(&edges);
        let mut size: FxHashMap<ModuleId, usize> = FxHashMap::default();
        cycle.iter().for_each(|first| *size.entry(*first).or_default() += 1);
        Imports { edges, cycle, size }
    }

    /// The modules that an import loads.
    fn loaded(&self, module: ModuleId, idx: u32) -> Vec<ModuleId> {
        let import = self.project.modules[module.0 as usize].imports[idx as usize];
        let mut found: Vec<ModuleId> =
            self.project.find_module(module, import.module, import.level).into_iter().collect();
        match self.project.imported(module, idx) {
            Symbol::Module(member) if !found.contains(&member) => found.push(member),
            _ => {}
        }
        found
    }

    /// The imports that stand in functions.
    #[must_use]
    pub fn lazy_imports(&self) -> Vec<LazyImport> {
        let mut found = Vec::new();
        for func in self.functions() {
            if self.is_import_code(func) || self.is_test(func) {
                continue;
            }
            let module = self.project.module_of(func);
            let body = self.body(func);
            for at in body.vals() {
                let loaded = match body.op(at) {
                    Op::Import(idx) => {
                        let import = self.project.modules[module.0 as usize].imports[idx as usize];
                        if import.for_types { Vec::new() } else { self.loaded(module, idx) }
                    }
                    Op::Call { args, .. } if self.loads_by_name(func, at) => {
                        match body.args(args).first().map(|arg| body.op(arg.value)) {
                            Some(Op::Str(name)) => self.project.find_module(module, name, 0).into_iter().collect(),
                            _ => Vec::new(),
                        }
                    }
                    _ => continue,
                };
                found.extend(loaded.into_iter().map(|module| LazyImport { func, at, module }));
            }
        }
        found
    }

    /// `importlib.import_module(...)`, `__import__(...)`
    #[must_use]
    pub fn loads_by_name(&self, func: FuncId, call: Val) -> bool {
        self.external_callee(func, call)
            .is_some_and(|name| matches!(name.as_str(), "importlib.import_module" | "__import__"))
    }
}

/// The strongly connected part of each module, named by its first module (Tarjan, without recursion).
fn components(edges: &[Vec<ModuleId>]) -> Vec<ModuleId> {
    let count = edges.len();
    let unseen = usize::MAX;
    let (mut index, mut low) = (vec![unseen; count], vec![0; count]);
    let mut on_stack = vec![false; count];
    let mut part: Vec<ModuleId> = (0..count).map(|idx| ModuleId(crate::project::as_u32(idx))).collect();
    let (mut stack, mut next) = (Vec::new(), 0);
    for root in 0..count {
        if index[root] != unseen {
            continue;
        }
        let mut work = vec![(root, 0)];
        while let Some((at, edge)) = work.pop() {
            if edge == 0 {
                index[at] = next;
                low[at] = next;
                next += 1;
                stack.push(at);
                on_stack[at] = true;
            }
            if let Some(target) = edges[at].get(edge) {
                work.push((at, edge + 1));
                let target = target.0 as usize;
                if index[target] == unseen {
                    work.push((target, 0));
                } else if on_stack[target] {
                    low[at] = low[at].min(index[target]);
                }
                continue;
            }
            if let Some((parent, _)) = work.last() {
                low[*parent] = low[*parent].min(low[at]);
            }
            if low[at] == index[at] {
                let mut members = Vec::new();
                while let Some(member) = stack.pop() {
                    on_stack[member] = false;
                    members.push(member);
                    if member == at {
                        break;
                    }
                }
                let first = members.iter().copied().min().unwrap_or(at);
                members.into_iter().for_each(|member| part[member] = ModuleId(crate::project::as_u32(first)));
            }
        }
    }
    part
}
