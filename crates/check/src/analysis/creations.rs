//! Objects that are created where a test finds them missing.

use super::{Analysis, Condition, Stretch, Test};
use crate::body::{Display, Op, Val};
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::{Std, Type};

/// A store that creates what a test found missing.
#[derive(Clone, Copy)]
pub struct Creation {
    /// The test.
    pub condition: Condition,
    /// From the read of the test to the store.
    pub stretch: Stretch,
    /// What is stored.
    pub value: Val,
    /// An item of a container.
    pub keyed: bool,
    /// We know that a second construction matters, not only that it may.
    pub certain: bool,
}

impl Analysis<'_> {
    /// Does the access create a shared object that was tested to be missing, and would a second one matter: has it an
    /// identity or state? An immutable value, computed twice, is the same value.
    #[must_use]
    pub fn creation(&self, store: &Access) -> Option<Creation> {
        let mut creation = self.lazy_store(store)?;
        creation.certain = self.is_number_of(store, creation.value)
            || self.second_matters(store.func, creation.value, creation.keyed)?;
        Some(creation)
    }

    /// `ids[name] = len(ids)`: two entries that are made at once get one number.
    fn is_number_of(&self, store: &Access, value: Val) -> bool {
        let body = self.body(store.func);
        let Op::Call { func: target, args } = body.op(body.origin(value)) else { return false };
        let slot = self.summaries.slot(store.place);
        matches!((body.op(target), body.args(args)), (Op::Global(name), [of])
            if name == "len" && self.types.slots_of(self.project, store.func, of.value).contains(&slot))
    }

    /// Does the access store what a test found missing, whatever it is?
    #[must_use]
    pub fn lazy_store(&self, store: &Access) -> Option<Creation> {
        let body = self.body(store.func);
        let (value, keyed) = match (store.touch, body.op(store.act)) {
            (
                Touch::Store(value) | Touch::Update(value),
                Op::StoreAttr { .. } | Op::StoreGlobal { .. } | Op::StoreCaptured { .. },
            ) => (stored_value(body.op(store.act)).unwrap_or(value), false),
            (Touch::ItemStore, Op::StoreItem { value, key, .. }) if !self.is_own_key(store.func, key) => (value, true),
            _ => return None,
        };
        let slot = self.summaries.slot(store.place);
        let is_missing = |condition: &Condition| {
            condition.slot == slot
                && matches!((condition.test, keyed), (Test::Absent, false) | (Test::LacksKey(_), true))
        };
        let conditions = self.conditions(store.func, store.act);
        let (condition, value) = match conditions.into_iter().find(is_missing) {
            Some(condition) => (condition, value),
            None => self.or_default(store, value, slot)?,
        };
        let stretch = Stretch { func: store.func, from: condition.read.min(condition.at), to: store.act };
        Some(Creation { condition, stretch, value, keyed, certain: false })
    }

    /// A key that only the current thread or task has: `get_ident()`, `current_task()`, or a task that it starts.
    #[must_use]
    pub fn is_own_key(&self, func: FuncId, key: Val) -> bool {
        let body = self.body(func);
        let mut at = body.origin(key);
        for _ in 0..3 {
            let Op::Call { func: target, args } = body.op(at) else {
                // `current_token().native`
                let Op::Attr { base, .. } = body.op(at) else { return false };
                at = body.origin(base);
                continue;
            };
            let name = match body.op(target) {
                Op::Attr { name, .. } | Op::Global(name) => name.as_str(),
                _ => return false,
            };
            match (name, body.args(args)) {
                ("cast", [_, value]) => at = body.origin(value.value),
                ("get_ident" | "get_native_id" | "getpid" | "getcurrent", _) => return true,
                // A task that is started here is nobody else's key yet.
                ("create_task" | "ensure_future" | "Task" | "Future", _) => return true,
                _ => return name.contains("current_"),
            }
        }
        false
    }

    /// `x = x or Thing()`
    fn or_default(&self, store: &Access, value: Val, slot: crate::types::Slot) -> Option<(Condition, Val)> {
        let body = self.body(store.func);
        let Op::Either(left, right) = body.op(value) else { return None };
        let reads = self.types.slots_of(self.project, store.func, left).contains(&slot);
        let condition = Condition { slot, read: left, test: Test::Absent, at: left, through_local: false };
        reads.then_some((condition, right))
    }

    /// Would it matter that two threads make this value? `None`: no. `Some(false)`: it may. The one object of a slot
    /// is meant to be one; of the objects of a cache, those without state are as good as one another.
    #[must_use]
    pub fn second_matters(&self, func: FuncId, value: Val, keyed: bool) -> Option<bool> {
        let body = self.body(func);
        let value = body.origin(value);
        if matches!(
            body.op(value),
            Op::None | Op::Truth(_) | Op::Scalar | Op::Str(_) | Op::Param(_) | Op::Compare { .. }
        ) {
            return None;
        }
        // `cache[key] = engine, session`: the tuple is as good as its parts.
        if let Op::Display(Display::Tuple, args) = body.op(value) {
            let mut found = None;
            for part in body.args(args).iter().filter(|part| !part.starred) {
                found = found.max(self.second_part_matters(func, part.value, keyed));
            }
            return found;
        }
        self.second_part_matters(func, value, keyed)
    }

    fn second_part_matters(&self, func: FuncId, value: Val, keyed: bool) -> Option<bool> {
        let body = self.body(func);
        let value = body.origin(value);
        if self.allocates(func, value) {
            return Some(true);
        }
        let types = self.types.of(func, value);
        let stateful = types.iter().any(|of| match of {
            Type::Instance(class) => {
                let single = !keyed && !self.types.is_plain(self.project, &[*of]);
                single || self.summaries.stateful.contains(class)
            }
            Type::Std(std) => !matches!(std, Std::Logger | Std::WeakRef | Std::Count),
            Type::Container(_) => self.starts_empty(func, value),
            _ => false,
        });
        if stateful {
            return Some(true);
        }
        let foreign = types.iter().any(|of| matches!(of, Type::Foreign(_)));
        let unknown_call = types.is_empty() && matches!(body.op(value), Op::Call { .. } | Op::Await(_));
        let computed = types.iter().any(|of| matches!(of, Type::Container(_)));
        (foreign || computed || unknown_call).then_some(foreign)
    }

    /// `super().__new__(cls)`, `super().__call__(...)` of a metaclass, and what is named after making something that
    /// lives on: `create_engine(...)`, `open_channel()`.
    fn allocates(&self, func: FuncId, value: Val) -> bool {
        let body = self.body(func);
        let Op::Call { func: target, .. } = body.op(value) else { return false };
        let name = match body.op(target) {
            Op::Attr { name, .. } if name == "__new__" => return true,
            Op::Attr { base, name } if name == "__call__" => {
                return matches!(body.op(body.origin(base)), Op::Call { func: of, .. }
                    if matches!(body.op(of), Op::Global(name) if name == "super"));
            }
            Op::Attr { name, .. } | Op::Global(name) => name.as_str(),
            _ => return false,
        };
        let unknown = self.types.of(func, value).is_empty();
        let verb = name.trim_start_matches('_').split('_').next().unwrap_or("");
        unknown && name.contains('_') && matches!(verb, "create" | "open" | "connect" | "start" | "spawn" | "launch")
    }

    /// A container that is empty when it is published is filled afterwards: which of two is filled matters. One that
    /// was computed first is as good as another.
    fn starts_empty(&self, func: FuncId, value: Val) -> bool {
        let body = self.body(func);
        match body.op(value) {
            Op::Display(_, args) => args.len == 0,
            Op::Call { func: target, .. } => {
                self.types.of(func, target).iter().all(|of| matches!(of, Type::External(_)))
                    && !self.types.of(func, target).is_empty()
            }
            _ => false,
        }
    }
}

fn stored_value(op: Op) -> Option<Val> {
    match op {
        Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. } | Op::StoreCaptured { value, .. } => Some(value),
        _ => None,
    }
}
