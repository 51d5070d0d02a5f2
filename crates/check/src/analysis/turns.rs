//! How many turns a loop takes: as many as the input says, or a number that somebody chose.

use super::Analysis;
use super::failures::methods;
use crate::body::{Block, BlockKind, Body, Display, FunctionKind, Op, Val};
use crate::project::FuncId;
use crate::types::{Slot, Std};
/// Does a loop go on for as many turns as the input says?
#[must_use]
pub fn is_unbounded(analysis: &Analysis<'_>, func: FuncId, block: &Block) -> bool {
    let body = analysis.body(func);
    let BlockKind::Loop(test) = block.kind else { return false };
    match body.op(test) {
        Op::Iter { over, .. } => !is_short(analysis, func, over),
        // Other loops that make threads keep a number of them; those that receive make one for each message.
        _ => receives(analysis, func, block) && !counts(body, test),
    }
}

/// Is what is iterated over short by its nature: a range, a display, a constant, a number of workers?
fn is_short(analysis: &Analysis<'_>, func: FuncId, over: Val) -> bool {
    let body = analysis.body(func);
    let mut at = body.origin(over);
    for _ in 0..6 {
        match body.op(at) {
            Op::Display(..) | Op::Scalar | Op::Str(_) => return true,
            Op::Call { func: target, args } => {
                let inner = body.args(args).first().map(|arg| arg.value);
                let name = match body.op(target) {
                    Op::Global(name) | Op::Attr { name, .. } => name.as_str(),
                    _ => return false,
                };
                match (name, body.op(target)) {
                    ("range" | "xrange" | "repeat", _) => return true,
                    ("items" | "values" | "keys" | "copy", Op::Attr { base, .. }) => at = body.origin(base),
                    ("enumerate" | "list" | "tuple" | "sorted" | "reversed" | "zip" | "set", _) => match inner {
                        Some(inner) => at = body.origin(inner),
                        None => return true,
                    },
                    _ => return false,
                }
            }
            Op::Global(_) | Op::Attr { .. } | Op::Captured(..) => {
                let slots = analysis.types.slots_of(analysis.project, func, at);
                return slots.iter().any(|slot| is_constant(analysis, *slot)) || configured(body, at);
            }
            _ => return configured(body, at),
        }
    }
    false
}

/// A global or class attribute that is a display of constants and is not assigned later.
fn is_constant(analysis: &Analysis<'_>, slot: Slot) -> bool {
    let Slot::Global(module, name) = slot else { return false };
    let stores = analysis.project.globals[module.0 as usize].get(&name).map_or(&[][..], Vec::as_slice);
    !stores.is_empty()
        && stores.iter().all(|store| {
            let function = analysis.project.function(store.func);
            function.kind == FunctionKind::Module
                && match function.body.op(store.value) {
                    Op::Display(Display::List | Display::Tuple | Display::Set | Display::Dict, args) => args.len > 0,
                    _ => false,
                }
        })
}

/// Names that say that somebody chose the number.
fn configured(body: &Body, at: Val) -> bool {
    let name = match body.op(at) {
        Op::Local(local) => body.locals[local.0 as usize].as_str(),
        Op::Attr { name, .. } | Op::Global(name) => name.as_str(),
        _ => return false,
    };
    let lower = name.to_ascii_lowercase();
    ["worker", "target", "service", "server", "thread", "listener", "daemon", "consumer", "config", "setting"]
        .iter()
        .any(|word| lower.contains(word))
}

/// Does a loop take in what comes from outside?
#[must_use]
pub fn receives(analysis: &Analysis<'_>, func: FuncId, block: &Block) -> bool {
    let body = analysis.body(func);
    let takes = ["accept", "recv", "recvfrom", "get", "get_nowait", "receive", "readline", "poll", "recv_multipart"];
    methods(body, &takes).any(|(call, base, name)| {
        let inside = block.first <= call.0 && call.0 < block.end;
        let queue = matches!(analysis.types.std(analysis.project, func, base), Some(Std::Queue | Std::AsyncQueue));
        inside && (name != "get" || queue)
    })
}

/// Does a loop compare the number of threads with something?
#[must_use]
pub fn counts(body: &Body, test: Val) -> bool {
    let mut work = vec![test];
    while let Some(at) = work.pop() {
        if matches!(body.op(at), Op::Compare { how: crate::body::Compare::Order, .. }) {
            return true;
        }
        body.operands(at, |operand| work.push(operand));
    }
    false
}
