//! How an object comes to be: by a constructor, on first use, again after a fork, in a local that nobody else sees.

use rustc_hash::FxHashSet;

use super::Analysis;
use crate::body::{Body, Function, LocalId, Op};
use crate::name::Name;
use crate::project::FuncId;
use crate::types::Slot;

impl Analysis<'_> {
    /// Does a decorator keep what the function returns?
    #[must_use]
    pub fn is_memoized(&self, func: FuncId) -> bool {
        let function = self.project.function(func);
        let parent = self.project.sibling(func, function.parent);
        let body = self.body(parent);
        function.decorators.iter().any(|decorator| {
            let target = match body.op(*decorator) {
                Op::Call { func, .. } => func,
                _ => *decorator,
            };
            let (Op::Attr { name, .. } | Op::Global(name)) = body.op(target) else { return false };
            let name = name.as_str();
            name == "cached_property" || name == "reify" || name.contains("memoized")
        })
    }

    /// The attribute that a method fills in: `__getattr__` calls it by a name that it puts together.
    #[must_use]
    pub fn fallback_for(&self, func: FuncId) -> Option<&'static str> {
        let class = self.project.class_of(func)?;
        let name = self.project.function(func).name.as_str();
        let getattr = self.project.method(class, crate::name::Name::new("__getattr__"))?;
        let function = self.project.function(getattr);
        let file = self.files.get(self.project.file_of(getattr));
        let code = file.text.get(function.start as usize..function.end as usize)?;
        let cuts = name.char_indices().filter(|(at, letter)| *letter == '_' && *at >= 4).map(|(at, _)| at + 1);
        let cut = cuts.filter(|cut| code.contains(&format!("{}{{", &name[..*cut]))).max()?;
        code.contains("setattr(").then_some(&name[cut..])
    }

    /// Does a function inside see a local variable?
    #[must_use]
    pub fn is_captured(&self, owner: FuncId, local: LocalId) -> bool {
        let module = self.project.module_of(owner);
        let around = self.project.function(owner);
        let inside = |function: &&Function| around.start <= function.start && function.end <= around.end;
        let mut functions = self.project.modules[module.0 as usize].functions.iter().filter(inside);
        let captures = |body: &Body| {
            body.vals().any(|val| match body.op(val) {
                Op::Captured(func, other) => other == local && self.project.func_id(module, func) == owner,
                _ => false,
            })
        };
        functions.any(|function| captures(&function.body))
    }

    /// Does the function make objects before anybody has them?
    #[must_use]
    pub fn makes_first(&self, func: FuncId) -> bool {
        self.is_import_code(func) || self.is_owned_by_maker(func)
    }

    /// After a fork or unpickling nobody else has the object; a function that a constructor calls makes it.
    #[must_use]
    pub fn restores(&self, func: FuncId) -> bool {
        let name = self.project.function(func).name.as_str().to_ascii_lowercase();
        let handed = self.contexts.callers[func.0 as usize].iter().any(|site| {
            let dotted = self.external_callee(site.caller, site.at);
            site.as_value && dotted.is_some_and(|dotted| dotted.as_str().contains("fork"))
                || !site.as_value && self.is_owned_by_maker(site.caller)
                || self.symbol(site.caller).contains("fork")
        });
        handed || name.contains("fork") || name.contains("reinit") || name.contains("setstate")
    }

    /// What the program reads of the slots that hold locks, collected in one walk.
    #[must_use]
    pub fn lock_reads(&self) -> LockReads {
        let names: FxHashSet<Name> =
            self.summaries.makers.keys().map(|slot| crate::contexts::slot_name(self.project, *slot)).collect();
        let mut found = LockReads::default();
        if names.is_empty() {
            return found;
        }
        for func in self.functions() {
            let body = self.body(func);
            for val in body.vals() {
                match body.op(val) {
                    Op::Attr { name, .. } if names.contains(&name) && !found.anywhere.contains(&name) => {
                        let slots = self.types.slots_of(self.project, func, val);
                        // Unless it is surely the lock of another class.
                        if slots.is_empty() || slots.iter().any(|slot| self.makers(*slot).is_empty()) {
                            found.anywhere.insert(name);
                        }
                        found.slots.extend(slots);
                    }
                    Op::Global(name) | Op::Str(name) if names.contains(&name) => {
                        found.anywhere.insert(name);
                    }
                    Op::Import(idx) => {
                        let module = &self.project.modules[self.project.module_of(func).0 as usize];
                        found.anywhere.extend(module.imports[idx as usize].member);
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

/// What is read of the slots that hold locks, as far as names tell.
#[derive(Default)]
pub struct LockReads {
    slots: FxHashSet<Slot>,
    /// Names that are read where it is open whose they are.
    anywhere: FxHashSet<Name>,
}

impl LockReads {
    /// Does anything in the program read the slot, which has this name?
    #[must_use]
    pub fn has(&self, slot: Slot, name: Name) -> bool {
        self.slots.contains(&slot) || self.anywhere.contains(&name)
    }
}
