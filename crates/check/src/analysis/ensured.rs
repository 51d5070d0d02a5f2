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
}
