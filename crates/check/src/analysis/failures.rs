//! Which exceptions a function lets out, and which it swallows.

use super::Analysis;
use crate::body::{Block, BlockId, BlockKind, Body, Op, Val};
use crate::name::Name;
use crate::project::FuncId;
use crate::types::Type;

/// How many calls deep a function is asked whether it can fail.
const DEPTH_MAX: usize = 3;

impl Analysis<'_> {
    /// The first node of a function that can raise an exception which the function lets out, from `first` to `end`.
    ///
    /// Only what does work counts: calls that are not known to be harmless, and `raise`.
    #[must_use]
    pub fn can_fail(&self, func: FuncId, first: u32, end: u32) -> Option<Val> {
        self.fails_at_depth(func, first, end, 0)
    }

    fn fails_at_depth(&self, func: FuncId, first: u32, end: u32, depth: usize) -> Option<Val> {
        let body = self.body(func);
        (first..end).map(Val).find(|val| {
            let risky = match body.op(*val) {
                Op::Raise(_) => true,
                Op::Call { .. } => self.call_can_fail(func, *val, depth),
                _ => false,
            };
            risky && !self.is_caught(func, *val)
        })
    }

    fn call_can_fail(&self, func: FuncId, call: Val, depth: usize) -> bool {
        if self.is_harmless(func, call) {
            return false;
        }
        let callees = self.types.callees(self.project, func, call);
        if callees.is_empty() || callees.iter().any(|callee| callee.guessed) || depth >= DEPTH_MAX {
            return true;
        }
        callees.iter().any(|callee| {
            let end = crate::project::as_u32(self.body(callee.func).nodes.len());
            self.fails_at_depth(callee.func, 0, end, depth + 1).is_some()
        })
    }

    /// Calls that log, sleep, look at the clock or at an event, or touch a built-in container.
    fn is_harmless(&self, func: FuncId, call: Val) -> bool {
        if let Some(name) = self.external_callee(func, call) {
            let text = name.as_str();
            let top = text.split('.').next().unwrap_or("");
            return matches!(top, "logging" | "time" | "threading" | "warnings")
                || matches!(text, "print" | "len" | "str" | "repr" | "isinstance" | "getattr" | "hasattr" | "id")
                || matches!(text, "super" | "list" | "dict" | "set" | "tuple" | "bool" | "max" | "min" | "range");
        }
        let Some((base, name)) = self.method_call(func, call) else { return false };
        let types = self.types.of(func, base);
        let known = types.iter().any(|of| matches!(of, Type::Std(_) | Type::Container(_)));
        known
            || crate::summary::mutating(name)
            || logs(name)
            || matches!(name, "get" | "put" | "set" | "is_set" | "wait" | "task_done")
    }

    /// Is the node inside a `try` with a handler for one of these exceptions by its name? Who writes that expects it.
    #[must_use]
    pub fn expects(&self, func: FuncId, val: Val, exceptions: &[&str]) -> bool {
        let body = self.body(func);
        let is_named = |caught: Val| match body.op(caught) {
            Op::Global(name) | Op::Attr { name, .. } => exceptions.contains(&name.as_str()),
            _ => false,
        };
        let handles = |tried: BlockId| {
            body.blocks.iter().any(|block| match block.kind {
                BlockKind::Except(of, Some(caught)) if of == tried => {
                    let mut named = is_named(caught);
                    body.operands(caught, |operand| named |= is_named(operand));
                    named
                }
                _ => false,
            })
        };
        body.enclosing(val).any(|(id, block)| block.kind == BlockKind::Try && handles(id))
    }

    /// Is the node inside a `try` that catches every `Exception`?
    #[must_use]
    pub fn is_caught(&self, func: FuncId, val: Val) -> bool {
        let body = self.body(func);
        body.enclosing(val).any(|(id, block)| block.kind == BlockKind::Try && catches_all(body, id))
    }
}

/// Does a `try` have a handler for every `Exception`?
fn catches_all(body: &Body, tried: BlockId) -> bool {
    body.blocks.iter().any(|block| match block.kind {
        BlockKind::Except(of, caught) => of == tried && is_broad(body, caught),
        _ => false,
    })
}

/// Does a handler catch every `Exception`?
#[must_use]
pub fn is_broad(body: &Body, caught: Option<Val>) -> bool {
    let Some(caught) = caught else { return true };
    let names = |val: Val| match body.op(val) {
        Op::Global(name) => name == "Exception" || name == "BaseException",
        _ => false,
    };
    let mut broad = names(caught);
    body.operands(caught, |operand| broad |= names(operand));
    broad
}

/// Does a handler do nothing at all?
#[must_use]
pub fn is_silent(body: &Body, handler: &Block) -> bool {
    (handler.first..handler.end).all(|idx| {
        matches!(
            body.op(Val(idx)),
            Op::Global(_)
                | Op::Attr { .. }
                | Op::Display(..)
                | Op::Caught
                | Op::StoreLocal { .. }
                | Op::Continue
                | Op::Scalar
                | Op::Str(_)
                | Op::Discard(_)
        )
    })
}

/// The name of a logging method?
fn logs(name: &str) -> bool {
    matches!(name, "debug" | "info" | "warning" | "warn" | "error" | "exception" | "critical" | "log" | "print_exc")
}

/// Where `name` is called in a function as a method, with its receiver.
pub fn methods<'a>(body: &'a Body, names: &'a [&'a str]) -> impl Iterator<Item = (Val, Val, Name)> + 'a {
    body.calls().filter_map(move |call| {
        let Op::Call { func, .. } = body.op(call) else { return None };
        match body.op(func) {
            Op::Attr { base, name } if names.contains(&name.as_str()) => Some((call, base, name)),
            _ => None,
        }
    })
}
