//! Keys that a function has made sure of before it looks them up.

use super::{Analysis, Condition, Test};
use crate::body::{BlockKind, Op, Val};
use crate::project::FuncId;

impl Analysis<'_> {
    /// The test that made sure of the key: `if k not in d: d[k] = v` before `d[k]`. From there on the lookup counts on
    /// the key, as it does inside of `if k in d`.
    #[must_use]
    pub fn ensured(&self, func: FuncId, lookup: Val) -> Option<Condition> {
        let body = self.body(func);
        let Op::Item { base, key } = body.op(lookup) else { return None };
        let slots = self.types.slots_of(self.project, func, base);
        let text = |val: Val| self.files.text(self.span(func, val));
        body.blocks.iter().filter(|block| block.end <= lookup.0 && !block.leaves).find_map(|block| {
            let (test, holds) = match block.kind {
                BlockKind::Then(test) => (test, true),
                BlockKind::Else(test) => (test, false),
                _ => return None,
            };
            if !body.holds(block.parent, lookup) {
                return None;
            }
            let mut tested = Vec::new();
            self.atoms(func, test, holds, &mut tested);
            let lacks = |condition: &Condition| {
                matches!(condition.test, Test::LacksKey(of) if text(of) == text(key)) && slots.contains(&condition.slot)
            };
            let condition = tested.into_iter().find(|condition| lacks(condition) && !condition.through_local)?;
            let stores = (block.first..block.end).any(|idx| match body.op(Val(idx)) {
                Op::StoreItem { base: of, key: at, .. } => text(of) == text(base) && text(at) == text(key),
                _ => false,
            });
            stores.then_some(Condition { test: Test::HasKey(key), ..condition })
        })
    }

    /// `for x in list(items): ... items.remove(x)`: what is taken out was there when the walk, or the copy, began.
    #[must_use]
    pub fn walked(&self, func: FuncId, removal: Val) -> Option<Condition> {
        let body = self.body(func);
        let (items, key) = match body.op(removal) {
            Op::DelItem { base, key } => (base, key),
            Op::Call { args, .. } => match (self.method_call(func, removal)?, body.args(args)) {
                ((base, "remove" | "pop"), [key]) => (base, key.value),
                _ => return None,
            },
            _ => return None,
        };
        let Op::Next(iter) = body.op(body.origin(key)) else { return None };
        let Op::Iter { over, is_async: false } = body.op(iter) else { return None };
        let walked = self.copied_from(func, over);
        let slots = self.types.slots_of(self.project, func, items);
        let slot = *self.types.slots_of(self.project, func, walked).iter().find(|slot| slots.contains(slot))?;
        Some(Condition { slot, read: walked, test: Test::HasKey(key), at: over, through_local: false })
    }

    /// What `list(x)`, `x[:]`, `x.copy()` and `list(x.keys())` are taken from; otherwise the value itself.
    fn copied_from(&self, func: FuncId, val: Val) -> Val {
        let body = self.body(func);
        let mut at = val;
        for _ in 0..3 {
            at = match body.op(at) {
                Op::Item { base, key } if matches!(body.op(key), Op::Other(args) if args.len == 0) => base,
                Op::Call { func: target, args } => match (body.op(target), body.args(args)) {
                    (Op::Global(name), [arg]) if matches!(name.as_str(), "list" | "tuple" | "set") => arg.value,
                    (Op::Attr { base, name }, []) if matches!(name.as_str(), "copy" | "keys") => base,
                    _ => return at,
                },
                _ => return at,
            };
        }
        at
    }
}
