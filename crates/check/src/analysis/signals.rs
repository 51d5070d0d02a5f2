//! Events and flags by which threads are told to stop: the loops that ask them, and the code that sets them.

use rustc_hash::FxHashSet;

use super::Analysis;
use super::failures::methods;
use crate::body::{BlockKind, Op, Val};
use crate::contexts::EntryKind;
use crate::project::FuncId;
use crate::types::{Slot, Std, Type};

/// A change of a flag or event: where, and to what.
pub struct Change {
    /// In which function.
    pub func: FuncId,
    /// The call or store.
    pub at: Val,
    /// The event or flag.
    pub slot: Slot,
    /// `set()` and True, or `clear()` and False.
    pub raises: bool,
    /// An event, not a plain flag.
    pub is_event: bool,
}

/// A loop that ends when the flag changes.
pub struct Waiter {
    /// In which function.
    pub func: FuncId,
    /// The test.
    pub at: Val,
    /// The event or flag.
    pub slot: Slot,
    /// The loop ends when the flag is raised.
    pub ends_when_raised: bool,
}

/// Loops of threads whose test asks an event or flag whether to go on.
#[must_use]
pub fn waiters(analysis: &Analysis<'_>) -> Vec<Waiter> {
    let mut found = Vec::new();
    for func in analysis.functions() {
        if analysis.is_test(func) || !analysis.contexts.is_reached_by(func, &[EntryKind::Thread, EntryKind::Pool]) {
            continue;
        }
        let body = analysis.body(func);
        for block in &body.blocks {
            let BlockKind::Loop(test) = block.kind else { continue };
            for (slot, ends_when_raised) in asked(analysis, func, test, false) {
                found.push(Waiter { func, at: test, slot, ends_when_raised });
            }
            if matches!(body.op(test), Op::Truth(true) | Op::Scalar) {
                found.extend(leaving(analysis, func, block.first, block.end));
            }
        }
    }
    found
}

/// `while True: if stop.is_set(): break`
fn leaving(analysis: &Analysis<'_>, func: FuncId, first: u32, end: u32) -> Vec<Waiter> {
    let body = analysis.body(func);
    let mut found = Vec::new();
    for block in body.blocks.iter().filter(|block| first <= block.first && block.end <= end && block.leaves) {
        let BlockKind::Then(test) = block.kind else { continue };
        let ends = (block.first..block.end).any(|at| matches!(body.op(Val(at)), Op::Break | Op::Return(_)));
        if !ends {
            continue;
        }
        for (slot, goes_in_when_lowered) in asked(analysis, func, test, false) {
            found.push(Waiter { func, at: test, slot, ends_when_raised: !goes_in_when_lowered });
        }
    }
    found
}

/// The events and flags that a test asks, and whether it holds while they are lowered.
fn asked(analysis: &Analysis<'_>, func: FuncId, test: Val, negated: bool) -> Vec<(Slot, bool)> {
    let body = analysis.body(func);
    let mut found = Vec::new();
    let mut work = vec![(test, negated)];
    while let Some((at, negated)) = work.pop() {
        match body.op(at) {
            Op::Not(inner) => work.push((inner, !negated)),
            Op::Both(left, right) | Op::Either(left, right) => work.extend([(left, negated), (right, negated)]),
            Op::Call { func: target, .. } => {
                let Op::Attr { base, name } = body.op(target) else { continue };
                found.extend(answers(analysis, func, at, negated));
                let asks = matches!(name.as_str(), "is_set" | "isSet" | "wait");
                if asks && analysis.types.std(analysis.project, func, base) == Some(Std::Event) {
                    found.extend(place(analysis, func, base).map(|slot| (slot, negated)));
                }
            }
            Op::Attr { .. } | Op::Global(_) | Op::Captured(..) => {
                let plain = analysis.types.of(func, at).iter().all(|of| matches!(of, Type::Plain | Type::None));
                if plain {
                    found.extend(place(analysis, func, at).map(|slot| (slot, negated)));
                }
            }
            _ => {}
        }
    }
    found
}

/// `while self._should_run():`, whose answer is that of an event or flag.
fn answers(analysis: &Analysis<'_>, func: FuncId, call: Val, negated: bool) -> Vec<(Slot, bool)> {
    let mut found = Vec::new();
    for callee in analysis.types.callees(analysis.project, func, call).iter().filter(|callee| !callee.guessed) {
        let body = analysis.body(callee.func);
        for val in body.vals() {
            let Op::Return(Some(value)) = body.op(val) else { continue };
            let (negated, value) = match body.op(value) {
                Op::Not(inner) => (!negated, inner),
                _ => (negated, value),
            };
            let event = match body.op(value) {
                Op::Call { func: target, .. } => match body.op(target) {
                    Op::Attr { base, name } if name == "is_set" => Some(base),
                    _ => None,
                },
                Op::Attr { .. } => Some(value),
                _ => None,
            };
            found.extend(event.and_then(|event| place(analysis, callee.func, event)).map(|slot| (slot, negated)));
        }
    }
    found
}

/// The attribute or global that a value is read from. A local that was given one at the start is the run's own.
fn place(analysis: &Analysis<'_>, func: FuncId, val: Val) -> Option<Slot> {
    match analysis.body(func).op(val) {
        Op::Attr { .. } | Op::Global(_) | Op::Captured(..) => {
            analysis.types.slots_of(analysis.project, func, val).first().copied()
        }
        _ => None,
    }
}

/// Where events and flags among `slots` are set, cleared and assigned.
#[must_use]
pub fn changes(analysis: &Analysis<'_>, slots: &FxHashSet<Slot>) -> Vec<Change> {
    let mut found = Vec::new();
    for func in analysis.functions() {
        let body = analysis.body(func);
        for (at, base, name) in methods(body, &["set", "clear"]) {
            if let Some(slot) = place(analysis, func, base).filter(|slot| slots.contains(slot)) {
                found.push(Change { func, at, slot, raises: name == "set", is_event: true });
            }
        }
        for at in body.writes() {
            let (Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. }) = body.op(at) else { continue };
            let Op::Truth(raises) = body.op(value) else { continue };
            let stored = analysis.types.slots_of(analysis.project, func, at);
            for slot in stored.into_iter().filter(|slot| slots.contains(slot)) {
                found.push(Change { func, at, slot, raises, is_event: false });
            }
        }
    }
    found
}
