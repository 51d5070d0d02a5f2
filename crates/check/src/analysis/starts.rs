//! Flags that say that something has been done once and for all.

use super::{Analysis, Condition};
use crate::body::{BlockKind, Op, Val};
use crate::summary::{Access, Touch};
use crate::types::Slot;

impl Analysis<'_> {
    /// Sets a flag that was found unset, and does something beside it that must not happen twice.
    #[must_use]
    pub fn starts_something(&self, flag: &Access, unset: &Condition) -> bool {
        if !self.sets_flag(flag) || unset.through_local {
            return false;
        }
        if self.fills_after(flag) {
            return true;
        }
        let body = self.body(flag.func);
        let tested = body.enclosing(flag.act).find(|(_, block)| match block.kind {
            BlockKind::Then(test) | BlockKind::Else(test) => test >= unset.read,
            _ => false,
        });
        let Some((_, block)) = tested else { return false };
        (block.first..block.end).map(Val).any(|val| match body.op(val) {
            Op::Call { func, .. } => match body.op(func) {
                // An entry in a list of the module stands there twice.
                Op::Attr { base, name } if name == "append" => {
                    let slots = self.types.slots_of(self.project, flag.func, base);
                    slots.iter().any(|slot| matches!(slot, Slot::Global(..)))
                }
                Op::Attr { name, .. } | Op::Global(name) => matters_twice(name.as_str()),
                _ => false,
            },
            _ => false,
        })
    }

    /// `x = True`
    #[must_use]
    pub fn sets_flag(&self, access: &Access) -> bool {
        match access.touch {
            Touch::Store(value) => matches!(self.body(access.func).op(value), Op::Truth(true)),
            _ => false,
        }
    }
}

/// Does a call with this name do something that must not be done twice?
fn matters_twice(name: &str) -> bool {
    let words = [
        "start",
        "submit",
        "create",
        "register",
        "connect",
        "open",
        "install",
        "setup",
        "init",
        "initialize",
        "load",
        "spawn",
    ];
    name.trim_start_matches('_').split('_').any(|word| words.contains(&word)) || name.starts_with("add")
}
