//! What methods do to the state of their own object.

use super::Analysis;
use crate::body::{LocalId, Op, Val};
use crate::name::Name;
use crate::project::FuncId;

impl Analysis<'_> {
    /// Do two methods of one object touch the same attribute, at least one of them changing it?
    #[must_use]
    pub fn footprints_conflict(&self, first: FuncId, second: FuncId) -> bool {
        let (one, two) = (self.footprint(first), self.footprint(second));
        one.iter().any(|(name, writes)| two.iter().any(|(other, changes)| name == other && (*writes || *changes)))
    }

    /// The attributes of its own object that a method uses itself, and whether it changes them.
    fn footprint(&self, func: FuncId) -> Vec<(Name, bool)> {
        let body = self.body(func);
        let own = |base: Val| matches!(body.op(base), Op::Local(LocalId(0)));
        let attr = |val: Val| match body.op(val) {
            Op::Attr { base, name } if own(base) => Some(name),
            _ => None,
        };
        let mut found = Vec::new();
        for val in body.vals() {
            let touched = match body.op(val) {
                Op::StoreAttr { base, name, .. } | Op::DelAttr { base, name } if own(base) => Some((name, true)),
                Op::StoreItem { base, .. } | Op::DelItem { base, .. } => attr(base).map(|name| (name, true)),
                Op::Call { .. } => match self.method_call(func, val) {
                    Some((base, method)) if crate::summary::mutating(method) => attr(base).map(|name| (name, true)),
                    _ => None,
                },
                Op::Attr { .. } => attr(val).map(|name| (name, false)),
                _ => None,
            };
            found.extend(touched);
        }
        found
    }
}
